//! Replicas: as many healthy voters as configured, and nothing besides.

use super::{Planner, demote, learners, promote, replace, voters};
use crate::RegionInfo;
use crate::operator::{OperatorKind, keeps_quorum};
use types::{Peer, PeerId};
use wire::pd::Step;

impl Planner<'_> {
    /// Checks the suspects, those with the fewest healthy voters first.
    pub(super) fn repair(&mut self) {
        let mut queue: Vec<(usize, &RegionInfo)> = Vec::new();
        for id in self.view.suspects {
            let Some(info) = self.view.directory.get(*id) else { continue };
            // A region in a joint configuration leaves it by itself, and one whose leader does not answer cannot be
            // told anything.
            let can_change = !info.region.is_joint() && self.is_up(info.leader.store_id) && self.is_free(*id);
            if can_change && !self.is_complete(info) {
                queue.push((voters(info).filter(|peer| self.is_well(peer, info)).count(), info));
            }
        }
        queue.sort_by_key(|(well, info)| (*well, info.region.id));
        for (_, info) in queue {
            if !self.has_room(OperatorKind::ReplicaRepair) {
                return;
            }
            if self.is_free(info.region.id) {
                self.repair_region(info);
            }
        }
    }

    /// True if there is nothing to repair.
    fn is_complete(&self, info: &RegionInfo) -> bool {
        voters(info).count() == self.view.config.replicas
            && learners(info).next().is_none()
            && !voters(info).any(|peer| self.is_down(peer, info) || self.is_leaving(peer))
    }

    fn repair_region(&mut self, info: &RegionInfo) {
        let wanted = self.view.config.replicas;
        let has = voters(info).count();
        // The leader speaks, so it is not down, whatever its own list says.
        let down = voters(info).find(|peer| peer.id != info.leader.id && self.is_down(peer, info)).copied();
        // The leader goes last: whoever takes its place may come before.
        let leaving = voters(info).filter(|peer| self.is_leaving(peer));
        let leaving = leaving.min_by_key(|peer| peer.id == info.leader.id).copied();
        if let Some(learner) = learners(info).next().copied() {
            self.settle_learner(info, learner, has, down.or(leaving));
        } else if has < wanted {
            self.add_missing(info, has);
        } else if let Some(down) = down {
            match has > wanted {
                true => self.remove_voter(info, down, "is down and more than are wanted"),
                false => self.replace_down(info, down),
            }
        } else if has > wanted {
            self.remove_worst(info, has);
        } else if let Some(leaving) = leaving {
            self.drain(info, leaving);
        }
    }

    /// All is well, but for a store that drains.
    fn drain(&mut self, info: &RegionInfo, leaving: Peer) {
        let from = leaving.store_id;
        if !keeps_quorum(info, &[], &[], self.view.stores) || !self.may_remove_from(leaving) {
            return;
        }
        let Some((target, score)) = self.best_target(info) else { return };
        if let Some(steps) = self.move_steps(info, from, target) {
            let why = format!("store {from} is draining; {score}");
            self.draft(OperatorKind::DrainStore, info, steps, why);
        }
    }

    /// A learner that no operator accounts for: an interrupted one left it behind. On a store that is silent but not
    /// given up, it is waited for like a voter.
    fn settle_learner(&mut self, info: &RegionInfo, learner: Peer, has: usize, down: Option<Peer>) {
        let is_down = self.is_down(&learner, info);
        if !is_down && !self.is_up(learner.store_id) {
            return;
        }
        let usable = !is_down && !self.is_leaving(&learner);
        let wanted = self.view.config.replicas;
        // Adding it again is how an operator waits until it has the data.
        let wait = Step::AddLearner { peer: learner };
        if usable && has < wanted {
            let why = format!(
                "{has} of {wanted} voters; learner {} on store {} is there already",
                learner.id, learner.store_id
            );
            self.draft(OperatorKind::ReplicaRepair, info, vec![wait, promote(learner.id)], why);
        } else if let Some(down) = down.filter(|_| usable && has == wanted) {
            let reason = if self.is_down(&down, info) { "is down" } else { "is to leave its store" };
            let why = format!(
                "voter {} on store {} {reason}; learner {} on store {} is there already",
                down.id, down.store_id, learner.id, learner.store_id
            );
            let remove = Step::RemoveLearner { peer_id: down.id };
            let steps = match down.id == info.leader.id && has == 1 {
                false => vec![wait, replace(learner.id, down.id), remove],
                // There is nobody to hand leadership to until the learner votes.
                true => {
                    let hand_over = Step::TransferLeader { to: Peer::voter(learner.id, learner.store_id) };
                    vec![wait, promote(learner.id), hand_over, demote(down.id), remove]
                }
            };
            self.draft(OperatorKind::ReplicaRepair, info, steps, why);
        } else if self.may_remove_from(learner) {
            let reason = match (is_down, usable) {
                (true, _) => "does not answer",
                (false, false) => "is on a store that drains",
                (false, true) => "is not needed",
            };
            let why = format!(
                "{has} of {wanted} voters; learner {} on store {} {reason}",
                learner.id, learner.store_id
            );
            self.draft(OperatorKind::ExtraPeer, info, vec![Step::RemoveLearner { peer_id: learner.id }], why);
        }
    }

    fn add_missing(&mut self, info: &RegionInfo, has: usize) {
        let Some((target, score)) = self.best_target(info) else { return };
        let why = format!("{has} of {} voters; {score}", self.view.config.replicas);
        let steps =
            vec![Step::AddLearner { peer: Peer::learner(PeerId::ZERO, target) }, promote(PeerId::ZERO)];
        self.draft(OperatorKind::ReplicaRepair, info, steps, why);
    }

    fn replace_down(&mut self, info: &RegionInfo, down: Peer) {
        let Some((target, score)) = self.best_target(info) else { return };
        let why = format!("voter {} on store {} is down; {score}", down.id, down.store_id);
        let steps = vec![
            Step::AddLearner { peer: Peer::learner(PeerId::ZERO, target) },
            replace(PeerId::ZERO, down.id),
            Step::RemoveLearner { peer_id: down.id },
        ];
        self.draft(OperatorKind::ReplicaRepair, info, steps, why);
    }

    /// One voter too many: on a store that does not answer, else behind, else on the store with most regions; never the
    /// leader.
    fn remove_worst(&mut self, info: &RegionInfo, has: usize) {
        let worst = voters(info)
            .filter(|peer| peer.id != info.leader.id)
            .max_by_key(|peer| {
                (
                    !self.is_up(peer.store_id),
                    info.is_behind(peer.id),
                    self.is_leaving(peer),
                    self.load(peer.store_id).regions,
                    peer.store_id,
                )
            })
            .copied();
        if let Some(worst) = worst {
            let wanted = self.view.config.replicas;
            let regions = self.load(worst.store_id).regions;
            self.remove_voter(
                info,
                worst,
                &format!("is one of {has} for {wanted}, its store has {regions} regions"),
            );
        }
    }

    fn remove_voter(&mut self, info: &RegionInfo, voter: Peer, reason: &str) {
        if !self.may_remove_from(voter) || !keeps_quorum(info, &[], &[voter.id], self.view.stores) {
            return;
        }
        let why = format!("voter {} on store {} {reason}", voter.id, voter.store_id);
        let steps = vec![demote(voter.id), Step::RemoveLearner { peer_id: voter.id }];
        self.draft(OperatorKind::ExtraPeer, info, steps, why);
    }

    /// A store that does not answer has no work with the removal of its peers.
    fn may_remove_from(&self, peer: Peer) -> bool {
        !self.is_up(peer.store_id) || self.load(peer.store_id).removing < self.view.config.store_limit
    }
}
