//! The product's client on simulated ports: what lives as long as one client process.

use crate::cluster::World;
use crate::executor::{Completer, Executor, Handle, promise};
use crate::frame::{frame, kind_of, payload_of};
use crate::kernel::NodeId;
use crate::network::{ConnectionId, Lane};
use client_core::{Core, Options, Ports, Rpc, RpcError, Spawn, Timers};
use codec::Encode;
use codec::frame::Frame;
use env::{Dice, SplitMix};
use futures_util::future::{BoxFuture, Either, select};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{MonoTime, StoreId};
use wire::FrameKind;
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdError, PdRequest, PdResponse};

/// The stream between a client and a server.
pub const CLIENT_LANE: Lane = Lane::Stream(0);

/// The address under which a node is known to placement driver and clients.
#[must_use]
pub fn address_of(node: NodeId) -> String {
    format!("n{}:20160", node.0)
}

/// The node behind an address.
#[must_use]
pub fn node_at(address: &str) -> Option<NodeId> {
    address.strip_prefix('n')?.strip_suffix(":20160")?.parse().ok().map(NodeId)
}

/// A request that has not left the process yet.
struct Outgoing {
    to: NodeId,
    frame: Frame,
    completer: Completer<Result<Frame, RpcError>>,
}

/// Requests of one process.
#[derive(Default)]
struct Calls {
    made: u64,
    outbox: Vec<Outgoing>,
    /// By request id.
    pending: BTreeMap<u64, (ConnectionId, Completer<Result<Frame, RpcError>>)>,
}

/// The port `Rpc`.
struct SimRpc {
    calls: Arc<Mutex<Calls>>,
    handle: Handle,
    pd_members: Vec<NodeId>,
    /// The member that is asked first: the one that answered last.
    pd_first: Mutex<usize>,
}

impl SimRpc {
    async fn call(
        &self,
        to: NodeId,
        kind: FrameKind,
        request: &impl Encode,
        timeout: Duration,
    ) -> Result<Frame, RpcError> {
        let (completer, completion) = promise();
        {
            let mut calls = self.calls.lock();
            calls.made += 1;
            let frame = frame(kind, calls.made, Some(timeout), request);
            calls.outbox.push(Outgoing { to, frame, completer });
        }
        match select(completion, self.handle.sleep(timeout)).await {
            Either::Left((answer, _)) => answer.expect("calls are completed before they are dropped"),
            Either::Right(_) => Err(RpcError::TimedOut),
        }
    }

    async fn ask_pd(&self, request: PdRequest, timeout: Duration) -> Result<PdResponse, RpcError> {
        let deadline = self.handle.now() + timeout;
        let mut next = *self.pd_first.lock();
        let mut last = Err(RpcError::NotSent { reason: "no member".to_owned() });
        for _ in 0..self.pd_members.len() {
            let left = deadline.since(self.handle.now());
            if left.is_zero() {
                break;
            }
            let member = self.pd_members[next % self.pd_members.len()];
            let answer = self.call(member, FrameKind::PdRequest, &request, left).await;
            let answer = answer.map(|frame| payload_of::<PdResponse>(&frame));
            // Another member is asked only if this one has done nothing.
            let leader = match &answer {
                Ok(PdResponse::Err(PdError::NotLeader { leader })) => leader.as_deref().and_then(node_at),
                Err(RpcError::NotSent { .. }) => None,
                _ => {
                    let failed = answer.is_err();
                    *self.pd_first.lock() = if failed { next + 1 } else { next };
                    return answer;
                }
            };
            let known = leader.and_then(|leader| self.pd_members.iter().position(|member| *member == leader));
            next = known.unwrap_or(next + 1);
            *self.pd_first.lock() = next;
            last = answer;
        }
        last
    }
}

impl Rpc for SimRpc {
    fn kv<'a>(
        &'a self,
        _store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<KvResponse, RpcError>> {
        Box::pin(async move {
            // A node is one store for ever, so whoever answers at its address is the one that is meant.
            let Some(to) = node_at(address) else {
                return Err(RpcError::NotSent { reason: format!("no such address: {address}") });
            };
            self.call(to, FrameKind::KvRequest, &request, timeout).await.map(|frame| payload_of(&frame))
        })
    }

    fn pd<'a>(
        &'a self,
        request: PdRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<PdResponse, RpcError>> {
        Box::pin(self.ask_pd(request, timeout))
    }
}

impl Timers for Handle {
    fn now(&self) -> MonoTime {
        Self::now(self)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Self::sleep(self, duration))
    }
}

impl Spawn for Handle {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        Self::spawn(self, task);
    }

    fn let_others_go(&self) -> BoxFuture<'static, ()> {
        // It is drawn who goes next.
        Box::pin(std::future::ready(()))
    }
}

/// Makes clients that know nothing of where regions are.
#[derive(Clone)]
pub(crate) struct ClientMaker {
    rpc: Arc<SimRpc>,
    handle: Handle,
    bugs: client_core::Bugs,
    txn_ttl: Option<Duration>,
}

impl ClientMaker {
    /// One whose clients break rules on purpose.
    pub(crate) fn breaking(self, bugs: client_core::Bugs) -> Self {
        Self { bugs, ..self }
    }

