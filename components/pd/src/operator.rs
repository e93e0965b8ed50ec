//! One planned change of one region, step by step.
//!
//! Progress is read off the heartbeats of the region's leader and nothing else. At each step an operator knows exactly
//! which peers it expects before and after; any other membership means that somebody else changed the region, and the
//! operator ends. So a lost, repeated or late instruction does no harm: the leader refuses it by its epoch, and it is
//! given again with the next heartbeat.

use crate::{Config, RegionInfo, StoreView};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{MonoTime, Peer, PeerId, PeerRole, RegionId, StoreId};
use wire::pd::{OperatorStatus, Order, Step, StoreState};

/// What an operator is for. Limits are per kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OperatorKind {
    /// Takes a peer off a store that is to give everything away.
    DrainStore,
    /// Brings the number of healthy voters to what is configured.
    ReplicaRepair,
    /// Removes a peer that is too much.
    ExtraPeer,
    /// Moves a peer to a store with fewer regions.
    BalanceRegion,
    /// Moves leadership to a store with fewer leaders.
    BalanceLeader,
    /// Moves leadership away from a store that cannot lead well.
    EvictLeader,
    /// Adds a voter that people have asked for.
    AddPeer,
    /// Removes a peer that people do not want.
    RemovePeer,
    /// Moves a peer for people.
    TransferPeer,
}

impl OperatorKind {
    /// For people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DrainStore => "drain-store",
            Self::ReplicaRepair => "replica-repair",
            Self::ExtraPeer => "extra-peer",
            Self::BalanceRegion => "balance-region",
            Self::BalanceLeader => "balance-leader",
            Self::EvictLeader => "evict-leader",
            Self::AddPeer => "add-peer",
            Self::RemovePeer => "remove-peer",
            Self::TransferPeer => "transfer-peer",
        }
    }

    /// How many of this kind, or of those that share its limit, may run at once.
    pub(crate) const fn limit(self, config: &Config) -> usize {
        match self {
            Self::DrainStore | Self::ReplicaRepair | Self::ExtraPeer => config.repair_limit,
            Self::BalanceRegion => config.region_balance_limit,
            Self::BalanceLeader | Self::EvictLeader => config.leader_balance_limit,
            Self::AddPeer | Self::RemovePeer | Self::TransferPeer => config.order_limit,
        }
    }

    /// The kind under which those that share a limit are counted.
    pub(crate) const fn class(self) -> Self {
        match self {
            Self::DrainStore | Self::ReplicaRepair | Self::ExtraPeer => Self::ReplicaRepair,
            Self::BalanceRegion => Self::BalanceRegion,
            Self::BalanceLeader | Self::EvictLeader => Self::BalanceLeader,
            Self::AddPeer | Self::RemovePeer | Self::TransferPeer => Self::AddPeer,
        }
    }
}

/// What an operator comes to on a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Tell the leader this.
    Send(Step),
    /// Nothing to say: the step is under way, or must not be taken yet.
    Wait,
    /// All steps are done.
    Finished,
    /// It cannot go on.
    Cancelled(String),
}

/// One planned change of one region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// The region.
    pub region_id: RegionId,
    /// What it is for.
    pub kind: OperatorKind,
    /// The steps in order. A new peer has the id zero until [`Operator::assign_peer_id`] gave it one.
    pub steps: Vec<Step>,
    /// How many steps are done.
    pub done: usize,
    /// Why it was made: inputs, scores, alternatives.
    pub why: String,
    /// When it was made.
    pub created: MonoTime,
    /// What people have asked for, if they did.
    pub order: Option<Order>,
    /// The version of the region's range; a split or merge ends the operator.
    version: u64,
    /// The peers as they are before the current step, sorted by id.
    expected: Vec<Peer>,
    step_since: MonoTime,
    size_bytes: u64,
}

impl Operator {
    /// An operator on a region as it is.
    #[must_use]
    pub fn new(kind: OperatorKind, info: &RegionInfo, steps: Vec<Step>, why: String, now: MonoTime) -> Self {
        assert!(!steps.is_empty(), "an operator without steps on region {}", info.region.id);
        Self {
            region_id: info.region.id,
            kind,
            steps,
            done: 0,
            why,
            created: now,
            order: None,
            version: info.region.epoch.version,
            expected: sorted(&info.region.peers),
            step_since: now,
            size_bytes: info.size_bytes,
        }
    }

