//! Messages from other stores find their peer; what comes for a region that is not here is answered without one.
//!
//! The first message to a peer that was never here begins its life: a learner that was added, or a member of a region that
//! was cut off from another which has jumped over the split here, or was removed before it. Such a peer has got nothing, its
//! log is empty, and its leader sends it a snapshot; until then it votes like any other, and remembers what it said. It
//! must, or a region of three of which one is such and one is lost would never have a leader again. Since every log
//! begins with [`LOG_START`](crate::LOG_START), which whoever campaigns has, it votes just as it would had a split
//! made it; and should one still make it, the peer that the split makes keeps its term and its vote.
//!
//! While a region is here that may still make the child, nothing is answered, and the last vote that was asked for is
//! kept until the split has made the child and its peer begins its life.

use crate::destroy::confirmation;
use crate::effects::ReceivedSnapshot;
use crate::hibernate::Asked;
use crate::install::unused_files;
use crate::liveness::SaidAlive;
use crate::peer::{PeerState, Turn};
use crate::records::{PeerState as State, RegionRecord, region_record};
use crate::seeded_bug::{Bugs, SeededBug};
use crate::worker::Worker;
use engine::Engine;
use raft::{Body, Wake};
use types::{Epoch, Peer, PeerId, RegionId};
use wire::store::{DiskState, RaftMessage, StoreMessage};

/// Votes kept for children that are about to be made; more than a store splits at once.
const HELD_VOTES_MAX: usize = 1024;
/// Senders outside of the descriptor that a peer remembers.
const STRANGERS_MAX: usize = 16;

impl<E: Engine> Worker<E> {
    pub(crate) fn on_message(&mut self, turn: &mut Turn<E>, message: StoreMessage) {
        match message {
            StoreMessage::Raft(message) => self.on_raft_message(turn, message),
            StoreMessage::Alive { from_store, worker, workers, incarnation, relies } => {
                let timeout = u64::from(self.shared.config.election_ticks);
                let said = SaidAlive { from_store, worker, workers, incarnation, relies };
                if turn.liveness.on_alive(said, self.ticks, timeout) {
                    self.rouse(turn, from_store);
                }
            }
            StoreMessage::Sleep { region_id, from, to, term, index, attempt } => {
                if let Some(peer) = self.peer_with_id(region_id, to) {
                    peer.hibernation.asked = Some(Asked { from, term, index, attempt });
                    turn.dirty.push(region_id);
                }
            }
            StoreMessage::SleepAgreed { region_id, from, to, attempt } => {
                if let Some(peer) = self.peer_with_id(region_id, to) {
                    peer.on_sleep_agreed(from.id, attempt);
                    turn.dirty.push(region_id);
                }
            }
            StoreMessage::Wake { region_id, to } => {
                if let Some(peer) = self.peer_with_id(region_id, to) {
                    peer.wake_up(turn, Wake::Local);
                }
            }
            StoreMessage::Removed { region_id, peer, epoch, from } => {
                self.on_removed(turn, region_id, peer, epoch, from);
            }
            StoreMessage::RemovedConfirmed { region_id, peer, to } => {
                if let Some(state) = self.peers.get_mut(&region_id).filter(|state| state.me.id == to.id) {
                    state.drive(turn, |state, turn| state.on_removed_confirmed(turn, peer.id));
                }
            }
        }
    }

    fn peer_with_id(&mut self, region_id: RegionId, id: Peer) -> Option<&mut Box<PeerState<E>>> {
        self.peers.get_mut(&region_id).filter(|peer| peer.me.id == id.id)
    }

    fn on_raft_message(&mut self, turn: &mut Turn<E>, message: RaftMessage) {
        // Snapshots come with their data, on a connection of their own.
        let misplaced = matches!(message.message.body, Body::Snapshot { .. });
        if misplaced || message.to.store_id != turn.shared.store_id {
            return;
        }
        let region_id = message.region_id;
        match self.peers.get_mut(&region_id) {
            Some(peer) => {
                if peer.sleeps_through(turn, &message.message) {
                    return;
                }
                // The leader knows that its message wakes us.
                if message.message.from == peer.raft.status().lead {
                    peer.wake_up(turn, Wake::Local);
                }
                turn.dirty.push(region_id);
                peer.drive(turn, |peer, turn| peer.on_raft_message(turn, message));
            }
            None => self.on_unknown_region(turn, message),
        }
    }

