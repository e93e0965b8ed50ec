//! Who works a mailbox off: a thread of its own, or whoever brings something and finds it idle.
//!
//! To wake a thread for one item costs more than most items do. So what a thread works with lies on a seat beside its
//! mailbox: whoever puts something in and finds the seat free takes it, does what there is, and lets it go. Who finds it
//! taken goes on: whoever lets a seat go looks into the mailbox once more after that. Its thread sees to what is due by
//! time, to what others leave to it, and to the end.

use crate::mailbox::Mailbox;
use crate::sync::{Mutex, TryLockError};
use std::time::Duration;

/// A helper has its own work waiting: after so many rounds it leaves the rest to the mailbox's thread.
const ROUNDS_MAX: usize = 4;

/// What is to follow a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Nothing any more: the mailbox is closed and empty.
    End,
    /// Another round at once.
    Again,
    /// Another round after this time, even if nothing comes.
    Soon(Duration),
    /// Another round when something comes, or after the time that the round before has told the thread.
    Rest(Option<Duration>),
}

/// What a mailbox is worked off with; one has it at a time.
#[derive(Debug)]
pub(crate) struct Seat<S>(Mutex<S>);

impl<S> Seat<S> {
    pub(crate) fn new(state: S) -> Self {
        Self(Mutex::new(state))
    }

    /// Takes rounds until the end, for the thread whose mailbox it is. A round takes from the mailbox only while it has the
    /// seat, or what came later could be done before.
    pub(crate) fn attend<T>(&self, mailbox: &Mailbox<T>, mut round: impl FnMut(&mut S) -> Next) {
        let mut next = Next::Again;
        loop {
            match next {
                Next::End => return,
                Next::Again => {}
                Next::Soon(wait) => mailbox.wait(Some(wait)),
                Next::Rest(wait) => mailbox.wait(wait),
            }
            next = round(&mut self.0.lock().expect("no one panics on a seat"));
        }
    }

    /// Takes rounds if the seat is free, for what was put into the mailbox ([`Mailbox::put_all`]) without waking anybody.
    /// Never waits.
    pub(crate) fn help<T>(&self, mailbox: &Mailbox<T>, mut round: impl FnMut(&mut S) -> Next) {
        for _ in 0..ROUNDS_MAX {
            let mut state = match self.0.try_lock() {
                Ok(state) => state,
                // Whoever has it looks again after letting it go.
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => unreachable!("no one panics on a seat"),
            };
            let next = round(&mut state);
            drop(state);
            match next {
                Next::End => return,
                Next::Again => {}
                Next::Soon(_) => break,
                Next::Rest(_) if mailbox.is_empty() => return,
                Next::Rest(_) => {}
            }
        }
        mailbox.nudge();
    }
}