    /// True while its new peer has no id.
    #[must_use]
    pub fn needs_peer_id(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::AddLearner { peer } if peer.id.is_zero()))
    }

    /// Gives its new peer an id that no peer ever had.
    pub fn assign_peer_id(&mut self, id: PeerId) {
        let fill = |slot: &mut PeerId| {
            if slot.is_zero() {
                *slot = id;
            }
        };
        for step in &mut self.steps {
            match step {
                Step::TransferLeader { to } => fill(&mut to.id),
                Step::AddLearner { peer } => fill(&mut peer.id),
                Step::ChangeRoles { promote, demote } => promote.iter_mut().chain(demote).for_each(fill),
                Step::RemoveLearner { peer_id } => fill(peer_id),
            }
        }
    }

    /// The steps not done yet.
    #[must_use]
    pub fn remaining(&self) -> &[Step] {
        &self.steps[self.done..]
    }

    /// The store of a peer that this operator changes.
    #[must_use]
    pub fn store_of(&self, id: PeerId) -> Option<StoreId> {
        self.expected.iter().find(|peer| peer.id == id).map(|peer| peer.store_id)
    }

    /// Looks at what the leader said and decides what to tell it.
    pub fn observe(
        &mut self,
        info: &RegionInfo,
        stores: &BTreeMap<StoreId, StoreView>,
        now: MonoTime,
    ) -> Progress {
        if info.region.epoch.version != self.version {
            return Progress::Cancelled("the region was split or merged".to_owned());
        }
        let actual = sorted(&info.region.peers);
        while let Some(step) = self.steps.get(self.done) {
            let after = after_step(&self.expected, step);
            if actual == after && is_settled(step, info) {
                self.expected = after;
                self.done += 1;
                self.step_since = now;
                continue;
            }
            if actual == after && after != self.expected {
                let added = match step {
                    Step::AddLearner { peer } => vec![peer.id],
                    _ => Vec::new(),
                };
                return wait_for(&added, info, stores);
            }
            if is_between(&self.expected, &after, &actual) {
                return Progress::Wait;
            }
            if actual != self.expected {
                return Progress::Cancelled("somebody else changed the members".to_owned());
            }
            return next_instruction(step, info, stores);
        }
        Progress::Finished
    }

    /// True if the current step takes too long.
    #[must_use]
    pub fn is_overdue(&self, now: MonoTime, config: &Config) -> bool {
        let limit = match self.steps.get(self.done) {
            Some(Step::AddLearner { .. }) => {
                let mib = u32::try_from(self.size_bytes >> 20).unwrap_or(u32::MAX);
                config.slow_step_timeout.saturating_add(config.slow_step_timeout_per_mib.saturating_mul(mib))
            }
            _ => config.fast_step_timeout,
        };
        now.since(self.step_since) > limit
    }

    /// How it is shown to people.
    #[must_use]
    pub fn status(&self, state: &str, age: Duration) -> OperatorStatus {
        OperatorStatus {
            region_id: self.region_id,
            kind: self.kind.name().to_owned(),
            steps: self.steps.iter().map(describe).collect(),
            steps_done: self.done as u32,
            why: self.why.clone(),
            state: state.to_owned(),
            age_ms: age.as_millis() as u64,
        }
    }
}

/// A step waits for copies to come. They are not waited for on a store that is given up: only once the operator is out of
/// the way can the region be repaired.
fn wait_for(copies: &[PeerId], info: &RegionInfo, stores: &BTreeMap<StoreId, StoreView>) -> Progress {
    let is_given_up = |id: &PeerId| {
        let store = info.region.peer(*id).map(|peer| stores.get(&peer.store_id));
        info.is_behind(*id)
            && store.is_some_and(|store| store.is_none_or(|store| store.state == StoreState::Down))
    };
    match copies.iter().find(|id| is_given_up(id)) {
        Some(id) => Progress::Cancelled(format!("the store of peer {id} is down")),
        None => Progress::Wait,
    }
}

/// What to tell the leader about a step that has not begun.
fn next_instruction(step: &Step, info: &RegionInfo, stores: &BTreeMap<StoreId, StoreView>) -> Progress {
    let is_up = |id: StoreId| stores.get(&id).is_some_and(StoreView::is_up);
    match step {
        Step::AddLearner { peer } => {
            if info.region.peer(peer.id).is_some() {
                // It is there already and catching up.
                return wait_for(&[peer.id], info, stores);
            }
            if !is_up(peer.store_id) {
                return Progress::Cancelled(format!("store {} is not up any more", peer.store_id));
            }
            Progress::Send(step.clone())
        }
        Step::TransferLeader { to } => {
            if info.is_behind(to.id) || !is_up(to.store_id) {
                return Progress::Cancelled(format!("peer {} cannot lead now", to.id));
            }
            Progress::Send(step.clone())
        }
        Step::ChangeRoles { promote, demote } => {
            if promote.iter().any(|id| info.is_behind(*id)) {
                return wait_for(promote, info, stores);
            }
            if demote.contains(&info.leader.id) {
                return hand_over(demote, info, stores);
            }
            if !keeps_quorum(info, promote, demote, stores) {
                return Progress::Wait;
            }
            Progress::Send(step.clone())
        }
        Step::RemoveLearner { .. } => Progress::Send(step.clone()),
    }
}