    fn on_unknown_region(&mut self, turn: &mut Turn<E>, message: RaftMessage) {
        if turn.shared.meta.removal_claimed(message.region_id).is_some_and(|gone| message.to.id <= gone) {
            return;
        }
        match region_record(&turn.shared.engine, message.region_id) {
            Ok(None) => {}
            // What is unreadable here is found, and told, when the store starts again.
            Err(_) => return,
            // A split has made it, and it is about to begin its life.
            Ok(Some(record)) if record.state == State::Normal && record.peer_id == message.to.id => {
                return self.hold_vote(message);
            }
            Ok(Some(record)) => {
                if !may_come(&record, message.to.id, turn.shared.config.bugs) {
                    return;
                }
            }
        }
        let covered = !turn.shared.meta.overlapping(&message.range).is_empty();
        if covered || message.range.is_empty() {
            return self.hold_vote(message);
        }
        let begins = match message.message.body {
            Body::Vote { .. } => !turn.shared.config.bugs.has(SeededBug::UninitializedSilent),
            Body::Append { .. } | Body::Heartbeat { .. } => true,
            _ => false,
        };
        let peer = PeerState::uninitialized(&turn.shared, message.region_id, message.to, self.ticks);
        let Some(mut peer) = peer.ok().filter(|_| begins) else { return };
        if turn.shared.meta.claim_uninitialized(message.region_id, message.to.id) {
            peer.drive(turn, |peer, turn| peer.on_raft_message(turn, message));
            self.insert_peer(turn, peer);
        }
    }

    /// Keeps a vote for a peer that a split may be about to make; of each region the last one, and nothing else.
    fn hold_vote(&mut self, message: RaftMessage) {
        if matches!(message.message.body, Body::Vote { .. }) {
            if self.held_votes.len() >= HELD_VOTES_MAX {
                // Whoever asks for a vote asks again. What was kept too long must not keep others out for ever.
                self.held_votes.clear();
            }
            self.held_votes.insert(message.region_id, message);
        }
    }

    fn on_removed(&mut self, turn: &mut Turn<E>, region_id: RegionId, peer: Peer, epoch: Epoch, from: Peer) {
        if peer.store_id != turn.shared.store_id {
            return;
        }
        if let Some(state) = self.peers.get_mut(&region_id)
            && !(state.has_nothing() && state.me.id > peer.id)
        {
            return state.drive(turn, |state, turn| state.on_asked_removed(turn, peer, epoch, from));
        }
        // Before the record is read: a split that is being applied may be about to write one. Then it is asked again.
        if !turn.shared.meta.claim_removal(region_id, peer.id) {
            return;
        }
        match region_record(&turn.shared.engine, region_id) {
            Ok(Some(record)) if record.state == State::Tombstone && record.peer_id >= peer.id => {
                // The tombstone may have been written just now, and not be durable yet.
                turn.log().must_sync = true;
                turn.log().messages_after.push(confirmation(region_id, peer, from));
                turn.shared.meta.end_removal(region_id, peer.id);
            }
            // It never got here, or only those before it did. Make sure of that before it is said.
            Ok(record) if record.as_ref().is_none_or(|record| record.state == State::Tombstone) => {
                self.entomb(turn, region_id, epoch, peer.id);
                turn.log().messages_after.push(confirmation(region_id, peer, from));
            }
            Ok(_) | Err(_) => turn.shared.meta.end_removal(region_id, peer.id),
        }
    }

    pub(crate) fn on_snapshot_received(&mut self, turn: &mut Turn<E>, received: ReceivedSnapshot) {
        let (region_id, to) = (received.key.region_id, received.message.to);
        if let Some(peer) = self.peers.get_mut(&region_id) {
            turn.dirty.push(region_id);
            return peer.drive(turn, |peer, turn| match peer.me.id == to.id {
                true => peer.offer_received(turn, received),
                false => {
                    if peer.me.id < to.id {
                        peer.begin_destroy(turn, None);
                    }
                    turn.out.background.extend(unused_files(&received.data));
                }
            });
        }
        let may_come = match region_record(&turn.shared.engine, region_id) {
            Ok(None) => true,
            Ok(Some(record)) => may_come(&record, to.id, turn.shared.config.bugs),
            Err(_) => false,
        };
        // What was said to be gone must not come, though the tombstone be still on its way.
        let may_come =
            may_come && turn.shared.meta.removal_claimed(region_id).is_none_or(|gone| gone < to.id);
        let free = turn.shared.meta.overlapping(&received.region.range).is_empty()
            || turn.shared.config.bugs.has(SeededBug::SnapshotOverNeighbour);
        let peer = match may_come && free && to.store_id == turn.shared.store_id {
            true => PeerState::uninitialized(&turn.shared, region_id, to, self.ticks).ok(),
            false => None,
        };
        let Some(mut peer) = peer else {
            turn.out.background.extend(unused_files(&received.data));
            return;
        };
        peer.drive(turn, |peer, turn| peer.offer_received(turn, received));
        // A peer that Raft did not give the snapshot to has nothing, and has said nothing.
        if peer.is_installing() {
            self.insert_peer(turn, peer);
        }
    }
}

