//! One peer, with its disk and its driver, as a value: what it becomes by an input, and what it says.

use bytes::Bytes;
use raft::{
    Config, Entry, FetchContext, HardState, InitialState, Message, RawNode, Ready, Role, SeededBug, Snapshot,
    Storage, StorageError,
};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use types::{LogIndex, PeerId, Term};

/// What is durable. It takes whatever it is given: to notice mistakes is the search's business.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Disk {
    voters: u64,
    pub(crate) state: HardState,
    /// From index one on.
    pub(crate) log: Vec<Entry>,
}

impl Storage for Disk {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let conf_state = raft::ConfState::of_voters((1..=self.voters).map(PeerId));
        Ok(InitialState { hard_state: self.state, conf_state })
    }

    fn first_index(&self) -> LogIndex {
        LogIndex(1)
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.log.len() as u64)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        match index.0.checked_sub(1) {
            None => Ok(Term::ZERO),
            Some(at) => self.log.get(at as usize).map(|entry| entry.term).ok_or(StorageError::Unavailable),
        }
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        _: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let Some(wanted) = self.log.get(low.0 as usize - 1..high.0 as usize - 1) else {
            return Err(StorageError::Unavailable);
        };
        let mut bytes = 0;
        for entry in wanted {
            bytes += entry.size_bytes();
            if bytes > bytes_max && entry.index > low {
                break;
            }
            out.push(entry.clone());
        }
        Ok(())
    }

    fn snapshot(&self, _: LogIndex, _: PeerId) -> Result<Snapshot, StorageError> {
        Err(StorageError::SnapshotTemporarilyUnavailable)
    }
}

impl Disk {
    fn write(&mut self, state: Option<HardState>, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.log.truncate(first.index.0 as usize - 1);
            self.log.extend_from_slice(entries);
        }
        self.state = state.unwrap_or(self.state);
    }
}

/// How the peers of a search are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Make {
    pub(crate) voters: u64,
    pub(crate) pre_vote: bool,
    pub(crate) broken: Option<SeededBug>,
}

#[derive(Clone, Hash, Debug)]
pub(crate) struct Peer {
    pub(crate) node: RawNode<Disk>,
}

/// What happens to a peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Input {
    /// Its election timeout ends.
    Timeout,
    Deliver(Message),
    Propose(u8),
    /// Its heartbeat is due.
    Heartbeat,
    /// Its process ends, and starts again with what is durable.
    Crash,
}

/// What a peer did with an input.
#[derive(Clone, Default, Debug)]
pub(crate) struct Done {
    pub(crate) sent: Vec<Message>,
    pub(crate) applied: Vec<Entry>,
    /// It has become the leader of this term.
    pub(crate) leads: Option<Term>,
}

impl Peer {
    pub(crate) fn new(make: Make, id: u64) -> Self {
        let disk = Disk { voters: make.voters, state: HardState::default(), log: Vec::new() };
        Self::start(make, PeerId(id), disk)
    }

    fn start(make: Make, id: PeerId, disk: Disk) -> Self {
        let config = Config {
            id,
            // Time stands still here; whether a timeout has ended is the search's to say.
            check_quorum: false,
            pre_vote: make.pre_vote,
            newborn: true,
            // One entry a message, so that each can be lost by itself.
            max_size_per_message: 1,
            ..Config::default()
        };
        let mut node = RawNode::new(&config, disk).expect("what is durable can be started from");
        if let Some(bug) = make.broken {
            node.plant(bug);
        }
        Self { node }
    }

    /// What becomes of the peer by `input`. With `dies`, its process ends before what it writes then is durable: only what
    /// does not wait for that is sent.
    ///
    /// # Errors
    /// A rule is broken that one peer alone can break.
    pub(crate) fn step(&self, make: Make, input: &Input, dies: bool) -> Result<(Self, Done), String> {
        catch_unwind(AssertUnwindSafe(|| self.clone().stepped(make, input, dies))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!("panics: {}", text.unwrap_or_else(|| "?".to_owned())))
        })
    }

    fn stepped(mut self, make: Make, input: &Input, dies: bool) -> Result<(Self, Done), String> {
        let before = self.node.view();
        let mut done = Done::default();
        match input {
            Input::Timeout => self.node.campaign().map_err(|error| error.to_string())?,
            Input::Deliver(message) => {
                // What is refused has no effect; that is all that may be said against it.
                let _ = self.node.step(message.clone());
            }
            Input::Propose(value) => {
                self.node.propose(Bytes::from(vec![*value])).map_err(|error| error.to_string())?;
            }
            Input::Heartbeat => self.node.ping(),
            Input::Crash => return Ok((self.restarted(make), done)),
        }
        self.carry_out(&mut done, dies)?;
        self.node.check_invariants().map_err(|violated| violated.to_string())?;
        let after = self.node.view();
        if let Some(reason) = after.poisoned {
            return Err(format!("poisoned: {reason}"));
        }
        if after.term < before.term || after.committed < before.committed {
            return Err(format!("falls back from {before:?}"));
        }
        if after.role == Role::Leader && (before.role, before.term) != (Role::Leader, after.term) {
            done.leads = Some(after.term);
        }
        if dies {
            return Ok((self.restarted(make), done));
        }
        self.node.forget_counts();
        Ok((self, done))
    }

    fn restarted(self, make: Make) -> Self {
        let mut peer = Self::start(make, self.node.status().id, self.node.storage().clone());
        peer.node.forget_counts();
        peer
    }

    fn carry_out(&mut self, done: &mut Done, dies: bool) -> Result<(), String> {
        while self.node.has_ready() {
            let Ready { append, messages, messages_after, committed, .. } = self.node.ready();
            done.sent.extend(messages);
            if dies {
                return Ok(());
            }
            if let Some(append) = append {
                let old = self.node.storage().state;
                if let Some(new) = append.hard_state
                    && new.term == old.term
                    && !old.vote.is_zero()
                    && new.vote != old.vote
                {
                    return Err(format!("votes twice in one term: {new:?} after {old:?}"));
                }
                self.node.storage_mut().write(append.hard_state, &append.entries);
                self.node.on_persist(append.token);
            }
            done.sent.extend(messages_after);
            if let Some(last) = committed.last() {
                let index = last.index;
                done.applied.extend(committed.iter().cloned());
                self.node.on_applied(index);
            }
        }
        Ok(())
    }

    pub(crate) fn term(&self) -> Term {
        self.node.status().term
    }

    pub(crate) fn leads(&self) -> bool {
        self.node.status().role == Role::Leader
    }

    pub(crate) fn log(&self) -> &[Entry] {
        &self.node.storage().log
    }
}
