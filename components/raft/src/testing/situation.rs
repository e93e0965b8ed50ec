//! A group in the middle of its life, without playing through how it got there.

use crate::election::Timer;
use crate::raw_node::Handed;
use crate::read::Rounds;
use crate::replication::{LeaderState, NEVER, Uncommitted};
use crate::tracker::{Peers, Progress};
use crate::{Config, Entry, Error, HardState, Message, ProgressState, RawNode, Role, Storage};
use types::{LogIndex, PeerId, Term};

/// What a leader knows of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerSituation {
    /// Durable there and known to agree up to here.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// How it is sent to.
    pub state: ProgressState,
    /// It has answered in this very tick; else never.
    pub active: bool,
}

/// Where a group stands; everything in it is durable, and nothing is on its way. Storage holds the log, the members and
/// what the application has applied; the hard state that storage has is replaced.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Situation {
    /// Our role. A candidate has only its own vote.
    pub role: Role,
    /// Our term.
    pub term: Term,
    /// Whom we voted for in it. A candidate and a leader voted for themselves, whatever this says.
    pub vote: PeerId,
    /// Whom we follow; it has been heard in this very tick. Zero for nobody.
    pub lead: PeerId,
    /// What is known to be committed: at least what is applied.
    pub committed: LogIndex,
    /// Entries after those of the storage that are in our log and not yet handed out for writing.
    pub unwritten: Vec<Entry>,
    /// As leader: the first entry of our term; zero: the next one, so that none is there yet.
    pub term_start: LogIndex,
    /// As leader: what we know of the others. Of those not named we know nothing.
    pub peers: Vec<(PeerId, PeerSituation)>,
    /// How many ticks from now the election timeout ends; `None`: as drawn.
    pub timeout: Option<u32>,
    /// Votes are refused for an election timeout, as after a restart.
    pub just_restarted: bool,
}

impl<S: Storage> RawNode<S> {
    /// A group in `situation`, which must be one that can come about.
    ///
    /// # Errors
    /// As [`RawNode::new`]; [`Error::Poisoned`] when the situation breaks an invariant.
    pub fn in_situation(config: &Config, storage: S, situation: &Situation) -> Result<Self, Error> {
        let config = Config { newborn: !situation.just_restarted, ..config.clone() };
        let mut initial = storage.initial_state().map_err(Error::Storage)?;
        initial.hard_state =
            HardState { term: situation.term, commit: config.applied, ..HardState::default() };
        let mut node = Self::open(&config, storage, initial)?;
        let stands = matches!(situation.role, Role::Candidate | Role::Leader);
        node.vote = if stands { config.id } else { situation.vote };
        node.role = situation.role;
        node.lead = if situation.role == Role::Leader { config.id } else { situation.lead };
        for entry in &situation.unwritten {
            node.log.append_own(entry.clone());
        }
        node.log.commit_to(situation.committed)?;
        node.restart_timer();
        node.timer = Timer {
            timeout: situation.timeout.unwrap_or(node.timer.timeout),
            heard_term: if node.lead.is_zero() { Term::ZERO } else { situation.term },
            ..node.timer
        };
        if !situation.lead.is_zero() {
            node.timer.hear(node.tick, situation.term);
        }
        match situation.role {
            Role::Follower => {}
            Role::PreCandidate | Role::Candidate => node.rare().votes = vec![(config.id, true)],
            Role::Leader => node.leader = Some(Box::new(node.leader_in(situation))),
        }
        node.handed_state = Handed::of(&node.hard_state());
        node.handed_soft = node.soft_state();
        node.check_invariants().map_err(|violated| Error::Poisoned { reason: violated.to_string() })?;
        Ok(node)
    }

    fn leader_in(&self, situation: &Situation) -> LeaderState {
        let (last, tick) = (self.log.last().index, self.tick);
        let mut peers = Peers::default();
        for peer in self.conf.members() {
            let mut progress = Progress::unknown(last.next(), tick);
            if peer == self.config.id {
                progress.become_replicate();
                (progress.matched, progress.next) = (self.log.persisted(), last.next());
            } else if let Some((_, known)) = situation.peers.iter().find(|(id, _)| *id == peer) {
                progress.matched = known.matched;
                progress.next = known.next;
                progress.state = known.state;
                progress.poked = false;
                progress.answered = known.active;
                // What it is known to hold of what is committed, it was told.
                progress.sent_commit = known.matched.min(self.log.committed());
            }
            peers.insert(peer, progress);
        }
        let term_start = if situation.term_start.is_zero() { last.next() } else { situation.term_start };
        LeaderState {
            peers,
            term_start,
            pending_conf_index: term_start.prev(),
            uncommitted: Uncommitted::default(),
            batch_open: false,
            transfer: None,
            heartbeat_tick: tick + u64::from(self.config.heartbeat_tick),
            fresh_tick: NEVER,
            ping: false,
            rounds: Rounds::default(),
        }
    }

    /// Everything that is to be sent, in the order in which it was said, whether it has to wait for a write or not.
    /// What is left for [`RawNode::ready`] is the rest.
    pub fn take_messages(&mut self) -> Vec<Message> {
        if self.poisoned().is_none()
            && let Err(poison) = self.say_everything()
        {
            self.poison(poison);
        }
        std::mem::take(&mut self.outbox)
    }
}
