//! The thread that takes up clients' requests, and answers reads that a lease allows.

use super::{ANSWER_DELAY_MAX, Asked, Phase, StoreNode, reply};
use crate::check::{Answers, answered_in_lease, read_after_arrival};
use crate::cluster::World;
use crate::frame::payload_of;
use crate::network::ConnectionId;
use crate::nodes::{Moment, SeededBug, Thread};
use crate::time::SimTime;
use ::store::ReadBegun;
use codec::frame::Frame;
use raftstore::Token;
use std::collections::VecDeque;
use std::time::Duration;
use types::MonoTime;
use wire::kv::{KvCommand, KvError, KvRequest, KvResponse};

/// A request that has arrived and that the reader has not served.
pub(super) struct Waiting {
    pub(super) connection: ConnectionId,
    pub(super) frame: Frame,
    pub(super) arrived: MonoTime,
    /// The same in true time, for checkers.
    pub(super) arrived_true: SimTime,
}

/// A read between its halves: it has its view of the engine, and may not be answered any more when it goes on.
struct Midway {
    begun: ReadBegun,
    arrived: MonoTime,
}

/// What the reader is at.
pub(super) struct Reader {
    /// What has arrived.
    waiting: VecDeque<Waiting>,
    /// What it has taken up: reads of these may share a view.
    batch: VecDeque<Waiting>,
    midway: Option<Midway>,
    /// What the clock showed when the reader stopped running.
    stopped: Option<MonoTime>,
    /// Requests that are not answered.
    pub(super) tokens: Answers<Asked>,
    tokens_made: Token,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            batch: VecDeque::new(),
            midway: None,
            stopped: None,
            tokens: Answers::new(ANSWER_DELAY_MAX),
            tokens_made: 0,
        }
    }

    /// A request has arrived.
    pub(super) fn arrived(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// There is something to take up, or to go on with.
    pub(super) fn has_work(&self) -> bool {
        self.midway.is_some() || !self.batch.is_empty() || !self.waiting.is_empty()
    }

    /// It does not run any more.
    pub(super) fn stops(&mut self, now: MonoTime) {
        self.stopped.get_or_insert(now);
    }
}

impl StoreNode {
    /// The reader goes on, if it runs: it takes up what has arrived; serves one request after another, each at a reading of
    /// the clock that follows; and a read in two halves. Between any two of these something else may come.
    pub(super) fn serve_requests(&mut self, world: &mut World<'_>) {
        let (now, stalls) = (world.mono(), self.stalls());
        if !self.process().reader.has_work() || self.process().is_still(Thread::Reader, now) {
            return;
        }
        let stopped = self.process().reader.stopped.take();
        // The clock is read too early by whoever breaks that rule.
        let reading = stopped.filter(|_| self.has_bug(SeededBug::ClockBeforeDrain)).unwrap_or(now);
        while self.stops.is_none() && self.process().reader.has_work() {
            self.read_on(world, reading);
            // A store that joins has nothing to read from, and says so at once.
            if matches!(self.process().phase, Phase::Running(_)) && self.links.pauses(world) {
                break;
            }
        }
        self.process().may_stall(world, Thread::Reader, stalls);
    }

    /// The reader's next step.
    fn read_on(&mut self, world: &mut World<'_>, now: MonoTime) {
        let process = self.process();
        let reader = &mut process.reader;
        if let Some(Midway { begun, arrived }) = reader.midway.take() {
            let Phase::Running(store) = &mut process.phase else { unreachable!("a store runs on") };
            let region_id = begun.region_id();
            let answered = store.end_read(&Moment(now), begun);
            let lease = store.meta().delegate(region_id).map(|delegate| delegate.lease_until());
            if self.survive(answered) == Some(true) {
                self.sight.saw(answered_in_lease(region_id, lease, now));
            }
            self.sight.saw(read_after_arrival(arrived, now));
        } else if let Some(waiting) = reader.batch.pop_front() {
            self.serve(world, waiting, now);
        } else {
            reader.batch = std::mem::take(&mut reader.waiting);
            if let Phase::Running(store) = &mut process.phase {
                store.begin_requests();
            }
        }
    }

    fn serve(&mut self, world: &mut World<'_>, waiting: Waiting, now: MonoTime) {
        let Waiting { connection, frame, arrived, arrived_true } = waiting;
        let request: KvRequest = payload_of(&frame);
        let process = self.process.as_mut().expect("it is up");
        let Phase::Running(store) = &mut process.phase else {
            let refusal = KvResponse::Err(KvError::RegionNotFound { region_id: request.region_id });
            reply(world, connection, frame.head.request_id, &refusal);
            return;
        };
        let reader = &mut process.reader;
        reader.tokens_made += 1;
        let token = reader.tokens_made;
        let deadline = match frame.head.deadline_ms {
            0 => MonoTime::MAX,
            left => arrived + Duration::from_millis(u64::from(left)),
        };
        let reads = matches!(
            request.command,
            KvCommand::Get { .. } | KvCommand::BatchGet { .. } | KvCommand::Scan(_)
        );
        let read = reads.then_some((request.region_id, (arrived_true, arrived)));
        let asked = Asked { connection, request_id: frame.head.request_id, read };
        reader.tokens.asked(token, deadline, asked);
        let begun = store.begin_request(&Moment(now), token, request, deadline);
        reader.midway = begun.map(|begun| Midway { begun, arrived });
        self.sight.saw(read_after_arrival(arrived, now));
    }
}
