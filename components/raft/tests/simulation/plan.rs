//! How long a run is, what is broken in it, and what happened in it.

use raft::SeededBug;

/// How long a run is, and with how many it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// How many things happen before the group is left in peace.
    pub(crate) events: u64,
    /// Left in peace at the end, the group must come to rest.
    pub(crate) ends_in_peace: bool,
    /// The first peer campaigns at once.
    pub(crate) campaigns_first: bool,
    /// How many voters there are at first: so many at least...
    pub(crate) founders_min: u64,
    /// ...and so many more at most.
    pub(crate) founders_spread: u64,
}

impl Plan {
    /// Long enough for anything to happen.
    pub(crate) const FULL: Self = Self {
        events: 4_000,
        ends_in_peace: true,
        campaigns_first: false,
        founders_min: 1,
        founders_spread: 4,
    };
}

/// What the driver does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    Nothing,
    /// `messages_after` leave at once.
    AnswerBeforeDurable,
    /// `on_persist` is called when a write is merely begun.
    ReportBeforeDurable,
    /// A crash takes the last hard state with it.
    ForgetVote,
    /// The lease is taken to last for ten election timeouts.
    LeaseTooLong,
    /// Restarted peers claim that they have never answered anybody.
    RestartAsNewborn,
    /// One peer does not apply changes of members.
    SkipConfChange,
    /// Not the driver but the groups themselves break a rule.
    Seeded(SeededBug),
}

/// What happened, to see that enough does.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Summary {
    pub(crate) committed: u64,
    pub(crate) elections: u64,
    pub(crate) crashes: u64,
    pub(crate) conf_changes: u64,
    pub(crate) joint: u64,
    pub(crate) snapshots: u64,
    pub(crate) transfers: u64,
    pub(crate) reads: u64,
    pub(crate) reads_refused: u64,
    pub(crate) leases: u64,
    pub(crate) sleeps: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.conf_changes += other.conf_changes;
        self.joint += other.joint;
        self.snapshots += other.snapshots;
        self.transfers += other.transfers;
        self.reads += other.reads;
        self.reads_refused += other.reads_refused;
        self.leases += other.leases;
        self.sleeps += other.sleeps;
    }
}
