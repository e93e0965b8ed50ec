//! Groups that sleep: most groups of a store have nothing to do most of the time.
//!
//! A driver need not visit a group at every tick: until [`RawNode::next_deadline`] nothing happens by itself, and
//! [`RawNode::tick_n`] makes up for the ticks that were left out. A group that [may sleep](RawNode::can_hibernate) on all
//! its stores can be left alone for good, if something else watches over the stores: its time stands still until somebody
//! [wakes](RawNode::wake) it. Whoever sleeps keeps its promises, for they are counted in its own ticks or end later.

use crate::{RawNode, Role, Storage};
use std::fmt;
use types::PeerId;

/// Why a group cannot sleep now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhyNot {
    /// It has effects to be collected.
    Effects,
    /// No leader is known, or we campaign.
    NoLeader,
    /// What was handed out for writing is not durable.
    Writing,
    /// Entries are not committed, or committed and not applied here.
    Unapplied,
    /// A snapshot is being installed here.
    Installing,
    /// Members are changing: a joint configuration is in force.
    Joint,
    /// Reads wait for their answer.
    Reads,
    /// Leadership is being handed over.
    Transfer,
    /// This member does not hold all of the log, or was not told that it is committed.
    Behind(PeerId),
    /// This member has not been heard within the minimum election timeout (tikv#14574: it may miss the group).
    Silent(PeerId),
    /// The group does not go on; see [`Error::Poisoned`](crate::Error::Poisoned).
    Poisoned,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effects => write!(f, "effects are to be collected"),
            Self::NoLeader => write!(f, "no leader is known"),
            Self::Writing => write!(f, "a write is under way"),
            Self::Unapplied => write!(f, "entries are not committed or not applied"),
            Self::Installing => write!(f, "a snapshot is being installed"),
            Self::Joint => write!(f, "the configuration is joint"),
            Self::Reads => write!(f, "reads wait"),
            Self::Transfer => write!(f, "leadership is being handed over"),
            Self::Behind(id) => write!(f, "peer {id} lags behind"),
            Self::Silent(id) => write!(f, "peer {id} is not heard"),
            Self::Poisoned => write!(f, "the group does not go on"),
        }
    }
}

/// Why a group is woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// There is work here: a proposal, a read, a message.
    Local,
    /// The store of this member has come back, or is missing.
    Peer(PeerId),
    /// The leader's store is known to be lost.
    LeaderLost,
}

