//! Commands that wait for locks of other transactions to go.
//!
//! At each key the oldest transaction is first, whenever it came: so nobody waits for ever, since in the end everybody is the
//! oldest, and whoever waits again after its time was over is back in its place. (With the order of arrival it would be the
//! last.) When the lock goes, the first is taken up again and looks for itself; it need not get the lock, and may have to
//! ask again with a later view. So the next ones are not taken up at once, but one after another with a delay in between,
//! until somebody has the lock: then they wait for that one. The policy is TiKV's (`wake_up_delay`).
//!
//! Waiting holds nothing: no latch, no view, no thread. Every command that waits leaves by exactly one of
//! [`released`](Waits::released), [`due`](Waits::due) and [`leave`](Waits::leave) (INV-TXN-15).

use crate::latch::CommandId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{Key, MonoTime, Timestamp};

/// Why a command stops waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// It may get the lock now.
    Turn,
    /// It has waited as long as it may.
    TimeOver,
}

/// A command that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// For the lock of this key.
    pub key: Key,
    /// When its transaction began.
    pub start_ts: Timestamp,
    /// When the transaction began that has the lock.
    pub lock_ts: Timestamp,
    /// So long at most.
    pub until: MonoTime,
}

#[derive(Default, Debug)]
struct Queue {
    /// The oldest first. Never empty.
    waiters: BTreeSet<(Timestamp, CommandId)>,
    /// When the next one is taken up; `None` while the key is locked.
    next_at: Option<MonoTime>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Over(CommandId),
    Next(Key),
}

/// Who waits for which key.
#[derive(Debug)]
pub struct Waits {
    queues: BTreeMap<Key, Queue>,
    waiters: BTreeMap<CommandId, Waiter>,
    timers: BTreeSet<(MonoTime, Timer)>,
    delay: Duration,
}

