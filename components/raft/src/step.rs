//! A message comes in: the gate that checks what it claims, and the way to whom it concerns.

use crate::error::Poison;
use crate::slice::LogSlice;
use crate::{Body, ConfState, EntryId, Message, RawNode, Role, StepError, Storage};
use std::cmp::Ordering;
use types::{LogIndex, PeerId, Term};

/// Terms and positions from outside stay below this, so that counting on from them cannot overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// Whether the parts of a message fit together.
fn gate(message: &Message) -> Result<(), &'static str> {
    let id_ok = |id: &EntryId| id.term.0 < NUMBER_MAX && id.index.0 < NUMBER_MAX;
    if message.from.is_zero() {
        return Err("sent by nobody");
    }
    if message.term.0 >= NUMBER_MAX {
        return Err("term out of range");
    }
    if message.term.is_zero() != matches!(message.body, Body::ReadIndex { .. }) {
        return Err("without a term, or with one that it must not have");
    }
    match &message.body {
        // Whether its entries make a run is seen when they become one.
        Body::Append { prev, .. } if !id_ok(prev) => Err("appends after a position out of range"),
        Body::AppendResp { index, reject, .. } => {
            let hint_ok = reject.is_none_or(|reject| reject.rejected.0 < NUMBER_MAX && id_ok(&reject.hint));
            if hint_ok && index.0 < NUMBER_MAX { Ok(()) } else { Err("acknowledges a position out of range") }
        }
        Body::Vote { last, commit, .. } => {
            if !id_ok(last) || !id_ok(commit) || commit.index > last.index || last.term > message.term {
                return Err("campaigns with a log that cannot be");
            }
            Ok(())
        }
        Body::VoteResp { commit, .. } if !id_ok(commit) => Err("votes with a log that cannot be"),
        Body::Snapshot { snapshot } => {
            let meta = &snapshot.meta;
            let id = EntryId::new(meta.term, meta.index);
            if !id_ok(&id) || meta.index.is_zero() || meta.term.is_zero() || meta.term > message.term {
                return Err("snapshot at a position out of range");
            }
            meta.conf_state.validate()
        }
        _ => Ok(()),
    }
}

/// Whether the storage's members make a configuration.
pub(crate) fn gate_conf(conf: &ConfState) -> Result<(), Poison> {
    conf.validate().map_err(|what| Poison(format!("storage, members: {what}")))
}

impl<S: Storage> RawNode<S> {
    pub(crate) fn step_message(&mut self, message: Message) -> Result<(), StepError> {
        if message.to != self.config.id {
            return Err(StepError::NotForUs { to: message.to });
        }
        if message.from == self.config.id {
            return Err(StepError::Invalid("sent by ourselves"));
        }
        gate(&message).map_err(StepError::Invalid)?;
        let Message { from, term, body, .. } = message;
        match body {
            // A vote weighs the term itself.
            Body::Vote { kind, last, commit } => return Ok(self.on_vote(from, term, kind, last, commit)?),
            Body::ReadIndex { token } => {
                self.on_read_index(from, token);
                return Ok(());
            }
            // Granted for the term that we asked about; nobody is in it yet.
            Body::VoteResp { pre: true, reject: false, commit } => {
                if term == self.term.next() {
                    self.on_vote_resp(from, true, true, commit)?;
                }
                return Ok(());
            }
            Body::Append { prev, entries, commit } => {
                let slice = LogSlice::new(term, prev, entries).map_err(StepError::Invalid)?;
                if self.meet_term(from, term, true)? {
                    self.on_append(from, slice, commit)?;
                }
                return Ok(());
            }
            _ => {}
        }
        let of_leader = matches!(body, Body::Heartbeat { .. } | Body::Snapshot { .. });
        if !self.meet_term(from, term, of_leader)? {
            return Ok(());
        }
        match body {
            Body::Heartbeat { commit, round } => self.on_heartbeat(from, commit, round)?,
            Body::Snapshot { snapshot } => self.on_snapshot(from, *snapshot)?,
            Body::AppendResp { index, reject, .. } => self.on_append_resp(from, index, reject)?,
            Body::HeartbeatResp { commit, round } => self.on_heartbeat_resp(from, commit, round)?,
            Body::VoteResp { pre, reject, commit } => self.on_vote_resp(from, pre, !reject, commit)?,
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::ReadIndexResp { index, token, reject } => self.on_read_index_resp(index, token, reject),
            Body::Append { .. } | Body::Vote { .. } | Body::ReadIndex { .. } => unreachable!("handled above"),
        }
        Ok(())
    }

    /// A message of `term` has come from `from`, which leads that term if the message is one `of_leader`. Catches up with
    /// it. False when it is of a term that is over, and says nothing any more.
    fn meet_term(&mut self, from: PeerId, term: Term, of_leader: bool) -> Result<bool, StepError> {
        match term.cmp(&self.term) {
            Ordering::Greater => {
                let lead = if of_leader { from } else { PeerId::ZERO };
                self.become_follower(term, lead);
            }
            Ordering::Less => {
                if of_leader {
                    // That leader is deposed. The answer tells it, also when only we have moved on: a campaign that
                    // nobody answered has left us in a term of our own, and so we come back together (etcd#5468).
                    let commit = self.log.committed();
                    self.send(from, Body::AppendResp { index: LogIndex::ZERO, commit, reject: None });
                }
                return Ok(false);
            }
            Ordering::Equal => {}
        }
        if of_leader {
            if self.role == Role::Leader || (!self.lead.is_zero() && self.lead != from) {
                return Err(StepError::Invalid("there are two leaders in one term"));
            }
            self.hear_leader(from);
        }
        Ok(true)
    }
}
