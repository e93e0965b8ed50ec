//! The schedulers of transactions' commands: what they are brought, and who takes their turns.
//!
//! A scheduler is brought commands by connections, and views and answers by whoever takes a turn of a worker or applies. The
//! latter put in what they have and go on ([`Mailbox::put_all`]): they have the worker's desk or the applier's seat, and
//! what the scheduler then asks goes to that worker. Afterwards they look whether anything waits, and take its turn
//! ([`Scheduling::help_waiting`]): nobody else is told.

use super::answers::{Answers, Respond};
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use crate::seat::{Next, Seat};
use engine::Engine;
use env::Clock as _;
use raftstore::{Input, Token};
use std::sync::Arc;
use std::time::Duration;
use store::{TxnEffects, TxnInput, TxnScheduler};
use types::MonoTime;

/// What waits for the schedulers of transactions, by worker.
pub(crate) type TxnInboxes<S> = Vec<Mailbox<TxnInput<S>>>;

/// The schedulers, by worker, and what waits for them.
pub(crate) struct Scheduling<E: Engine> {
    pub(crate) inboxes: Arc<TxnInboxes<E::Snapshot>>,
    seats: Vec<Seat<TxnScheduler<E>>>,
    /// Inputs of one turn, at most.
    inputs_max: usize,
    /// How often a scheduler looks whether a client's time is over; `None` if that never is.
    tick: Option<Duration>,
}

impl<E: Engine> Scheduling<E> {
    /// One scheduler for each inbox.
    pub(crate) fn new(
        inboxes: Arc<TxnInboxes<E::Snapshot>>,
        inputs_max: usize,
        tick: Option<Duration>,
        scheduler: impl FnMut(usize) -> TxnScheduler<E>,
    ) -> Self {
        let seats = (0..inboxes.len()).map(scheduler).map(Seat::new).collect();
        Self { inboxes, seats, inputs_max, tick }
    }

    /// Puts in what a worker has proposed of what its scheduler asked for.
    pub(crate) fn tell_proposed(&self, index: usize, proposed: Vec<Token>) {
        if !proposed.is_empty() {
            let mut told = proposed.into_iter().map(|token| TxnInput::Proposed { token }).collect();
            self.inboxes[index].put_all(&mut told);
        }
    }

    /// Takes the turns of a scheduler that nobody else takes, until the end; for its thread. `worker` is the inbox of its
    /// worker, whose thread is woken.
    pub(crate) fn attend<R: Respond>(&self, index: usize, answers: &Answers<R>, worker: &Mailbox<Input>) {
        self.seats[index].attend(&self.inboxes[index], |scheduler| {
            self.turn(index, scheduler, answers, |inputs| worker.push_all(inputs))
        });
    }

    /// Takes turns of a scheduler if nobody else does. What it asks of its worker is put into the worker's inbox, and the
    /// caller looks there afterwards.
    pub(crate) fn help<R: Respond>(&self, index: usize, answers: &Answers<R>, worker: &Mailbox<Input>) {
        self.seats[index].help(&self.inboxes[index], |scheduler| {
            self.turn(index, scheduler, answers, |inputs| worker.put_all(inputs))
        });
    }

    /// The same for each scheduler for which something waits; `look` looks into the worker's inbox.
    pub(crate) fn help_waiting<R: Respond>(
        &self,
        answers: &Answers<R>,
        workers: &[Mailbox<Input>],
        look: impl Fn(usize),
    ) {
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if !inbox.is_empty() {
                self.help(index, answers, &workers[index]);
                look(index);
            }
        }
    }

    /// A scheduler's turn, by whoever has its seat.
    fn turn<R: Respond>(
        &self,
        index: usize,
        scheduler: &mut TxnScheduler<E>,
        answers: &Answers<R>,
        tell: impl FnOnce(&mut Vec<Input>),
    ) -> Next {
        let mut taken = Vec::new();
        let inbox = &self.inboxes[index];
        if inbox.drain(&mut taken, self.inputs_max, Some(Duration::ZERO)) == Drained::Closed {
            return Next::End;
        }
        let before = scheduler.running_count();
        let turn = scheduler.turn(&BootClock, taken);
        let TxnEffects { replies, mut inputs, waited, latched, pipelined, pipelined_lost } =
            turn.unwrap_or_else(|error| fatal("reading", &error));
        answers.note_waits(&waited, &latched);
        answers.note_pipelined(pipelined, pipelined_lost);
        answers.note_running(before, scheduler.running_count());
        answers.answer_all(replies);
        if !inputs.is_empty() {
            tell(&mut inputs);
        }
        // What is due by time in the queues of those who wait for locks is due soon, or seen to when something comes.
        match (scheduler.next_wait(), self.tick) {
            (due, Some(tick)) if due < MonoTime::MAX && due < BootClock.now() + tick => {
                Next::Soon(due.since(BootClock.now()))
            }
            (_, tick) => Next::Rest(tick),
        }
    }
}
