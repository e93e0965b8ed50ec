//! What people may ask for, and what they are told when they may not.

use super::Cluster;
use crate::operator::Operator;
use crate::plan::order;
use crate::{ClusterView, OperatorKind, Progress};
use types::{MonoTime, PeerId, PeerRole, RegionId, StoreId};
use wire::pd::{Order, Step, StoreState};
use wire::store::DiskState;

impl Cluster {
    fn ordered(&self, region: u64, wanted: Order) -> Result<Operator, String> {
        let view = ClusterView {
            config: &self.config,
            stores: &self.stores,
            directory: &self.directory,
            operators: &self.operators,
            suspects: &[],
        };
        order(&view, RegionId(region), wanted, MonoTime::ZERO)
    }

    /// The steps in words.
    fn steps(&self, region: u64, wanted: Order) -> String {
        let operator = self.ordered(region, wanted).unwrap();
        operator.steps.iter().map(crate::describe).collect::<Vec<_>>().join("; ")
    }

    fn refused(&self, region: u64, wanted: Order, part: &str) {
        let why = self.ordered(region, wanted).expect_err(part);
        assert!(why.contains(part), "{why:?}, expected: {part}");
    }
}

fn add(to: u64) -> Order {
    Order::AddPeer { to_store: StoreId(to) }
}

fn remove(from: u64) -> Order {
    Order::RemovePeer { from_store: StoreId(from) }
}

fn transfer(from: u64, to: u64) -> Order {
    Order::TransferPeer { from_store: StoreId(from), to_store: StoreId(to) }
}

#[test]
fn a_peer_comes_as_a_learner_and_goes_as_one() {
    let mut cluster = Cluster::new(4);
    cluster.region(&[1, 2, 3]);
    assert_eq!(cluster.steps(1, add(4)), "add learner peer 0 on store 4; promote peer 0");
    assert_eq!(cluster.steps(1, remove(3)), "demote peer 103; remove learner peer 103");
    let handed_over = "transfer leader to peer 102 on store 2; demote peer 101; remove learner peer 101";
    assert_eq!(cluster.steps(1, remove(1)), handed_over);
    assert_eq!(
        cluster.steps(1, transfer(3, 4)),
        "add learner peer 0 on store 4; promote peer 0 and demote peer 103 at once; remove learner peer 103"
    );
    cluster.region(&[1, 2, 3, -4]);
    assert_eq!(cluster.steps(2, remove(4)), "remove learner peer 204");
    let operator = cluster.ordered(1, add(4)).unwrap();
    assert_eq!((operator.kind, operator.order), (OperatorKind::AddPeer, Some(add(4))));
    assert!(operator.why.contains("asked for"), "{}", operator.why);
}

#[test]
fn nothing_goes_where_scheduling_would_put_nothing() {
    let mut cluster = Cluster::new(5);
    cluster.region(&[1, 2, 3]);
    cluster.refused(1, add(9), "no store 9");
    cluster.refused(1, add(2), "has a peer on store 2 already");
    cluster.refused(7, add(4), "no region 7");
    cluster.store(4).stats.disk = DiskState::Low;
    cluster.refused(1, add(4), "low on disk");
    cluster.refused(1, transfer(3, 4), "low on disk");
    cluster.store(5).state = StoreState::Disconnected;
    cluster.refused(1, add(5), "not up");
    cluster.refused(1, remove(4), "no peer on store 4; it has peers on stores 1, 2, 3");
    cluster.store(1).state = StoreState::Disconnected;
    cluster.refused(1, remove(3), "store 1, which leads region 1, does not answer");
}

#[test]
fn no_region_is_left_with_too_few_voters_or_without_a_quorum_that_answers() {
    let mut cluster = Cluster::new(4);
    cluster.region(&[1, 2]);
    cluster.refused(1, remove(2), "would leave 1 voters");
    cluster.region(&[1, 2, 3]);
    cluster.store(2).state = StoreState::Disconnected;
    cluster.refused(2, remove(3), "without a quorum that answers: store 2 does not");
    assert_eq!(cluster.steps(2, remove(2)), "demote peer 202; remove learner peer 202");
    cluster.store(3).state = StoreState::Disconnected;
    cluster.refused(2, transfer(3, 4), "without a quorum");
    // Nobody could lead instead.
    let mut single = Cluster::new(3);
    let mut behind = single.region(&[1, 2, 3]);
    behind.pending_peers = vec![PeerId(102), PeerId(103)];
    single.tell(behind);
    single.refused(1, remove(1), "no other voter that could lead");
}

#[test]
fn a_region_has_one_operator_and_stores_and_people_have_their_limits() {
    let mut cluster = Cluster::new(4);
    for _ in 0..3 {
        cluster.region(&[1, 2, 3]);
    }
    (cluster.config.order_limit, cluster.config.store_limit) = (2, 1);
    let mut first = cluster.ordered(1, add(4)).unwrap();
    first.assign_peer_id(PeerId(900));
    cluster.operators.start(first);
    cluster.refused(1, remove(3), "has an operator already (add-peer)");
    cluster.refused(2, add(4), "1 peers are being added to store 4 already");
    cluster.operators.start(cluster.ordered(2, remove(3)).unwrap());
    cluster.refused(3, remove(3), "2 operators run already");
    // What is cancelled leaves room, and its region rests for scheduling but not for people.
    assert!(cluster.operators.cancel(RegionId(1), MonoTime::ZERO, &cluster.config));
    assert!(!cluster.operators.cancel(RegionId(1), MonoTime::ZERO, &cluster.config));
    assert!(!cluster.operators.is_free(RegionId(1), MonoTime::ZERO));
    assert_eq!(cluster.ordered(1, remove(3)).unwrap().steps.len(), 2);
    let ended = cluster.operators.statuses(MonoTime::ZERO);
    assert!(ended.iter().any(|status| status.state == "cancelled: as asked for"), "{ended:?}");
}

#[test]
fn a_region_on_its_way_between_members_is_not_sent_on_another() {
    let mut cluster = Cluster::new(4);
    let mut heartbeat = cluster.region(&[1, 2, 3]);
    heartbeat.region.peers[1].role = PeerRole::DemotingVoter;
    heartbeat.region.epoch.conf_ver += 1;
    cluster.tell(heartbeat);
    cluster.refused(1, add(4), "is changing its members");
}

#[test]
fn an_order_is_carried_out_step_by_step() {
    let mut cluster = Cluster::new(4);
    let mut heartbeat = cluster.region(&[1, 2, 3]);
    let mut operator = cluster.ordered(1, add(4)).unwrap();
    operator.assign_peer_id(PeerId(900));
    let info = cluster.directory.get(RegionId(1)).unwrap().clone();
    let told = operator.observe(&info, &cluster.stores, MonoTime::ZERO);
    assert!(matches!(told, Progress::Send(Step::AddLearner { .. })), "{told:?}");
    heartbeat.region.peers.push(types::Peer::learner(PeerId(900), StoreId(4)));
    heartbeat.region.epoch.conf_ver += 1;
    cluster.tell(heartbeat);
    let info = cluster.directory.get(RegionId(1)).unwrap().clone();
    let told = operator.observe(&info, &cluster.stores, MonoTime::ZERO);
    assert!(matches!(told, Progress::Send(Step::ChangeRoles { .. })), "{told:?}");
}
