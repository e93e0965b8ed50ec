//! Client nodes: the processes that use the product's client, and what they record.

use crate::bank::Teller;
use crate::check::{Action, Broken, OpId, Outcome};
use crate::client_process::{ClientMaker, ClientProcess};
use crate::cluster::{Node, World};
use crate::counters::number_of;
use crate::executor::Handle;
use crate::kernel::{CrashKind, NodeId};
use crate::lists::Author;
use crate::network::ConnectionId;
use crate::observer::Observer;
use crate::time::SimTime;
use crate::workload::{Change, Generator, Operation, Request, Session};
use bytes::Bytes;
use client_core::{Admin, Collector, Core, Error, RawClient, ScanOptions};
use codec::frame::Frame;
use env::{Dice, SplitMix};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use types::{KeyRange, MonoTime, Region, StoreId};
use wire::pd::{OperatorStatus, Order, StoreMode};

pub use crate::client_process::{CLIENT_LANE, address_of, node_at};

/// A node that runs client processes.
pub struct ClientNode {
    session: Arc<Mutex<Session>>,
    pd_members: Vec<NodeId>,
    process: Option<(ClientProcess, Core)>,
    has_probed: bool,
    /// Rules that its clients break.
    bugs: client_core::Bugs,
}

impl ClientNode {
    /// A node whose processes take part in `session`.
    #[must_use]
    pub const fn new(session: Arc<Mutex<Session>>, pd_members: Vec<NodeId>, bugs: client_core::Bugs) -> Self {
        Self { session, pd_members, process: None, has_probed: false, bugs }
    }

    fn run_soon(&mut self, world: &mut World<'_>) {
        if let Some((process, _)) = &mut self.process {
            process.run_soon(world);
        }
    }
}

impl Node for ClientNode {
    fn start(&mut self, world: &mut World<'_>) {
        let process = ClientProcess::new(world, &self.pd_members);
        let dice = SplitMix::new(world.dice().next_u64());
        let mut session = self.session.lock();
        let config = session.config.clone();
        let txn_ttl = Some(config.bank.ttl).filter(|ttl| !ttl.is_zero());
        let (handle, maker) = (process.handle(), process.maker().breaking(self.bugs).with_txn_ttl(txn_ttl));
        let core = maker.make(&dice, config.deadline);
        if !session.is_over {
            for _ in 0..config.processes {
                let process = session.new_process(world.node());
                let generator =
                    Generator::new(config.clone(), process, dice.fork(&format!("process {process}")));
                let task = Task {
                    client: core.raw(),
                    maker: maker.clone(),
                    session: Arc::clone(&self.session),
                    handle: handle.clone(),
                    process,
                    generator,
                };
                handle.spawn(task.run());
            }
            let tellers = if config.bank.accounts > 0 { config.bank.tellers } else { 0 };
            for _ in 0..tellers {
                let process = session.new_process(world.node());
                let dice = dice.fork(&format!("process {process}"));
                handle.spawn(teller(&core, &self.session, &handle, process, dice).run());
            }
            let authors = if config.lists.lists > 0 { config.lists.authors } else { 0 };
            for _ in 0..authors {
                let process = session.new_process(world.node());
                let dice = dice.fork(&format!("process {process}"));
                handle.spawn(author(&core, &self.session, &handle, process, dice).run());
            }
            if tellers > 0 {
                handle.spawn(collect(core.collector(), Arc::clone(&self.session), handle.clone()));
            }
            handle.spawn(ask_timestamps(
                core.clone(),
                Arc::clone(&self.session),
                handle.clone(),
                dice.fork("tso"),
            ));
        }
        drop(session);
        self.process = Some((process, core));
        self.run_soon(world);
    }

    fn arrived(
        &mut self,
        world: &mut World<'_>,
        _from: NodeId,
        _connection: Option<ConnectionId>,
        frame: Frame,
    ) {
        if let Some((process, _)) = &mut self.process {
            process.arrived(frame);
        }
        self.run_soon(world);
    }

