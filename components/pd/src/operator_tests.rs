//! How an operator reads its progress off heartbeats, and when it gives up.

use crate::operator::{Operator, OperatorKind, Progress};
use crate::{Config, RegionInfo, StoreView};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{Epoch, MonoTime, Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use wire::pd::{Step, StoreMode, StoreState, StoreStats};

fn stores() -> BTreeMap<StoreId, StoreView> {
    let view = |id| {
        (id, StoreView { id, state: StoreState::Up, mode: StoreMode::Serving, stats: StoreStats::default() })
    };
    (1..=4).map(|id| view(StoreId(id))).collect()
}

fn region() -> RegionInfo {
    let peers: Vec<Peer> = (1..=3).map(|id| Peer::voter(PeerId(id), StoreId(id))).collect();
    RegionInfo {
        leader: peers[0],
        region: Region {
            id: RegionId(7),
            epoch: Epoch { conf_ver: 1, version: 1 },
            peers,
            ..Region::default()
        },
        ..RegionInfo::default()
    }
}

/// Replaces the peer on store 3 by peer 9 on store 4.
fn replacement(info: &RegionInfo) -> Operator {
    let steps = vec![
        Step::AddLearner { peer: Peer::learner(PeerId::ZERO, StoreId(4)) },
        Step::ChangeRoles { promote: vec![PeerId::ZERO], demote: vec![PeerId(3)] },
        Step::RemoveLearner { peer_id: PeerId(3) },
    ];
    let mut operator = Operator::new(OperatorKind::ReplicaRepair, info, steps, String::new(), MonoTime::ZERO);
    assert!(operator.needs_peer_id());
    operator.assign_peer_id(PeerId(9));
    operator
}

fn observe(operator: &mut Operator, info: &RegionInfo) -> Progress {
    operator.observe(info, &stores(), MonoTime::ZERO)
}

fn set_role(info: &mut RegionInfo, id: u64, role: PeerRole) {
    info.region.peers.iter_mut().find(|peer| peer.id == PeerId(id)).unwrap().role = role;
}

#[test]
fn steps_are_repeated_until_a_heartbeat_shows_them_done() {
    let mut info = region();
    let mut operator = replacement(&info);
    let add = Step::AddLearner { peer: Peer::learner(PeerId(9), StoreId(4)) };
    assert_eq!(observe(&mut operator, &info), Progress::Send(add.clone()));
    assert_eq!(observe(&mut operator, &info), Progress::Send(add));
    // The learner is there, without data yet.
    info.region.peers.push(Peer::learner(PeerId(9), StoreId(4)));
    info.pending_peers = vec![PeerId(9)];
    assert_eq!(observe(&mut operator, &info), Progress::Wait);
    info.pending_peers.clear();
    let change = Step::ChangeRoles { promote: vec![PeerId(9)], demote: vec![PeerId(3)] };
    assert_eq!(observe(&mut operator, &info), Progress::Send(change));
    // Half way through.
    set_role(&mut info, 9, PeerRole::IncomingVoter);
    set_role(&mut info, 3, PeerRole::DemotingVoter);
    assert_eq!(observe(&mut operator, &info), Progress::Wait);
    set_role(&mut info, 9, PeerRole::Voter);
    set_role(&mut info, 3, PeerRole::Learner);
    assert_eq!(observe(&mut operator, &info), Progress::Send(Step::RemoveLearner { peer_id: PeerId(3) }));
    info.region.peers.retain(|peer| peer.id != PeerId(3));
    assert_eq!(observe(&mut operator, &info), Progress::Finished);
}

#[test]
fn a_heartbeat_that_was_lost_in_between_is_not_missed() {
    let mut info = region();
    let mut operator = replacement(&info);
    info.region.peers.push(Peer::learner(PeerId(9), StoreId(4)));
    assert!(matches!(observe(&mut operator, &info), Progress::Send(Step::ChangeRoles { .. })));
    assert_eq!(operator.done, 1);
}

#[test]
fn a_split_or_a_change_by_somebody_else_ends_the_operator() {
    let info = region();
    let mut split = info.clone();
    split.region.epoch.version += 1;
    assert!(matches!(observe(&mut replacement(&info), &split), Progress::Cancelled(_)));
    let mut changed = info.clone();
    changed.region.peers.push(Peer::learner(PeerId(8), StoreId(4)));
    assert!(matches!(observe(&mut replacement(&info), &changed), Progress::Cancelled(_)));
}

#[test]
fn a_leader_that_is_to_be_demoted_hands_over_first() {
    let mut info = region();
    let mut operator = replacement(&info);
    info.region.peers.push(Peer::learner(PeerId(9), StoreId(4)));
    info.leader = info.region.peers[2];
    info.down_peers = vec![PeerId(1)];
    assert_eq!(
        observe(&mut operator, &info),
        Progress::Send(Step::TransferLeader { to: Peer::voter(PeerId(2), StoreId(2)) })
    );
}

#[test]
fn a_leader_hands_over_to_a_store_that_should_not_lead_if_no_other_can() {
    // A peer was moved off a store that led by then, and the other voter was on a store that drained: the operator waited until
    // its time was over (found by the simulator).
    let (mut info, mut stores) = (region(), stores());
    let mut operator = replacement(&info);
    info.region.peers.push(Peer::learner(PeerId(9), StoreId(4)));
    info.leader = info.region.peers[2];
    let told = |operator: &mut Operator, stores: &BTreeMap<StoreId, StoreView>| {
        operator.observe(&info, stores, MonoTime::ZERO)
    };
    stores.get_mut(&StoreId(1)).unwrap().mode = StoreMode::Draining;
    let to = |id| Progress::Send(Step::TransferLeader { to: Peer::voter(PeerId(id), StoreId(id)) });
    assert_eq!(told(&mut operator, &stores), to(2));
    stores.get_mut(&StoreId(2)).unwrap().state = StoreState::Disconnected;
    assert_eq!(told(&mut operator, &stores), to(1));
}

#[test]
fn a_change_of_roles_waits_while_too_few_voters_answer() {
    let mut info = region();
    let mut operator = replacement(&info);
    info.region.peers.push(Peer::learner(PeerId(9), StoreId(4)));
    let mut stores = stores();
    stores.get_mut(&StoreId(2)).unwrap().state = StoreState::Disconnected;
    assert!(
        matches!(operator.observe(&info, &stores, MonoTime::ZERO), Progress::Send(Step::ChangeRoles { .. })),
        "1 and 3 are a quorum before, 1 and 9 one after"
    );
    stores.get_mut(&StoreId(3)).unwrap().state = StoreState::Disconnected;
    assert_eq!(operator.observe(&info, &stores, MonoTime::ZERO), Progress::Wait);
}

#[test]
fn nothing_is_put_on_a_store_that_went_away_meanwhile() {
    let info = region();
    let mut stores = stores();
    stores.get_mut(&StoreId(4)).unwrap().state = StoreState::Disconnected;
    assert!(matches!(replacement(&info).observe(&info, &stores, MonoTime::ZERO), Progress::Cancelled(_)));
}

#[test]
fn a_copy_on_a_store_that_was_given_up_is_not_waited_for() {
    // A store lost its disk while a region was moved to it. The operator waited ten minutes for the copy, and nobody
    // repaired the region meanwhile, which had lost another voter (found by the simulator).
    let (mut info, mut stores) = (region(), stores());
    let mut operator = replacement(&info);
    info.region.peers.push(Peer::learner(PeerId(9), StoreId(4)));
    info.pending_peers = vec![PeerId(9)];
    for state in [StoreState::Up, StoreState::Disconnected] {
        stores.get_mut(&StoreId(4)).unwrap().state = state;
        assert_eq!(operator.observe(&info, &stores, MonoTime::ZERO), Progress::Wait);
    }
    stores.get_mut(&StoreId(4)).unwrap().state = StoreState::Down;
    assert!(matches!(operator.clone().observe(&info, &stores, MonoTime::ZERO), Progress::Cancelled(_)));
    stores.remove(&StoreId(4));
    assert!(matches!(operator.observe(&info, &stores, MonoTime::ZERO), Progress::Cancelled(_)));
    // The same for one that found the learner there, and for one that was about to promote it.
    let steps = vec![Step::AddLearner { peer: Peer::learner(PeerId(9), StoreId(4)) }];
    let mut operator =
        Operator::new(OperatorKind::ReplicaRepair, &info, steps, String::new(), MonoTime::ZERO);
    assert!(matches!(operator.observe(&info, &stores, MonoTime::ZERO), Progress::Cancelled(_)));
    let mut operator = Operator::new(
        OperatorKind::ReplicaRepair,
        &info,
        vec![step(&[9], &[3])],
        String::new(),
        MonoTime::ZERO,
    );
    assert!(matches!(operator.observe(&info, &stores, MonoTime::ZERO), Progress::Cancelled(_)));
}

/// The step that changes these roles.
fn step(promote: &[u64], demote: &[u64]) -> Step {
    let ids = |ids: &[u64]| ids.iter().map(|id| PeerId(*id)).collect();
    Step::ChangeRoles { promote: ids(promote), demote: ids(demote) }
}

#[test]
fn steps_that_copy_data_may_take_longer_and_longer_for_more_data() {
    let config = Config::default();
    let mut info = region();
    info.size_bytes = 1 << 30;
    let operator = replacement(&info);
    let at = |seconds| MonoTime::ZERO + Duration::from_secs(seconds);
    assert!(!operator.is_overdue(at(600 + 1024), &config));
    assert!(operator.is_overdue(at(600 + 1025), &config));
    let steps = vec![Step::TransferLeader { to: info.region.peers[1] }];
    let transfer = Operator::new(OperatorKind::BalanceLeader, &info, steps, String::new(), MonoTime::ZERO);
    assert!(transfer.is_overdue(at(61), &config));
}
