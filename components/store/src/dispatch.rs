//! Requests of clients: checked, admitted, and sent where they are served.

use crate::concurrency::read_at;
use crate::config::Config;
use crate::inflight::Inflight;
use crate::keyspaces::{Missing, named};
use crate::oracle::{Doubt, Oracle};
use crate::txn::{
    TxnRequest, TxnShared, check_border, check_command, check_read, held_for, latest_named, locks_in_the_way,
    size_bytes,
};
use engine::Pressure;
use env::sim_point;
use raftstore::{Input, ReadRequest, Token, WriteItem, worker_of};
use std::sync::Arc;
use types::{
    ENTRY_SIZE_MAX, KEY_SIZE_MAX, KeyRange, MonoTime, RegionId, TXN_MODE, Timestamp, VALUE_SIZE_MAX,
};
use wire::kv::{BusyReason, KvCommand, KvError, KvReply, KvRequest, WriteOp};
use wire::store::StoreMessage;
use wire::txn::TxnFault;

/// Room for the prefix that a key space puts before a client's key.
const KEY_PREFIX_MAX: usize = 16;
/// How long a refused client should wait.
const BACKOFF_MS: u32 = 50;

/// Where a request is served.
#[derive(Debug)]
pub enum Routed {
    /// Nowhere: this is the answer.
    Answer(Result<KvReply, KvError>),
    /// Perhaps at once, by a [`LocalReader`](crate::LocalReader); else by the worker.
    Read {
        /// The worker that owns the region.
        worker: usize,
        /// What to give it if no lease allows to read at once.
        request: ReadRequest,
    },
    /// By the worker that owns the region.
    Worker {
        /// The worker.
        worker: usize,
        /// What to give it.
        input: Input,
        /// Bytes that count as in flight until the request is answered: give them back to [`Inflight`].
        bytes: usize,
    },
    /// By the scheduler of the worker that owns the region.
    Txn {
        /// The worker.
        worker: usize,
        /// What to give its scheduler.
        request: TxnRequest,
        /// As of [`Routed::Worker`].
        bytes: usize,
    },
}

/// Checks and admits requests. One per thread that receives them; a clone counts in the same place.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    config: Arc<Config>,
    inflight: Inflight,
    txn: TxnShared,
}

impl Dispatcher {
    /// By this configuration.
    #[must_use]
    pub fn new(config: Arc<Config>, txn: TxnShared) -> Self {
        Self { config, inflight: Inflight::default(), txn }
    }

    /// Where bytes under way are counted.
    #[must_use]
    pub fn inflight(&self) -> &Inflight {
        &self.inflight
    }

