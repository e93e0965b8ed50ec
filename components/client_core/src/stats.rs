//! What a client has counted: what its waits were for, and how well its region cache serves it.

use crate::backoff::Class;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a client has counted since it was made, all its handles together. Shown, it is text that Prometheus takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientStats {
    /// How long calls have waited between attempts, by what the attempt before had failed of; every reason, in one order.
    pub waits: Vec<(&'static str, Duration)>,
    /// Keys whose region was known.
    pub cache_hits: u64,
    /// Keys whose region had to be asked for.
    pub cache_misses: u64,
}

impl fmt::Display for ClientStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waits, cache) = ("flotilla_client_backoff_seconds_total", "flotilla_client_region_cache_total");
        writeln!(
            f,
            "# HELP {waits} Time that calls have waited before another attempt, by what had failed."
        )?;
        writeln!(f, "# TYPE {waits} counter")?;
        for (reason, wait) in &self.waits {
            writeln!(f, "{waits}{{reason=\"{reason}\"}} {}", wait.as_secs_f64())?;
        }
        writeln!(
            f,
            "# HELP {cache} Looks for a key's region; many misses mean more regions than the cache holds."
        )?;
        writeln!(f, "# TYPE {cache} counter")?;
        for (result, count) in [("hit", self.cache_hits), ("miss", self.cache_misses)] {
            writeln!(f, "{cache}{{result=\"{result}\"}} {count}")?;
        }
        Ok(())
    }
}

/// The counts behind [`ClientStats`].
#[derive(Default, Debug)]
pub(crate) struct Counts {
    waits_nanos: [AtomicU64; Class::ALL.len()],
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
}

impl Counts {
    pub(crate) fn note_wait(&self, class: Class, wait: Duration) {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.waits_nanos[class as usize].fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn note_look(&self, is_hit: bool) {
        let count = if is_hit { &self.cache_hits } else { &self.cache_misses };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> ClientStats {
        let wait = |class: &Class| {
            let nanos = self.waits_nanos[*class as usize].load(Ordering::Relaxed);
            (class.label(), Duration::from_nanos(nanos))
        };
        ClientStats {
            waits: Class::ALL.iter().map(wait).collect(),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            cache_misses: self.cache_misses.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted is shown under the reason that it was counted for, and every reason from the start.
    #[test]
    fn counts_are_shown_by_their_reason() {
        let counts = Counts::default();
        counts.note_wait(Class::Busy, Duration::from_millis(1500));
        counts.note_wait(Class::Busy, Duration::from_millis(500));
        counts.note_look(true);
        counts.note_look(true);
        counts.note_look(false);
        let text = counts.stats().to_string();
        for line in [
            "flotilla_client_backoff_seconds_total{reason=\"busy\"} 2\n",
            "flotilla_client_backoff_seconds_total{reason=\"locked\"} 0\n",
            "flotilla_client_region_cache_total{result=\"hit\"} 2\n",
            "flotilla_client_region_cache_total{result=\"miss\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert_eq!(text.lines().filter(|line| line.contains("reason=")).count(), Class::ALL.len());
    }
}
