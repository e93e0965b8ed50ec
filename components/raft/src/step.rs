//! A message comes in: the gate that checks what it claims, and the way to whom it concerns.

use crate::error::Poison;
use crate::slice::LogSlice;
use crate::{Body, ConfState, EntryId, Message, RawNode, Reject, Role, SnapshotMeta, StepError, Storage};
use types::{LogIndex, PeerId, Term};

/// Terms and positions from outside stay below this, so that counting on from them cannot overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// Why a message is refused that does not fit together.
type Misfit = &'static str;

/// Why a message had no effect. Boxed, so that all who could refuse one, and do not, say so in a register.
pub(crate) type Refused = Box<StepError>;

#[cold]
pub(crate) fn invalid(misfit: Misfit) -> Refused {
    Box::new(StepError::Invalid(misfit))
}

impl From<Poison> for Refused {
    fn from(poison: Poison) -> Self {
        Self::new(poison.into())
    }
}

/// Whether the position can be one.
#[inline]
fn is_sound(id: EntryId) -> bool {
    id.term.0 < NUMBER_MAX && id.index.0 < NUMBER_MAX
}

#[inline]
fn ensure(fits: bool, misfit: Misfit) -> Result<(), Refused> {
    if fits { Ok(()) } else { Err(invalid(misfit)) }
}

/// Whether what every message says fits together.
#[inline]
fn gate(message: &Message) -> Result<(), Refused> {
    ensure(!message.from.is_zero(), "sent by nobody")?;
    ensure(message.term.0 < NUMBER_MAX, "term out of range")?;
    let without_term = matches!(message.body, Body::ReadIndex { .. });
    ensure(message.term.is_zero() == without_term, "without a term, or with one that it must not have")
}

#[inline]
fn gate_append_resp(index: LogIndex, reject: Option<&Reject>) -> Result<(), Refused> {
    let hint_ok = reject.is_none_or(|reject| reject.rejected.0 < NUMBER_MAX && is_sound(reject.hint));
    ensure(hint_ok && index.0 < NUMBER_MAX, "acknowledges a position out of range")
}

fn gate_vote(term: Term, last: EntryId, commit: EntryId) -> Result<(), Refused> {
    let log_ok = is_sound(last) && is_sound(commit) && commit.index <= last.index && last.term <= term;
    ensure(log_ok, "campaigns with a log that cannot be")
}

fn gate_snapshot(term: Term, meta: &SnapshotMeta) -> Result<(), Refused> {
    let at = EntryId::new(meta.term, meta.index);
    let at_ok = is_sound(at) && !at.index.is_zero() && !at.term.is_zero() && at.term <= term;
    ensure(at_ok, "snapshot at a position out of range")?;
    meta.conf_state.validate().map_err(invalid)
}

/// Whether the storage's members make a configuration.
pub(crate) fn gate_conf(conf: &ConfState) -> Result<(), Poison> {
    conf.validate().map_err(|what| Poison::new(format!("storage, members: {what}")))
}

impl<S: Storage> RawNode<S> {
    /// Takes out of `message` what it takes over.
    // Where it lies: to move it would wait for what was just written.
    #[inline(never)]
    pub(crate) fn step_message(&mut self, message: &mut Message) -> Result<(), Refused> {
        if message.to != self.config.id {
            return Err(Box::new(StepError::NotForUs { to: message.to }));
        }
        if message.from == self.config.id {
            return Err(invalid("sent by ourselves"));
        }
        gate(message)?;
        let (from, term) = (message.from, message.term);
        match &mut message.body {
            &mut Body::Append { prev, ref mut entries, commit } => {
                ensure(is_sound(prev), "appends after a position out of range")?;
                let slice = LogSlice::new(term, prev, std::mem::take(entries)).map_err(invalid)?;
                if self.meet_leader(from, term)? {
                    self.on_append(from, slice, commit)?;
                }
            }
            &mut Body::AppendResp { index, reject, .. } => {
                gate_append_resp(index, reject.as_ref())?;
                if self.meet_term(term) {
                    self.on_append_resp(from, index, reject)?;
                }
            }
            &mut Body::Heartbeat { commit, round } => {
                if self.meet_leader(from, term)? {
                    self.on_heartbeat(from, commit, round)?;
                }
            }
            &mut Body::HeartbeatResp { commit, round } => {
                if self.meet_term(term) {
                    self.on_heartbeat_resp(from, commit, round)?;
                }
            }
            Body::Snapshot { snapshot } => {
                gate_snapshot(term, &snapshot.meta)?;
                if self.meet_leader(from, term)? {
                    self.on_snapshot(from, std::mem::take(snapshot))?;
                }
            }
            // A vote weighs the term itself.
            &mut Body::Vote { kind, last, commit } => {
                gate_vote(term, last, commit)?;
                self.on_vote(from, term, kind, last, commit)?;
            }
            &mut Body::VoteResp { pre, reject, commit } => {
                ensure(is_sound(commit), "votes with a log that cannot be")?;
                // A granted pre-vote is of the term that we asked about; nobody is in it yet.
                let ahead = pre && !reject;
                let in_time = if ahead { term == self.term.next() } else { self.meet_term(term) };
                if in_time {
                    self.on_vote_resp(from, pre, !reject, commit)?;
                }
            }
            Body::TimeoutNow => {
                if self.meet_term(term) {
                    self.on_timeout_now(from);
                }
            }
            &mut Body::ReadIndex { token } => self.on_read_index(from, token),
            &mut Body::ReadIndexResp { index, token, reject } => {
                if self.meet_term(term) {
                    self.on_read_index_resp(index, token, reject);
                }
            }
        }
        Ok(())
    }

    /// A message of `term` has come from whoever is not its leader, for all that it says. Catches up with it. False when
    /// it is of a term that is over, and says nothing any more.
    #[inline]
    fn meet_term(&mut self, term: Term) -> bool {
        if term > self.term {
            self.become_follower(term, PeerId::ZERO);
        }
        term == self.term
    }

    /// A message of `term` has come from `from`, which leads that term. Catches up with it. False when it is of a term
    /// that is over, and says nothing any more.
    #[inline]
    fn meet_leader(&mut self, from: PeerId, term: Term) -> Result<bool, Refused> {
        if term != self.term && !self.meet_leader_elsewhere(from, term) {
            return Ok(false);
        }
        if self.role == Role::Leader || (!self.lead.is_zero() && self.lead != from) {
            return Err(invalid("there are two leaders in one term"));
        }
        self.hear_leader(from);
        Ok(true)
    }

    /// The leader `from` is in `term`, and we are in another. True if that was behind, and now is not.
    fn meet_leader_elsewhere(&mut self, from: PeerId, term: Term) -> bool {
        if term < self.term {
            // That leader is deposed. The answer tells it, also when only we have moved on: a campaign that nobody
            // answered has left us in a term of our own, and so we come back together (etcd#5468).
            let commit = self.log.committed();
            self.send(from, Body::AppendResp { index: LogIndex::ZERO, commit, reject: None });
            return false;
        }
        self.become_follower(term, from);
        true
    }
}
