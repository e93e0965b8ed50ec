//! What arrives over connections: checked, admitted, served at once or handed on, batch by batch.

use super::answers::Waiting;
use super::counters::Method;
use super::hub::{Arriving, Hub, PendingRead, is_short, too_many};
use super::stages::{Asked, Way};
use crate::BootClock;
use crate::logging::fatal;
use crate::measure::add;
use engine_rocks::{RocksEngine, RocksSnapshot};
use env::Clock as _;
use parking_lot::Mutex;
use raftstore::{Input, ReadRequest};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::{Dispatcher, LocalReader, Routed, TxnInput, region_addressed};
use transport::{Identity, Receipt, Request, RequestBody, Service};
use types::{ClusterId, MonoTime, StoreId};
use wire::pd::{PdError, PdResponse};
use wire::store::{DiskState, SnapshotKey, SnapshotPiece, StoreBatch, StoreMessage};

/// Messages of other stores that wait for one worker; more are dropped, and said again by their senders.
const MESSAGES_WAITING_MAX: usize = 1 << 16;

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    /// A number for each thread that serves, so that each finds a reader of its own.
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

fn this_thread() -> usize {
    THREAD.get().unwrap_or_else(|| {
        let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
        THREAD.set(Some(number));
        number
    })
}

/// What a store offers to those who connect.
pub(crate) struct StoreService {
    hub: Arc<Hub>,
    cluster_id: ClusterId,
    dispatcher: Dispatcher,
    /// For requests that name no deadline.
    timeout: Duration,
    /// One per thread, as long as threads are not replaced; the lock is for when they are.
    readers: Vec<Mutex<LocalReader<RocksEngine>>>,
    disks: Mutex<BTreeMap<StoreId, DiskState>>,
}

impl StoreService {
    pub(crate) fn new(
        hub: Arc<Hub>,
        cluster_id: ClusterId,
        dispatcher: Dispatcher,
        threads: usize,
        timeout: Duration,
    ) -> Self {
        let reader = || {
            let (engine, meta) = (hub.engine.clone(), hub.meta.clone());
            Mutex::new(hub.txn_shared.local_reader(engine, meta, hub.limits))
        };
        let readers = (0..threads).map(|_| reader()).collect();
        Self { cluster_id, dispatcher, timeout, readers, disks: Mutex::default(), hub }
    }

    fn handle(
        &self,
        now: MonoTime,
        shard: usize,
        request: Request,
        reader: &mut LocalReader<RocksEngine>,
        inputs: &mut [Vec<Input>],
        txns: &mut [Vec<TxnInput<RocksSnapshot>>],
    ) {
        let hub = &self.hub;
        let Request { body, timed, time_left, responder, .. } = request;
        let request = match body {
            RequestBody::Kv(request) => request,
            RequestBody::Pd(_) => {
                let message = "this is a store, not the placement driver: check the address".to_owned();
                return responder.respond_pd(&PdResponse::Err(PdError::InvalidRequest { message }));
            }
        };
        let (region_id, method) = (request.region_id, Method::of(&request.command));
        let waiting = |bytes| {
            let asked = Asked { region_id, method, bytes, since: now };
            Waiting { responder: Some(responder), asked, timed }
        };
        if hub.answers.is_full() {
            return hub.answers.give(waiting(0), Err(too_many()), Way::Unknown, now);
        }
        let deadline = now + time_left.unwrap_or(self.timeout);
        let pressure = hub.pressure.get(&hub.engine, now);
        match self.dispatcher.route(now, &pressure, request, 0, deadline) {
            Routed::Answer(answer) => hub.answers.give(waiting(0), answer, Way::Unknown, now),
            Routed::Read { worker, mut request } => {
                if !is_short(&request.command) {
                    request.token = hub.answers.insert(shard, waiting(0));
                    return hub.reads.push(PendingRead::Local(request));
                }
                // The clock of the batch will do for those who do not ask.
                let begun = if timed { BootClock.now() } else { now };
                let ReadRequest { region_id, epoch, .. } = request;
                let read = reader.read(&BootClock, region_id, epoch, (&request).into());
                match read.unwrap_or_else(|error| fatal("reading", &error)) {
                    Some(answer) => {
                        add(&hub.counters.reads_lease, 1);
                        let way = Way::Read { by_lease: true, begun };
                        hub.answers.give(waiting(0), answer, way, BootClock.now());
                    }
                    None => {
                        request.token = hub.answers.insert(shard, waiting(0));
                        inputs[worker].push(Input::Read(request));
                    }
                }
            }
            Routed::Txn { worker, mut request, bytes } => {
                request.token = hub.answers.insert(shard, waiting(bytes));
                txns[worker].push(TxnInput::Command(request));
            }
            Routed::Worker { worker, mut input, bytes } => {
                let own = hub.answers.insert(shard, waiting(bytes));
                match &mut input {
                    Input::Write { token, .. }
                    | Input::Split { token, .. }
                    | Input::TransferLeader { token, .. }
                    | Input::CompactLog { token, .. } => *token = own,
                    other => unreachable!("{other:?} comes from no client"),
                }
                inputs[worker].push(input);
            }
        }
    }
}

