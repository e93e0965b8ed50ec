//! Which key spaces there are, as far as this store has heard.
//!
//! Ids are given in order and never taken back, so one number says all: that of the last one. It comes with each answer to a
//! word about this store. A request that names a later one may be wrong, or its key space may have been made a moment ago:
//! the placement driver is asked first, by a question that leaves after the request came, and only then is it refused.

mod named;

pub(crate) use named::named;

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ids that are asked about at a time; of more, the lowest is forgotten and asked about again.
const DOUBTED_MAX: usize = 64;

/// Shared by all threads of a store. Questions are asked by the store's agent, one at a time.
pub struct Keyspaces {
    /// All up to this are there. Only rises.
    last: AtomicU32,
    asking: Mutex<Asking>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Asking {
    wanted: bool,
    under_way: bool,
    /// How many questions have left, and the last of them that was answered.
    asked: u64,
    answered: u64,
    /// Ids that somebody has named, and the first question that left after that.
    doubted: BTreeMap<u32, u64>,
}

/// Why a key space is not taken for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// It may be new: the placement driver is being asked.
    Asking,
    /// It was not there when somebody had named it.
    Unknown,
}

impl Keyspaces {
    /// The default one alone is known. `wake` is called, by any thread, when there is a question.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { last: AtomicU32::new(0), asking: Mutex::default(), wake: Box::new(wake) }
    }

    pub(crate) fn check(&self, id: u32) -> Result<(), Missing> {
        if id <= self.last.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut asking = self.asking.lock();
        match asking.doubted.get(&id) {
            // Whoever names it next is asked for anew: it may have been made since.
            Some(question) if asking.answered >= *question => {
                asking.doubted.remove(&id);
                // The answer may have come since the look above.
                match id <= self.last.load(Ordering::Relaxed) {
                    true => return Ok(()),
                    false => return Err(Missing::Unknown),
                }
            }
            Some(_) => {}
            None => {
                if asking.doubted.len() >= DOUBTED_MAX {
                    asking.doubted.pop_first();
                }
                let question = asking.asked + 1;
                asking.doubted.insert(id, question);
                asking.wanted = true;
            }
        }
        drop(asking);
        (self.wake)();
        Err(Missing::Asking)
    }

    /// True if somebody waits for a question to leave.
    pub(crate) fn has_question(&self) -> bool {
        let asking = self.asking.lock();
        asking.wanted && !asking.under_way
    }

    /// A word leaves whose answer tells. Returns whether that is taken for the question; one at a time is.
    pub(crate) fn ask(&self) -> bool {
        let mut asking = self.asking.lock();
        if asking.under_way {
            return false;
        }
        (asking.wanted, asking.under_way) = (false, true);
        asking.asked += 1;
        true
    }

    /// The question was answered; `None`: it was not.
    pub(crate) fn on_answer(&self, last: Option<u32>) {
        let mut asking = self.asking.lock();
        asking.under_way = false;
        match last {
            Some(last) => {
                self.last.fetch_max(last, Ordering::Relaxed);
                asking.answered = asking.asked;
                let last = self.last.load(Ordering::Relaxed);
                asking.doubted.retain(|id, _| *id > last);
            }
            None => asking.wanted |= !asking.doubted.is_empty(),
        }
    }
}

impl std::fmt::Debug for Keyspaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspaces").field("last", &self.last).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key space that was made a moment ago is asked about and then taken; one that nobody made is refused once a question
    /// is answered that left after it was named, and not by one that was under way.
    #[test]
    fn what_may_be_new_is_asked_about_before_it_is_refused() {
        let spaces = Keyspaces::new(|| {});
        assert_eq!(spaces.check(0), Ok(()));
        assert!(spaces.ask() && !spaces.has_question());
        assert_eq!(spaces.check(2), Err(Missing::Asking));
        assert!(!spaces.has_question() && !spaces.ask(), "one at a time");
        spaces.on_answer(Some(1));
        assert_eq!((spaces.check(1), spaces.check(2)), (Ok(()), Err(Missing::Asking)), "it left too early");
        assert!(spaces.has_question() && spaces.ask());
        assert_eq!(spaces.check(3), Err(Missing::Asking));
        spaces.on_answer(Some(1));
        assert_eq!(spaces.check(2), Err(Missing::Unknown));
        assert_eq!((spaces.check(2), spaces.check(3)), (Err(Missing::Asking), Err(Missing::Asking)));
        assert!(spaces.ask());
        spaces.on_answer(None);
        assert!(spaces.has_question(), "it is asked again");
        assert!(spaces.ask());
        spaces.on_answer(Some(2));
        assert_eq!((spaces.check(2), spaces.check(3)), (Ok(()), Err(Missing::Unknown)));
    }

    /// Whoever names ids without end makes the store remember no more than so many.
    #[test]
    fn what_is_asked_about_is_bounded() {
        let spaces = Keyspaces::new(|| {});
        for id in 1..1_000 {
            assert_eq!(spaces.check(id), Err(Missing::Asking));
        }
        assert_eq!(spaces.asking.lock().doubted.len(), DOUBTED_MAX);
        assert!(spaces.ask());
        spaces.on_answer(Some(0));
        assert_eq!(spaces.check(999), Err(Missing::Unknown));
    }
}