/// Leadership sits on a peer that is about to be demoted: it moves first, whoever made it sit there.
fn hand_over(demote: &[PeerId], info: &RegionInfo, stores: &BTreeMap<StoreId, StoreView>) -> Progress {
    let store = |peer: &Peer| stores.get(&peer.store_id);
    let able = info.region.peers.iter().filter(|peer| {
        peer.role == PeerRole::Voter
            && !demote.contains(&peer.id)
            && !info.is_behind(peer.id)
            && store(peer).is_some_and(StoreView::could_lead)
    });
    // One on a store that gives its leaderships away is better than a change that gets stuck.
    let target = able.max_by_key(|peer| store(peer).is_some_and(StoreView::takes_leaders));
    target.map_or(Progress::Wait, |peer| Progress::Send(Step::TransferLeader { to: *peer }))
}

/// True if a quorum of voters answers both now and after the change, so that the region neither stops in the middle nor
/// at the end.
#[must_use]
pub fn keeps_quorum(
    info: &RegionInfo,
    promote: &[PeerId],
    demote: &[PeerId],
    stores: &BTreeMap<StoreId, StoreView>,
) -> bool {
    let answers = |peer: &&Peer| {
        !info.down_peers.contains(&peer.id) && stores.get(&peer.store_id).is_some_and(StoreView::is_up)
    };
    let has_quorum = |voters: &[&Peer]| voters.iter().filter(|peer| answers(peer)).count() * 2 > voters.len();
    let peers = || info.region.peers.iter();
    let before: Vec<&Peer> = peers().filter(|peer| peer.role == PeerRole::Voter).collect();
    let after: Vec<&Peer> = peers()
        .filter(|peer| {
            promote.contains(&peer.id) || (peer.role == PeerRole::Voter && !demote.contains(&peer.id))
        })
        .collect();
    has_quorum(&before) && has_quorum(&after)
}

/// A step in words.
#[must_use]
pub fn describe(step: &Step) -> String {
    let ids = |ids: &[PeerId]| ids.iter().map(|id| format!("peer {id}")).collect::<Vec<_>>().join(", ");
    match step {
        Step::TransferLeader { to } => format!("transfer leader to peer {} on store {}", to.id, to.store_id),
        Step::AddLearner { peer } => format!("add learner peer {} on store {}", peer.id, peer.store_id),
        Step::ChangeRoles { promote, demote } => match (promote.is_empty(), demote.is_empty()) {
            (false, true) => format!("promote {}", ids(promote)),
            (true, _) => format!("demote {}", ids(demote)),
            (false, false) => format!("promote {} and demote {} at once", ids(promote), ids(demote)),
        },
        Step::RemoveLearner { peer_id } => format!("remove learner peer {peer_id}"),
    }
}

fn sorted(peers: &[Peer]) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    peers.sort_unstable();
    peers
}

/// The peers once a step is done.
fn after_step(before: &[Peer], step: &Step) -> Vec<Peer> {
    let mut after = before.to_vec();
    match step {
        Step::TransferLeader { .. } => {}
        Step::AddLearner { peer } => {
            if !after.iter().any(|known| known.id == peer.id) {
                after.push(*peer);
                after.sort_unstable();
            }
        }
        Step::ChangeRoles { promote, demote } => {
            for peer in &mut after {
                if promote.contains(&peer.id) {
                    peer.role = PeerRole::Voter;
                } else if demote.contains(&peer.id) {
                    peer.role = PeerRole::Learner;
                }
            }
        }
        Step::RemoveLearner { peer_id } => after.retain(|peer| peer.id != *peer_id),
    }
    after
}

/// Given that the members are as after the step: has it had its effect?
fn is_settled(step: &Step, info: &RegionInfo) -> bool {
    match step {
        Step::TransferLeader { to } => info.leader.id == to.id,
        // A learner counts once it has the data.
        Step::AddLearner { peer } => !info.is_behind(peer.id),
        Step::ChangeRoles { .. } | Step::RemoveLearner { .. } => true,
    }
}

/// True if `actual` is the joint configuration on the way from `before` to `after`.
fn is_between(before: &[Peer], after: &[Peer], actual: &[Peer]) -> bool {
    before.len() == actual.len()
        && after.len() == actual.len()
        && before.iter().zip(after).zip(actual).all(|((before, after), actual)| {
            let same_peer =
                before.id == actual.id && before.store_id == actual.store_id && after.id == actual.id;
            let joint = match (before.role, after.role) {
                (PeerRole::Learner, PeerRole::Voter) => Some(PeerRole::IncomingVoter),
                (PeerRole::Voter, PeerRole::Learner) => Some(PeerRole::DemotingVoter),
                _ => None,
            };
            same_peer && (Some(actual.role) == joint || (joint.is_none() && actual.role == before.role))
        })
        && before != after
}
