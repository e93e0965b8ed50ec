//! Commands of one store that concern the same key go one after another.
//!
//! A command claims its keys in order and waits at the first that another holds; so no two wait for each other. At each key
//! they go in the order in which they came to it. A latch is held from before the view of the engine is taken until what
//! was decided on it is applied. Latches keep commands of one store apart and know nothing of other stores: that a
//! proposal carries the term of its view is what guards against those (INV-TXN-5).

use std::collections::{BTreeMap, VecDeque};
use types::Key;

/// Names a command that is under way.
pub type CommandId = u64;

/// The keys of one command, and how many of them it holds.
#[derive(PartialEq, Eq, Debug)]
pub struct Claim {
    id: CommandId,
    /// Ascending, each once.
    keys: Vec<Key>,
    /// The first so many are held.
    held: usize,
}

impl Claim {
    /// A claim to these keys, none of which is held yet.
    #[must_use]
    pub fn new(id: CommandId, mut keys: Vec<Key>) -> Self {
        keys.sort();
        keys.dedup();
        Self { id, keys, held: 0 }
    }

    /// The command.
    #[must_use]
    pub fn id(&self) -> CommandId {
        self.id
    }
}

/// Who holds which key, and who waits for it.
#[derive(Default, Debug)]
pub struct Latches {
    /// The first of each queue holds the key. No queue is empty.
    queues: BTreeMap<Key, VecDeque<CommandId>>,
}

impl Latches {
    /// Nobody holds anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all keys of a claim, or as many as it can get and a place in the queue of the next. True if it has all. To be
    /// called when the command comes, and again each time that [`release`](Self::release) names it.
    pub fn acquire(&mut self, claim: &mut Claim) -> bool {
        while let Some(key) = claim.keys.get(claim.held) {
            let queue = self.queues.entry(key.clone()).or_default();
            // Whoever is woken stands in the queue already.
            if queue.front() != Some(&claim.id) {
                let is_first = queue.is_empty();
                queue.push_back(claim.id);
                if !is_first {
                    return false;
                }
            }
            claim.held += 1;
        }
        true
    }

    /// Gives up all that a claim holds, and its place where it waits. Returns the commands that hold one more key by that,
    /// in order of these keys.
    pub fn release(&mut self, claim: Claim) -> Vec<CommandId> {
        let mut woken = Vec::new();
        for (number, key) in claim.keys.iter().take(claim.held + 1).enumerate() {
            let Some(queue) = self.queues.get_mut(key) else {
                assert!(number == claim.held, "command {} holds a key that nobody holds", claim.id);
                continue;
            };
            let was_first = queue.front() == Some(&claim.id);
            assert!(was_first || number == claim.held, "command {} has lost a key", claim.id);
            queue.retain(|id| *id != claim.id);
            match queue.front() {
                Some(next) if was_first => woken.push(*next),
                Some(_) => {}
                None => drop(self.queues.remove(key)),
            }
        }
        woken
    }

    /// Keys that somebody holds.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.queues.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: CommandId, keys: &[&str]) -> Claim {
        Claim::new(id, keys.iter().map(|key| Key::copy_from_slice(key.as_bytes())).collect())
    }

    #[test]
    fn commands_on_one_key_go_in_the_order_in_which_they_came() {
        let mut latches = Latches::new();
        let (mut first, mut second, mut third) = (claim(1, &["a"]), claim(2, &["a"]), claim(3, &["a"]));
        assert!(latches.acquire(&mut first));
        assert!(!latches.acquire(&mut second) && !latches.acquire(&mut third));
        assert_eq!(latches.release(first), [2]);
        assert!(latches.acquire(&mut second));
        assert_eq!(latches.release(second), [3]);
        assert!(latches.acquire(&mut third));
        assert_eq!(latches.release(third), Vec::<CommandId>::new());
        assert_eq!(latches.held_count(), 0);
    }

    /// Two commands name the same keys in different orders, one of them a key twice: neither waits for the other for ever.
    #[test]
    fn nobody_waits_for_each_other() {
        let mut latches = Latches::new();
        let (mut one, mut other) = (claim(1, &["b", "a", "b"]), claim(2, &["a", "b"]));
        assert!(latches.acquire(&mut one) && !latches.acquire(&mut other));
        assert_eq!(latches.release(one), [2]);
        assert!(latches.acquire(&mut other));
    }

    #[test]
    fn whoever_gives_up_while_waiting_leaves_no_trace() {
        let mut latches = Latches::new();
        let (mut holder, mut leaver, mut next) = (claim(1, &["b"]), claim(2, &["a", "b"]), claim(3, &["b"]));
        assert!(latches.acquire(&mut holder));
        assert!(!latches.acquire(&mut leaver) && !latches.acquire(&mut next));
        assert_eq!(latches.release(leaver), Vec::<CommandId>::new(), "nobody waited for what it held");
        assert_eq!(latches.release(holder), [3]);
        assert!(latches.acquire(&mut next));
        latches.release(next);
        assert_eq!(latches.held_count(), 0);
    }

    /// Many commands on few keys, ending in any order: no key is held twice at once, and all have their turn.
    #[test]
    fn each_key_has_one_holder_and_everybody_has_a_turn() {
        let mut dice = 1_u64;
        let mut roll = move |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let keys = ["a", "b", "c", "d", "e"];
        let mut latches = Latches::new();
        let (mut waiting, mut running) = (BTreeMap::new(), Vec::new());
        let mut done = 0;
        for id in 0..2_000 {
            let wanted: Vec<&str> = keys.into_iter().filter(|_| roll(3) == 0).collect();
            let mut new = claim(id, &wanted);
            match latches.acquire(&mut new) {
                true => running.push(new),
                false => drop(waiting.insert(id, new)),
            }
            while !running.is_empty() && (id == 1_999 || roll(2) == 0) {
                let place = usize::try_from(roll(running.len() as u64)).expect("few");
                done += 1;
                for woken in latches.release(running.swap_remove(place)) {
                    let mut claim = waiting.remove(&woken).expect("only those who wait are woken");
                    match latches.acquire(&mut claim) {
                        true => running.push(claim),
                        false => drop(waiting.insert(woken, claim)),
                    }
                }
            }
            let mut held: Vec<&Key> = running.iter().flat_map(|claim| &claim.keys).collect();
            let count = held.len();
            held.sort();
            held.dedup();
            assert_eq!(held.len(), count, "a key is held twice");
        }
        assert_eq!((done, waiting.len(), latches.held_count()), (2_000, 0, 0));
    }
}
