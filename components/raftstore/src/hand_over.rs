//! What a leader does with the locks that only its memory has: it takes them over, brings them to the engine before it hands
//! its region over, and gives them up when it does not lead any more.

use crate::command::{Command, WriteItem};
use crate::held::HeldLock;
use crate::peer::{PeerState, Turn};
use crate::records::LOG_START;
use crate::seeded_bug::SeededBug;
use engine::{Cf, Engine};
use types::{Key, LogIndex, MonoTime, Term};
use wire::kv::KvError;

/// What a peer keeps about locks in memory.
#[derive(Default)]
pub(crate) struct Holding {
    /// The term in which it holds some, or may.
    led: Option<Term>,
    /// Of a piece of a region that was led here, from before the cut.
    pub(crate) inherited: Vec<(Key, HeldLock)>,
    /// The region is about to be handed over; what was held is in the log up to here.
    handed_over_at: Option<LogIndex>,
}

impl<E: Engine> PeerState<E> {
    /// Takes locks over when we begin to lead, and gives them up when we do not any more. To be called when the group says
    /// what it is, and before anybody is served by that.
    pub(crate) fn hold_as_led(&mut self, turn: &Turn<E>) {
        let term = self.raft.status().term;
        // Whoever leads a piece in its first term is the first to lead it. Later on others may have had the keys written.
        if term > first_term() && !turn.shared.config.bugs.has(SeededBug::InheritedInAnyTerm) {
            self.holding.inherited = Vec::new();
        }
        let led = self.is_leader().then_some(term);
        if led == self.holding.led {
            return;
        }
        let (region_id, version) = (self.region.id, self.region.epoch.version);
        if self.holding.led.is_some() {
            turn.shared.held.close(region_id);
        }
        (self.holding.led, self.holding.handed_over_at) = (led, None);
        if let Some(term) = led {
            let inherited = std::mem::take(&mut self.holding.inherited);
            turn.shared.held.open(region_id, term, version, inherited);
        }
    }

    /// Brings the locks that only we have into the log, before whoever leads next begins to; from now on there are no new
    /// ones.
    ///
    /// # Errors
    /// They cannot be proposed now: the region is not to be handed over.
    pub(crate) fn hand_over_locks(&mut self, turn: &Turn<E>) -> Result<(), KvError> {
        if self.holding.handed_over_at.is_some() {
            return Ok(());
        }
        let held = &turn.shared.held;
        let items = held.hand_over(self.region.id);
        if !items.is_empty() && !turn.shared.config.bugs.has(SeededBug::LocksNotHandedOver) {
            let command = Command::Write { version: self.region.epoch.version, items };
            if let Err((error, _)) = self.propose_command(&command, Vec::new(), MonoTime::MAX) {
                held.keep(self.region.id, true);
                return Err(error);
            }
        }
        self.holding.handed_over_at = Some(self.raft.status().last.index);
        Ok(())
    }

    /// We lead on, though we were about to hand over: locks are taken again as soon as the engine has the earlier ones. To be
    /// called while nothing is being handed over.
    pub(crate) fn hold_on(&mut self, turn: &Turn<E>) {
        let applied = self.applying.applied.index;
        if self.holding.handed_over_at.take_if(|at| *at <= applied).is_some() {
            turn.shared.held.keep(self.region.id, false);
        }
    }

    /// These writes were proposed: the locks that they change are not to be proposed after them.
    pub(crate) fn note_lock_changes(&self, turn: &Turn<E>, command: &Command) {
        let Command::Write { items, .. } = command else { return };
        if turn.shared.held.is_empty() {
            return;
        }
        let of_transactions = items.iter().filter_map(|item| match item {
            WriteItem::OfTxn { changes, .. } => Some(changes),
            _ => None,
        });
        let locks = of_transactions.flatten().filter(|change| change.cf() == Some(Cf::Lock));
        turn.shared.held.proposed(self.region.id, locks.map(crate::command::Change::key));
    }
}

/// The first term in which anybody leads a region that a split made.
fn first_term() -> Term {
    LOG_START.term.next()
}
