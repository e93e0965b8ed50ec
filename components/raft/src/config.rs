//! How one group behaves.

use std::fmt;
use types::{LogIndex, PeerId};

/// An election timeout spans at least this many heartbeats, so that losing a few in a row deposes nobody.
pub const HEARTBEATS_PER_ELECTION_MIN: u32 = 5;

/// How one group behaves. Times are counted in ticks; what a tick lasts is the caller's business. A limit beyond four
/// gigabytes stands for four.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Hash))]
pub struct Config {
    /// Our own id in the group; not zero.
    pub id: PeerId,
    /// Which group this is. Used for nothing but drawing timeouts that differ from group to group.
    pub group_id: u64,
    /// Draws the election timeouts, and keeps answers to the reads of an earlier life apart from those of this one:
    /// it should differ from one start of the process to the next. Same seed and same inputs give the same run.
    pub seed: u64,
    /// The minimum election timeout. Each timeout is drawn from `election_tick .. 2 * election_tick`.
    pub election_tick: u32,
    /// How often a leader sends heartbeats.
    pub heartbeat_tick: u32,
    /// The index up to which the state machine has been applied.
    pub applied: LogIndex,
    /// This peer has just been created and has never answered anybody (a split, a bootstrap), so there is no leader
    /// that counts on its silence and it need not wait before it votes. False for every restart.
    pub newborn: bool,
    /// Ask whether a campaign could succeed before the term is raised for it (thesis §9.6).
    pub pre_vote: bool,
    /// A leader that has not heard a quorum for an election timeout steps down, and a peer that has heard its leader
    /// within one votes for nobody. Leases rest on this: without it there are none.
    pub check_quorum: bool,
    /// How many bytes of entries one append carries; one entry is always sent, however large.
    pub max_size_per_message: u64,
    /// How many appends may be on the way to one peer.
    pub max_inflight_messages: usize,
    /// How many bytes of entries may be on the way to one peer; one message is always sent, however large.
    pub max_inflight_bytes: u64,
    /// How many bytes a leader accepts without having committed them; one proposal is always accepted.
    pub max_uncommitted_bytes: u64,
    /// How many bytes of committed entries may be out for applying, over all pages not yet reported as applied.
    pub max_committed_bytes_per_ready: u64,
    /// A leader's commit index waits for the next append or heartbeat to take it along. If false, whoever receives the log
    /// and was not told is sent an empty append with the next effects, once for each advance.
    ///
    /// True by default: while proposals follow each other the next append is never far, and where they do not, the advance
    /// would cost each follower a message, an answer and a turn of its own for every single proposal. Nobody who waits
    /// is left to wait: a follower that asked for a read index is told at once what it lacks for it, and so is everybody when
    /// members have changed. What lags is the applying on followers, by a heartbeat interval at most. Choose false where
    /// others than readers watch what a follower applies, or where groups are to sleep soon after their last proposal.
    pub lazy_commit: bool,
}

