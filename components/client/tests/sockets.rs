//! The client over real sockets, against a server that plays the placement driver and a store in one.

use bytes::Bytes;
use client::{Client, Error, KeyRange, Options, PdCallError, PdClient, ScanOptions};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use transport::{Counters, Identity, Receipt, Request, RequestBody, Server, Service, Settings};
use types::{ClusterId, Epoch, Key, Peer, PeerId, Region, RegionId, StoreId};
use wire::kv::{KvCommand, KvError, KvPair, KvReply, WriteOp};
use wire::pd::{
    PdError, PdReply, PdRequest, RegionRoute, StoreInfo, StoreMode, StoreState, StoreStats, StoreStatus,
};
use wire::store::{SnapshotKey, SnapshotPiece, StoreBatch};

/// One process that leads one region of all keys and knows that it does. Or a member of a placement driver that does
/// not lead, and says who does.
#[derive(Default)]
struct Playmate {
    address: String,
    leader: Option<String>,
    data: Mutex<BTreeMap<Key, Bytes>>,
    /// Requests with this key are kept and never answered.
    kept: Mutex<Vec<Request>>,
    pd_asked: Mutex<u32>,
}

const SILENT: &[u8] = b"silent";

impl Service for Playmate {
    fn identity(&self) -> Identity {
        Identity { cluster_id: ClusterId(7), store_id: StoreId(1) }
    }

    fn requests(&self, batch: &mut Vec<Request>) {
        for request in batch.drain(..) {
            match &request.body {
                RequestBody::Pd(asked) => {
                    *self.pd_asked.lock() += 1;
                    let answer = self.pd(asked);
                    request.responder.respond_pd(&answer.into());
                }
                RequestBody::Kv(asked) => match self.kv(&asked.command) {
                    Some(answer) => request.responder.respond_kv(&answer.into()),
                    None => self.kept.lock().push(request),
                },
            }
        }
    }

    fn store_batches(&self, _: &mut Vec<StoreBatch>) {}
    fn snapshot_piece(&self, _: SnapshotPiece, _: Receipt) {}
    fn snapshot_lost(&self, _: SnapshotKey) {}
}

impl Playmate {
    fn pd(&self, asked: &PdRequest) -> Result<PdReply, PdError> {
        if let Some(leader) = &self.leader {
            return Err(PdError::NotLeader { leader: Some(leader.clone()) });
        }
        let peer = Peer::voter(PeerId(3), StoreId(1));
        let epoch = Epoch { conf_ver: 1, version: 1 };
        let region = Region { id: RegionId(2), range: KeyRange::full(), epoch, peers: vec![peer] };
        Ok(match asked {
            PdRequest::GetCluster => PdReply::Cluster { cluster_id: ClusterId(7), bootstrapped: true },
            PdRequest::GetStores => {
                let info =
                    StoreInfo { id: StoreId(1), address: self.address.clone(), ..StoreInfo::default() };
                let stats = StoreStats::default();
                PdReply::Stores(vec![StoreStatus {
                    info,
                    stats,
                    state: StoreState::Up,
                    silent_ms: 0,
                    mode: StoreMode::Serving,
                }])
            }
            PdRequest::GetRegions { .. } => {
                PdReply::Regions(vec![RegionRoute { region, leader: Some(peer), ..RegionRoute::default() }])
            }
            PdRequest::GetRegionByKey { .. } => {
                PdReply::Region(Some(RegionRoute { region, leader: Some(peer), ..RegionRoute::default() }))
            }
            _ => return Err(PdError::InvalidRequest { message: "not played here".to_owned() }),
        })
    }

    fn kv(&self, command: &KvCommand) -> Option<Result<KvReply, KvError>> {
        let mut data = self.data.lock();
        Some(Ok(match command {
            KvCommand::Get { key } if key.ends_with(SILENT) => return None,
            KvCommand::Get { key } => KvReply::Value(data.get(key).cloned()),
            KvCommand::BatchGet { keys } => {
                KvReply::Values(keys.iter().map(|key| data.get(key).cloned()).collect())
            }
            KvCommand::Scan(scan) => {
                let pairs = data.iter().filter(|(key, _)| scan.range.contains(key));
                let pairs =
                    pairs.map(|(key, value)| KvPair { key: key.clone(), value: value.clone(), ttl_ms: 0 });
                KvReply::Page { pairs: pairs.take(scan.limit as usize).collect(), resume: None }
            }
            KvCommand::Write { ops } => {
                for op in ops {
                    match op {
                        WriteOp::Put { key, .. } if key.ends_with(SILENT) => return None,
                        WriteOp::Put { key, value } => drop(data.insert(key.clone(), value.clone())),
                        WriteOp::PutFor { .. } => panic!("values do not end here"),
                        WriteOp::Delete { key } => drop(data.remove(key)),
                        WriteOp::DeleteRange { range } => data.retain(|key, _| !range.contains(key)),
                    }
                }
                KvReply::Written
            }
            _ => return Some(Err(KvError::InvalidRequest { message: "not played here".to_owned() })),
        }))
    }
}