impl<S: Storage> RawNode<S> {
    /// Whether nothing is lost if no more ticks come: all is replicated, committed and applied, and nobody waits for
    /// anything. A leader answers for all members, a follower for itself alone. Effects that are out must have been
    /// carried out.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn can_hibernate(&self) -> Result<(), WhyNot> {
        if self.poisoned().is_some() {
            return Err(WhyNot::Poisoned);
        }
        if self.has_ready() {
            return Err(WhyNot::Effects);
        }
        if self.lead.is_zero() {
            return Err(WhyNot::NoLeader);
        }
        if self.log.is_installing() {
            return Err(WhyNot::Installing);
        }
        if self.log.writes_outstanding() > 0 {
            return Err(WhyNot::Writing);
        }
        let last = self.log.last().index;
        if self.log.applied() < last {
            return Err(WhyNot::Unapplied);
        }
        if self.conf.is_joint() {
            return Err(WhyNot::Joint);
        }
        if self.forwards().is_some_and(|forwards| forwards.reads() > 0) {
            return Err(WhyNot::Reads);
        }
        let Some(leader) = &self.leader else { return Ok(()) };
        if leader.rounds.reads() > 0 {
            return Err(WhyNot::Reads);
        }
        if leader.transfer.is_some() {
            return Err(WhyNot::Transfer);
        }
        for (id, progress) in leader.peers.iter().filter(|(id, _)| *id != self.config.id) {
            if progress.matched < last || progress.sent_commit < last {
                return Err(WhyNot::Behind(id));
            }
            if !progress.is_active(self.tick, self.config.election_tick) {
                return Err(WhyNot::Silent(id));
            }
        }
        Ok(())
    }

    /// Time goes on: call [`RawNode::tick_n`] first for as much of the time asleep as is to count. A leader asks everybody
    /// at once whether it still is one, grants them an election timeout to answer, and has no lease until they do. A
    /// follower begins its election timeout anew; when the leader is lost, it follows nobody. Promises of silence are not
    /// touched.
    pub fn wake(&mut self, wake: Wake) {
        self.stir();
        let tick = self.tick;
        if let Some(leader) = &mut self.leader {
            leader.rounds.void_lease();
            leader.ping = true;
            for (id, progress) in leader.peers.iter_mut() {
                progress.heard_tick = tick;
                // Whoever comes back may have lost what it was sent last.
                progress.poked |= wake == Wake::Peer(id);
            }
            self.dirty = true;
            return;
        }
        if self.role == Role::Follower {
            self.restart_timer();
            if wake == Wake::LeaderLost {
                self.forget_leader();
            }
        }
    }

    /// Gives back all memory that is not in use. What comes next asks for it again.
    pub fn shrink(&mut self) {
        self.log.shrink();
        self.outbox.shrink_to_fit();
        if let Some(rare) = self.rare.take_if(|rare| rare.is_empty())
            && rare.forwards.is_some()
        {
            // How far they were named is forgotten with them: the next are named from another draw, or a late answer to
            // one of these would be taken for theirs.
            self.timer.draws = self.timer.draws.wrapping_add(1);
        }
        if let Some(leader) = &mut self.leader {
            leader.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, MemStorage, Message, PeerSituation, ProgressState, Situation};
    use types::{LogIndex, Term};

    fn config() -> Config {
        Config { id: PeerId(1), seed: 5, ..Config::default() }
    }

    fn storage() -> MemStorage {
        let mut storage = MemStorage::with_voters(3);
        storage.append(&[crate::Entry { term: Term(1), index: LogIndex(1), ..Default::default() }]);
        storage
    }

    fn leader() -> RawNode<MemStorage> {
        let peer = PeerSituation {
            matched: LogIndex(1),
            next: LogIndex(2),
            state: ProgressState::Replicate,
            active: true,
        };
        let situation = Situation {
            role: Role::Leader,
            term: Term(1),
            committed: LogIndex(1),
            term_start: LogIndex(1),
            peers: vec![(PeerId(2), peer), (PeerId(3), peer)],
            ..Situation::default()
        };
        let config = Config { applied: LogIndex(1), ..config() };
        RawNode::in_situation(&config, storage(), &situation).expect("a sound situation")
    }

    fn follower(lead: u64) -> RawNode<MemStorage> {
        let situation =
            Situation { term: Term(1), lead: PeerId(lead), committed: LogIndex(1), ..Situation::default() };
        let config = Config { applied: LogIndex(1), ..config() };
        RawNode::in_situation(&config, storage(), &situation).expect("a sound situation")
    }

    /// What is said, and when, by a group that is visited at every tick or only when it says that something is due.
    fn said(mut node: RawNode<MemStorage>, at_deadlines: bool) -> Vec<(u64, Vec<Message>)> {
        let mut said = Vec::new();
        let mut tick = 0;
        while tick < 300 {
            let step = if at_deadlines { node.next_deadline().unwrap_or(300).max(1) } else { 1 };
            tick += step;
            node.tick_n(step);
            while tick < 300 && node.has_ready() {
                let ready = node.ready();
                if let Some(append) = &ready.append {
                    node.storage_mut().write(append);
                    node.on_persist(append.token);
                }
                said.push((tick, [ready.messages, ready.messages_after].concat()));
            }
        }
        said
    }

    #[test]
    fn whoever_is_visited_only_at_its_deadlines_says_the_same_at_the_same_time() {
        // cockroach#17609: visiting sleeping groups at every tick cost half a core.
        for node in [leader as fn() -> _, || follower(2), || follower(0)] {
            assert_eq!(said(node(), true), said(node(), false));
            assert!(!said(node(), true).is_empty());
        }
    }

    #[test]
    fn a_group_sleeps_only_when_nobody_waits_for_anything() {
        assert_eq!(leader().can_hibernate(), Ok(()));
        assert_eq!(follower(2).can_hibernate(), Ok(()));
        assert_eq!(follower(0).can_hibernate(), Err(WhyNot::NoLeader));
        let mut node = leader();
        node.propose(bytes::Bytes::new()).expect("leads");
        assert_eq!(node.can_hibernate(), Err(WhyNot::Effects));
        let ready = node.ready();
        assert_eq!(node.can_hibernate(), Err(WhyNot::Writing));
        let append = ready.append.expect("a proposal is written");
        node.storage_mut().write(&append);
        node.on_persist(append.token);
        let _ = node.ready();
        assert_eq!(node.can_hibernate(), Err(WhyNot::Unapplied));
        // tikv#14574: asleep with a peer that is down.
        let mut node = leader();
        node.tick_n(10);
        let _ = node.ready();
        assert_eq!(node.can_hibernate(), Err(WhyNot::NoLeader), "a quorum is stale: it has stepped down");
        let mut node = leader();
        node.read_index(1).expect("leads");
        let _ = node.ready();
        assert_eq!(node.can_hibernate(), Err(WhyNot::Reads));
        let mut node = leader();
        node.transfer_leader(PeerId(2)).expect("a voter");
        assert_eq!(node.can_hibernate(), Err(WhyNot::Effects));
    }

    #[test]
    fn a_leader_that_wakes_asks_everybody_and_is_not_deposed_by_the_time_asleep() {
        // etcd#6441: a sleeping leader kept its lease in its own eyes, and was deposed when it woke.
        let mut node = leader();
        node.tick_n(100_000);
        node.wake(Wake::Local);
        assert_eq!(node.lease(), None);
        let ready = node.ready();
        assert_eq!((node.status().role, ready.messages.len()), (Role::Leader, 2));
        node.propose(bytes::Bytes::new()).expect("nobody is missed yet");
        // Without an answer it steps down, an election timeout later.
        node.tick_n(10);
        let _ = node.ready();
        assert_eq!(node.status().role, Role::Follower);
    }

    #[test]
    fn a_follower_that_wakes_waits_for_its_leader_or_campaigns_without() {
        let mut node = follower(2);
        node.tick_n(100_000);
        node.wake(Wake::Local);
        assert!(!node.has_ready(), "the leader has an election timeout to speak");
        assert!(node.next_deadline().is_some_and(|ticks| (10..20).contains(&ticks)));
        assert_eq!(node.status().lead, PeerId(2));
        node.wake(Wake::LeaderLost);
        assert_eq!(node.status().lead, PeerId::ZERO);
        node.campaign().expect("what was promised is long over");
    }

    #[test]
    fn sleep_gives_memory_back() {
        let mut node = leader();
        for _ in 0..40 {
            node.propose(bytes::Bytes::from_static(b"some work")).expect("leads");
        }
        let append = node.ready().append.expect("proposals are written");
        node.storage_mut().write(&append);
        node.on_persist(append.token);
        node.shrink();
        assert_eq!(node.outbox.capacity(), 0);
        assert!(node.leader.is_some());
        node.check_invariants().expect("invariants");
    }
}
