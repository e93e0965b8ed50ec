//! The smallest system that keeps the promises of a cluster: one store on one disk, and a placement driver that knows it.
//!
//! It proves the simulator. With it, clients, workload, faults and checkers are tried before and beside the real store;
//! with one of its [`Flaw`]s planted, they have to notice.

use crate::check::Broken;
use crate::client::address_of;
use crate::cluster::{Node, World};
use crate::frame::{frame, kind_of, payload_of};
use crate::kernel::{CrashKind, NodeId};
use crate::network::ConnectionId;
use crate::observer::Observer;
use crate::time::SimTime;
use codec::frame::Frame;
use engine::{Cf, Engine, MemEngine, Snapshot, SyncTicket, WriteBatch};
use env::{Dice, SplitMix};
use std::collections::VecDeque;
use std::time::Duration;
use types::{Epoch, KeyRange, MonoTime, Peer, PeerId, Region, RegionId, StoreId};
use wire::FrameKind;
use wire::kv::{KvCommand, KvError, KvPair, KvReply, KvRequest, KvResponse, WriteOp};
use wire::pd::{
    PdError, PdReply, PdRequest, PdResponse, RegionRoute, StoreInfo, StoreMode, StoreState, StoreStats,
    StoreStatus,
};

/// A mistake to be noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flaw {
    /// Writes are answered before they are durable.
    AnswerBeforeSync,
    /// Reads are answered at once, with what may yet be lost.
    ReadUnsynced,
    /// Gets are answered from what the store held some time ago.
    StaleGet,
    /// A swap looks at one moment and writes at a later one.
    TornSwap,
    /// Now and then a write is answered and not made.
    LostWrite,
    /// Now and then a write that is answered as refused is made nevertheless.
    FalseRefusal,
}

impl Flaw {
    /// Every flaw.
    pub const ALL: [Self; 6] = [
        Self::AnswerBeforeSync,
        Self::ReadUnsynced,
        Self::StaleGet,
        Self::TornSwap,
        Self::LostWrite,
        Self::FalseRefusal,
    ];
}

/// The region that holds everything.
fn region(store: NodeId) -> Region {
    Region {
        id: RegionId(1),
        range: KeyRange::full(),
        epoch: Epoch { conf_ver: 1, version: 1 },
        peers: vec![Peer::voter(PeerId(1), StoreId(u64::from(store.0)))],
    }
}

/// Wake-up: take the next request.
const RUN: u64 = 0;
/// Wake-up: a sync has ended.
const SYNC: u64 = 1;

/// An answer, and where it goes.
struct Answer {
    connection: ConnectionId,
    request_id: u64,
    response: KvResponse,
}

/// One store on one disk, without a log or peers.
pub struct ReferenceStore {
    engine: MemEngine,
    flaw: Option<Flaw>,
    inbox: VecDeque<(ConnectionId, Frame)>,
    /// Answers that wait for a sync that has not begun.
    unsynced: Vec<Answer>,
    /// The sync under way, and the answers that wait for it.
    syncing: Option<(SyncTicket, Vec<Answer>)>,
    /// For [`Flaw::StaleGet`].
    old: Option<<MemEngine as Engine>::Snapshot>,
    /// For [`Flaw::TornSwap`].
    torn: VecDeque<WriteBatch>,
}

impl ReferenceStore {
    /// A store with an empty disk.
    #[must_use]
    pub fn new(flaw: Option<Flaw>) -> Self {
        Self {
            engine: MemEngine::new(),
            flaw,
            inbox: VecDeque::new(),
            unsynced: Vec::new(),
            syncing: None,
            old: None,
            torn: VecDeque::new(),
        }
    }

    fn serve(&mut self, world: &mut World<'_>) {
        if let Some(batch) = self.torn.pop_front() {
            self.write(&batch);
        }
        // Requests of different connections may overtake each other.
        if self.inbox.is_empty() {
            return;
        }
        let index = usize::try_from(world.dice().below(self.inbox.len() as u64)).expect("an index");
        let (connection, frame) = self.inbox.remove(index).expect("an index within");
        let request: KvRequest = payload_of(&frame);
        let is_read = matches!(
            request.command,
            KvCommand::Get { .. } | KvCommand::BatchGet { .. } | KvCommand::Scan(_)
        );
        let result = self.execute(world, request);
        let answer =
            Answer { connection, request_id: frame.head.request_id, response: KvResponse::from(result) };
        let at_once = match self.flaw {
            Some(Flaw::AnswerBeforeSync) => true,
            Some(Flaw::ReadUnsynced) => is_read,
            _ => false,
        };
        if at_once {
            send(world, answer);
        } else {
            // Reads wait too: what they saw may not be durable.
            self.unsynced.push(answer);
        }
        self.sync(world);
    }