    fn disconnected(&mut self, world: &mut World<'_>, peer: NodeId, connection: ConnectionId, carried: bool) {
        if let Some((process, _)) = &mut self.process {
            process.disconnected(peer, connection, carried);
        }
        self.run_soon(world);
    }

    fn woken(&mut self, world: &mut World<'_>, token: u64) {
        let Some((process, core)) = &mut self.process else { return };
        process.woken(world, token);
        {
            let mut session = self.session.lock();
            session.now = world.true_now();
            for (number, operation) in session.orders.remove(&world.node()).unwrap_or_default() {
                let operator = Operator { core: core.clone(), session: Arc::clone(&self.session) };
                process.handle().spawn(operator.carry_out(number, operation));
            }
            if session.is_over && !self.has_probed {
                self.has_probed = true;
                let client = core.raw().with_deadline(Duration::from_secs(30));
                let handle = process.handle();
                let number = session.new_process(world.node());
                let teller = (session.config.bank.accounts > 0).then(|| {
                    let dice = SplitMix::new(world.dice().next_u64());
                    teller(core, &self.session, &handle, session.new_process(world.node()), dice)
                });
                let author = (session.config.lists.lists > 0).then(|| {
                    let dice = SplitMix::new(world.dice().next_u64());
                    author(core, &self.session, &handle, session.new_process(world.node()), dice)
                });
                let session = Arc::clone(&self.session);
                handle.clone().spawn(async move {
                    if let Some(teller) = teller {
                        teller.probe().await;
                    }
                    if let Some(author) = author {
                        author.probe().await;
                    }
                    probe(client, number, session, handle).await;
                });
            }
        }
        process.run(world);
    }

    fn crash(&mut self, _kind: CrashKind, _dice: &mut SplitMix) {
        self.process = None;
        // Its probe died with it.
        self.has_probed = false;
    }

    fn observe(&mut self, _now: SimTime, _clock: MonoTime, _observer: &mut Observer) -> Result<(), Broken> {
        self.session.lock().broken.take().map_or(Ok(()), Err)
    }
}

/// After so many operations a run has seen what a rate like this can show; the rest of it need not cost as much.
const OPERATIONS_MANY: usize = 4_000;

/// Who removes old versions looks so often whether there is something to do.
const COLLECTOR_REST: Duration = Duration::from_millis(200);

/// One process: makes requests one after another, and records what it asks and gets.
struct Task {
    client: RawClient,
    maker: ClientMaker,
    session: Arc<Mutex<Session>>,
    handle: Handle,
    process: u64,
    generator: Generator,
}

impl Task {
    async fn run(mut self) {
        while !self.session.lock().is_over {
            let mut rest = self.generator.rest();
            if self.session.lock().recorder.operations().len() > OPERATIONS_MANY {
                rest = rest.max(Duration::from_secs(1));
            }
            self.handle.sleep(rest).await;
            if self.generator.forgets() {
                let dice = self.generator.fork();
                self.client = self.maker.make(&dice, self.generator.deadline()).raw();
            }
            let Some(request) = self.generator.request() else { return };
            self.make(request).await;
        }
    }

    fn invoke(&self, key: &Bytes, action: Action) -> OpId {
        self.session.lock().invoke(self.process, key, action)
    }

    /// Completes an operation and counts how it ended.
    fn complete(&self, id: OpId, outcome: Outcome) {
        let mut session = self.session.lock();
        let tally = &mut session.tally;
        match outcome {
            Outcome::Unknown => tally.unknown += 1,
            Outcome::NotDone => tally.refused += 1,
            _ => tally.done += 1,
        }
        session.complete(id, outcome);
    }

    fn read(&mut self, key: &Bytes, id: OpId, value: Option<Bytes>) {
        self.generator.saw(key, value.clone());
        self.complete(id, Outcome::Value(value));
    }