    /// What time it is.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.txn.oracle
    }

    /// A request has come, of several: those that read at a timestamp are announced before views are taken, so that they can
    /// share one.
    pub fn announce(&self, now: MonoTime, request: &KvRequest) {
        if let KvCommand::TxnRead(read) = &request.command
            && self.trust(now, read_at(read)).is_ok()
        {
            self.txn.concurrency.raise(read_at(read));
        }
    }

    /// Tells where a request is served. `pressure` is the engine's, read not long ago; `deadline` is when the client
    /// gives up.
    #[must_use]
    pub fn route(
        &self,
        now: MonoTime,
        pressure: &Pressure,
        request: KvRequest,
        token: Token,
        deadline: MonoTime,
    ) -> Routed {
        let KvRequest { region_id, epoch, command } = request;
        if let Err(message) = check(&command) {
            return Routed::Answer(Err(KvError::InvalidRequest { message }));
        }
        if deadline <= now {
            return Routed::Answer(Err(KvError::DeadlineExceeded));
        }
        if let Err(error) = named(&command, |id| self.check_keyspace(id)) {
            return Routed::Answer(Err(error));
        }
        let worker = worker_of(region_id, self.config.workers);
        let item = match command {
            KvCommand::Get { .. }
            | KvCommand::GetLife { .. }
            | KvCommand::BatchGet { .. }
            | KvCommand::Scan(_)
            | KvCommand::TxnRead(_) => {
                let refusal = match &command {
                    KvCommand::TxnRead(read) => {
                        // Who reads the newest there is names no time.
                        let at = Some(read_at(read)).filter(|at| *at != Timestamp(u64::MAX));
                        if let Err(error) = self.trust(now, at.unwrap_or_default()) {
                            return Routed::Answer(Err(error));
                        }
                        locks_in_the_way(self.txn.concurrency.begin_read(read)).map(Box::new)
                    }
                    _ => None,
                };
                let held = match &command {
                    KvCommand::TxnRead(read) => held_for(&self.txn.held, region_id, read),
                    _ => None,
                };
                let request = ReadRequest { token, region_id, epoch, command, refusal, held, deadline };
                return Routed::Read { worker, request };
            }
            KvCommand::Split { keys } => {
                let input = Input::Split { token, region_id, epoch, keys, deadline };
                return Routed::Worker { worker, input, bytes: 0 };
            }
            KvCommand::TransferLeader { to_store } => {
                let input = Input::TransferLeader { token, region_id, epoch, to_store };
                return Routed::Worker { worker, input, bytes: 0 };
            }
            KvCommand::CompactLog => {
                let input = Input::CompactLog { token, region_id, epoch, deadline };
                return Routed::Worker { worker, input, bytes: 0 };
            }
            KvCommand::Txn(command) => {
                if let Err(error) = self.trust(now, latest_named(&command)) {
                    return Routed::Answer(Err(error));
                }
                let bytes = size_bytes(&command);
                return match self.admit(bytes, pressure) {
                    Err(reason) => Routed::Answer(Err(busy(reason))),
                    Ok(()) => {
                        let request = TxnRequest { token, region_id, epoch, command, deadline };
                        Routed::Txn { worker, request, bytes }
                    }
                };
            }
            KvCommand::Write { ops } if !ops.iter().any(|op| matches!(op, WriteOp::PutFor { .. })) => {
                WriteItem::Ops(ops)
            }
            // From here on it is said in the entry what time it was.
            KvCommand::Write { ops } => match self.now_ms(now) {
                Ok(now_ms) => WriteItem::OpsAt { now_ms, ops },
                Err(error) => return Routed::Answer(Err(error)),
            },
            KvCommand::CompareAndSwap { key, expected, new } => {
                // Where no value ends, it need not be known.
                let now_ms = self.now_ms(now).unwrap_or_default();
                WriteItem::CompareAndSwap { key, expected, new, now_ms }
            }
            KvCommand::CompareAndSwapFor { key, expected, new, ttl_ms } => match self.now_ms(now) {
                Ok(now_ms) => WriteItem::CompareAndSwapFor { key, expected, new, ttl_ms, now_ms },
                Err(error) => return Routed::Answer(Err(error)),
            },
        };
        let bytes = item.size_bytes();
        match self.admit(bytes, pressure) {
            Err(reason) => Routed::Answer(Err(busy(reason))),
            Ok(()) => {
                let (decided_in, tells_proposed) = (None, false);
                let input =
                    Input::Write { token, region_id, epoch, item, deadline, decided_in, tells_proposed };
                Routed::Worker { worker, input, bytes }
            }
        }
    }

    /// The worker that owns a region.
    #[must_use]
    pub fn worker_of(&self, region_id: RegionId) -> usize {
        worker_of(region_id, self.config.workers)
    }

    fn check_keyspace(&self, id: u32) -> Result<(), KvError> {
        self.txn.keyspaces.check(id).map_err(|missing| match missing {
            Missing::Asking => busy(BusyReason::Keyspaces),
            Missing::Unknown => KvError::UnknownKeyspace { keyspace: id },
        })
    }

    /// What time it is by the placement driver's clock, in milliseconds; it has told this store since that was started.
    fn now_ms(&self, now: MonoTime) -> Result<u64, KvError> {
        match self.txn.oracle.about(now).physical_ms() {
            0 => Err(busy(BusyReason::Clock)),
            now_ms => Ok(now_ms),
        }
    }

    fn trust(&self, now: MonoTime, named: Timestamp) -> Result<(), KvError> {
        self.txn.oracle.trust(named, now).map_err(|doubt| match doubt {
            Doubt::Unknown => busy(BusyReason::Clock),
            Doubt::FromFuture { latest } => {
                KvError::Txn(Box::new(TxnFault::TimestampFromFuture { named, latest }))
            }
        })
    }

    fn admit(&self, bytes: usize, pressure: &Pressure) -> Result<(), BusyReason> {
        let config = &self.config;
        if pressure.level0_files > config.level0_files_max
            || pressure.immutable_memtables > config.immutable_memtables_max
            || pressure.pending_compaction_bytes > config.pending_compaction_bytes_max
        {
            return Err(BusyReason::WriteStall);
        }
        if sim_point!("store.refuse_write") {
            return Err(BusyReason::Memory);
        }
        match self.inflight.take(bytes, config.inflight_bytes_max) {
            true => Ok(()),
            false => Err(BusyReason::Memory),
        }
    }
}

fn busy(reason: BusyReason) -> KvError {
    KvError::ServerIsBusy { reason, backoff_ms: BACKOFF_MS }
}

