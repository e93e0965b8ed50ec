//! How large a region is, and when it is worth while to measure it.

use types::MonoTime;

/// How large the region is, as far as is known.
#[derive(Default)]
pub(crate) struct Size {
    /// What it was measured at, and everything written since as if that had been added.
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
    /// Written since it was last measured.
    pub(crate) unmeasured_bytes: u64,
    pub(crate) measuring: bool,
    /// Measure it then, whatever was written: a split that was due did not come about.
    pub(crate) measure_at: Option<MonoTime>,
    /// Of applied entries that the log still holds.
    pub(crate) log_bytes: u64,
    /// Of entries applied since the log was last looked at for compaction.
    pub(crate) log_bytes_unseen: u64,
}

impl Size {
    /// How much is written before the region is measured again: as much as it held, so that measuring reads about what was
    /// written; but no more than may bring it to half as much again as `split_bytes`, where it is cut. Near to that it is
    /// a quarter of `split_bytes`, so that a region which is only overwritten is not read over and over.
    pub(crate) fn unmeasured_bytes_max(&self, split_bytes: u64) -> u64 {
        let measured = self.bytes.saturating_sub(self.unmeasured_bytes);
        let cut_at = split_bytes.saturating_add(split_bytes / 2);
        measured.min(cut_at.saturating_sub(measured)).max(split_bytes / 4).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many bytes a region is measured that held so many, and is cut when it holds 150.
    fn after(measured: u64) -> u64 {
        let after = |unmeasured_bytes| {
            let size = Size { bytes: measured + unmeasured_bytes, unmeasured_bytes, ..Size::default() };
            size.unmeasured_bytes_max(100)
        };
        assert_eq!(after(0), after(17), "what is written meanwhile changes nothing");
        after(0)
    }

    #[test]
    fn a_region_is_read_about_as_often_as_it_is_written_and_cut_soon_after_it_has_grown() {
        assert_eq!([0, 10, 25].map(after), [25; 3], "a small one is measured at times");
        assert_eq!([26, 60, 75].map(after), [26, 60, 75]);
        assert_eq!([76, 100, 125].map(after), [74, 50, 25], "no later than it may have to be cut");
        assert_eq!(
            [126, 149, 150, 1000].map(after),
            [25; 4],
            "one that is overwritten is not read all the time"
        );
    }

    #[test]
    fn the_least_limit_and_the_greatest_are_limits() {
        let size = |bytes| Size { bytes, ..Size::default() };
        assert_eq!(size(0).unmeasured_bytes_max(1), 1);
        assert_eq!(size(u64::MAX).unmeasured_bytes_max(u64::MAX), u64::MAX / 4);
    }
}
