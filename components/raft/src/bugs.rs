//! Rules that can be broken on purpose, one at a time, to see whether whoever checks a group notices.
//!
//! Each is asked for in one place, where the rule stands: `self.bugs.has(SeededBug::…)`. Without the feature
//! `seeded_bugs` nothing can be planted, [`Bugs`] has no size, and the questions compile to nothing.

use types::Term;

macro_rules! seeded_bugs {
    ($visibility:vis, $($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule of the protocol that is broken on purpose.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        $visibility enum SeededBug { $($(#[$doc])* $name,)* }

        #[cfg(feature = "seeded_bugs")]
        impl SeededBug {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

macro_rules! all_bugs {
    ($visibility:vis) => {
        seeded_bugs! { $visibility,
            // ---- elections ----
            /// A voter grants a second vote in one term: two halves of a partition elect a leader each.
            VoteTwiceInTerm,
            /// A vote is granted to a candidate whose log is behind the voter's.
            VoteForShorterLog,
            /// The answer to a vote leaves before the vote is durable.
            VoteNotDurable,
            /// A peer that heard its leader a moment ago votes for somebody else.
            VoteDuringLease,
            /// A restarted voter does not wait out the leases that it may have promised.
            VoteRightAfterRestart,
            /// A peer campaigns with a committed change of members that it has not applied.
            CampaignOverConfChange,
            /// Half of the voters (rounded down, one at least) make a quorum.
            MajorityIsHalf,
            // ---- replication ----
            /// A follower takes entries without looking at the term of the entry before them.
            AppendWithoutLogMatch,
            /// An append that repeats what the follower has drops what follows it.
            OvertakenAppendTruncates,
            /// A follower takes the leader's commit index for all of its log, proved or not.
            CommitBeyondProven,
            /// Heartbeats carry the commit index to followers that are not known to hold that much.
            HeartbeatCommitsUnmatched,
            /// What a quorum holds is committed, whoever's term it is from (thesis figure 3.7).
            CommitOlderTermByCounting,
            // ---- durability ----
            /// The acknowledgement of an append leaves before the entries are durable.
            AppendAckBeforeSync,
            /// A leader counts entries of its own that are not durable.
            OwnEntryBeforeSync,
            /// A message leaves at a term that could still be forgotten.
            SendBeforeTermDurable,
            /// A write that was overwritten meanwhile is taken for what stands there now.
            OverwrittenWriteCounts,
            /// The log may be compacted beyond what is applied.
            CompactUnapplied,
            // ---- members ----
            /// A second change of members is proposed while the first is unapplied.
            ConfChangeWhileUnapplied,
            /// Entries are committed with the word of members that do not vote (any longer).
            RemovedVoterCounts,
            /// While joint, a quorum of the incoming voters suffices.
            JointNeedsOneHalf,
            /// The members of a snapshot are not taken over.
            SnapshotKeepsOldMembers,
            // ---- transfer ----
            /// The vote for a transfer is granted whatever term its `TimeoutNow` came from, however late.
            TransferVoteOfAnyTerm,
            /// A transfer's campaign that failed is tried again as one, against the lease of the next leader.
            TransferRetryKeepsMark,
            /// The leader goes on leading, and serving by its lease, after `TimeoutNow` was sent.
            LeaseDuringTransfer,
            // ---- reads ----
            /// The lease starts when a round is answered instead of when it was sent.
            LeaseFromAnswer,
            /// The lease is held while a change of members is committed and unapplied.
            LeaseAcrossConfChange,
            /// A new leader answers reads by a commit index of before its term.
            ReadIndexBeforeOwnTermCommit,
            /// A read joins a round that has been sent already.
            ReadJoinsSentRound,
        }
    };
}

#[cfg(feature = "seeded_bugs")]
all_bugs!(pub);
#[cfg(not(feature = "seeded_bugs"))]
all_bugs!(pub(crate));

/// What is broken in one group.
#[derive(Clone, Copy, Default, Hash, Debug)]
pub(crate) struct Bugs {
    #[cfg(feature = "seeded_bugs")]
    planted: u64,
    /// The leader's term of the last campaign for a transfer.
    #[cfg(feature = "seeded_bugs")]
    transfer_term: Term,
}

#[cfg(feature = "seeded_bugs")]
impl Bugs {
    pub(crate) fn plant(&mut self, bug: SeededBug) {
        self.planted |= 1 << bug as u32;
    }

    pub(crate) fn has(self, bug: SeededBug) -> bool {
        self.planted & (1 << bug as u32) != 0
    }

    /// We campaign because the leader of `term` handed over; any other campaign has none.
    pub(crate) fn note_transfer(&mut self, term: Term) {
        self.transfer_term = term;
    }

    /// That term, if there is one.
    pub(crate) fn transfer_term(self) -> Option<Term> {
        Some(self.transfer_term).filter(|term| !term.is_zero())
    }
}

#[cfg(not(feature = "seeded_bugs"))]
#[expect(clippy::unused_self, reason = "the shape of the other build")]
impl Bugs {
    pub(crate) const fn has(self, _: SeededBug) -> bool {
        false
    }

    pub(crate) const fn note_transfer(&mut self, _: Term) {}

    pub(crate) const fn transfer_term(self) -> Option<Term> {
        None
    }
}
