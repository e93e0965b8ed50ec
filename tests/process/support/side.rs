//! Clients that see the cluster from one side of a network that can be cut.

use super::cluster::Cluster;
use super::network::{Comes, Network, Place};
use client::{PdCallError, PdClient, Settings};
use client_core::{Core, Options, Ports, Rpc, RpcError, Spawn, Timers};
use env::SplitMix;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use transport::{CallError, Channel, Counters, Identity, Target};
use types::{ClusterId, MonoTime, StoreId};
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};

/// The doors of one side.
pub(crate) struct Side {
    name: &'static str,
    pd: String,
    /// By store id.
    stores: BTreeMap<StoreId, String>,
    cluster_id: ClusterId,
}

impl Side {
    /// Opens this side's doors to everybody.
    pub(crate) async fn open(name: &'static str, cluster: &Cluster, network: &Network) -> Self {
        let comes = Comes::One(Place::Side(name));
        let pd = network.door(comes, Place::Pd, &cluster.pd.address).await;
        let mut stores = BTreeMap::new();
        for (number, store) in cluster.stores.iter().enumerate() {
            let door = network.door(comes, Place::Store(number), &store.address).await;
            stores.insert(StoreId(cluster.store_id(number).await), door);
        }
        let cluster_id = cluster.client(Duration::from_secs(5)).await.cluster().id;
        Self { name, pd, stores, cluster_id }
    }

    /// A client on this side, whose calls end within `deadline`.
    pub(crate) fn client(&self, deadline: Duration, dice: &SplitMix) -> Core {
        let (settings, counters) = (Settings::default(), Arc::new(Counters::default()));
        let stranger = Identity::default();
        let rpc = SideRpc {
            pd: PdClient::new([self.pd.clone()], stranger, settings, counters),
            channels: Mutex::default(),
            stores: self.stores.clone(),
            cluster_id: self.cluster_id,
        };
        let ports = Ports {
            rpc: Arc::new(rpc),
            timers: Arc::new(TokioTimers(Instant::now())),
            spawn: Arc::new(TokioSpawn),
            dice: Box::new(dice.fork(self.name)),
        };
        Core::new(ports, Options { deadline, ..Options::default() })
    }

    /// The way to one store.
    pub(crate) fn channel(&self, store_id: StoreId) -> Channel {
        channel(self.cluster_id, store_id, &self.stores[&store_id])
    }
}

fn channel(cluster_id: ClusterId, store_id: StoreId, address: &str) -> Channel {
    let identity = Identity { cluster_id, ..Identity::default() };
    let target = Target::store(store_id, address);
    Channel::new(target, identity, Settings::default(), Arc::new(Counters::default()))
}

/// Requests through the doors of one side, whatever addresses stores have given.
struct SideRpc {
    pd: PdClient,
    channels: Mutex<BTreeMap<StoreId, Arc<Channel>>>,
    stores: BTreeMap<StoreId, String>,
    cluster_id: ClusterId,
}

impl Rpc for SideRpc {
    fn kv<'a>(
        &'a self,
        store_id: StoreId,
        _address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<KvResponse, RpcError>> {
        let channel = {
            let mut channels = self.channels.lock();
            let new = || Arc::new(channel(self.cluster_id, store_id, &self.stores[&store_id]));
            Arc::clone(channels.entry(store_id).or_insert_with(new))
        };
        Box::pin(async move {
            channel.kv(&request, timeout).await.map_err(|error| match error {
                CallError::Timeout => RpcError::TimedOut,
                error if error.may_have_been_done() => RpcError::ConnectionLost { reason: error.to_string() },
                error => RpcError::NotSent { reason: error.to_string() },
            })
        })
    }

    fn pd<'a>(
        &'a self,
        request: PdRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<PdResponse, RpcError>> {
        Box::pin(async move {
            match self.pd.request(&request, timeout).await {
                Ok(reply) => Ok(PdResponse::Ok(reply)),
                Err(PdCallError::Refused(error)) => Ok(PdResponse::Err(error)),
                Err(PdCallError::Unreachable { reason }) => Err(RpcError::NotSent { reason }),
                Err(PdCallError::NoAnswer { timed_out: true, .. }) => Err(RpcError::TimedOut),
                Err(PdCallError::NoAnswer { reason, .. }) => Err(RpcError::ConnectionLost { reason }),
            }
        })
    }
}

struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(tokio::spawn(task));
    }

    fn let_others_go(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

struct TokioTimers(Instant);

impl Timers for TokioTimers {
    fn now(&self) -> MonoTime {
        MonoTime::ZERO + self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
