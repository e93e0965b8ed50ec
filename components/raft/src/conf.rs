//! Configurations: who votes, who learns, and how that changes.

use bytes::Bytes;
use types::{LogIndex, PeerId, Term};

/// The members of a group. Each list is sorted.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ConfState {
    /// The voters; of the incoming configuration while joint.
    pub voters: Vec<PeerId>,
    /// Who receives the log without voting.
    pub learners: Vec<PeerId>,
    /// The voters of the outgoing configuration; empty unless joint.
    pub voters_outgoing: Vec<PeerId>,
    /// Outgoing voters that become learners when the joint configuration ends.
    pub learners_next: Vec<PeerId>,
    /// Leave the joint configuration as soon as its entry is applied.
    pub auto_leave: bool,
}

/// One step of a [`ConfChange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfChangeKind {
    /// Make a voter; it must be a learner already unless the group has no members yet.
    AddVoter,
    /// Make a learner: of a newcomer, or of a voter (a demotion).
    AddLearner,
    /// Remove a learner. A voter is demoted first.
    Remove,
}

/// One step of a [`ConfChange`] and whom it concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfChangeOp {
    /// What happens.
    pub kind: ConfChangeKind,
    /// To whom.
    pub id: PeerId,
}

/// How to get from one configuration to the next (thesis §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Transition {
    /// In one step when at most one voter changes, else through a joint configuration that ends by itself.
    #[default]
    Auto,
    /// Through a joint configuration that ends by itself.
    JointImplicit,
    /// Through a joint configuration that ends when an empty change is proposed.
    JointExplicit,
}

/// A change of members. Without operations it ends a joint configuration.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConfChange {
    /// The way there.
    pub transition: Transition,
    /// The steps.
    pub ops: Vec<ConfChangeOp>,
    /// The application's, opaque here: what its own description of the group changes to.
    pub context: Bytes,
}

/// What a snapshot stands for.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SnapshotMeta {
    /// The last index that is part of it.
    pub index: LogIndex,
    /// The term of the entry there.
    pub term: Term,
    /// The members at that index.
    pub conf_state: ConfState,
}

/// A snapshot as Raft sees it: where it stands, and a small descriptor. The bulk of the data travels elsewhere.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Snapshot {
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// The application's descriptor of the data.
    pub data: Bytes,
}
