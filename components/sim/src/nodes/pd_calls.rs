//! A store's questions to the placement driver: sent to one member, and to another one if that did nothing.

use crate::client::{CLIENT_LANE, node_at};
use crate::cluster::World;
use crate::frame::{frame, payload_of};
use crate::kernel::NodeId;
use crate::network::ConnectionId;
use codec::frame::Frame;
use std::collections::BTreeMap;
use std::time::Duration;
use types::MonoTime;
use wire::FrameKind;
use wire::pd::{PdError, PdReply, PdRequest, PdResponse};

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);

struct Pending<T> {
    purpose: T,
    request: PdRequest,
    connection: ConnectionId,
    due: MonoTime,
    members_left: usize,
}

/// How a question ended: `None` if nobody knows whether it was heard.
pub(super) type Ended<T> = (T, Option<Result<PdReply, PdError>>);

/// Questions under way, each with what it is for.
pub(super) struct PdCalls<T> {
    members: Vec<NodeId>,
    /// Whom to ask next.
    next: usize,
    made: u64,
    pending: BTreeMap<u64, Pending<T>>,
}

impl<T> PdCalls<T> {
    pub(super) const fn new(members: Vec<NodeId>) -> Self {
        Self { members, next: 0, made: 0, pending: BTreeMap::new() }
    }

    pub(super) fn ask(&mut self, world: &mut World<'_>, purpose: T, request: PdRequest) {
        let members_left = self.members.len();
        self.send(world, purpose, request, members_left);
    }

    fn send(&mut self, world: &mut World<'_>, purpose: T, request: PdRequest, members_left: usize) {
        self.made += 1;
        let to = self.members[self.next % self.members.len()];
        let question = frame(FrameKind::PdRequest, self.made, Some(TIMEOUT), &request);
        let connection = world.send(to, CLIENT_LANE, question).expect("a stream has connections");
        let due = world.mono() + TIMEOUT;
        self.pending.insert(self.made, Pending { purpose, request, connection, due, members_left });
    }

    /// Asks the next member, or gives up.
    fn again(&mut self, world: &mut World<'_>, call: Pending<T>, error: Option<PdError>) -> Option<Ended<T>> {
        if call.members_left <= 1 {
            return Some((call.purpose, error.map(Err)));
        }
        self.send(world, call.purpose, call.request, call.members_left - 1);
        None
    }

    pub(super) fn on_answer(&mut self, world: &mut World<'_>, answer: &Frame) -> Option<Ended<T>> {
        // Nobody waits for it after its time, or after its connection was given up.
        let call = self.pending.remove(&answer.head.request_id)?;
        match payload_of::<PdResponse>(answer) {
            PdResponse::Err(PdError::NotLeader { leader }) => {
                let leader = leader.as_deref().and_then(node_at);
                let known =
                    leader.and_then(|leader| self.members.iter().position(|member| *member == leader));
                self.next = known.unwrap_or(self.next + 1);
                self.again(world, call, Some(PdError::NotLeader { leader: None }))
            }
            response => Some((call.purpose, Some(response.into()))),
        }
    }

    pub(super) fn on_disconnected(
        &mut self,
        world: &mut World<'_>,
        connection: ConnectionId,
        carried: bool,
    ) -> Vec<Ended<T>> {
        let lost = self.take(|call| call.connection == connection);
        if !lost.is_empty() {
            self.next += 1;
        }
        lost.into_iter()
            .filter_map(|call| {
                if carried {
                    // It may have been heard.
                    return Some((call.purpose, None));
                }
                self.again(world, call, None)
            })
            .collect()
    }

    /// Gives up what was not answered in time.
    pub(super) fn expire(&mut self, now: MonoTime) -> Vec<Ended<T>> {
        let expired = self.take(|call| call.due <= now);
        if !expired.is_empty() {
            self.next += 1;
        }
        expired.into_iter().map(|call| (call.purpose, None)).collect()
    }

    pub(super) fn next_deadline(&self) -> MonoTime {
        self.pending.values().map(|call| call.due).min().unwrap_or(MonoTime::MAX)
    }

    fn take(&mut self, which: impl Fn(&Pending<T>) -> bool) -> Vec<Pending<T>> {
        let ids: Vec<u64> = self.pending.iter().filter(|(_, call)| which(call)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.pending.remove(&id)).collect()
    }
}
