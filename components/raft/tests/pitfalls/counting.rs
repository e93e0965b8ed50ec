//! What groups count.

use crate::kit::{Peer, config, id, storage, stored};
use bytes::Bytes;
use raft::{Body, ConfChange, Counters, EntryId, Reject, VoteKind};
use types::LogIndex;

#[test]
fn one_box_of_counters_serves_many_groups() {
    // A store lends its counters to the group whose turn it is; they hold the sum, and a group without them counts nothing.
    let mut peers = [1, 2].map(|id| Peer::settled_leader(&config(id), storage(3, &[], 0)));
    let first = &mut peers[0];
    first.node.propose(Bytes::from_static(b"uncounted")).expect("leads");
    assert_eq!(first.node.take_counters(), None);
    let mut lent = Box::new(Counters::default());
    for turn in [0, 1, 0] {
        let peer = &mut peers[turn];
        peer.node.count_into(lent);
        peer.node.propose(Bytes::from_static(b"x")).expect("leads");
        lent = peer.node.take_counters().expect("was lent");
    }
    assert_eq!(*lent, Counters { proposals: 3, ..Counters::default() });
    let mut sum = *lent;
    sum.add(&lent);
    assert_eq!(sum, Counters { proposals: 6, ..Counters::default() });
}

#[test]
fn a_term_is_counted_from_campaign_to_stepping_down() {
    // What each of them stands for, in the order of a leader's life.
    let mut peer = Peer::settled_leader(&config(1), storage(3, &[], 0));
    let term = peer.term();
    peer.node.count_into(Box::default());
    peer.node.propose(Bytes::from_static(b"x")).expect("leads");
    peer.settle();
    peer.node.read_index(1).expect("has committed in its term");
    peer.node.read_index(2).expect("has committed in its term");
    peer.settle();
    let reject = Some(Reject { rejected: LogIndex(2), hint: id(term, 1) });
    peer.step(2, term, Body::AppendResp { index: LogIndex(0), commit: LogIndex(0), reject });
    assert!(peer.try_step(3, term, stored(99)).is_err());
    peer.node
        .propose_conf_change(ConfChange::default())
        .expect_err("there is no joint configuration to leave");
    let counted = peer.node.take_counters().expect("was lent");
    assert_eq!(
        *counted,
        Counters {
            proposals: 1,
            proposals_dropped: 1,
            appends_sent: 2,
            entries_sent: 2,
            appends_refused: 1,
            heartbeats_sent: 2,
            reads: 2,
            read_rounds: 1,
            messages_invalid: 1,
            ..Counters::default()
        }
    );
    peer.node.count_into(counted);
    peer.step(2, term + 9, Body::Heartbeat { commit: LogIndex(0), round: 1 });
    peer.node.forget_leader();
    for _ in 0..30 {
        peer.tick();
    }
    let last = EntryId::default();
    peer.step(3, term + 20, Body::Vote { kind: VoteKind::Real, last, commit: last });
    peer.settle();
    let counted = peer.node.take_counters().expect("was lent");
    assert_eq!((counted.leaders_stepped_down, counted.votes_refused, counted.campaigns), (1, 1, 0));
    assert!(counted.pre_campaigns > 0);
}

#[test]
fn an_election_is_counted_from_the_first_question_to_the_win() {
    // Many pre-campaigns, few campaigns and no win tell an operator where an election gets stuck.
    let mut peer = Peer::start(&config(1), storage(3, &[], 0));
    peer.node.count_into(Box::default());
    peer.step(
        3,
        1,
        Body::Vote { kind: VoteKind::Real, last: EntryId::default(), commit: EntryId::default() },
    );
    peer.settle();
    peer.node.campaign().expect("no leader was heard");
    peer.settle();
    for (pre, voter) in [(true, 2), (false, 3)] {
        peer.step(voter, 2, Body::VoteResp { pre, reject: false, commit: EntryId::default() });
        peer.settle();
    }
    let counted = peer.node.take_counters().expect("was lent");
    let (campaigns, won) = ((counted.pre_campaigns, counted.campaigns), counted.elections_won);
    assert_eq!((counted.votes_granted, campaigns, won), (1, (1, 1), 1));
}
