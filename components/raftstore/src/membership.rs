//! A region's peers and Raft's configuration: two views of one thing.

use crate::command::ChangeContext;
use codec::Decode;
use raft::{ConfChange, ConfChangeKind, ConfState};
use types::{PeerId, PeerRole, Region};

/// Raft's configuration as the region's peers imply it. Joint configurations always end by themselves.
#[must_use]
pub fn conf_state(region: &Region) -> ConfState {
    let with = |roles: &[PeerRole]| {
        let mut ids: Vec<PeerId> =
            region.peers.iter().filter(|peer| roles.contains(&peer.role)).map(|peer| peer.id).collect();
        ids.sort_unstable();
        ids
    };
    let joint = region.is_joint();
    ConfState {
        voters: with(&[PeerRole::Voter, PeerRole::IncomingVoter]),
        learners: with(&[PeerRole::Learner]),
        voters_outgoing: if joint { with(&[PeerRole::Voter, PeerRole::DemotingVoter]) } else { Vec::new() },
        learners_next: with(&[PeerRole::DemotingVoter]),
        auto_leave: joint,
    }
}

/// Whether two configurations name the same members in the same roles.
pub(crate) fn same_members(a: &raft::ConfState, b: &raft::ConfState) -> bool {
    a.voters == b.voters
        && a.learners == b.learners
        && a.voters_outgoing == b.voters_outgoing
        && a.learners_next == b.learners_next
}

/// Why a membership change does not apply to a region. The same on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// The region's members have changed since it was proposed.
    EpochNotMatch,
    /// It cannot be decoded, names unknown peers, or breaks a rule of membership.
    Invalid(&'static str),
}

/// The region after a membership change.
///
/// Without operations, a change ends a joint configuration. Otherwise learners are added, promoted and removed, and
/// voters are demoted; `joint` tells whether Raft goes through a joint configuration to do it.
///
/// # Errors
/// [`ChangeError`]: the entry then changes nothing, on any replica.
pub fn apply_change(region: &Region, change: &ConfChange) -> Result<Region, ChangeError> {
    let mut next = region.clone();
    if change.ops.is_empty() {
        return leave_joint(next);
    }
    if region.is_joint() {
        return Err(ChangeError::Invalid("the region is still between two configurations"));
    }
    let context =
        ChangeContext::from_bytes(&change.context).map_err(|_| ChangeError::Invalid("change context"))?;
    if context.epoch.conf_ver != region.epoch.conf_ver {
        return Err(ChangeError::EpochNotMatch);
    }
    let joint = is_joint_change(region, change);
    for op in &change.ops {
        let position = next.peers.iter().position(|peer| peer.id == op.id);
        match (op.kind, position) {
            (ConfChangeKind::AddLearner, None) => {
                let peer = context.peers.iter().find(|peer| peer.id == op.id);
                let peer = *peer.ok_or(ChangeError::Invalid("the new peer has no store"))?;
                if next.peer_on(peer.store_id).is_some() {
                    return Err(ChangeError::Invalid("the store already has a peer of the region"));
                }
                next.peers.push(types::Peer { role: PeerRole::Learner, ..peer });
            }
            (ConfChangeKind::AddLearner, Some(at)) if next.peers[at].role == PeerRole::Voter => {
                next.peers[at].role = if joint { PeerRole::DemotingVoter } else { PeerRole::Learner };
            }
            (ConfChangeKind::AddVoter, Some(at)) if next.peers[at].role == PeerRole::Learner => {
                next.peers[at].role = if joint { PeerRole::IncomingVoter } else { PeerRole::Voter };
            }
            (ConfChangeKind::Remove, Some(at)) if next.peers[at].role == PeerRole::Learner => {
                next.peers.remove(at);
            }
            (ConfChangeKind::AddVoter, None) => {
                return Err(ChangeError::Invalid("a voter must be a learner first"));
            }
            (ConfChangeKind::Remove, Some(_)) => {
                return Err(ChangeError::Invalid("a voter must be demoted before it is removed"));
            }
            (ConfChangeKind::Remove, None) => return Err(ChangeError::Invalid("the peer is no member")),
            (ConfChangeKind::AddLearner | ConfChangeKind::AddVoter, Some(_)) => {
                return Err(ChangeError::Invalid("the peer has that role already"));
            }
        }
    }
    if !next.peers.iter().any(|peer| matches!(peer.role, PeerRole::Voter | PeerRole::IncomingVoter)) {
        return Err(ChangeError::Invalid("no voter would be left"));
    }
    next.epoch.conf_ver += change.ops.len() as u64;
    Ok(next)
}

/// Whether Raft goes through a joint configuration for this change: when more than one voter comes or goes.
#[must_use]
pub(crate) fn is_joint_change(region: &Region, change: &ConfChange) -> bool {
    let changes_voters = |op: &&raft::ConfChangeOp| {
        op.kind == ConfChangeKind::AddVoter
            || region.peer(op.id).is_some_and(|peer| peer.role == PeerRole::Voter)
    };
    change.transition != raft::Transition::Auto || change.ops.iter().filter(changes_voters).count() > 1
}

fn leave_joint(mut region: Region) -> Result<Region, ChangeError> {
    if !region.is_joint() {
        return Err(ChangeError::Invalid("the region is not between two configurations"));
    }
    for peer in &mut region.peers {
        let role = match peer.role {
            PeerRole::IncomingVoter => PeerRole::Voter,
            PeerRole::DemotingVoter => PeerRole::Learner,
            PeerRole::Voter | PeerRole::Learner => continue,
        };
        peer.role = role;
        region.epoch.conf_ver += 1;
    }
    Ok(region)
}