    fn sync(&mut self, world: &mut World<'_>) {
        if self.syncing.is_none() {
            self.syncing = Some((self.engine.begin_sync(), std::mem::take(&mut self.unsynced)));
            world.wake_after_sync(SYNC);
        }
    }

    fn write(&self, batch: &WriteBatch) {
        self.engine.write(batch).expect("no fault was injected");
    }

    fn get(&self, key: &[u8]) -> Option<bytes::Bytes> {
        self.engine.get(Cf::Default, key).expect("no fault was injected")
    }

    fn execute(&mut self, world: &mut World<'_>, request: KvRequest) -> Result<KvReply, KvError> {
        let region = region(world.node());
        if request.region_id != region.id {
            return Err(KvError::RegionNotFound { region_id: request.region_id });
        }
        if request.epoch != region.epoch {
            return Err(KvError::EpochNotMatch { current_regions: vec![region] });
        }
        match request.command {
            KvCommand::Get { key } => {
                if self.flaw == Some(Flaw::StaleGet) {
                    if self.old.is_none() || world.dice().chance(1, 20) {
                        self.old = Some(self.engine.snapshot());
                    }
                    let old = self.old.as_ref().expect("just made");
                    return Ok(KvReply::Value(old.get(Cf::Default, &key).expect("no fault was injected")));
                }
                Ok(KvReply::Value(self.get(&key)))
            }
            KvCommand::BatchGet { keys } => {
                Ok(KvReply::Values(keys.iter().map(|key| self.get(key)).collect()))
            }
            KvCommand::Scan(scan) => {
                let snapshot = self.engine.snapshot();
                let mut iterator = snapshot.iter(Cf::Default, &scan.range);
                let mut pairs = Vec::new();
                let mut resume = None;
                let mut found = if scan.reverse { iterator.seek_to_last() } else { iterator.seek_to_first() };
                while found {
                    if scan.limit != 0 && pairs.len() >= scan.limit as usize {
                        // In reverse the rest lies below the last key that was taken.
                        let last: &KvPair = pairs.last().expect("the limit is not zero");
                        let next = bytes::Bytes::copy_from_slice(iterator.key());
                        resume = Some(if scan.reverse { last.key.clone() } else { next });
                        break;
                    }
                    pairs.push(KvPair {
                        key: bytes::Bytes::copy_from_slice(iterator.key()),
                        value: bytes::Bytes::copy_from_slice(iterator.value()),
                        ttl_ms: 0,
                    });
                    found = if scan.reverse { iterator.prev() } else { iterator.next() };
                }
                Ok(KvReply::Page { pairs, resume })
            }
            KvCommand::Write { ops } => {
                if self.flaw == Some(Flaw::LostWrite) && world.dice().chance(1, 50) {
                    return Ok(KvReply::Written);
                }
                let mut batch = WriteBatch::new();
                for op in &ops {
                    match op {
                        WriteOp::Put { key, value } => batch.put(Cf::Default, key, value),
                        WriteOp::PutFor { .. } => {
                            return Err(KvError::InvalidRequest {
                                message: "values here do not end".to_owned(),
                            });
                        }
                        WriteOp::Delete { key } => batch.delete(Cf::Default, key),
                        WriteOp::DeleteRange { range } => {
                            batch.delete_range(Cf::Default, &range.start, &range.end)
                        }
                    }
                }
                self.write(&batch);
                if self.flaw == Some(Flaw::FalseRefusal) && world.dice().chance(1, 50) {
                    return Err(KvError::InvalidRequest { message: "so it says".to_owned() });
                }
                Ok(KvReply::Written)
            }
            KvCommand::CompareAndSwap { key, expected, new } => {
                let previous = self.get(&key);
                let succeeded = previous == expected;
                if succeeded {
                    let mut batch = WriteBatch::new();
                    match &new {
                        Some(value) => batch.put(Cf::Default, &key, value),
                        None => batch.delete(Cf::Default, &key),
                    }
                    if self.flaw == Some(Flaw::TornSwap) {
                        self.torn.push_back(batch);
                        world.wake_after(Duration::from_millis(2), RUN);
                    } else {
                        self.write(&batch);
                    }
                }
                Ok(KvReply::Swapped { succeeded, previous })
            }
            KvCommand::Split { .. }
            | KvCommand::TransferLeader { .. }
            | KvCommand::CompactLog
            | KvCommand::CompareAndSwapFor { .. }
            | KvCommand::GetLife { .. }
            | KvCommand::Txn(_)
            | KvCommand::TxnRead(_) => {
                Err(KvError::InvalidRequest { message: "one store, one region, raw keys".to_owned() })
            }
        }
    }
}

