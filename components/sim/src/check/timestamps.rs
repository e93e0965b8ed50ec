//! INV-PD-TSO: timestamps grow in real time, whoever hands them out, over the whole run.

use super::{Broken, require};
use types::Timestamp;

/// Timestamps: one that is asked for after another was answered is greater, whoever answers.
#[derive(Clone, Default, Debug)]
pub struct Timestamps {
    answered: Timestamp,
}

impl Timestamps {
    /// The greatest timestamp that was answered so far: what a request that begins now must exceed.
    #[must_use]
    pub const fn floor(&self) -> Timestamp {
        self.answered
    }

    /// The timestamps `first ..= last` were answered to a request that began when [`floor`](Self::floor) was `floor`.
    ///
    /// # Errors
    /// When one of them is not greater.
    pub fn answered(&mut self, floor: Timestamp, first: Timestamp, last: Timestamp) -> Result<(), Broken> {
        require(first > floor && first <= last, "INV-PD-TSO (growing timestamps)", || {
            format!("{first:?} to {last:?} were handed out after {floor:?} had been")
        })?;
        self.answered = self.answered.max(last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn timestamps_grow_in_real_time() {
        let mut timestamps = Timestamps::default();
        let early = timestamps.floor();
        timestamps.answered(early, Timestamp(5), Timestamp(7)).unwrap();
        // Asked for before the answer above came: any order will do.
        timestamps.answered(early, Timestamp(3), Timestamp(4)).unwrap();
        assert_eq!(timestamps.floor(), Timestamp(7));
        let floor = timestamps.floor();
        broken(timestamps.answered(floor, Timestamp(7), Timestamp(9)), "INV-PD-TSO (growing timestamps)");
    }
}