impl<E: Engine> PeerState<E> {
    /// A member of the region wants to know whether `peer`, which was removed from it at `epoch`, is gone from here.
    fn on_asked_removed(&mut self, turn: &mut Turn<E>, peer: Peer, epoch: Epoch, from: Peer) {
        if self.me.id > peer.id {
            let confirmed = confirmation(self.region.id, peer, from);
            match self.is_initialized() {
                true => turn.out.messages.push(confirmed),
                // The record that says so is on its way to the log.
                false => {
                    turn.log().must_sync = true;
                    turn.log().messages_after.push(confirmed);
                }
            }
        } else if self.me.id == peer.id && self.is_removed_since(epoch) {
            // The tombstone keeps the newest epoch that is known.
            self.region.epoch.conf_ver = epoch.conf_ver;
            self.begin_destroy(turn, Some(from));
        } else if self.me.id < peer.id {
            // A later peer of this store was a member, and never got here: so ours had been removed before.
            self.begin_destroy(turn, None);
        }
    }

    /// True if somebody who no longer finds us among the members as of `epoch` knows better than we do.
    fn is_removed_since(&self, epoch: Epoch) -> bool {
        let ours = self.region.epoch.conf_ver;
        ours < epoch.conf_ver || (ours == epoch.conf_ver && self.region.peer(self.me.id).is_none())
    }

    fn on_raft_message(&mut self, turn: &mut Turn<E>, message: RaftMessage) {
        assert_eq!(
            self.raft.tick_count() + self.tick_offset,
            turn.ticks,
            "region {}: a message is heard before the ticks that came before it",
            self.region.id
        );
        let RaftMessage { from, to, epoch, message, .. } = message;
        if to.id > self.me.id {
            // We were removed, and another peer takes our place on this store.
            return self.begin_destroy(turn, None);
        }
        if to.id < self.me.id || !self.is_normal() {
            return;
        }
        if !self.is_initialized() {
            // It knows no epoch of its own, and answers by the one that it was told: none would look like one from before it
            // was a member, to somebody who has yet to learn that it is.
            self.region.epoch = self.region.epoch.max(epoch);
        }
        let grows = matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty());
        if grows && turn.disk(self.me.store_id) == DiskState::Full {
            // The reserve is nearly spent: what would grow the log is sent again when there is room. Votes, heartbeats
            // and empty appends go on.
            return;
        }
        if self.region.peer(from.id).is_none() {
            if self.is_initialized() && epoch.conf_ver < self.region.epoch.conf_ver {
                let removed = StoreMessage::Removed {
                    region_id: self.region.id,
                    peer: from,
                    epoch: self.region.epoch,
                    from: self.me,
                };
                turn.out.messages.push((from.store_id, removed));
                return;
            }
            self.remember(from);
        }
        if let Some(heard) = self.report.heard.get_mut(&from.id) {
            *heard = turn.now;
        }
        // What breaks the protocol has no effect; what poisons the group shows in its status.
        let _refused = self.raft.step(message).is_err();
    }

    /// Notes where a peer lives that the descriptor does not know.
    pub(crate) fn remember(&mut self, peer: Peer) {
        if self.strangers.len() >= STRANGERS_MAX && !self.strangers.contains_key(&peer.id) {
            self.strangers.pop_first();
        }
        self.strangers.insert(peer.id, peer);
    }

    /// A store cannot be reached. True if that matters here.
    pub(crate) fn on_unreachable(&mut self, store_id: types::StoreId) -> bool {
        let peer = self.region.peer_on(store_id).filter(|_| self.is_leader() && self.is_normal()).copied();
        if let Some(peer) = peer {
            self.raft.report_unreachable(peer.id);
        }
        peer.is_some()
    }
}

/// Whether a peer with this id may come to be where this is the record of its region: it must be later than the one that
/// the tombstone is for.
fn may_come(record: &RegionRecord, id: PeerId, bugs: Bugs) -> bool {
    record.state == State::Tombstone && (id > record.peer_id || bugs.has(SeededBug::TombstoneIgnored))
}