struct Process {
    server: Server<Playmate>,
    playmate: Arc<Playmate>,
    address: String,
}

async fn start(leader: Option<String>) -> Process {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let playmate = Arc::new(Playmate { address: address.clone(), leader, ..Playmate::default() });
    let server = Server::new(Arc::clone(&playmate), Settings::default(), Arc::new(Counters::default()));
    server.accept(listener);
    Process { server, playmate, address }
}

/// An address at which nobody listens: it was ours a moment ago.
async fn nobody() -> String {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

#[tokio::test]
async fn calls_travel_over_sockets() {
    let process = start(None).await;
    let client = Client::connect([process.address.clone()], Options::default()).await.unwrap();
    assert_eq!(client.cluster().id, ClusterId(7));
    let raw = client.raw();
    raw.put("a", "1").await.unwrap();
    raw.batch_put([("b", "2"), ("c", "3")]).await.unwrap();
    assert_eq!(raw.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    let some = raw.batch_get(["c", "x", "b"]).await.unwrap();
    assert_eq!(some, [Some("3".into()), None, Some("2".into())]);
    let pairs = raw.scan(KeyRange::new("b", ""), ScanOptions::default()).unwrap().into_vec().await.unwrap();
    assert_eq!(pairs.len(), 2);
    raw.delete_range(KeyRange::full()).await.unwrap();
    assert_eq!(raw.get("a").await, Ok(None));
    assert_eq!(client.admin().regions(KeyRange::full(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn members_that_are_gone_or_do_not_lead_are_passed_over() {
    let leader = start(None).await;
    let follower = start(Some(leader.address.clone())).await;
    // The leader is not among the addresses given: the follower names it.
    let addresses = [nobody().await, follower.address.clone()];
    let client = Client::connect(addresses, Options::default()).await.unwrap();
    client.raw().put("a", "1").await.unwrap();
    assert_eq!(*follower.playmate.pd_asked.lock(), 1, "the leader is asked first from then on");
    assert!(*leader.playmate.pd_asked.lock() >= 3);
}

#[tokio::test]
async fn a_write_that_was_on_its_way_when_the_store_was_lost_is_undetermined() {
    let process = start(None).await;
    let client = Client::connect([process.address.clone()], Options::default()).await.unwrap();
    let raw = client.raw();
    raw.put("a", "1").await.unwrap();
    let silent = tokio::spawn({
        let raw = raw.clone();
        async move { raw.put(SILENT, "2").await }
    });
    while process.playmate.kept.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(process.server);
    let result = silent.await.unwrap();
    assert!(matches!(result, Err(Error::Undetermined { .. })), "it gave {result:?}");
    process.playmate.kept.lock().drain(..).for_each(|request| request.responder.discard());
    // And one that cannot be sent at all was not made.
    let result = raw.with_deadline(Duration::from_millis(300)).put("b", "3").await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "it gave {result:?}");
}

#[tokio::test]
async fn a_call_that_is_not_polled_keeps_nobody_from_connecting() {
    // A future that began to connect to the store and is then left alone, as a scan that is not read on.
    let process = start(None).await;
    let client = Client::connect([process.address.clone()], Options::default()).await.unwrap();
    let raw = client.raw();
    let mut left_alone = Box::pin(raw.get("a"));
    for _ in 0..200 {
        assert!(futures_util::poll!(&mut left_alone).is_pending());
        if *process.playmate.pd_asked.lock() >= 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let raw = client.raw().with_deadline(Duration::from_secs(5));
    assert_eq!(raw.get("b").await, Ok(None));
    drop(left_alone);
}

#[tokio::test]
async fn a_placement_driver_that_is_nowhere_is_told_as_such() {
    let mut options = Options::default();
    options.calls.deadline = Duration::from_millis(300);
    let result = Client::connect([nobody().await], options.clone()).await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "it gave {result:?}");
    let result = Client::connect([], options).await;
    assert!(matches!(result, Err(Error::InvalidArgument(_))), "it gave {result:?}");
}

#[tokio::test]
async fn a_store_talks_to_the_placement_driver_through_the_stub() {
    let process = start(None).await;
    let identity = Identity { cluster_id: ClusterId(7), store_id: StoreId(1) };
    let addresses = [nobody().await, process.address.clone()];
    let pd = PdClient::new(addresses, identity, Settings::default(), Arc::default());
    let timeout = Duration::from_secs(5);
    let reply = pd.request(&PdRequest::GetCluster, timeout).await;
    assert_eq!(reply, Ok(PdReply::Cluster { cluster_id: ClusterId(7), bootstrapped: true }));
    let refused = pd.request(&PdRequest::AllocateIds { count: 1 }, timeout).await;
    assert!(matches!(refused, Err(PdCallError::Refused(PdError::InvalidRequest { .. }))));
    drop(process.server);
    let gone = pd.request(&PdRequest::GetCluster, timeout).await;
    assert!(
        matches!(gone, Err(PdCallError::Unreachable { .. } | PdCallError::NoAnswer { timed_out: false, .. })),
        "it gave {gone:?}"
    );
}
