//! What can be set for a client as a whole.

use std::time::Duration;

/// How a client behaves. The defaults suit a cluster in one data centre.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long a call may take, retries included. For a scan, how long each page may take.
    pub deadline: Duration,
    /// How long one attempt of a read may go unanswered before another peer is tried. Writes have no such limit: an
    /// attempt that is given up leaves the outcome unknown, so they wait until the deadline.
    pub read_attempt_timeout: Duration,
    /// How long a store may owe an answer, without giving any other, before other calls turn to other peers first.
    pub silent_after: Duration,
    /// How long such a store may take to answer a probe, after which it is trusted again.
    pub probe_timeout: Duration,
    /// The same as `read_attempt_timeout` for the placement driver.
    pub pd_attempt_timeout: Duration,
    /// How many requests one batch call has in flight at most.
    pub batch_concurrency: usize,
    /// How many bytes of keys and values a transaction may hold until it commits: they are kept in memory.
    pub txn_size_bytes_max: u64,
    /// How long a transaction that reserves keys waits for others that have reserved them. It waits at the stores; if it and
    /// others wait for each other, one of them is told so before that.
    pub lock_wait_max: Duration,
    /// How long a transaction may go without a sign of life until others take it for abandoned.
    pub txn_ttl: Duration,
    /// How many regions are remembered; beyond that, others are forgotten and looked up again when needed.
    pub regions_cached_max: usize,
    /// Rules that are broken on purpose.
    pub bugs: crate::Bugs,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            // A leader that is lost is replaced within two seconds, so a second attempt then finds the new one.
            read_attempt_timeout: Duration::from_secs(2),
            // A write may wait so long for a slow disk; who is suspected of no more than that soon answers a probe.
            silent_after: Duration::from_secs(1),
            // A probe costs no disk access, only a turn of a worker.
            probe_timeout: Duration::from_millis(500),
            pd_attempt_timeout: Duration::from_secs(2),
            batch_concurrency: 16,
            txn_size_bytes_max: 100 << 20,
            lock_wait_max: Duration::from_secs(3),
            // Long enough for a region to find a new leader several times over.
            txn_ttl: Duration::from_secs(20),
            // Some 300 bytes each: 30 MB at the most.
            regions_cached_max: 100_000,
            bugs: crate::Bugs::default(),
        }
    }
}
