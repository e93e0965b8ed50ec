//! The threads that run a store's actors: which actors share one, and what each of them has begun and not ended.
//!
//! In the product a worker's turn is four things one after the other, and so is the work of an applier; whatever other
//! threads do may come between two of them, and so may a freeze of the whole machine. Here each can be an event of its own.

use crate::cluster::World;
use ::store::{Actor, Store};
use engine::{EngineError, MemEngine, WriteBatch};
use env::Dice as _;
use raftstore::{ApplyBatch, Input, TurnEffects};
use std::collections::BTreeMap;
use types::MonoTime;

/// What an actor has begun. Its next step is what ends it, or leads to the one below.
enum Midway {
    /// A worker has drained its inbox, and reads the clock.
    Drained(Vec<Input>),
    /// It has read the clock, and steps.
    Timed(Vec<Input>, MonoTime),
    /// It has stepped, and lets its effects go.
    Stepped(Box<TurnEffects<MemEngine>>),
    /// An applier has applied what is committed, and writes it.
    Applied(ApplyBatch),
    /// It has written, and lets the answers go.
    Written(ApplyBatch),
}

/// The threads that run actors.
#[derive(Default)]
pub(super) struct Threads {
    /// Drawn when an actor first has something to do.
    of: BTreeMap<Actor, u64>,
    midway: BTreeMap<Actor, Midway>,
}

impl Threads {
    /// The thread that runs an actor, of `count`; with none to share, each has one of its own.
    fn of(&mut self, world: &mut World<'_>, actor: Actor, count: u64) -> u64 {
        let own = self.of.len() as u64;
        *self.of.entry(actor).or_insert_with(|| if count == 0 { own } else { world.dice().below(count) })
    }

    /// Whether both are run by one thread.
    pub(super) fn is_shared(&self, one: Actor, other: Actor) -> bool {
        one == other || self.of.get(&one).is_some_and(|thread| self.of.get(&other) == Some(thread))
    }

    /// The actors that can go on: those in the middle of something, and of the others those that have something to do and
    /// whose thread has not begun something else.
    pub(super) fn runnable(
        &mut self,
        world: &mut World<'_>,
        store: &Store<MemEngine>,
        count: u64,
    ) -> Vec<Actor> {
        let mut runnable: Vec<Actor> = self.midway.keys().copied().collect();
        for actor in store.runnable(world.mono()) {
            self.of(world, actor, count);
            if !self.midway.keys().any(|busy| self.is_shared(*busy, actor)) {
                runnable.push(actor);
            }
        }
        runnable
    }

    /// Lets an actor take its next step, and those after it too until `pauses` says that something else may come first;
    /// `applies` is shown each batch of an applier right before it is written.
    /// Returns whether peers, or what is on the disk, may have changed.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub(super) fn run(
        &mut self,
        store: &mut Store<MemEngine>,
        actor: Actor,
        now: MonoTime,
        pauses: &mut dyn FnMut() -> bool,
        applies: &mut dyn FnMut(&WriteBatch),
    ) -> Result<bool, EngineError> {
        let mut has_changed = false;
        loop {
            let next = match (actor, self.midway.remove(&actor)) {
                (Actor::Worker(index), None) => Midway::Drained(store.drain(index)),
                (Actor::Worker(_), Some(Midway::Drained(inputs))) => Midway::Timed(inputs, now),
                (Actor::Worker(index), Some(Midway::Timed(inputs, at))) => {
                    has_changed = true;
                    Midway::Stepped(Box::new(store.step(index, at, inputs)))
                }
                (Actor::Worker(index), Some(Midway::Stepped(effects))) => {
                    store.release(index, *effects);
                    return Ok(has_changed);
                }
                (Actor::Applier(index), None) => Midway::Applied(store.apply(index)?),
                (Actor::Applier(_), Some(Midway::Applied(applied))) => {
                    applies(&applied.batch);
                    store.write_applied(&applied)?;
                    has_changed = true;
                    Midway::Written(applied)
                }
                (Actor::Applier(_), Some(Midway::Written(applied))) => {
                    store.release_applied(applied);
                    return Ok(has_changed);
                }
                (_, None) => {
                    store.run(actor, now)?;
                    return Ok(!matches!(actor, Actor::PdAgent | Actor::Lookup));
                }
                (_, Some(_)) => unreachable!("{actor:?} is one step"),
            };
            self.midway.insert(actor, next);
            if pauses() {
                return Ok(has_changed);
            }
        }
    }
}
