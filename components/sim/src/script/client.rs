//! The clients of a script: they do what they are told, and what comes of it goes into one history.

use crate::check::{Action, Broken, OpId, Outcome, Recorder, Timestamps};
use crate::client::written;
use crate::client_process::ClientProcess;
use crate::cluster::{Node, World};
use crate::executor::Handle;
use crate::kernel::{CrashKind, NodeId};
use crate::network::ConnectionId;
use crate::observer::Observer;
use crate::time::SimTime;
use bytes::Bytes;
use client_core::{Core, Error, ScanOptions};
use codec::frame::Frame;
use env::{Dice, SplitMix};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, KeyRange, MonoTime, RegionId, StoreId, Timestamp};
use wire::pd::{Order as Change, RegionRoute};

/// Names a call of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(u64);

/// How a call ended.
pub type Answer = Result<Reply, CallError>;

/// Why a call has brought nothing, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// Nothing was done, nor will it be.
    Refused(String),
    /// Nobody knows whether it was done.
    Unknown(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::Undetermined { .. } => Self::Unknown(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// What a call brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// What the key held.
    Value(Option<Bytes>),
    /// It was done.
    Done,
    /// Whether a swap found what it expected.
    Swapped(bool),
    /// What a scan found.
    Pairs(Vec<(Bytes, Bytes)>),
    /// A timestamp.
    Timestamp(Timestamp),
    /// The store that leads the key's region, as far as the placement driver knows.
    Leader(Option<StoreId>),
}

/// Anything that a client can do: on its [`Core`], resting on its own time.
pub(super) struct Work(pub(super) WorkOf);

pub(super) type WorkOf = Box<dyn FnOnce(Core, Handle) -> BoxFuture<'static, Result<Reply, Error>> + Send>;

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// What a client is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Get(Bytes),
    Put(Bytes, Bytes),
    Delete(Bytes),
    Swap(Bytes, Option<Bytes>, Option<Bytes>),
    /// Of all keys, from the end if so.
    Scan(bool),
    Timestamp,
    /// Writes and reads these keys in turn, resting so long between two, until everybody is told to stop.
    Load(Vec<Bytes>, Duration),
    Locate(Key),
    Split(Key),
    Transfer(RegionId, StoreId),
    Members(RegionId, Change),
    CancelOperator(RegionId),
    CompactLog(RegionId),
    Work(Work),
}

/// Where orders lie until they are fetched, and answers until somebody looks.
#[derive(Default, Debug)]
pub(super) struct Desk {
    made: u64,
    orders: BTreeMap<NodeId, Vec<(CallId, Order)>>,
    answers: BTreeMap<CallId, Answer>,
    pub(super) recorder: Recorder,
    /// Timestamps that were answered.
    timestamps: Timestamps,
    /// What clients have seen broken.
    broken: Option<Broken>,
    /// Whoever writes and reads until told otherwise stops.
    pub(super) load_is_over: bool,
    now: SimTime,
}

impl Desk {
    pub(super) fn order(&mut self, client: NodeId, order: Order) -> CallId {
        self.made += 1;
        let call = CallId(self.made);
        self.orders.entry(client).or_default().push((call, order));
        call
    }

    pub(super) fn answer(&self, call: CallId) -> Option<Answer> {
        self.answers.get(&call).cloned()
    }

    /// How many operations were done.
    pub(super) fn done(&self) -> usize {
        let is_done = |outcome: &Outcome| !matches!(outcome, Outcome::NotDone | Outcome::Unknown);
        self.recorder.operations().iter().filter(|operation| is_done(&operation.outcome)).count()
    }

    /// All keys that anybody has asked for.
    fn keys(&self) -> BTreeSet<Bytes> {
        self.recorder.operations().iter().map(|operation| operation.key.clone()).collect()
    }

    fn invoke(&mut self, client: NodeId, key: &Bytes, action: Action) -> OpId {
        self.recorder.invoke(self.now.0, u64::from(client.0), key.clone(), action)
    }
}

/// A node with one client.
pub(super) struct ScriptClient {
    desk: Arc<Mutex<Desk>>,
    pd_members: Vec<NodeId>,
    /// How long a call may take.
    deadline: Duration,
    /// Rules that it breaks.
    bugs: client_core::Bugs,
    process: Option<(ClientProcess, Core)>,
}

impl ScriptClient {
    pub(super) const fn new(
        desk: Arc<Mutex<Desk>>,
        pd_members: Vec<NodeId>,
        deadline: Duration,
        bugs: client_core::Bugs,
    ) -> Self {
        Self { desk, pd_members, deadline, bugs, process: None }
    }

    fn run_soon(&mut self, world: &mut World<'_>) {
        if let Some((process, _)) = &mut self.process {
            process.run_soon(world);
        }
    }
}

/// One who carries orders out.
#[derive(Clone)]
struct Hand {
    core: Core,
    handle: Handle,
    desk: Arc<Mutex<Desk>>,
    client: NodeId,
}

impl Hand {
    async fn carry_out(self, call: CallId, order: Order) {
        let answer = self.answer(call, order).await;
        self.desk.lock().answers.insert(call, answer.map_err(CallError::from));
    }