impl Service for StoreService {
    fn identity(&self) -> Identity {
        Identity { cluster_id: self.cluster_id, store_id: self.hub.store_id }
    }

    fn requests(&self, batch: &mut Vec<Request>) {
        // Read after all of the batch has arrived.
        let now = BootClock.now();
        let hub = &self.hub;
        let shard = hub.answers.shard();
        let mut inputs: Vec<Vec<Input>> = hub.workers.inboxes.iter().map(|_| Vec::new()).collect();
        let mut txns: Vec<Vec<_>> = hub.scheduling.inboxes.iter().map(|_| Vec::new()).collect();
        let mut reader = self.readers[this_thread() % self.readers.len()].lock();
        transport::hold_wakes(|| {
            reader.begin_batch();
            for request in batch.iter() {
                if let RequestBody::Kv(request) = &request.body {
                    self.dispatcher.announce(now, request);
                }
            }
            for request in batch.drain(..) {
                self.handle(now, shard, request, &mut reader, &mut inputs, &mut txns);
            }
            // Lets go of its snapshot, which would keep old data.
            reader.begin_batch();
        });
        drop(reader);
        for (worker, txns) in txns.iter_mut().enumerate() {
            hub.bring_txns(worker, txns);
        }
        for (worker, inputs) in inputs.iter_mut().enumerate() {
            hub.bring_arrived(worker, inputs);
        }
    }

    fn store_batches(&self, batches: &mut Vec<StoreBatch>) {
        let hub = &self.hub;
        let mut inputs: Vec<Vec<Input>> = hub.workers.inboxes.iter().map(|_| Vec::new()).collect();
        let mut disks = self.disks.lock();
        for StoreBatch { from_store, disk, messages } in batches.drain(..) {
            if disks.insert(from_store, disk) != Some(disk) {
                inputs.iter_mut().for_each(|inputs| inputs.push(Input::DiskOf(from_store, disk)));
            }
            add(&hub.counters.messages_received, messages.len() as u64);
            for message in messages {
                match region_addressed(&message) {
                    Some(region_id) => inputs[hub.workers.of(region_id)].push(Input::Message(message)),
                    None => {
                        inputs.iter_mut().for_each(|inputs| inputs.push(Input::Message(message.clone())));
                    }
                }
            }
        }
        drop(disks);
        for (worker, inputs) in inputs.iter_mut().enumerate() {
            let inbox = &hub.workers.inboxes[worker];
            if inbox.len() < MESSAGES_WAITING_MAX {
                hub.bring_arrived(worker, inputs);
            } else {
                // Of a state only the change is told, so it must arrive; and to be overworked is no sign of others' death.
                let (told, refused): (Vec<_>, Vec<_>) = inputs.drain(..).partition(|input| {
                    matches!(input, Input::DiskOf(..) | Input::Message(StoreMessage::Alive { .. }))
                });
                add(&hub.counters.messages_refused, refused.len() as u64);
                inbox.push_all(&mut { told });
            }
        }
    }

    fn snapshot_piece(&self, piece: SnapshotPiece, receipt: Receipt) {
        self.hub.arriving.push(Arriving::Piece(piece, receipt));
    }

    fn snapshot_lost(&self, key: SnapshotKey) {
        self.hub.arriving.push(Arriving::Lost(key));
    }
}
