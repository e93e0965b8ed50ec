//! The clients of a script: they do what they are told, and what comes of it goes into one history.

use crate::check::invariants::Broken;
use crate::check::{Action, OpId, Outcome, Recorder};
use crate::client::written;
use crate::client_process::ClientProcess;
use crate::cluster::{Node, World};
use crate::kernel::{CrashKind, NodeId};
use crate::network::ConnectionId;
use crate::observer::Observer;
use crate::time::SimTime;
use bytes::Bytes;
use client_core::Core;
use codec::frame::Frame;
use env::{Dice, SplitMix};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, MonoTime, RegionId, StoreId};
use wire::pd::RegionRoute;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Names a call of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(u64);

/// How a call ended; an error is in words.
pub type Answer = Result<Reply, String>;

/// What a call brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// What the key held.
    Value(Option<Bytes>),
    /// It was done.
    Done,
    /// The store that leads the key's region, as far as the placement driver knows.
    Leader(Option<StoreId>),
}

/// What a client is told to do.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Get(Bytes),
    Put(Bytes, Bytes),
    Locate(Key),
    Split(Key),
    Transfer(RegionId, StoreId),
}

/// Where orders lie until they are fetched, and answers until somebody looks.
#[derive(Default, Debug)]
pub(super) struct Desk {
    made: u64,
    orders: BTreeMap<NodeId, Vec<(CallId, Order)>>,
    answers: BTreeMap<CallId, Answer>,
    pub(super) recorder: Recorder,
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

    fn invoke(&mut self, client: NodeId, key: &Bytes, action: Action) -> OpId {
        self.recorder.invoke(self.now.0, u64::from(client.0), key.clone(), action)
    }
}

/// A node with one client.
pub(super) struct ScriptClient {
    desk: Arc<Mutex<Desk>>,
    pd_members: Vec<NodeId>,
    process: Option<(ClientProcess, Core)>,
}

impl ScriptClient {
    pub(super) const fn new(desk: Arc<Mutex<Desk>>, pd_members: Vec<NodeId>) -> Self {
        Self { desk, pd_members, process: None }
    }

    fn run_soon(&mut self, world: &mut World<'_>) {
        if let Some((process, _)) = &mut self.process {
            process.run_soon(world);
        }
    }
}

async fn carry_out(core: Core, desk: Arc<Mutex<Desk>>, client: NodeId, call: CallId, order: Order) {
    let answer = match order {
        Order::Get(key) => {
            let id = desk.lock().invoke(client, &key, Action::Get);
            let result = core.raw().get(key).await;
            let outcome = result.as_ref().map_or(Outcome::NotDone, |value| Outcome::Value(value.clone()));
            complete(&desk, id, outcome);
            result.map(Reply::Value)
        }
        Order::Put(key, value) => {
            let id = desk.lock().invoke(client, &key, Action::Put(value.clone()));
            let result = core.raw().put(key, value).await;
            complete(&desk, id, written(&result));
            result.map(|()| Reply::Done)
        }
        Order::Locate(key) => {
            let leader = |route: Option<RegionRoute>| route?.leader.map(|leader| leader.store_id);
            core.admin().region_at(key).await.map(|route| Reply::Leader(leader(route)))
        }
        Order::Split(key) => core.admin().split_region([key]).await.map(|_| Reply::Done),
        Order::Transfer(region, to) => core.admin().transfer_leader(region, to).await.map(|()| Reply::Done),
    };
    desk.lock().answers.insert(call, answer.map_err(|error| error.to_string()));
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
        let core = process.maker().make(&dice, DEADLINE);
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
            let desk = Arc::clone(&self.desk);
            process.handle().spawn(carry_out(core.clone(), desk, client, call, order));
        }
        process.run(world);
    }

    fn crash(&mut self, _: CrashKind, _: &mut SplitMix) {
        self.process = None;
    }

    fn observe(&mut self, _: SimTime, _: MonoTime, _: &mut Observer) -> Result<(), Broken> {
        Ok(())
    }
}
