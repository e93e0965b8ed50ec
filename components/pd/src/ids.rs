//! Ids reserved through the log and not handed out yet.

use env::sim_point;

/// A range of ids that the log has reserved for this leadership. What is left when it ends is lost; ids are plenty.
#[derive(Clone, Default, Debug)]
pub(crate) struct IdPool {
    next: u64,
    end: u64,
}

impl IdPool {
    /// The log has reserved `first..end` for us.
    pub(crate) fn refill(&mut self, first: u64, end: u64) {
        assert!(self.end <= first && first < end, "ids {first}..{end} after a pool up to {}", self.end);
        if self.end != first {
            self.next = first;
        }
        self.end = end;
    }

    /// The first of `count` ids in a row; `None` until more are reserved.
    pub(crate) fn take(&mut self, count: u64) -> Option<u64> {
        if self.left() < count {
            return None;
        }
        let first = self.next;
        self.next += count;
        if sim_point!("pd.waste_ids") {
            self.next = self.end;
        }
        Some(first)
    }

    /// Where the reservation ends.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn left(&self) -> u64 {
        self.end - self.next
    }

    pub(crate) fn check_invariants(&self, id_bound: u64) {
        assert!(self.next <= self.end, "INV-PD-IDS: {} beyond {}", self.next, self.end);
        assert!(self.end <= id_bound, "INV-PD-IDS: ids up to {} of {id_bound} reserved", self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjoining_reservations_are_joined_and_others_replace_what_is_left() {
        let mut pool = IdPool::default();
        assert_eq!(pool.take(1), None);
        pool.refill(1, 11);
        assert_eq!(pool.take(8), Some(1));
        pool.refill(11, 21);
        assert_eq!(pool.take(5), Some(9), "the two left over and three new ones");
        pool.refill(50, 60);
        assert_eq!(pool.take(1), Some(50));
        assert_eq!(pool.take(10), None);
    }
}
