//! What stores say that happened, added up over their lives.

use super::cluster::Node;

/// Events that a test is about.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Observed {
    /// Elections that were won.
    pub(crate) elections: u64,
    /// Region snapshots that arrived and were installed.
    pub(crate) snapshots: u64,
    /// Reads that a leader answered by its lease.
    pub(crate) lease_reads: u64,
}

impl Observed {
    /// What this process has counted since it was started.
    pub(crate) async fn of(node: &Node) -> Self {
        let metrics = node.metrics().await;
        // Counters are whole, and far below 2^53.
        let count = |metric: &str, label: &str| metrics.sum(metric, label) as u64;
        Self {
            elections: count("flotilla_raft_elections_total", "result=\"won\""),
            snapshots: count("flotilla_snapshots_total", "event=\"installed\""),
            lease_reads: count("flotilla_reads_total", "path=\"lease\""),
        }
    }

    /// Adds what a process counted that is about to be killed, or at the end.
    pub(crate) async fn add(&mut self, node: &Node) {
        let more = Self::of(node).await;
        self.elections += more.elections;
        self.snapshots += more.snapshots;
        self.lease_reads += more.lease_reads;
    }
}

/// Fails the test as void if something that it is about never happened.
#[track_caller]
pub(crate) fn expect_happened(events: &[(&str, u64)]) {
    let missing: Vec<&str> = events.iter().filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect();
    assert!(
        missing.is_empty(),
        "void: nothing was shown, because these never happened: {}",
        missing.join(", ")
    );
}
