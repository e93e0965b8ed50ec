//! What groups did, counted: for those who watch a store.

use crate::{RawNode, Storage};

/// What groups did since this was made, each by itself. All counts only grow.
///
/// A store keeps one for all its groups, in a box that goes from hand to hand: [`RawNode::count_into`] lends it to a group
/// for a turn, [`RawNode::take_counters`] takes it back, and so it holds the sum over all groups without any of them keeping
/// one. A store that drives groups on several threads keeps one on each, and [adds](Counters::add) them up when it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Hash))]
pub struct Counters {
    /// Campaigns that only asked whether one could succeed. Many of them, and few that were won: peers do not reach each
    /// other.
    pub pre_campaigns: u64,
    /// Campaigns for which the term was raised.
    pub campaigns: u64,
    /// Campaigns that were won.
    pub elections_won: u64,
    /// Leaders that stepped down: for a later term, without a quorum, or because they handed over or were removed.
    pub leaders_stepped_down: u64,
    /// Votes and pre-votes that were granted to others.
    pub votes_granted: u64,
    /// Votes and pre-votes that were refused to others. Silence towards a candidate is none.
    pub votes_refused: u64,
    /// Proposals that were appended, changes of members among them.
    pub proposals: u64,
    /// Proposals that were not; see [`Dropped`](crate::Dropped).
    pub proposals_dropped: u64,
    /// Appends that were sent, also those without entries.
    pub appends_sent: u64,
    /// Entries in them.
    pub entries_sent: u64,
    /// Refusals of appends that came in: logs that differed, or that had fallen behind.
    pub appends_refused: u64,
    /// Heartbeats that were sent.
    pub heartbeats_sent: u64,
    /// Times that a peer needed a snapshot and storage was asked for one.
    pub snapshots_asked: u64,
    /// Snapshots that were sent. Fewer than were asked for: storage takes its time.
    pub snapshots_sent: u64,
    /// Reads that a leader took on, its own and those of followers.
    pub reads: u64,
    /// Heartbeat rounds that were sent with reads waiting for them. Many reads for each: they are batched.
    pub read_rounds: u64,
    /// Messages that break a rule of the protocol ([`StepError::Invalid`](crate::StepError::Invalid)). Should stay zero.
    pub messages_invalid: u64,
}

impl Counters {
    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            pre_campaigns,
            campaigns,
            elections_won,
            leaders_stepped_down,
            votes_granted,
            votes_refused,
            proposals,
            proposals_dropped,
            appends_sent,
            entries_sent,
            appends_refused,
            heartbeats_sent,
            snapshots_asked,
            snapshots_sent,
            reads,
            read_rounds,
            messages_invalid,
        } = other;
        self.pre_campaigns += pre_campaigns;
        self.campaigns += campaigns;
        self.elections_won += elections_won;
        self.leaders_stepped_down += leaders_stepped_down;
        self.votes_granted += votes_granted;
        self.votes_refused += votes_refused;
        self.proposals += proposals;
        self.proposals_dropped += proposals_dropped;
        self.appends_sent += appends_sent;
        self.entries_sent += entries_sent;
        self.appends_refused += appends_refused;
        self.heartbeats_sent += heartbeats_sent;
        self.snapshots_asked += snapshots_asked;
        self.snapshots_sent += snapshots_sent;
        self.reads += reads;
        self.read_rounds += read_rounds;
        self.messages_invalid += messages_invalid;
    }
}

impl<S: Storage> RawNode<S> {
    /// From now on, what this group does is added to `counters`. Without any, nothing is counted; whichever it had before
    /// is dropped. Lend it before the first input of a turn.
    pub fn count_into(&mut self, counters: Box<Counters>) {
        self.counters = Some(counters);
    }

    /// The counters that were lent, with what was done since. Nothing is counted from then on.
    pub fn take_counters(&mut self) -> Option<Box<Counters>> {
        self.counters.take()
    }

    pub(crate) fn count_proposal(&mut self, appended: bool) {
        self.count(|counters| {
            *if appended { &mut counters.proposals } else { &mut counters.proposals_dropped } += 1;
        });
    }

    pub(crate) fn count(&mut self, what: impl FnOnce(&mut Counters)) {
        if let Some(counters) = &mut self.counters {
            what(counters);
        }
    }
}