/// Why a command cannot be served by anybody, ever.
fn check(command: &KvCommand) -> Result<(), String> {
    match command {
        KvCommand::Get { key } | KvCommand::GetLife { key } => check_key(key),
        KvCommand::BatchGet { keys } => keys.iter().try_for_each(|key| check_key(key)),
        KvCommand::Scan(scan) => check_range(&scan.range),
        KvCommand::Write { ops } => {
            if ops.is_empty() {
                return Err("a write needs at least one operation".to_owned());
            }
            let bytes: usize = ops.iter().map(WriteOp::size_bytes).sum();
            // The rest of the entry is left to envelopes; operations are counted with theirs when they are merged.
            if bytes > ENTRY_SIZE_MAX - (1 << 20) {
                return Err(format!(
                    "a write of {bytes} bytes exceeds {} bytes: split it",
                    ENTRY_SIZE_MAX - (1 << 20)
                ));
            }
            ops.iter().try_for_each(|op| match op {
                WriteOp::Put { key, value } => check_raw_key(key).and_then(|()| check_value(value)),
                WriteOp::PutFor { key, value, ttl_ms } => {
                    check_raw_key(key).and_then(|()| check_value(value)).and_then(|()| check_ttl(*ttl_ms))
                }
                WriteOp::Delete { key } => check_raw_key(key),
                WriteOp::DeleteRange { range } => {
                    check_range(range).and_then(|()| match range.end.is_empty() {
                        true => Err("a range to delete needs an end".to_owned()),
                        false if range.overlaps(&KeyRange::prefix([TXN_MODE].to_vec())) => {
                            Err("the range holds keys of transactions: delete these in transactions"
                                .to_owned())
                        }
                        false => Ok(()),
                    })
                }
            })
        }
        KvCommand::CompareAndSwap { key, expected, new } => {
            check_raw_key(key)?;
            [expected, new].into_iter().flatten().try_for_each(|value| check_value(value))
        }
        KvCommand::CompareAndSwapFor { key, expected, new, ttl_ms } => {
            check_raw_key(key)?;
            check_ttl(*ttl_ms)?;
            expected.iter().chain([new]).try_for_each(|value| check_value(value))
        }
        KvCommand::Split { keys } => {
            keys.iter().try_for_each(|key| check_key(key).and_then(|()| check_border(key)))
        }
        KvCommand::Txn(command) => check_command(command),
        KvCommand::TxnRead(read) => check_read(read),
        KvCommand::TransferLeader { .. } | KvCommand::CompactLog => Ok(()),
    }
}

/// Which region a message is for; its worker gets it.
#[must_use]
pub const fn region_addressed(message: &StoreMessage) -> Option<RegionId> {
    match message {
        StoreMessage::Raft(message) => Some(message.region_id),
        StoreMessage::Removed { region_id, .. }
        | StoreMessage::RemovedConfirmed { region_id, .. }
        | StoreMessage::Sleep { region_id, .. }
        | StoreMessage::SleepAgreed { region_id, .. }
        | StoreMessage::Wake { region_id, .. } => Some(*region_id),
        StoreMessage::Alive { .. } => None,
    }
}

fn check_key(key: &[u8]) -> Result<(), String> {
    match key.first() {
        None => Err("the key is empty".to_owned()),
        Some(0xff) => Err("keys that begin with 0xff belong to no key space".to_owned()),
        Some(_) if key.len() > KEY_SIZE_MAX + KEY_PREFIX_MAX => {
            Err(format!("a key of {} bytes exceeds the limit of {KEY_SIZE_MAX}", key.len()))
        }
        Some(_) => Ok(()),
    }
}

/// A key that is written without a transaction.
fn check_raw_key(key: &[u8]) -> Result<(), String> {
    match key.first() {
        Some(&TXN_MODE) => Err("keys that begin with 'x' are written in transactions alone".to_owned()),
        _ => check_key(key),
    }
}

fn check_value(value: &[u8]) -> Result<(), String> {
    match value.len() > VALUE_SIZE_MAX {
        true => Err(format!("a value of {} bytes exceeds the limit of {VALUE_SIZE_MAX}", value.len())),
        false => Ok(()),
    }
}

fn check_ttl(ttl_ms: u64) -> Result<(), String> {
    match ttl_ms {
        0 => Err("a value that ends lives for a millisecond at least".to_owned()),
        _ => Ok(()),
    }
}

fn check_range(range: &KeyRange) -> Result<(), String> {
    match !range.end.is_empty() && range.start > range.end {
        true => Err("the range is reversed: its start lies after its end".to_owned()),
        false => Ok(()),
    }
}
