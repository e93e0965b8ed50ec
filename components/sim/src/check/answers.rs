//! INV-STORE-11: every request gets exactly one answer, at the latest soon after its deadline.

use super::{Broken, require};
use std::collections::BTreeMap;
use std::time::Duration;
use types::MonoTime;

const NAME: &str = "INV-STORE-11 (one answer)";

/// Requests of one process that are not answered, with what is to be known of each when it is.
#[derive(Clone, Debug)]
pub struct Answers<T> {
    /// How long after its deadline an answer may come.
    delay_max: Duration,
    open: BTreeMap<u64, (MonoTime, T)>,
}

impl<T> Answers<T> {
    /// No request; answers may come so long after their deadlines.
    #[must_use]
    pub const fn new(delay_max: Duration) -> Self {
        Self { delay_max, open: BTreeMap::new() }
    }

    /// A request was taken in, whose sender gives up at `deadline`.
    pub fn asked(&mut self, request: u64, deadline: MonoTime, what: T) {
        let before = self.open.insert(request, (deadline, what));
        assert!(before.is_none(), "requests have names of their own: {request}");
    }

    /// It is answered; gives back what is known of it.
    ///
    /// # Errors
    /// When it was answered before, or never asked.
    pub fn answered(&mut self, request: u64) -> Result<T, Broken> {
        let open = self.open.remove(&request).map(|(_, what)| what);
        open.ok_or_else(|| Broken { invariant: NAME, facts: format!("request {request} is answered again") })
    }

    /// Whether every request was answered that is due when the clock shows `clock`.
    ///
    /// # Errors
    /// When one was not.
    pub fn all_answered(&self, clock: MonoTime) -> Result<(), Broken> {
        let late = |(deadline, _): &&(MonoTime, T)| *deadline + self.delay_max < clock;
        let count = self.open.values().filter(late).count();
        require(count == 0, NAME, || {
            format!("{count} requests are not answered {:?} after their deadlines", self.delay_max)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::broken;

    #[test]
    fn a_request_is_answered_once_and_in_time() {
        let at = |seconds: u64| MonoTime(seconds * 1_000_000_000);
        let mut answers = Answers::new(Duration::from_secs(5));
        answers.asked(1, at(10), "a");
        answers.asked(2, at(20), "b");
        answers.asked(3, MonoTime::MAX, "without a deadline");
        answers.all_answered(at(15)).unwrap();
        broken(answers.all_answered(at(16)), NAME);
        assert_eq!(answers.answered(1), Ok("a"));
        answers.all_answered(at(25)).unwrap();
        broken(answers.all_answered(at(26)), NAME);
        broken(answers.answered(1).map(|_| ()), NAME);
        broken(answers.answered(4).map(|_| ()), NAME);
    }
}