    async fn make(&mut self, request: Request) {
        match request {
            Request::Get(key) => {
                let id = self.invoke(&key, Action::Get);
                match self.client.get(key.clone()).await {
                    Ok(value) => self.read(&key, id, value),
                    Err(_) => self.complete(id, Outcome::NotDone),
                }
            }
            Request::Put(key, value) => {
                let id = self.invoke(&key, Action::Put(value.clone()));
                let result = self.client.put(key.clone(), value.clone()).await;
                self.generator.saw(&key, Some(value));
                self.complete(id, written(&result));
            }
            Request::Delete(key) => {
                let id = self.invoke(&key, Action::Delete);
                let result = self.client.delete(key).await;
                self.complete(id, written(&result));
            }
            Request::CompareAndSwap { key, expected, new } => {
                let action = Action::CompareAndSwap { expected: expected.clone(), new: new.clone() };
                let id = self.invoke(&key, action);
                let outcome = match self.client.compare_and_swap(key.clone(), expected, new.clone()).await {
                    Ok(swap) => {
                        self.generator.saw(&key, if swap.succeeded { new } else { swap.previous.clone() });
                        Outcome::Swapped { succeeded: swap.succeeded, previous: Some(swap.previous) }
                    }
                    Err(error) => failed(&error),
                };
                self.complete(id, outcome);
            }
            Request::BatchPut(pairs) => {
                let ids: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| (key.clone(), self.invoke(key, Action::Put(value.clone()))))
                    .collect();
                let result = self.client.batch_put(pairs).await;
                for (key, id) in ids {
                    self.complete(id, batch_outcome(&result, &key));
                }
            }
            Request::BatchGet(keys) => {
                let ids: Vec<_> = keys.iter().map(|key| self.invoke(key, Action::Get)).collect();
                match self.client.batch_get(keys.clone()).await {
                    Ok(values) => {
                        assert_eq!(values.len(), keys.len(), "one answer for each key");
                        for ((key, id), value) in keys.iter().zip(ids).zip(values) {
                            self.read(key, id, value);
                        }
                    }
                    Err(_) => ids.into_iter().for_each(|id| self.complete(id, Outcome::NotDone)),
                }
            }
            Request::Scan { reverse } => self.scan(reverse).await,
            Request::Increment(key) => self.increment(key).await,
            Request::ReadSlowly { reverse, page_pairs, rest_max } => {
                let options = ScanOptions { reverse, page_pairs, ..ScanOptions::default() };
                self.read_slowly(options, rest_max).await;
            }
            Request::DeleteFrom(first) => {
                let keys: Vec<_> =
                    self.session.lock().config.all_keys().filter(|key| *key >= first).collect();
                let ids: Vec<_> = keys.iter().map(|key| self.invoke(key, Action::Delete)).collect();
                let result = self.client.delete_range(KeyRange::new(first, "key-~")).await;
                for (key, id) in keys.iter().zip(ids) {
                    let outcome = match &result {
                        Err(Error::RangeIncomplete { deleted_to, .. }) if key < deleted_to => {
                            Outcome::Written
                        }
                        Err(Error::RangeIncomplete { cause, .. }) => failed(cause),
                        other => written(other),
                    };
                    self.complete(id, outcome);
                }
            }
        }
    }

    /// A scan is a read of every key, somewhen between its beginning and its end.
    async fn scan(&mut self, reverse: bool) {
        let keys: Vec<_> = self.session.lock().config.all_keys().collect();
        let ids: Vec<_> = keys.iter().map(|key| self.invoke(key, Action::Get)).collect();
        let options = ScanOptions { reverse, ..ScanOptions::default() };
        let scan = self.client.scan(KeyRange::new("key-", "key-~"), options).expect("a valid range");
        match scan.into_vec().await {
            Ok(pairs) => {
                let sorted = pairs.windows(2).all(|pair| (pair[0].key < pair[1].key) != reverse);
                assert!(sorted, "a scan yields each key once, in order: {pairs:?}");
                let mut found: BTreeMap<_, _> =
                    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
                for (key, id) in keys.iter().zip(ids) {
                    self.read(key, id, found.remove(key));
                }
                assert!(found.is_empty(), "a scan yields keys that nobody wrote: {found:?}");
            }
            Err(_) => ids.into_iter().for_each(|id| self.complete(id, Outcome::NotDone)),
        }
    }
}

