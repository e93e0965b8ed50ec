//! Peers that have got nothing of their regions yet, and vote.

use super::*;
use raft_log::inspect::read_state;
use types::{LogIndex, Term};
use wire::raft::{Body, Entries, Entry, EntryId, EntryKind, Message, VoteKind};
use wire::store::RaftMessage;

const FIRST: StoreId = StoreId(1);
const SECOND: StoreId = StoreId(4);
const THIRD: StoreId = StoreId(5);

/// A store was away while a region was cut, and its copy of what remained then jumped over the split by a snapshot. Of the
/// other two, the one that led lost its disk. The last one asked for votes, and the store said nothing, since there was no
/// peer of the piece that could vote: nobody led it ever again.
#[test]
fn a_piece_is_led_again_though_one_of_its_peers_has_nothing_and_one_is_lost() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    cluster.put("z", "1");
    assert_eq!(cluster.leader_of(b"a").store_id, FIRST);
    cluster.cut = vec![THIRD];
    let split = KvCommand::Split { keys: vec!["m".into()] };
    assert!(matches!(cluster.call(b"a", split), Ok(KvReply::Regions(_))));
    for key in ["a", "z"] {
        cluster.put(key, "2");
        let compacted = cluster.call(key.as_bytes(), KvCommand::CompactLog);
        assert!(matches!(compacted, Ok(KvReply::Compacted { .. })), "{compacted:?}");
    }
    cluster.advance(Duration::from_secs(1));
    for (key, to_store) in [(b"a", FIRST), (b"z", SECOND)] {
        cluster.until("each leads one", |c| {
            let done = c.leader_of(key).store_id == to_store;
            if !done {
                assert_eq!(c.call(key, KvCommand::TransferLeader { to_store }), Ok(KvReply::Started));
            }
            done
        });
    }
    cluster.stores.remove(&FIRST);
    cluster.cut.clear();
    cluster.until("the piece is led again", |c| c.leader_of(b"a").store_id == SECOND);
    assert_eq!(cluster.get("a").as_deref(), Some("2"));
    cluster.put("a", "3");
    let engine = cluster.engines[&THIRD].clone();
    cluster.until("the third store has it too", |_| {
        engine.get(Cf::Default, b"a").expect("readable").as_deref() == Some(b"3")
    });
}

/// Another peer of the region asks for a vote, and says what it has.
fn ask_vote(cluster: &mut Cluster, region: &Region, candidate: Peer, term: u64, to: StoreId) {
    let kind = VoteKind::Real;
    let last = EntryId::new(Term(5), LogIndex(5));
    send(cluster, region, candidate, term, to, Body::Vote { kind, last, commit: last });
}

fn send(cluster: &mut Cluster, region: &Region, from: Peer, term: u64, to: StoreId, body: Body) {
    let to = *region.peer_on(to).expect("a peer there");
    let message = StoreMessage::Raft(RaftMessage {
        region_id: region.id,
        from,
        to,
        epoch: region.epoch,
        range: region.range.clone(),
        message: Message { from: from.id, to: to.id, term: Term(term), body },
    });
    let event =
        Event::Messages { from: from.store_id, disk: wire::store::DiskState::Ok, messages: vec![message] };
    cluster.event(to.store_id, event);
    cluster.settle();
}

/// The term and the vote on a store's disk.
fn vote_on_disk(cluster: &Cluster, store_id: StoreId, region_id: RegionId) -> Option<(u64, PeerId)> {
    let record = cluster.engines[&store_id].get(Cf::Raft, &raft_log::keys::state(region_id));
    let (state, _) = read_state(&record.expect("readable")?).expect("whole");
    Some((state.term.get(), state.vote))
}

/// A store without anything, alone with what comes by hand; with a region that has a learner there, and the piece that
/// was cut off from it.
struct Alone {
    cluster: Cluster,
    parent: Region,
    piece: Region,
    /// Leads both.
    leader: Peer,
}

fn alone() -> Alone {
    let mut cluster = Cluster::new(2, config());
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    cluster.put("z", "1");
    cluster.order(Step::AddLearner { peer: Peer::learner(PeerId(900), SECOND) });
    cluster.until("the learner has the data", |c| c.stores[&SECOND].meta().region_count() == 1);
    let (parent, _) = cluster.region_of(b"a");
    let split = KvCommand::Split { keys: vec!["m".into()] };
    assert!(matches!(cluster.call(b"a", split), Ok(KvReply::Regions(_))));
    cluster.until("PD knows both", |c| c.regions.len() == 2);
    let (piece, leader) = cluster.region_of(b"a");
    cluster.cut = vec![SECOND];
    cluster.stores.remove(&SECOND);
    cluster.engines.insert(SECOND, MemEngine::new());
    cluster.start(SECOND);
    Alone { cluster, parent, piece, leader }
}