    /// One whose clients' transactions may go so long without a sign of life.
    pub(crate) fn with_txn_ttl(self, txn_ttl: Option<Duration>) -> Self {
        Self { txn_ttl, ..self }
    }

    pub(crate) fn make(&self, dice: &SplitMix, deadline: Duration) -> Core {
        let ports = Ports {
            rpc: Arc::clone(&self.rpc) as Arc<dyn Rpc>,
            timers: Arc::new(self.handle.clone()),
            spawn: Arc::new(self.handle.clone()),
            dice: Box::new(dice.fork("jitter")),
        };
        let usual = Options::default();
        let txn_ttl = self.txn_ttl.unwrap_or(usual.txn_ttl);
        Core::new(ports, Options { deadline, txn_ttl, bugs: self.bugs, ..usual })
    }
}

/// Wake-up: run what can run.
pub(crate) const RUN: u64 = 0;
/// Wake-up: a timer is due.
const TIMER: u64 = 1;
/// Polls after which an executor that still has work is taken to run in a circle.
const POLLS_MAX: usize = 100_000;

/// What lives as long as a client process.
pub(crate) struct ClientProcess {
    executor: Executor,
    calls: Arc<Mutex<Calls>>,
    rpc: Arc<SimRpc>,
    run_set: bool,
    timer_set: Option<MonoTime>,
}

impl ClientProcess {
    /// A process that knows the placement driver's members and nothing else.
    pub(crate) fn new(world: &mut World<'_>, pd_members: &[NodeId]) -> Self {
        let executor = Executor::new();
        let calls = Arc::new(Mutex::new(Calls::default()));
        let pd_first = usize::try_from(world.dice().below(pd_members.len() as u64)).expect("an index");
        let rpc = Arc::new(SimRpc {
            calls: Arc::clone(&calls),
            handle: executor.handle(),
            pd_members: pd_members.to_vec(),
            pd_first: Mutex::new(pd_first),
        });
        Self { executor, calls, rpc, run_set: false, timer_set: None }
    }

    /// For what is to run in it.
    pub(crate) fn handle(&self) -> Handle {
        self.executor.handle()
    }

    /// For clients that send from it.
    pub(crate) fn maker(&self) -> ClientMaker {
        ClientMaker {
            rpc: Arc::clone(&self.rpc),
            handle: self.executor.handle(),
            bugs: client_core::Bugs::default(),
            txn_ttl: None,
        }
    }

    /// Sees to it that it runs in a moment.
    pub(crate) fn run_soon(&mut self, world: &mut World<'_>) {
        if !self.run_set {
            self.run_set = true;
            let delay = Duration::from_nanos(world.dice().below(20_000));
            world.wake_after(delay, RUN);
        }
    }

    /// A wake-up that it has asked for.
    pub(crate) fn woken(&mut self, world: &World<'_>, token: u64) {
        match token {
            RUN => self.run_set = false,
            // One that was asked for earlier, for a later moment, comes nevertheless.
            _ => self.timer_set = self.timer_set.filter(|set| *set > world.mono()),
        }
    }

    /// Runs what can run, and sends what it wants to be sent.
    pub(crate) fn run(&mut self, world: &mut World<'_>) {
        let now = world.mono();
        let polls = self.executor.run(now, world.dice(), POLLS_MAX);
        assert!(polls < POLLS_MAX, "the client runs in a circle");
        let outbox = std::mem::take(&mut self.calls.lock().outbox);
        for Outgoing { to, frame, completer } in outbox {
            let id = frame.head.request_id;
            let connection = world.send(to, CLIENT_LANE, frame).expect("a stream has connections");
            self.calls.lock().pending.insert(id, (connection, completer));
        }
        if let Some(next) = self.executor.next_timer()
            && self.timer_set.is_none_or(|set| next < set)
        {
            self.timer_set = Some(next);
            world.wake_after(next.since(now), TIMER);
        }
    }

    /// An answer has arrived.
    pub(crate) fn arrived(&mut self, frame: Frame) {
        assert!(
            matches!(kind_of(&frame), FrameKind::KvResponse | FrameKind::PdResponse),
            "clients get answers"
        );
        // Nobody waits for it if its connection was given up or its time is over.
        let call = self.calls.lock().pending.remove(&frame.head.request_id);
        if let Some((_, completer)) = call {
            completer.complete(Ok(frame));
        }
    }

    /// A connection is gone.
    pub(crate) fn disconnected(&mut self, peer: NodeId, connection: ConnectionId, carried: bool) {
        let mut calls = self.calls.lock();
        let lost: Vec<u64> =
            calls.pending.iter().filter(|(_, (at, _))| *at == connection).map(|(id, _)| *id).collect();
        let lost: Vec<_> = lost.into_iter().filter_map(|id| calls.pending.remove(&id)).collect();
        drop(calls);
        for (_, completer) in lost {
            let reason = format!("connection to {peer} broke");
            let error =
                if carried { RpcError::ConnectionLost { reason } } else { RpcError::NotSent { reason } };
            completer.complete(Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_node() {
        assert_eq!(node_at(&address_of(NodeId(17))), Some(NodeId(17)));
        assert_eq!(node_at("elsewhere:1"), None);
    }
}
