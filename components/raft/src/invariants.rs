//! What must hold between any two calls, whatever comes in. The names are those of `docs/INVARIANTS.md`.

use crate::{InvariantViolated, RawNode, Role, Storage};
use types::LogIndex;

/// Whether a rule holds; if not, which does not and what was found.
type Verdict = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

impl<S: Storage> RawNode<S> {
    /// What must hold between any two calls. For tests and simulation; costs a walk over everything.
    ///
    /// # Errors
    /// The first invariant found violated: a mistake of ours.
    pub fn check_invariants(&self) -> Result<(), InvariantViolated> {
        self.check_all().map_err(|what| InvariantViolated(format!("peer {}: {what}", self.config.id)))
    }

    fn check_all(&self) -> Verdict {
        self.log.violation().map_or(Ok(()), Err)?;
        self.check_hard_state()?;
        self.check_members()?;
        self.check_role()?;
        ensure(self.tick >= self.silent_until || !self.must_speak(), || {
            format!("there is something to say, but nobody asks before tick {}", self.silent_until)
        })?;
        self.check_leader()
    }

    fn check_hard_state(&self) -> Verdict {
        let (handed, last) = (&self.handed_state, self.log.last());
        let term_falls = self.durable_term > self.term || last.term > self.term || handed.term > self.term;
        ensure(!term_falls, || {
            let (durable, term) = (self.durable_term, self.term);
            format!("INV-RAFT-10: term {term} behind {durable}, which is durable, {handed:?} or {last:?}")
        })?;
        let voted = handed.term == self.term && !handed.vote.is_zero();
        ensure(!voted || self.vote == handed.vote, || {
            format!("INV-RAFT-11: voted for {} in term {}, now for {}", handed.vote, self.term, self.vote)
        })?;
        ensure(handed.commit <= self.log.committed(), || {
            format!("INV-RAFT-6: committed {} after {}", self.log.committed(), handed.commit)
        })
    }

    fn check_members(&self) -> Verdict {
        if let Err(what) = self.conf.validate() {
            return Err(format!("INV-RAFT-15: members {:?}: {what}", self.conf));
        }
        let coming = self.rare.as_ref().and_then(|rare| rare.installing_conf.as_ref());
        ensure(self.log.is_installing() == coming.is_some(), || format!("members to come: {coming:?}"))
    }

    fn check_role(&self) -> Verdict {
        ensure((self.role == Role::Leader) == self.leader.is_some(), || {
            format!("as {:?}, leader state: {}", self.role, self.leader.is_some())
        })?;
        let lead_ok = match self.role {
            Role::Leader => self.lead == self.config.id,
            Role::Candidate | Role::PreCandidate => self.lead.is_zero(),
            Role::Follower => self.lead != self.config.id,
        };
        ensure(lead_ok, || format!("as {:?}, follows {}", self.role, self.lead))
    }

    fn check_leader(&self) -> Verdict {
        let Some(leader) = &self.leader else { return Ok(()) };
        let (last, committed, persisted) = (self.log.last(), self.log.committed(), self.log.persisted());
        ensure(self.vote == self.config.id && self.timer.heard_term == self.term, || {
            format!("INV-RAFT-11: leads term {} by a vote for {}", self.term, self.vote)
        })?;
        ensure(leader.peers.iter().map(|(id, _)| id).eq(self.conf.members()), || {
            "progress is kept of others than the members".to_owned()
        })?;
        for (id, progress) in leader.peers.iter() {
            ensure(progress.matched < progress.next && progress.matched <= last.index, || {
                format!("INV-RAFT-9: progress of {id}: {progress:?}, last {last:?}")
            })?;
        }
        let own = leader.peers.get(self.config.id).map_or(LogIndex::ZERO, |progress| progress.matched);
        ensure(own <= persisted, || {
            format!("INV-RAFT-8: counts on {own} of its own, durable up to {persisted}")
        })?;
        let bytes = leader.uncommitted.bytes();
        ensure(committed < last.index || bytes == 0, || format!("{bytes} bytes uncommitted of nothing"))?;
        ensure(leader.rounds.reads() == 0 || committed >= leader.term_start, || {
            format!("INV-RAFT-17: reads wait, committed {committed} before {}", leader.term_start)
        })?;
        // Older ones may be committed and applied elsewhere, unknown to us.
        let own_changes = self.log.conf_entries().iter().filter(|&&at| at >= leader.term_start);
        ensure(own_changes.count() <= 1, || {
            format!("INV-RAFT-15: several changes unapplied: {:?}", self.log.conf_entries())
        })?;
        let latest = self.log.conf_entries().last().copied().unwrap_or_default();
        ensure(latest <= leader.pending_conf_index, || {
            format!("INV-RAFT-15: a change at {latest}, known of up to {}", leader.pending_conf_index)
        })
    }
}