impl Alone {
    fn restart(&mut self) {
        self.cluster.crash(SECOND);
        self.cluster.start(SECOND);
        // It owes whoever led before silence for an election timeout.
        self.cluster.advance(Duration::from_secs(3));
    }

    /// Others want to know whether the peer is gone.
    fn remove(&mut self, peer: Peer) {
        let (region_id, from) = (self.piece.id, self.leader);
        let epoch = types::Epoch { conf_ver: self.piece.epoch.conf_ver + 1, ..self.piece.epoch };
        let removed = StoreMessage::Removed { region_id, peer, epoch, from };
        tell(&mut self.cluster, from.store_id, removed);
    }

    fn asked_for_vote(&mut self, candidate: Peer, term: u64) -> Option<(u64, PeerId)> {
        ask_vote(&mut self.cluster, &self.piece, candidate, term, SECOND);
        vote_on_disk(&self.cluster, SECOND, self.piece.id)
    }
}

/// What such a peer says it never forgets: two candidates of one term must not both get its vote, be it over a restart.
#[test]
fn a_peer_that_has_nothing_keeps_its_vote_over_a_restart() {
    let mut alone = alone();
    let (leader, other) = (alone.leader, Peer::voter(PeerId(950), StoreId(7)));
    assert_eq!(alone.asked_for_vote(leader, 9), Some((9, leader.id)));
    alone.restart();
    assert_eq!(alone.asked_for_vote(other, 9), Some((9, leader.id)));
    assert_eq!(alone.asked_for_vote(other, 10), Some((10, other.id)), "it still votes");
    assert_eq!(alone.cluster.stores[&SECOND].meta().region_count(), 0);
}

/// A peer voted that had nothing. Then its region's parent came to its store as it was before the split, and made the peer
/// by applying it. What the peer had promised holds for it, also what was on its way to the log just then.
#[test]
fn a_peer_that_a_split_makes_after_all_keeps_the_vote_that_it_gave_before() {
    for vote_on_its_way in [false, true] {
        let mut alone = alone();
        let (leader, piece) = (alone.leader, alone.piece.clone());
        assert_eq!(alone.asked_for_vote(leader, 9), Some((9, leader.id)));
        for snapshot in alone.cluster.pieces.clone() {
            alone.cluster.event(SECOND, Event::Piece { reply_to: 0, piece: snapshot });
        }
        alone.cluster.settle();
        let regions = alone.cluster.stores[&SECOND].meta().regions();
        assert_eq!(regions[0].range, types::KeyRange::full(), "as it was before the split");
        // The split comes, and waits to be applied.
        let [snapshot, ..] = &alone.cluster.pieces[..] else { panic!("a snapshot was sent") };
        let SnapshotPiece::Start { key, .. } = snapshot else { panic!("it begins so: {snapshot:?}") };
        let prev = EntryId::new(key.term, key.index);
        let ids = SplitIds {
            region_id: piece.id,
            peer_ids: regions[0].peers.iter().map(|peer| piece.peer_on(peer.store_id).unwrap().id).collect(),
        };
        let keys = vec!["m".into()];
        let split = raftstore::Command::Split { epoch: regions[0].epoch, keys, ids: vec![ids] };
        let index = prev.index.next();
        let data = codec::Encode::to_bytes(&split);
        let entries = Entries::from(vec![Entry { term: prev.term, index, kind: EntryKind::Normal, data }]);
        let parent = alone.parent.clone();
        let old_leader = *parent.peer_on(FIRST).expect("it leads");
        let append = Body::Append { prev, entries, commit: index };
        alone.cluster.held = vec![(SECOND, Actor::Applier(0))];
        send(&mut alone.cluster, &parent, old_leader, prev.term.get(), SECOND, append);
        let mut promised = (9, leader.id);
        if vote_on_its_way {
            let other = Peer::voter(PeerId(950), StoreId(7));
            alone.cluster.advance(Duration::from_secs(3));
            alone.cluster.held_logs = vec![SECOND];
            assert_eq!(alone.asked_for_vote(other, 10), Some(promised), "it is on its way");
            promised = (10, other.id);
        }
        alone.cluster.held.clear();
        alone.cluster.settle();
        alone.cluster.held_logs.clear();
        alone.cluster.settle();
        for restarted in [false, true] {
            if restarted {
                alone.restart();
            }
            let regions = alone.cluster.stores[&SECOND].meta().regions();
            assert_eq!(regions.iter().map(|region| region.id).collect::<Vec<_>>(), [piece.id, parent.id]);
            assert_eq!(vote_on_disk(&alone.cluster, SECOND, piece.id), Some(promised));
            let mut seen = None;
            for worker in alone.cluster.stores[&SECOND].workers() {
                worker.visit(&mut |region, status, applied| {
                    if region.id == piece.id {
                        seen = Some((status.term.get(), status.vote, applied));
                    }
                });
            }
            assert_eq!(seen, Some((promised.0, promised.1, LogIndex(5))));
            assert_eq!(raftstore::uninitialized_peers(&alone.cluster.engines[&SECOND]), Ok(Vec::new()));
            let value = alone.cluster.engines[&SECOND].get(Cf::Default, b"a").expect("readable");
            assert_eq!(value.as_deref(), Some(&b"1"[..]));
        }
    }
}