/// An increment that others have been faster than so often is given up.
const INCREMENT_TRIES: usize = 5;
/// A reader whose scan fails goes on where it stood, so many times.
const READER_TRIES: usize = 4;

impl Task {
    /// Reads a counter, and swaps what it holds for one more.
    async fn increment(&mut self, key: Bytes) {
        let (id, floor) = (self.invoke(&key, Action::Get), self.session.lock().counters.floor(&key));
        let mut seen = match self.client.get(key.clone()).await {
            Ok(value) => value,
            Err(_) => return self.complete(id, Outcome::NotDone),
        };
        self.complete(id, Outcome::Value(seen.clone()));
        self.session.lock().read_counter(&key, floor, seen.as_ref());
        for _ in 0..INCREMENT_TRIES {
            let new = Some(Bytes::from((number_of(seen.as_ref()) + 1).to_string()));
            let action = Action::CompareAndSwap { expected: seen.clone(), new: new.clone() };
            let id = self.invoke(&key, action);
            self.session.lock().counters.begun(&key);
            let result = self.client.compare_and_swap(key.clone(), seen, new).await;
            let outcome = match &result {
                Ok(swap) => {
                    Outcome::Swapped { succeeded: swap.succeeded, previous: Some(swap.previous.clone()) }
                }
                Err(error) => failed(error),
            };
            {
                let counters = &mut self.session.lock().counters;
                match &outcome {
                    Outcome::Swapped { succeeded: true, .. } => counters.acknowledged(&key),
                    Outcome::Unknown => {}
                    _ => counters.refused(&key),
                }
            }
            self.complete(id, outcome);
            match result {
                Ok(swap) if !swap.succeeded => seen = swap.previous,
                _ => return,
            }
        }
    }

    /// A scan by somebody who rests between pairs while regions are cut and moved, and who goes on where they stood after
    /// an error. Each key was read somewhen between the beginning and the pair that showed it, or showed that it is absent.
    async fn read_slowly(&mut self, options: ScanOptions, rest_max: Duration) {
        let mut keys: VecDeque<Bytes> = self.session.lock().config.all_keys().collect();
        if options.reverse {
            keys.make_contiguous().reverse();
        }
        let mut range = Some(KeyRange::new("key-", "key-~"));
        let mut dice = self.generator.fork();
        for _ in 0..READER_TRIES {
            let Some(left) = range else { break };
            // What an earlier try did not come to begins anew.
            let mut reads: VecDeque<(Bytes, OpId)> =
                keys.iter().map(|key| (key.clone(), self.invoke(key, Action::Get))).collect();
            let mut scan = self.client.scan(left, options.clone()).expect("a valid range");
            let is_through = loop {
                let pair = match scan.next_pair().await {
                    Ok(Some(pair)) => pair,
                    Ok(None) => break true,
                    Err(_) => break false,
                };
                loop {
                    let Some((key, id)) = reads.pop_front() else {
                        panic!("a scan yields {pair:?} twice, out of order, or though nobody wrote it")
                    };
                    keys.pop_front();
                    if key == pair.key {
                        self.read(&key, id, Some(pair.value));
                        break;
                    }
                    self.read(&key, id, None);
                }
                self.handle.sleep(dice.duration(Duration::ZERO, rest_max)).await;
            };
            for (key, id) in reads {
                match is_through {
                    true => self.read(&key, id, None),
                    false => self.complete(id, Outcome::NotDone),
                }
            }
            if is_through {
                break;
            }
            range = scan.remaining();
        }
    }
}

/// What an error says of a write.
fn failed(error: &Error) -> Outcome {
    match error {
        Error::Undetermined { .. } => Outcome::Unknown,
        Error::Incomplete(_) | Error::RangeIncomplete { .. } => panic!("no error of a single write: {error}"),
        _ => Outcome::NotDone,
    }
}

