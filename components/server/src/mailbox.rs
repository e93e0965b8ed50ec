//! How threads of a process hand things to one another: in batches, without waiting.

use crate::BootClock;
use crate::sync::{Condvar, Mutex, MutexGuard};
use env::Clock as _;
use std::time::Duration;
use types::MonoTime;

/// Takes things from any thread and gives them to one (or several), as many at a time as there are.
///
/// Whoever puts something in never waits for whoever takes it out; what keeps a mailbox small is credit, or a bound that
/// its senders look at before ([`Mailbox::len`]). A sleeping receiver is woken once for a batch, a busy one not at all.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    /// When the oldest of them came.
    since: MonoTime,
    sleeping: usize,
    /// Somebody wants the receiver to look, whether or not there is something.
    nudged: bool,
    closed: bool,
}

impl<T> State<T> {
    fn is_idle(&self) -> bool {
        self.items.is_empty() && !self.nudged && !self.closed
    }
}

/// What a receiver finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    /// Items, or none because the time was over.
    Open {
        /// When the oldest item came, if there is one.
        since: Option<MonoTime>,
    },
    /// Nothing is left, and nothing will come.
    Closed,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let state =
            State { items: Vec::new(), since: MonoTime::ZERO, sleeping: 0, nudged: false, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no one panics while it holds a mailbox")
    }

    /// Puts one in. After the mailbox was closed it is dropped, together with the process's other unfinished work.
    pub(crate) fn push(&self, item: T) {
        self.fill(true, |items| items.push(item));
    }

    /// Puts all in, in order; `batch` is empty afterwards and keeps its room.
    pub(crate) fn push_all(&self, batch: &mut Vec<T>) {
        if !batch.is_empty() {
            self.fill(true, |items| items.append(batch));
        }
    }

    /// Puts all in, likewise, and wakes nobody: the caller sees to it that somebody looks.
    pub(crate) fn put_all(&self, batch: &mut Vec<T>) {
        if !batch.is_empty() {
            self.fill(false, |items| items.append(batch));
        }
    }

    fn fill(&self, wakes: bool, put: impl FnOnce(&mut Vec<T>)) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.items.is_empty() {
            state.since = BootClock.now();
        }
        put(&mut state.items);
        let wake = wakes && state.sleeping > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a receiver that waits look, and the next one that would wait.
    pub(crate) fn nudge(&self) {
        self.lock().nudged = true;
        self.filled.notify_one();
    }

    /// Waits until there is something to take, somebody nudges, or the mailbox is closed; for at most `wait`.
    pub(crate) fn wait(&self, wait: Option<Duration>) {
        let mut state = self.lock();
        if wait != Some(Duration::ZERO) {
            state = self.sleep(state, wait);
        }
        state.nudged = false;
    }

    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        wait: Option<Duration>,
    ) -> MutexGuard<'a, State<T>> {
        if !state.is_idle() {
            return state;
        }
        state.sleeping += 1;
        let is_idle = |state: &mut State<T>| state.is_idle();
        state = match wait {
            Some(wait) => {
                let woken = self.filled.wait_timeout_while(state, wait, is_idle);
                woken.expect("no one panics while it holds a mailbox").0
            }
            None => {
                let woken = self.filled.wait_while(state, is_idle);
                woken.expect("no one panics while it holds a mailbox")
            }
        };
        state.sleeping -= 1;
        state
    }

    /// Moves up to `max` items to `into` (which is empty), in order; waits for the first for at most `wait`.
    pub(crate) fn drain(&self, into: &mut Vec<T>, max: usize, wait: Option<Duration>) -> Drained {
        debug_assert!(into.is_empty(), "what was drained before must be done");
        let mut state = self.lock();
        if wait != Some(Duration::ZERO) {
            state = self.sleep(state, wait);
        }
        if state.items.is_empty() {
            return if state.closed { Drained::Closed } else { Drained::Open { since: None } };
        }
        let since = Some(state.since);
        if state.items.len() <= max {
            std::mem::swap(&mut state.items, into);
        } else {
            into.extend(state.items.drain(..max));
            if state.sleeping > 0 {
                self.filled.notify_one();
            }
        }
        Drained::Open { since }
    }

    /// Takes nothing more; what is in it is still given out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }
}