fn send(world: &mut World<'_>, answer: Answer) {
    let frame = frame(FrameKind::KvResponse, answer.request_id, None, &answer.response);
    world.reply(answer.connection, frame);
}

impl Node for ReferenceStore {
    fn start(&mut self, _world: &mut World<'_>) {}

    fn arrived(
        &mut self,
        world: &mut World<'_>,
        _from: NodeId,
        connection: Option<ConnectionId>,
        frame: Frame,
    ) {
        assert_eq!(kind_of(&frame), FrameKind::KvRequest, "a lone store is asked by clients");
        self.inbox.push_back((connection.expect("clients use streams"), frame));
        let delay = Duration::from_nanos(world.dice().below(200_000));
        world.wake_after(delay, RUN);
    }

    fn disconnected(
        &mut self,
        _world: &mut World<'_>,
        _peer: NodeId,
        _connection: ConnectionId,
        _carried: bool,
    ) {
    }

    fn woken(&mut self, world: &mut World<'_>, token: u64) {
        if token == RUN {
            self.serve(world);
            return;
        }
        let (ticket, answers) = self.syncing.take().expect("a sync is under way");
        self.engine.finish_sync(ticket).expect("no fault was injected");
        for answer in answers {
            send(world, answer);
        }
        if !self.unsynced.is_empty() {
            self.sync(world);
        }
    }

    fn crash(&mut self, kind: CrashKind, dice: &mut SplitMix) {
        self.engine = self.engine.crash(|choices| match kind {
            CrashKind::Process => *choices.end(),
            CrashKind::Power => choices.start() + dice.below(choices.end() - choices.start() + 1),
        });
        self.inbox.clear();
        self.unsynced.clear();
        self.syncing = None;
        self.old = None;
        self.torn.clear();
    }

    fn observe(&mut self, _now: SimTime, _clock: MonoTime, _observer: &mut Observer) -> Result<(), Broken> {
        Ok(())
    }
}

/// A placement driver that knows one store and one region.
pub struct ReferencePd {
    store: NodeId,
}

impl ReferencePd {
    /// Tells everybody of this store.
    #[must_use]
    pub const fn new(store: NodeId) -> Self {
        Self { store }
    }

    fn answer(&self, request: PdRequest) -> Result<PdReply, PdError> {
        let region = region(self.store);
        let route = RegionRoute { leader: region.peers.first().copied(), region, ..RegionRoute::default() };
        match request {
            PdRequest::GetStores => Ok(PdReply::Stores(vec![StoreStatus {
                info: StoreInfo {
                    id: StoreId(u64::from(self.store.0)),
                    address: address_of(self.store),
                    ..StoreInfo::default()
                },
                stats: StoreStats::default(),
                state: StoreState::Up,
                silent_ms: 0,
                mode: StoreMode::Serving,
            }])),
            PdRequest::GetRegionByKey { .. } | PdRequest::GetRegion { .. } => {
                Ok(PdReply::Region(Some(route)))
            }
            PdRequest::GetRegions { .. } => Ok(PdReply::Regions(vec![route])),
            _ => Err(PdError::InvalidRequest { message: "not known here".to_owned() }),
        }
    }
}

impl Node for ReferencePd {
    fn start(&mut self, _world: &mut World<'_>) {}

    fn arrived(
        &mut self,
        world: &mut World<'_>,
        _from: NodeId,
        connection: Option<ConnectionId>,
        request: Frame,
    ) {
        let response = PdResponse::from(self.answer(payload_of(&request)));
        let connection = connection.expect("clients use streams");
        world.reply(connection, frame(FrameKind::PdResponse, request.head.request_id, None, &response));
    }

    fn disconnected(
        &mut self,
        _world: &mut World<'_>,
        _peer: NodeId,
        _connection: ConnectionId,
        _carried: bool,
    ) {
    }

    fn woken(&mut self, _world: &mut World<'_>, _token: u64) {}

    fn crash(&mut self, _kind: CrashKind, _dice: &mut SplitMix) {}

    fn observe(&mut self, _now: SimTime, _clock: MonoTime, _observer: &mut Observer) -> Result<(), Broken> {
        Ok(())
    }
}