pub(crate) fn written(result: &Result<(), Error>) -> Outcome {
    result.as_ref().map_or_else(failed, |()| Outcome::Written)
}

fn batch_outcome(result: &Result<(), Error>, key: &Bytes) -> Outcome {
    let Err(Error::Incomplete(incomplete)) = result else { return written(result) };
    let lists = [&incomplete.written, &incomplete.undetermined, &incomplete.not_written];
    let places: BTreeSet<usize> =
        lists.iter().enumerate().filter(|(_, keys)| keys.contains(key)).map(|(place, _)| place).collect();
    assert_eq!(places.len(), 1, "every key of a batch is in exactly one list: {incomplete:?}");
    match places.first() {
        Some(0) => Outcome::Written,
        Some(1) => Outcome::Unknown,
        _ => Outcome::NotDone,
    }
}

fn teller(
    core: &Core,
    session: &Arc<Mutex<Session>>,
    handle: &Handle,
    process: u64,
    dice: SplitMix,
) -> Teller {
    let (client, admin) = (core.txn(), core.admin());
    Teller { client, admin, session: Arc::clone(session), handle: handle.clone(), process, dice }
}

/// Old versions are removed while clients work: by several at once, each of which may die at any moment.
async fn collect(collector: Collector, session: Arc<Mutex<Session>>, handle: Handle) {
    while !session.lock().is_over {
        // What fails is begun again by somebody.
        let _ = collector.work().await;
        handle.sleep(COLLECTOR_REST).await;
    }
}

fn author(
    core: &Core,
    session: &Arc<Mutex<Session>>,
    handle: &Handle,
    process: u64,
    dice: SplitMix,
) -> Author {
    Author { client: core.txn(), session: Arc::clone(session), handle: handle.clone(), process, dice }
}

/// Splits regions and moves leaders, as it is told.
struct Operator {
    core: Core,
    session: Arc<Mutex<Session>>,
}

impl Operator {
    /// Whether it works out does not matter but to know: what clients see must be right either way.
    async fn carry_out(self, number: u64, operation: Operation) {
        let deadline = self.session.lock().config.deadline;
        let admin = self.core.admin().with_deadline(deadline);
        let is_done = match operation {
            Operation::Split(key) => {
                let made = admin.split_region([key]).await;
                made.is_ok_and(|regions| !regions.is_empty())
            }
            Operation::Transfer(region, peer) => match pick_region(&admin, region).await {
                Some(region) => match pick(&region.peers, peer) {
                    Some(to) => admin.transfer_leader(region.id, to.store_id).await.is_ok(),
                    None => false,
                },
                None => false,
            },
            Operation::Members(change, region, peer, store) => {
                change_members(&admin, change, (region, peer, store)).await.is_some()
            }
            Operation::Cancel(region) => match pick_region(&admin, region).await {
                Some(region) => admin.cancel_operator(region.id).await.is_ok(),
                None => false,
            },
            Operation::Mode(store, mode) => match pick_store(&admin, store).await {
                Some(store) => {
                    if mode != StoreMode::Draining {
                        self.session.lock().undrained.insert(store);
                    }
                    let is_done = admin.set_store_mode(store, mode).await.is_ok();
                    if is_done && mode == StoreMode::Draining {
                        self.session.lock().draining.insert(store);
                    }
                    is_done
                }
                None => false,
            },
            Operation::CompactLog(region) => match pick_region(&admin, region).await {
                Some(region) => admin.compact_log(region.id).await.is_ok(),
                None => false,
            },
        };
        if is_done {
            self.session.lock().ordered_done.push(number);
        }
    }
}

/// One of them, counted round and round.
fn pick<T>(from: &[T], number: u64) -> Option<&T> {
    from.get(usize::try_from(number % from.len().max(1) as u64).expect("an index"))
}

/// One of all regions, counted in the order of their keys.
async fn pick_region(admin: &Admin, number: u64) -> Option<Region> {
    let regions = admin.regions(KeyRange::full(), 100).await.unwrap_or_default();
    pick(&regions, number).map(|route| route.region.clone())
}

