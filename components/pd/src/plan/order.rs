//! What people ask for: planned and checked like everything else, or refused with the reason.

use super::{Planner, demote, promote, voters};
use crate::operator::{Operator, OperatorKind, keeps_quorum};
use crate::{ClusterView, RegionInfo};
use types::{MonoTime, Peer, PeerId, PeerRole, RegionId, StoreId};
use wire::pd::{Order, Step};

/// The operator that does what is asked for. A new peer in it has no id yet (see [`Operator::assign_peer_id`]).
///
/// # Errors
/// Why it is not done, for whoever asked.
pub(crate) fn order(
    view: &ClusterView<'_>,
    region_id: RegionId,
    order: Order,
    now: MonoTime,
) -> Result<Operator, String> {
    let planner = Planner::new(view, now);
    let Some(info) = view.directory.get(region_id) else {
        return Err(format!("no region {region_id} is known"));
    };
    if let Some(running) = view.operators.get(region_id) {
        let kind = running.kind.name();
        return Err(format!(
            "region {region_id} has an operator already ({kind}): wait for it, or cancel it"
        ));
    }
    if info.region.is_joint() {
        return Err(format!("region {region_id} is changing its members: wait until it has"));
    }
    if !planner.is_up(info.leader.store_id) {
        let store = info.leader.store_id;
        return Err(format!("store {store}, which leads region {region_id}, does not answer"));
    }
    let (kind, steps) = match order {
        Order::AddPeer { to_store } => (OperatorKind::AddPeer, planner.add_peer(info, to_store)?),
        Order::RemovePeer { from_store } => {
            (OperatorKind::RemovePeer, planner.remove_peer(info, from_store)?)
        }
        Order::TransferPeer { from_store, to_store } => {
            (OperatorKind::TransferPeer, planner.transfer_peer(info, from_store, to_store)?)
        }
    };
    if !planner.has_room(kind) {
        return Err(format!("{} operators run already that were asked for", view.config.order_limit));
    }
    let why = format!("asked for; region {region_id} has {} voters", voters(info).count());
    let mut operator = Operator::new(kind, info, steps, why, now);
    operator.order = Some(order);
    Ok(operator)
}

impl Planner<'_> {
    fn add_peer(&self, info: &RegionInfo, to: StoreId) -> Result<Vec<Step>, String> {
        self.check_target(info, to)?;
        let add = Step::AddLearner { peer: Peer::learner(PeerId::ZERO, to) };
        Ok(vec![add, promote(PeerId::ZERO)])
    }

    fn remove_peer(&self, info: &RegionInfo, from: StoreId) -> Result<Vec<Step>, String> {
        let peer = peer_on(info, from)?;
        let remove = Step::RemoveLearner { peer_id: peer.id };
        if peer.role == PeerRole::Learner {
            return Ok(vec![remove]);
        }
        let (left, least) = (voters(info).count() - 1, self.view.config.replicas / 2 + 1);
        if left < least {
            return Err(format!(
                "that would leave {left} voters of region {}, and {least} of {} are the least: add a peer first",
                info.region.id, self.view.config.replicas
            ));
        }
        if !keeps_quorum(info, &[], &[peer.id], self.view.stores) {
            return Err(self.no_quorum(info));
        }
        if peer.id != info.leader.id {
            return Ok(vec![demote(peer.id), remove]);
        }
        Ok(vec![self.hand_over(info, from)?, demote(peer.id), remove])
    }

    fn transfer_peer(&self, info: &RegionInfo, from: StoreId, to: StoreId) -> Result<Vec<Step>, String> {
        let peer = peer_on(info, from)?;
        self.check_target(info, to)?;
        if peer.role == PeerRole::Learner {
            // It is no member that counts: the newcomer does not take a vote's place.
            let add = Step::AddLearner { peer: Peer::learner(PeerId::ZERO, to) };
            return Ok(vec![add, promote(PeerId::ZERO), Step::RemoveLearner { peer_id: peer.id }]);
        }
        if !keeps_quorum(info, &[], &[], self.view.stores) {
            return Err(self.no_quorum(info));
        }
        self.move_steps(info, from, to).ok_or_else(|| no_heir(info))
    }

    fn hand_over(&self, info: &RegionInfo, from: StoreId) -> Result<Step, String> {
        self.heir(info, from).map(|to| Step::TransferLeader { to }).ok_or_else(|| no_heir(info))
    }

    fn check_target(&self, info: &RegionInfo, to: StoreId) -> Result<(), String> {
        let Some(store) = self.store(to) else {
            return Err(format!("no store {to} takes part"));
        };
        if info.region.peer_on(to).is_some() {
            return Err(format!("region {} has a peer on store {to} already", info.region.id));
        }
        if let Some(why) = store.refuses_peer(info.size_bytes, self.view.config) {
            return Err(format!("store {to} takes no peer now: it is {why}"));
        }
        let adding = self.load(to).adding;
        if adding >= self.view.config.store_limit {
            return Err(format!("{adding} peers are being added to store {to} already"));
        }
        Ok(())
    }

    fn no_quorum(&self, info: &RegionInfo) -> String {
        let silent =
            voters(info).filter(|peer| !self.is_up(peer.store_id) || info.down_peers.contains(&peer.id));
        let silent: Vec<String> = silent.map(|peer| format!("store {}", peer.store_id)).collect();
        let silent = silent.join(", ");
        format!("region {} would be without a quorum that answers: {silent} does not", info.region.id)
    }
}

fn peer_on(info: &RegionInfo, store: StoreId) -> Result<Peer, String> {
    info.region.peer_on(store).copied().ok_or_else(|| {
        let holders: Vec<String> = info.region.peers.iter().map(|peer| peer.store_id.to_string()).collect();
        format!(
            "region {} has no peer on store {store}; it has peers on stores {}",
            info.region.id,
            holders.join(", ")
        )
    })
}

fn no_heir(info: &RegionInfo) -> String {
    format!("region {} has no other voter that could lead it now", info.region.id)
}
