//! What every peer can do for us, and what we learn of it.

use crate::clock;
use crate::processes::{Machine, Used};
use crate::workload::{DataSet, Workload};
use std::time::Duration;

/// How long a measurement takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timing {
    /// Not counted.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) counted: Duration,
}

/// One system under comparison: started, loaded, measured row by row, stopped when dropped.
pub(crate) trait Driver {
    /// As it is called in tables.
    fn name(&self) -> &'static str;

    /// What runs, with its version, in a few words.
    fn describe(&self) -> String;

    /// Writes every key of a data set.
    fn load(&mut self, data: DataSet) -> anyhow::Result<()>;

    /// Stops the servers in order and starts them again on what they have, so that reads find files and not what the
    /// load has left in memory. Returns when they serve.
    fn restart(&mut self) -> anyhow::Result<()>;

    /// Does a row's work once; `None` if this peer has no such work.
    fn measure(&mut self, workload: &Workload, timing: Timing) -> anyhow::Result<Option<Measured>>;

    /// Stops the servers in order.
    fn stop(&mut self) -> anyhow::Result<()>;
}

/// What servers and generator have used at one moment.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Usage {
    /// All servers together.
    pub(crate) servers: Used,
    /// Whoever asks them.
    pub(crate) generator: Duration,
    /// Calls of fsync or its like, of all servers together, where they count them.
    pub(crate) syncs: Option<u64>,
    pub(crate) machine: Machine,
}

/// What came of one measurement.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// Operations that succeeded; a batch counts as its keys.
    pub(crate) operations: f64,
    /// Calls that failed.
    pub(crate) errors: u64,
    /// The first failure.
    pub(crate) first_error: Option<String>,
    /// In microseconds, ascending, of calls.
    pub(crate) latencies: Vec<u32>,
    pub(crate) servers_cpu: Duration,
    pub(crate) generator_cpu: Duration,
    pub(crate) syncs: Option<u64>,
    pub(crate) written_bytes: u64,
    /// The shares of the machine's processor time that were busy, whoever kept them so, and that its host took away;
    /// `None` where they were not looked at.
    pub(crate) machine: Option<(f64, f64)>,
}

impl Measured {
    /// Adds what was used between two moments.
    pub(crate) fn with_usage(self, before: Usage, after: Usage) -> Self {
        Self {
            servers_cpu: after.servers.cpu.saturating_sub(before.servers.cpu),
            generator_cpu: after.generator.saturating_sub(before.generator),
            syncs: after.syncs.zip(before.syncs).map(|(after, before)| after.saturating_sub(before)),
            written_bytes: after.servers.written_bytes.saturating_sub(before.servers.written_bytes),
            machine: Some(after.machine.shares_since(before.machine)),
            ..self
        }
    }

    /// The same, had it cost so many times as much.
    pub(crate) fn with_costs_times(self, factor: f64) -> Self {
        Self {
            servers_cpu: self.servers_cpu.mul_f64(factor),
            generator_cpu: self.generator_cpu.mul_f64(factor),
            written_bytes: (self.written_bytes as f64 * factor) as u64,
            ..self
        }
    }

    /// The latency that so many of a hundred calls stay within, in microseconds; `None` without calls.
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        let index = (self.latencies.len() as f64 * percent / 100.0) as usize;
        Some(f64::from(self.latencies[index.min(last)]))
    }
}

/// Measures what one thread of this process does again and again; `step` does it once and says how long it took. All of its time
/// is the servers'.
///
/// # Errors
/// Those of `step`.
pub(crate) fn repeat(
    timing: Timing,
    mut step: impl FnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<Measured> {
    let begin = clock::now();
    while begin.elapsed() < timing.warm_up {
        step()?;
    }
    let (begin, cpu) = (clock::now(), clock::own_cpu());
    let mut latencies = Vec::new();
    while begin.elapsed() < timing.counted {
        latencies.push(u32::try_from(step()?.as_micros()).unwrap_or(u32::MAX));
    }
    let seconds = begin.elapsed().as_secs_f64();
    let servers_cpu = clock::own_cpu().saturating_sub(cpu);
    latencies.sort_unstable();
    let operations = latencies.len() as f64;
    Ok(Measured { seconds, operations, latencies, servers_cpu, ..Measured::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs were looked at for three seconds, and operations are known of two of them.
    #[test]
    fn costs_are_brought_to_the_time_of_the_operations() {
        let seconds = Duration::from_secs;
        let looked = Measured { servers_cpu: seconds(3), generator_cpu: seconds(6), ..Measured::default() };
        let told = Measured { written_bytes: 900, ..looked }.with_costs_times(2.0 / 3.0);
        assert_eq!((told.servers_cpu, told.generator_cpu, told.written_bytes), (seconds(2), seconds(4), 600));
    }

    #[test]
    fn percentiles_are_of_the_calls_that_ended() {
        let measured = Measured { latencies: (1..=1000).collect(), ..Measured::default() };
        assert_eq!(measured.percentile(50.0), Some(501.0));
        assert_eq!(measured.percentile(99.9), Some(1000.0));
        assert_eq!(measured.percentile(100.0), Some(1000.0));
        assert_eq!(Measured::default().percentile(50.0), None);
    }
}
