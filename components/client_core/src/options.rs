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
    /// others wait for each other, one of them is told so before that. Longer than `txn_ttl`, or keys of a client that has
    /// died are not had before the second attempt.
    pub lock_wait_max: Duration,
    /// How long a transaction may go without a sign of life until others take it for abandoned. They wait for its locks so
    /// long: a call whose deadline is shorter may fail instead.
    pub txn_ttl: Duration,
    /// How many regions are remembered; beyond that, others are forgotten and looked up again when needed.
    pub regions_cached_max: usize,
    /// Rules that are broken on purpose.
    pub bugs: crate::Bugs,
}

const DEADLINE: Duration = Duration::from_secs(10);
const LOCK_WAIT_MAX: Duration = Duration::from_secs(8);
/// A region finds another leader within two seconds, and a placement driver that has taken over may give timestamps three
/// seconds ahead: a sign of life each two seconds (`txn::heartbeat`) comes in time through either.
const TXN_TTL: Duration = Duration::from_secs(6);

/// Who meets the lock of a client that has died waits until it is over and removes it, whether it reads, writes or reserves:
/// so there must be time for that.
const _: () = assert!(
    TXN_TTL.as_secs() < LOCK_WAIT_MAX.as_secs() && LOCK_WAIT_MAX.as_secs() < DEADLINE.as_secs(),
    "whoever waits outlives the locks of the dead"
);

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: DEADLINE,
            // A leader that is lost is replaced within two seconds, so a second attempt then finds the new one.
            read_attempt_timeout: Duration::from_secs(2),
            // A write may wait so long for a slow disk; who is suspected of no more than that soon answers a probe.
            silent_after: Duration::from_secs(1),
            // A probe costs no disk access, only a turn of a worker.
            probe_timeout: Duration::from_millis(500),
            pd_attempt_timeout: Duration::from_secs(2),
            batch_concurrency: 16,
            txn_size_bytes_max: 100 << 20,
            lock_wait_max: LOCK_WAIT_MAX,
            txn_ttl: TXN_TTL,
            // Some 300 bytes each: 30 MB at the most.
            regions_cached_max: 100_000,
            bugs: crate::Bugs::default(),
        }
    }
}
