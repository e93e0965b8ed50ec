//! The shortest lives of a group.

use bytes::Bytes;
use raft::{Body, Config, MemStorage, Message, RawNode, Ready, Role};
use types::{LogIndex, PeerId, Term};

fn node(id: u64, voters: u64) -> RawNode<MemStorage> {
    let config = Config { id: PeerId(id), seed: 7, ..Config::default() };
    RawNode::new(&config, MemStorage::with_voters(voters)).expect("a fresh group starts")
}

/// Carries out all effects at once; returns what was committed and appends what is to be sent to `network`.
fn settle(node: &mut RawNode<MemStorage>, network: &mut Vec<Message>) -> Vec<Bytes> {
    let mut applied = Vec::new();
    while node.has_ready() {
        let Ready { append, messages, messages_after, committed, .. } = node.ready();
        network.extend(messages);
        if let Some(append) = append {
            node.storage_mut().write(&append);
            node.on_persist(append.token);
        }
        network.extend(messages_after);
        if let Some(last) = committed.last() {
            node.on_applied(last.index);
        }
        applied.extend(committed.into_iter().map(|entry| entry.data.clone()).filter(|data| !data.is_empty()));
        node.check_invariants().expect("invariants");
    }
    applied
}

#[test]
fn a_sole_voter_leads_at_its_first_tick_and_commits_what_is_durable() {
    let mut node = node(1, 1);
    assert!(!node.has_ready());
    node.tick();
    settle(&mut node, &mut Vec::new());
    assert_eq!(node.status().role, Role::Leader);
    let id = node.propose(Bytes::from_static(b"x")).expect("leads");
    assert_eq!((id.term, id.index), (Term(1), LogIndex(2)));
    assert_eq!(settle(&mut node, &mut Vec::new()), [Bytes::from_static(b"x")]);
}

#[test]
fn three_voters_elect_one_of_them_and_apply_the_same() {
    let mut nodes: Vec<_> = (1..=3).map(|id| node(id, 3)).collect();
    let mut network = Vec::new();
    nodes[0].campaign().expect("nobody leads");
    let mut applied = vec![Vec::new(); 3];
    for round in 0..20 {
        if round == 10 {
            nodes[0].propose(Bytes::from_static(b"x")).expect("leads");
            nodes[0].propose(Bytes::from_static(b"y")).expect("leads");
        }
        for (node, applied) in nodes.iter_mut().zip(&mut applied) {
            node.tick();
            applied.extend(settle(node, &mut network));
        }
        for message in std::mem::take(&mut network) {
            if let (10, Body::Append { entries, .. }) = (round, &message.body) {
                assert_eq!(entries.len(), 2, "both proposals leave as one message");
            }
            nodes[message.to.0 as usize - 1].step(message).expect("well-formed");
        }
    }
    assert_eq!(nodes[0].status().role, Role::Leader);
    assert!(nodes.iter().all(|node| node.status().lead == PeerId(1) && node.status().term == Term(1)));
    assert!(
        applied.iter().all(|data| data == &[Bytes::from_static(b"x"), Bytes::from_static(b"y")]),
        "{applied:?}"
    );
    assert!(nodes[0].lease().is_some_and(|lease| lease.start_tick >= 16), "{:?}", nodes[0].lease());
}