    async fn answer(&self, call: CallId, order: Order) -> Result<Reply, Error> {
        let admin = self.core.admin();
        match order {
            Order::Get(key) => self.get(key).await.map(Reply::Value),
            Order::Put(key, value) => self.put(key, value).await.map(|()| Reply::Done),
            Order::Delete(key) => {
                let id = self.invoke(&key, Action::Delete);
                let result = self.core.raw().delete(key).await;
                complete(&self.desk, id, written(&result));
                result.map(|()| Reply::Done)
            }
            Order::Swap(key, expected, new) => {
                let action = Action::CompareAndSwap { expected: expected.clone(), new: new.clone() };
                let id = self.invoke(&key, action);
                let result = self.core.raw().compare_and_swap(key, expected, new).await;
                let outcome = match &result {
                    Ok(swap) => {
                        Outcome::Swapped { succeeded: swap.succeeded, previous: Some(swap.previous.clone()) }
                    }
                    Err(Error::Undetermined { .. }) => Outcome::Unknown,
                    Err(_) => Outcome::NotDone,
                };
                complete(&self.desk, id, outcome);
                result.map(|swap| Reply::Swapped(swap.succeeded))
            }
            Order::Scan(reverse) => self.scan(reverse).await.map(Reply::Pairs),
            Order::Timestamp => {
                let floor = self.desk.lock().timestamps.floor();
                let timestamp = admin.timestamp().await?;
                let mut desk = self.desk.lock();
                if let Err(broken) = desk.timestamps.answered(floor, timestamp, timestamp) {
                    desk.broken.get_or_insert(broken);
                }
                Ok(Reply::Timestamp(timestamp))
            }
            Order::Load(keys, rest) => {
                let mut made = 0;
                for key in keys.iter().cycle() {
                    if self.desk.lock().load_is_over {
                        break;
                    }
                    made += 1;
                    let value = Bytes::from(format!("load-{}-{made}", call.0));
                    // How it ends is in the history.
                    let _written = self.put(key.clone(), value).await;
                    let _seen = self.get(key.clone()).await;
                    self.handle.sleep(rest).await;
                }
                Ok(Reply::Done)
            }
            Order::Locate(key) => {
                let leader = |route: Option<RegionRoute>| route?.leader.map(|leader| leader.store_id);
                admin.region_at(key).await.map(|route| Reply::Leader(leader(route)))
            }
            Order::Split(key) => admin.split_region([key]).await.map(|_| Reply::Done),
            Order::Transfer(region, to) => admin.transfer_leader(region, to).await.map(|()| Reply::Done),
            Order::Members(region, change) => admin.add_operator(region, change).await.map(|_| Reply::Done),
            Order::CancelOperator(region) => admin.cancel_operator(region).await.map(|()| Reply::Done),
            Order::CompactLog(region) => admin.compact_log(region).await.map(|_| Reply::Done),
            Order::Work(work) => (work.0)(self.core.clone(), self.handle.clone()).await,
        }
    }

    fn invoke(&self, key: &Bytes, action: Action) -> OpId {
        self.desk.lock().invoke(self.client, key, action)
    }

    async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let id = self.invoke(&key, Action::Get);
        let result = self.core.raw().get(key).await;
        let outcome = result.as_ref().map_or(Outcome::NotDone, |value| Outcome::Value(value.clone()));
        complete(&self.desk, id, outcome);
        result
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Error> {
        let id = self.invoke(&key, Action::Put(value.clone()));
        let result = self.core.raw().put(key, value).await;
        complete(&self.desk, id, written(&result));
        result
    }

    /// A scan is a read of every key, somewhen between its beginning and its end.
    async fn scan(&self, reverse: bool) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let keys: Vec<_> = self.desk.lock().keys().into_iter().collect();
        let ids: Vec<_> = keys.iter().map(|key| self.invoke(key, Action::Get)).collect();
        let options = ScanOptions { reverse, ..ScanOptions::default() };
        let scan = self.core.raw().scan(KeyRange::full(), options).expect("all keys are a range");
        let result = scan.into_vec().await;
        let pairs: Result<Vec<_>, _> =
            result.map(|pairs| pairs.into_iter().map(|pair| (pair.key, pair.value)).collect());
        for (key, id) in keys.iter().zip(ids) {
            let found = |pairs: &Vec<(Bytes, Bytes)>| {
                pairs.iter().find(|(found, _)| found == key).map(|(_, value)| value.clone())
            };
            complete(
                &self.desk,
                id,
                pairs.as_ref().map_or(Outcome::NotDone, |pairs| Outcome::Value(found(pairs))),
            );
        }
        pairs
    }
}

fn complete(desk: &Mutex<Desk>, id: OpId, outcome: Outcome) {
    let mut desk = desk.lock();
    let now = desk.now.0;
    desk.recorder.complete(now, id, outcome);
}

impl Node for ScriptClient {
    fn start(&mut self, world: &mut World<'_>) {
        let process = ClientProcess::new(world, &self.pd_members);
        let dice = SplitMix::new(world.dice().next_u64());
        let core = process.maker().breaking(self.bugs).make(&dice, self.deadline);
        self.process = Some((process, core));
        self.run_soon(world);
    }

    fn arrived(&mut self, world: &mut World<'_>, _: NodeId, _: Option<ConnectionId>, frame: Frame) {
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
        let client = world.node();
        let orders = {
            let mut desk = self.desk.lock();
            desk.now = world.true_now();
            desk.orders.remove(&client).unwrap_or_default()
        };
        for (call, order) in orders {
            let (core, handle, desk) = (core.clone(), process.handle(), Arc::clone(&self.desk));
            let hand = Hand { core, handle, desk, client };
            process.handle().spawn(hand.carry_out(call, order));
        }
        process.run(world);
    }

    fn crash(&mut self, _: CrashKind, _: &mut SplitMix) {
        self.process = None;
    }

    fn observe(&mut self, _: SimTime, _: MonoTime, _: &mut Observer) -> Result<(), Broken> {
        self.desk.lock().broken.take().map_or(Ok(()), Err)
    }
}