/// Once its removal is applied by others, such a peer is entombed like any other, and no late request brings it back.
#[test]
fn a_peer_that_has_nothing_is_removed_for_good() {
    let mut alone = alone();
    let (leader, piece) = (alone.leader, alone.piece.clone());
    assert_eq!(alone.asked_for_vote(leader, 9), Some((9, leader.id)));
    let peer = *piece.peer_on(SECOND).expect("a peer there");
    alone.remove(peer);
    for restarted in [false, true] {
        if restarted {
            alone.restart();
        }
        assert_eq!(
            alone.asked_for_vote(leader, 11),
            None,
            "its promises went with it, and so did its right to vote"
        );
        let engine = &alone.cluster.engines[&SECOND];
        let record = raftstore::region_record(engine, piece.id).expect("readable");
        let record = record.map(|record| (record.state, record.peer_id));
        assert_eq!(record, Some((raftstore::PeerState::Tombstone, peer.id)));
        assert_eq!(raftstore::uninitialized_peers(engine), Ok(Vec::new()));
    }
}

/// A later peer of a region waited on its store for its snapshot when others asked whether an earlier one was gone, which had
/// never come. They were told so at once; had the store lost its power then, nothing would have kept the earlier one out.
#[test]
fn a_peer_that_has_nothing_does_not_vouch_for_those_before_it_without_a_record() {
    let mut alone = alone();
    let (leader, earlier) = (alone.leader, *alone.piece.peer_on(SECOND).expect("a peer there"));
    let later = Peer::learner(PeerId(990), SECOND);
    let region_id = alone.piece.id;
    let before = std::mem::replace(&mut alone.piece.peers, vec![leader, later]);
    assert_eq!(alone.asked_for_vote(leader, 9), Some((9, leader.id)));
    alone.remove(earlier);
    let engine = alone.cluster.engines[&SECOND].clone();
    let record = raftstore::region_record(&engine, region_id).expect("readable");
    let record = record.map(|record| (record.state, record.peer_id));
    assert_eq!(record, Some((raftstore::PeerState::Tombstone, earlier.id)));
    alone.restart();
    let waiting = raftstore::uninitialized_peers(&alone.cluster.engines[&SECOND]).expect("readable");
    assert_eq!(waiting, [raftstore::UninitializedPeer { region_id, peer_id: later.id }]);
    assert_eq!(alone.asked_for_vote(leader, 10), Some((10, leader.id)), "the later one votes on");
    alone.piece.peers = before;
    assert_eq!(alone.asked_for_vote(leader, 11), Some((10, leader.id)), "the earlier one never does");
}

/// A member restarted and had yet to apply that a learner had come, which already answered it. The learner, which had got
/// nothing, spoke without an epoch, so it was taken for one that was removed long ago, and entombed (seed 1795427078).
#[test]
fn a_peer_that_has_nothing_answers_by_the_epoch_that_it_was_told() {
    let mut alone = alone();
    let leader = alone.leader;
    assert_eq!(alone.asked_for_vote(leader, 9), Some((9, leader.id)));
    let peer = *alone.piece.peer_on(SECOND).expect("a peer there");
    let before = types::Epoch { conf_ver: alone.piece.epoch.conf_ver - 1, ..alone.piece.epoch };
    let removed = StoreMessage::Removed { region_id: alone.piece.id, peer, epoch: before, from: leader };
    tell(&mut alone.cluster, leader.store_id, removed);
    assert_eq!(
        alone.asked_for_vote(leader, 10),
        Some((10, leader.id)),
        "it was told of a later epoch: it stays"
    );
}

fn tell(cluster: &mut Cluster, from: StoreId, message: StoreMessage) {
    let event = Event::Messages { from, disk: wire::store::DiskState::Ok, messages: vec![message] };
    cluster.event(SECOND, event);
    cluster.settle();
}
