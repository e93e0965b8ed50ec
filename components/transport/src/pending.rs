//! The calls of one connection that wait for their answers: a table of slots, and no allocation per call.

use crate::CallError;
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;
use wire::FrameKind;
use wire::kv::KvResponse;
use wire::pd::PdResponse;
use wire::trace::Trace;

/// An answer, as it arrived.
#[derive(Debug)]
pub(crate) enum Answer {
    /// With what the store says of its time, if it was asked.
    Kv(KvResponse, Option<Box<Trace>>),
    Pd(PdResponse),
}

#[derive(Debug)]
enum Slot {
    /// The next call in this slot gets this generation, so that late answers to earlier ones are told apart.
    Free {
        generation: u32,
    },
    Waiting {
        generation: u32,
        asked: FrameKind,
        end: u64,
        deadline: Instant,
        waker: Option<Waker>,
    },
    Done {
        generation: u32,
        result: Result<Answer, CallError>,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u32>,
    max: usize,
    /// How many slots wait.
    waiting: usize,
    /// Not after the earliest deadline of those that wait.
    earliest: Option<Instant>,
    /// Set once no more calls are taken: what they are told.
    closed: Option<CallError>,
}

impl Pending {
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), max, waiting: 0, earliest: None, closed: None }
    }

    /// Takes a slot for a call whose frame `send` sends under the id that it is given. Answers with the id, and whether
    /// the connection's task must learn of an earlier deadline.
    pub(crate) fn begin(
        &mut self,
        asked: FrameKind,
        deadline: Instant,
        send: impl FnOnce(u64) -> Result<u64, CallError>,
    ) -> Result<(u64, bool), CallError> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let index = match self.free.last() {
            Some(index) => *index,
            None if self.slots.len() < self.max => {
                let index = u32::try_from(self.slots.len()).expect("calls_max fits 32 bits");
                self.slots.push(Slot::Free { generation: 1 });
                self.free.push(index);
                index
            }
            None => return Err(CallError::TooBusy),
        };
        let Slot::Free { generation } = self.slots[index as usize] else {
            unreachable!("slot {index} is free")
        };
        let id = u64::from(generation) << 32 | u64::from(index);
        let end = send(id)?;
        self.free.pop();
        self.slots[index as usize] = Slot::Waiting { generation, asked, end, deadline, waker: None };
        self.waiting += 1;
        let sooner = self.earliest.is_none_or(|earliest| deadline < earliest);
        if sooner {
            self.earliest = Some(deadline);
        }
        Ok((id, sooner))
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut((id & u64::from(u32::MAX)) as usize)?;
        let (Slot::Free { generation } | Slot::Waiting { generation, .. } | Slot::Done { generation, .. }) =
            slot;
        (u64::from(*generation) == id >> 32).then_some(slot)
    }

    /// What answers the call with this id: `KvResponse` or `PdResponse`; `None` if nobody waits for it any more.
    pub(crate) fn asked(&mut self, id: u64) -> Option<FrameKind> {
        match self.slot(id)? {
            Slot::Waiting { asked, .. } => Some(*asked),
            Slot::Free { .. } | Slot::Done { .. } => None,
        }
    }

    /// The call with this id has its result. Answers with whom to wake.
    pub(crate) fn complete(&mut self, id: u64, result: Result<Answer, CallError>) -> Option<Waker> {
        let slot = self.slot(id)?;
        let Slot::Waiting { generation, waker, .. } = slot else { return None };
        let waker = waker.take();
        *slot = Slot::Done { generation: *generation, result };
        self.waiting -= 1;
        waker
    }

    /// The result of a call, which ends it; or the promise to wake.
    pub(crate) fn poll(&mut self, id: u64, context: &Context<'_>) -> Poll<Result<Answer, CallError>> {
        let slot = self.slot(id).expect("a call is polled until it has its result");
        match slot {
            Slot::Waiting { waker, .. } => {
                match waker {
                    Some(known) => known.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Slot::Done { .. } => Poll::Ready(self.vacate(id).expect("it is done")),
            Slot::Free { .. } => unreachable!("a call is polled until it has its result"),
        }
    }

    /// Ends a call whose caller went away. True if its answer had not come.
    pub(crate) fn abandon(&mut self, id: u64) -> bool {
        self.vacate(id).is_none()
    }

    fn vacate(&mut self, id: u64) -> Option<Result<Answer, CallError>> {
        let slot = self.slot(id).expect("a call ends once");
        let generation = ((id >> 32) as u32).wrapping_add(1);
        let before = std::mem::replace(slot, Slot::Free { generation });
        self.free.push((id & u64::from(u32::MAX)) as u32);
        match before {
            Slot::Done { result, .. } => Some(result),
            Slot::Waiting { .. } => {
                self.waiting -= 1;
                None
            }
            Slot::Free { .. } => unreachable!("a call ends once"),
        }
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the calls whose time is over, and says which.
    pub(crate) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>, expired: &mut Vec<u64>) {
        self.earliest = None;
        for index in 0..self.slots.len() {
            let Slot::Waiting { generation, deadline, .. } = &self.slots[index] else { continue };
            if *deadline <= now {
                let id = u64::from(*generation) << 32 | index as u64;
                expired.push(id);
                wakers.extend(self.complete(id, Err(CallError::Timeout)));
            } else {
                self.earliest = Some(self.earliest.map_or(*deadline, |earliest| earliest.min(*deadline)));
            }
        }
    }

    /// Takes no more calls from here on; those that wait may still be answered.
    pub(crate) fn close(&mut self, told: CallError) {
        self.closed.get_or_insert(told);
    }

    /// True while calls are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// True if no call waits for its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// The connection is over after `written` bytes: no call that waits will be answered.
    pub(crate) fn lose(&mut self, written: u64, wakers: &mut Vec<Waker>) {
        self.closed = Some(CallError::ConnectionLost { sent: false });
        self.earliest = None;
        for index in 0..self.slots.len() {
            let Slot::Waiting { generation, end, .. } = &self.slots[index] else { continue };
            let sent = *end <= written;
            let id = u64::from(*generation) << 32 | index as u64;
            wakers.extend(self.complete(id, Err(CallError::ConnectionLost { sent })));
        }
    }
}