/// All stores, in the order of their ids.
async fn all_stores(admin: &Admin) -> Vec<StoreId> {
    let stores = admin.stores().await.unwrap_or_default();
    let mut ids: Vec<StoreId> = stores.iter().map(|store| store.info.id).collect();
    ids.sort_unstable();
    ids
}

async fn pick_store(admin: &Admin, number: u64) -> Option<StoreId> {
    pick(&all_stores(admin).await, number).copied()
}

/// Asks for a change of members; `None` if it was not begun, or there is nothing to change.
async fn change_members(
    admin: &Admin,
    change: Change,
    (region, peer, store): (u64, u64, u64),
) -> Option<OperatorStatus> {
    let region = pick_region(admin, region).await?;
    let from_store = pick(&region.peers, peer)?.store_id;
    let stores = all_stores(admin).await;
    let free: Vec<StoreId> =
        stores.iter().copied().filter(|store| region.peer_on(*store).is_none()).collect();
    // Mostly one that holds no peer yet.
    let to_store = *pick(if store % 8 == 0 { &stores } else { &free }, store / 8)?;
    let order = match change {
        Change::Add => Order::AddPeer { to_store },
        Change::Remove => Order::RemovePeer { from_store },
        Change::Move => Order::TransferPeer { from_store, to_store },
    };
    admin.add_operator(region.id, order).await.ok()
}

/// Asks for timestamps, which must grow whoever asks.
async fn ask_timestamps(core: Core, session: Arc<Mutex<Session>>, handle: Handle, mut dice: SplitMix) {
    let (has_timestamps, rest_max) = {
        let session = session.lock();
        (session.config.timestamps, session.config.rest_max * 4)
    };
    while has_timestamps && !session.lock().is_over {
        handle.sleep(dice.duration(Duration::ZERO, rest_max)).await;
        let floor = session.lock().timestamps.floor();
        if let Ok(timestamp) = core.admin().timestamp().await {
            let mut session = session.lock();
            if let Err(broken) = session.timestamps.answered(floor, timestamp, timestamp) {
                session.broken.get_or_insert(broken);
            }
        }
    }
}

/// After the faults have ended: every key can be written and read by every client.
async fn probe(client: RawClient, process: u64, session: Arc<Mutex<Session>>, handle: Handle) {
    let keys: Vec<_> = session.lock().config.all_keys().collect();
    let mut attempts = 0;
    for key in keys {
        loop {
            // No value twice: the first attempt may be done after all.
            attempts += 1;
            let value = Bytes::from(format!("probe {process}-{attempts}"));
            let id = session.lock().invoke(process, &key, Action::Put(value.clone()));
            let result = client.put(key.clone(), value.clone()).await;
            session.lock().complete(id, written(&result));
            match result {
                Ok(()) => break,
                Err(error) => session.lock().probe_failure = Some(error.to_string()),
            }
            handle.sleep(Duration::from_millis(100)).await;
        }
        read_until_answered(&client, process, &session, &handle, &key).await;
    }
    let counters: Vec<_> = session.lock().config.counters().collect();
    for key in counters {
        let floor = session.lock().counters.floor(&key);
        let value = read_until_answered(&client, process, &session, &handle, &key).await;
        session.lock().read_counter(&key, floor, value.as_ref());
    }
    session.lock().probes_done += 1;
}

async fn read_until_answered(
    client: &RawClient,
    process: u64,
    session: &Mutex<Session>,
    handle: &Handle,
    key: &Bytes,
) -> Option<Bytes> {
    loop {
        let id = session.lock().invoke(process, key, Action::Get);
        match client.get(key.clone()).await {
            Ok(value) => {
                session.lock().complete(id, Outcome::Value(value.clone()));
                return value;
            }
            Err(error) => {
                let mut session = session.lock();
                session.complete(id, Outcome::NotDone);
                session.probe_failure = Some(error.to_string());
            }
        }
        handle.sleep(Duration::from_millis(100)).await;
    }
}
