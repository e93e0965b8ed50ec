//! The end of a store's threads, in the order in which they feed one another.

use super::answers::{Answers, Respond};
use crate::BootClock;
use crate::sync::{JoinHandle, pause};
use env::Clock as _;
use std::time::Duration;
use types::MonoTime;

/// How often something is looked at that is about to end.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Threads that end once they are told, and how to tell them.
pub(crate) struct Group<'a> {
    pub(crate) handles: &'a [JoinHandle<()>],
    pub(crate) tell: &'a dyn Fn(),
}

/// How the threads ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// False if the deadline came first.
    pub(crate) all: bool,
    /// Requests that were still under way; their clients were told that nobody knows.
    pub(crate) unanswered: usize,
}

/// Tells each group to end and waits for it before the next is told: what a thread hands on in its last turn finds
/// those still at work that take it. Only then are the requests that are left answered. At the deadline, whoever has not
/// ended is left behind.
pub(crate) fn wind_down<R: Respond>(groups: &[Group<'_>], answers: &Answers<R>, deadline: MonoTime) -> Ended {
    let mut all = true;
    for group in groups {
        (group.tell)();
        all &= wait_for(group.handles, deadline);
    }
    Ended { all, unanswered: answers.abandon() }
}

/// True once all have ended; false when the deadline was first.
fn wait_for(handles: &[JoinHandle<()>], deadline: MonoTime) -> bool {
    while !handles.iter().all(JoinHandle::is_finished) {
        if BootClock.now() >= deadline {
            return false;
        }
        pause(LOOK_AGAIN);
    }
    true
}