impl Default for Config {
    /// Ready for use but for `id`: a tick of 100 ms gives an election timeout of 1 s to 2 s.
    fn default() -> Self {
        Self {
            id: PeerId::ZERO,
            group_id: 0,
            seed: 0,
            election_tick: 10,
            heartbeat_tick: 2,
            applied: LogIndex::ZERO,
            newborn: false,
            pre_vote: true,
            check_quorum: true,
            max_size_per_message: 1 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 16 << 20,
            max_uncommitted_bytes: 32 << 20,
            max_committed_bytes_per_ready: 8 << 20,
            lazy_commit: true,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// `id` is zero, which stands for nobody.
    NoId,
    /// `heartbeat_tick` is zero: a leader that never speaks is deposed.
    NoHeartbeat,
    /// The election timeout spans too few heartbeats: losing a few would depose a healthy leader.
    ElectionTooShort {
        /// What was asked for.
        election_tick: u32,
        /// The least that the heartbeat interval allows.
        at_least: u32,
    },
    /// A limit is zero, so that nothing could ever pass.
    ZeroLimit(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoId => write!(f, "id is zero, which stands for nobody"),
            Self::NoHeartbeat => write!(f, "heartbeat_tick is zero, but a leader must speak to stay leader"),
            Self::ElectionTooShort { election_tick, at_least } => write!(
                f,
                "election_tick is {election_tick}, below {at_least} ({HEARTBEATS_PER_ELECTION_MIN} heartbeats): a few \
                 lost heartbeats would depose a healthy leader"
            ),
            Self::ZeroLimit(name) => write!(f, "{name} is zero, so nothing could pass"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Whether a group can run by this.
    ///
    /// # Errors
    /// Any [`ConfigError`]: change what it names.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id.is_zero() {
            return Err(ConfigError::NoId);
        }
        if self.heartbeat_tick == 0 {
            return Err(ConfigError::NoHeartbeat);
        }
        let at_least = self.heartbeat_tick.saturating_mul(HEARTBEATS_PER_ELECTION_MIN);
        if self.election_tick < at_least {
            return Err(ConfigError::ElectionTooShort { election_tick: self.election_tick, at_least });
        }
        let limits = [
            ("max_size_per_message", self.max_size_per_message),
            ("max_inflight_messages", self.max_inflight_messages as u64),
            ("max_inflight_bytes", self.max_inflight_bytes),
            ("max_uncommitted_bytes", self.max_uncommitted_bytes),
            ("max_committed_bytes_per_ready", self.max_committed_bytes_per_ready),
        ];
        match limits.into_iter().find(|&(_, limit)| limit == 0) {
            Some((name, _)) => Err(ConfigError::ZeroLimit(name)),
            None => Ok(()),
        }
    }
}

/// A [`Config`] as a group keeps it: 100,000 of them should be small.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Settings {
    pub(crate) id: PeerId,
    /// From seed, group and id: what draws begin with.
    pub(crate) draw_seed: u64,
    pub(crate) election_tick: u32,
    pub(crate) heartbeat_tick: u32,
    // No limit is beyond four gigabytes.
    max_size_per_message: u32,
    max_inflight_bytes: u32,
    max_uncommitted_bytes: u32,
    max_committed_bytes_per_ready: u32,
    max_inflight_messages: u32,
    pub(crate) pre_vote: bool,
    pub(crate) check_quorum: bool,
    pub(crate) lazy_commit: bool,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        let narrow = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            id: config.id,
            draw_seed: mix(mix(config.seed, config.group_id), config.id.0),
            election_tick: config.election_tick,
            heartbeat_tick: config.heartbeat_tick,
            max_size_per_message: narrow(config.max_size_per_message),
            max_inflight_bytes: narrow(config.max_inflight_bytes),
            max_uncommitted_bytes: narrow(config.max_uncommitted_bytes),
            max_committed_bytes_per_ready: narrow(config.max_committed_bytes_per_ready),
            max_inflight_messages: narrow(config.max_inflight_messages as u64),
            pre_vote: config.pre_vote,
            check_quorum: config.check_quorum,
            lazy_commit: config.lazy_commit,
        }
    }

    #[inline]
    pub(crate) fn max_size_per_message(&self) -> u64 {
        u64::from(self.max_size_per_message)
    }

    #[inline]
    pub(crate) fn max_inflight_messages(&self) -> usize {
        self.max_inflight_messages as usize
    }

    #[inline]
    pub(crate) fn max_inflight_bytes(&self) -> u64 {
        u64::from(self.max_inflight_bytes)
    }

    #[inline]
    pub(crate) fn max_uncommitted_bytes(&self) -> u64 {
        u64::from(self.max_uncommitted_bytes)
    }

    #[inline]
    pub(crate) fn max_committed_bytes_per_ready(&self) -> u64 {
        u64::from(self.max_committed_bytes_per_ready)
    }
}

/// A number that depends on both. A step of SplitMix64 (see `env::SplitMix`), so that close inputs give unrelated ones.
pub(crate) fn mix(state: u64, input: u64) -> u64 {
    let mut z = (state ^ input).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_refused_for_the_reason_that_it_names() {
        let good = Config { id: PeerId(1), ..Config::default() };
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(Config::default().validate(), Err(ConfigError::NoId));
        assert_eq!(Config { heartbeat_tick: 0, ..good.clone() }.validate(), Err(ConfigError::NoHeartbeat));
        assert_eq!(
            Config { election_tick: 9, ..good.clone() }.validate(),
            Err(ConfigError::ElectionTooShort { election_tick: 9, at_least: 10 })
        );
        assert_eq!(
            Config { max_inflight_bytes: 0, ..good }.validate(),
            Err(ConfigError::ZeroLimit("max_inflight_bytes"))
        );
    }
}