impl Waits {
    /// Nobody waits. `delay` is how long whoever is taken up has until the next one is.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self { queues: BTreeMap::new(), waiters: BTreeMap::new(), timers: BTreeSet::new(), delay }
    }

    /// A command waits from now on. Tell first whose the lock is ([`locked`](Self::locked)).
    ///
    /// # Panics
    /// If it waits already.
    pub fn park(&mut self, id: CommandId, waiter: Waiter) {
        self.timers.insert((waiter.until, Timer::Over(id)));
        self.queues.entry(waiter.key.clone()).or_default().waiters.insert((waiter.start_ts, id));
        let before = self.waiters.insert(id, waiter);
        assert!(before.is_none(), "INV-TXN-15: command {id} waits twice");
    }

    /// The key is not locked any more. Whoever is first is taken up, and does not wait any more.
    pub fn released(&mut self, key: &Key, now: MonoTime) -> Option<CommandId> {
        let (_, id) = *self.queues.get(key)?.waiters.first().expect("no queue is empty");
        self.leave(id);
        self.set_next(key, Some(now + self.delay));
        Some(id)
    }

    /// The key is locked by this transaction. Gives back who has waited for another one until now.
    pub fn locked(&mut self, key: &Key, by: Timestamp) -> Vec<CommandId> {
        self.set_next(key, None);
        let Some(queue) = self.queues.get(key) else { return Vec::new() };
        let mut changed = Vec::new();
        for (_, id) in &queue.waiters {
            let waiter = self.waiters.get_mut(id).expect("whoever stands in a queue waits");
            if waiter.lock_ts != by {
                waiter.lock_ts = by;
                changed.push(*id);
            }
        }
        changed
    }

    /// A command does not wait any more, whoever has the lock. `None` if it did not.
    pub fn leave(&mut self, id: CommandId) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.timers.remove(&(waiter.until, Timer::Over(id)));
        let queue = self.queues.get_mut(&waiter.key).expect("whoever waits stands in a queue");
        queue.waiters.remove(&(waiter.start_ts, id));
        if queue.waiters.is_empty() {
            self.set_next(&waiter.key, None);
            self.queues.remove(&waiter.key);
        }
        Some(waiter)
    }

    /// Who does not wait any more because of the time, and why.
    pub fn due(&mut self, now: MonoTime) -> Vec<(CommandId, Due)> {
        let mut due = Vec::new();
        while let Some((at, timer)) = self.timers.first()
            && *at <= now
        {
            match timer.clone() {
                Timer::Over(id) => {
                    self.leave(id);
                    due.push((id, Due::TimeOver));
                }
                Timer::Next(key) => due.extend(self.released(&key, now).map(|id| (id, Due::Turn))),
            }
        }
        due
    }

    /// When [`due`](Self::due) is to be asked next.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        self.timers.first().map_or(MonoTime::MAX, |(at, _)| *at)
    }

    /// The command, if it waits.
    #[must_use]
    pub fn get(&self, id: CommandId) -> Option<&Waiter> {
        self.waiters.get(&id)
    }

    /// All that wait.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, &Waiter)> {
        self.waiters.iter().map(|(id, waiter)| (*id, waiter))
    }

    /// How many wait for a key.
    #[must_use]
    pub fn count_at(&self, key: &Key) -> usize {
        self.queues.get(key).map_or(0, |queue| queue.waiters.len())
    }

    /// The commands of a transaction that wait for a key.
    #[must_use]
    pub fn of_transaction(&self, key: &Key, start_ts: Timestamp) -> Vec<CommandId> {
        let Some(queue) = self.queues.get(key) else { return Vec::new() };
        let all = (start_ts, 0)..=(start_ts, CommandId::MAX);
        queue.waiters.range(all).map(|(_, id)| *id).collect()
    }

    /// True if the key is taken to be locked: whoever waits for it is taken up when that ends.
    #[must_use]
    pub fn awaits_release(&self, key: &Key) -> bool {
        self.queues.get(key).is_some_and(|queue| queue.next_at.is_none())
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// # Panics
    /// When somebody would never be taken up (INV-TXN-15).
    pub fn check_invariants(&self) {
        for (id, waiter) in &self.waiters {
            let queue = self.queues.get(&waiter.key);
            let stands = queue.is_some_and(|queue| queue.waiters.contains(&(waiter.start_ts, *id)));
            assert!(stands, "INV-TXN-15: command {id} waits and stands in no queue");
            let timer = (waiter.until, Timer::Over(*id));
            assert!(self.timers.contains(&timer), "INV-TXN-15: command {id} waits without end");
        }
        let standing: usize = self.queues.values().map(|queue| queue.waiters.len()).sum();
        assert_eq!(standing, self.waiters.len(), "INV-TXN-15: somebody stands in a queue and does not wait");
        let next = self.queues.values().filter(|queue| queue.next_at.is_some()).count();
        assert_eq!(self.timers.len(), self.waiters.len() + next, "INV-TXN-15: a timer is nobody's");
        assert!(self.queues.values().all(|queue| !queue.waiters.is_empty()), "a queue is empty");
    }

    fn set_next(&mut self, key: &Key, next_at: Option<MonoTime>) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        if let Some(before) = std::mem::replace(&mut queue.next_at, next_at) {
            self.timers.remove(&(before, Timer::Next(key.clone())));
        }
        if let Some(at) = next_at {
            self.timers.insert((at, Timer::Next(key.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_millis(ms)
    }

    fn key(name: &'static str) -> Key {
        Key::from_static(name.as_bytes())
    }

    fn waits() -> Waits {
        Waits::new(Duration::from_millis(20))
    }

    fn park(waits: &mut Waits, id: CommandId, start_ts: u64, name: &'static str, until_ms: u64) {
        let (start_ts, lock_ts) = (Timestamp(start_ts), Timestamp(1));
        waits.locked(&key(name), lock_ts);
        waits.park(id, Waiter { key: key(name), start_ts, lock_ts, until: at(until_ms) });
        waits.check_invariants();
    }

    /// Three wait for a key; the oldest has come last. It is taken up when the lock goes, and the others one after another as
    /// long as nobody has locked the key again.
    #[test]
    fn the_oldest_is_first_and_the_others_follow_one_by_one_until_the_key_is_locked() {
        let mut waits = waits();
        park(&mut waits, 1, 30, "a", 1_000);
        park(&mut waits, 2, 40, "a", 1_000);
        park(&mut waits, 3, 20, "a", 1_000);
        assert_eq!(waits.released(&key("a"), at(5)), Some(3));
        assert_eq!(waits.due(at(24)), []);
        assert_eq!(waits.next_deadline(), at(25));
        assert_eq!(waits.due(at(25)), [(1, Due::Turn)]);
        waits.check_invariants();
        // The first has it.
        assert_eq!(waits.locked(&key("a"), Timestamp(30)), [2]);
        assert_eq!(waits.due(at(999)), []);
        assert_eq!(waits.get(2).expect("it waits").lock_ts, Timestamp(30));
        assert_eq!(waits.due(at(1_000)), [(2, Due::TimeOver)]);
        waits.check_invariants();
        assert!(waits.is_empty() && waits.next_deadline() == MonoTime::MAX);
        assert_eq!(waits.released(&key("a"), at(1_001)), None);
    }

    #[test]
    fn whoever_leaves_is_neither_taken_up_nor_told_that_its_time_is_over() {
        let mut waits = waits();
        park(&mut waits, 1, 30, "a", 100);
        park(&mut waits, 2, 30, "a", 100);
        park(&mut waits, 3, 40, "b", 100);
        assert_eq!(waits.of_transaction(&key("a"), Timestamp(30)), [1, 2]);
        assert!(waits.leave(1).is_some() && waits.leave(1).is_none());
        assert_eq!(waits.released(&key("a"), at(5)), Some(2));
        waits.check_invariants();
        assert_eq!(waits.due(at(99)), [], "nobody is left at the key that was released");
        assert_eq!(waits.due(at(100)), [(3, Due::TimeOver)]);
        waits.check_invariants();
    }

    /// Many wait for few keys, whose locks come and go in any order: each is answered once, the oldest of a key first.
    #[test]
    fn each_leaves_once_and_the_oldest_of_a_key_first() {
        let mut dice = 7_u64;
        let mut roll = move |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let names = ["a", "b", "c"];
        let (mut waits, mut left) = (waits(), BTreeSet::new());
        let leaves =
            |left: &mut BTreeSet<CommandId>, id| assert!(left.insert(id), "command {id} leaves twice");
        for id in 0..3_000 {
            let (name, now) = (names[roll(3) as usize], at(id));
            match roll(4) {
                0 => {
                    let first = waits.iter().filter(|(_, waiter)| waiter.key == key(name));
                    let oldest = first.map(|(_, waiter)| waiter.start_ts).min();
                    let begun: BTreeMap<CommandId, Timestamp> =
                        waits.iter().map(|(id, waiter)| (id, waiter.start_ts)).collect();
                    let taken = waits.released(&key(name), now);
                    assert_eq!(taken.map(|id| begun[&id]), oldest);
                    taken.into_iter().for_each(|id| leaves(&mut left, id));
                }
                1 => drop(waits.locked(&key(name), Timestamp(roll(50)))),
                _ => park(&mut waits, id, roll(100), name, id + 1 + roll(200)),
            }
            waits.due(now).into_iter().for_each(|(id, _)| leaves(&mut left, id));
            waits.check_invariants();
        }
        waits.due(at(10_000)).into_iter().for_each(|(id, _)| leaves(&mut left, id));
        assert!(waits.is_empty() && left.len() > 1_000);
    }
}
