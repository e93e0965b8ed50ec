//! Changes of members: the descriptor's side of them.

use crate::command::ChangeContext;
use crate::membership::{ChangeError, apply_change, conf_state};
use codec::Encode;
use raft::{ConfChange, ConfChangeKind, ConfChangeOp, Transition};
use types::{Epoch, Peer, PeerId, PeerRole, Region, StoreId};

fn region() -> Region {
    let peers = (1..=3).map(|n| Peer::voter(PeerId(n), StoreId(n))).collect();
    Region { peers, epoch: Epoch { conf_ver: 5, version: 2 }, ..Region::default() }
}

fn change(region: &Region, ops: &[(ConfChangeKind, u64)], peers: &[Peer]) -> ConfChange {
    let context = ChangeContext { epoch: region.epoch, peers: peers.to_vec() };
    ConfChange {
        transition: Transition::Auto,
        ops: ops.iter().map(|(kind, id)| ConfChangeOp { kind: *kind, id: PeerId(*id) }).collect(),
        context: context.to_bytes(),
    }
}

use ConfChangeKind::{AddLearner, AddVoter, Remove};

#[test]
fn a_replacement_goes_learner_joint_learner_gone() {
    let first = region();
    let added =
        apply_change(&first, &change(&first, &[(AddLearner, 4)], &[Peer::learner(PeerId(4), StoreId(4))]));
    let added = added.expect("a newcomer becomes a learner");
    assert_eq!(added.peer(PeerId(4)).map(|p| p.role), Some(PeerRole::Learner));
    assert_eq!(added.epoch, Epoch { conf_ver: 6, version: 2 });

    let joint =
        apply_change(&added, &change(&added, &[(AddVoter, 4), (AddLearner, 1)], &[])).expect("both at once");
    assert!(joint.is_joint());
    assert_eq!(joint.epoch.conf_ver, 8);
    let conf = conf_state(&joint);
    assert_eq!(conf.voters, [PeerId(2), PeerId(3), PeerId(4)]);
    assert_eq!(conf.voters_outgoing, [PeerId(1), PeerId(2), PeerId(3)]);
    assert_eq!(conf.learners_next, [PeerId(1)]);

    let left = apply_change(&joint, &ConfChange::default()).expect("it ends by itself");
    assert!(!left.is_joint());
    assert_eq!(left.epoch.conf_ver, 10);
    assert_eq!(left.peer(PeerId(1)).map(|p| p.role), Some(PeerRole::Learner));

    let gone = apply_change(&left, &change(&left, &[(Remove, 1)], &[])).expect("a learner may go");
    assert_eq!(gone.peers.len(), 3);
}

#[test]
fn what_would_endanger_a_quorum_is_refused_and_changes_nothing() {
    let first = region();
    let refused = |ops: &[(ConfChangeKind, u64)], peers: &[Peer]| {
        apply_change(&first, &change(&first, ops, peers)).expect_err("must be refused")
    };
    assert!(matches!(refused(&[(Remove, 1)], &[]), ChangeError::Invalid(_)));
    assert!(matches!(
        refused(&[(AddVoter, 4)], &[Peer::voter(PeerId(4), StoreId(4))]),
        ChangeError::Invalid(_)
    ));
    assert!(matches!(
        refused(&[(AddLearner, 4)], &[Peer::learner(PeerId(4), StoreId(3))]),
        ChangeError::Invalid(_)
    ));
    assert!(matches!(
        refused(&[(AddLearner, 1), (AddLearner, 2), (AddLearner, 3)], &[]),
        ChangeError::Invalid(_)
    ));
    assert!(matches!(refused(&[(AddLearner, 4)], &[]), ChangeError::Invalid(_)));
    assert!(matches!(apply_change(&first, &ConfChange::default()), Err(ChangeError::Invalid(_))));
}

#[test]
fn a_change_that_was_proposed_under_other_members_does_not_apply() {
    let first = region();
    let late = change(&first, &[(AddLearner, 3)], &[]);
    let mut later = first.clone();
    later.epoch.conf_ver += 1;
    assert_eq!(apply_change(&later, &late), Err(ChangeError::EpochNotMatch));
    // A split meanwhile does not matter: it changes no members.
    later.epoch = Epoch { version: first.epoch.version + 1, ..first.epoch };
    assert!(apply_change(&later, &late).is_ok());
}
