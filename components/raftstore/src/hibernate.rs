//! Regions that have nothing to do sleep: no heartbeats, no ticks, no visits.
//!
//! ```text
//! leader    Awake ── idle, all clean, all stores alive ──► Drowsy ── all agreed ──► Asleep
//! follower  Awake ── asked to, and as far as the leader, whose store is alive ──► Asleep (and says so)
//! ```
//!
//! Anything that happens to a region wakes it, and so does the loss of a store that it relies on: its leader's for a
//! follower, every member's for the leader (see `liveness.rs`). A leader that wakes asks everybody at once whether it
//! still is one. A follower that wakes by itself tells the leader, and campaigns if nobody answers within an election
//! timeout; one whose leader's store is lost campaigns at once.
//!
//! Nothing that keeps data safe depends on any of this: sleep only stops timers, and Raft is safe whatever its timers do.
//! The leader's lease ends before it sleeps, and is earned anew by a round that begins after it woke (INV-STORE-16); the
//! silence that a follower owes its leader is counted in ticks that it is told of when it wakes. What sleep could cost is
//! that nobody leads and nobody notices. So a follower sleeps only while its leader does: whoever ceases to lead says so,
//! and a leader that is awake is heard. And a leader sleeps only once every member has agreed at its own term and index;
//! a member that lags, is silent, comes, goes, or takes a snapshot keeps the whole group awake.

use crate::peer::{PeerState, Turn};
use engine::Engine;
use env::sim_point;
use raft::{Body, Role, VoteKind, Wake};
use types::{LogIndex, Peer, PeerId, StoreId, Term};
use wire::store::StoreMessage;

/// Regions that relied on a store which is lost wake within so many ticks: a part of an election timeout, so that they
/// do not all campaign at once and none waits for long.
const WAKE_WINDOW_TICKS: u64 = 5;

/// How deep a peer sleeps.
#[derive(Default, Debug)]
pub(crate) enum Rest {
    /// It ticks.
    #[default]
    Awake,
    /// It leads, still ticks, and has asked everybody whether all may sleep.
    Drowsy {
        /// Who has not agreed yet.
        left: Vec<PeerId>,
        /// The tick at which the next heartbeats leave, which wake everybody.
        until: u64,
    },
    /// Its time stands still.
    Asleep {
        /// Since this tick.
        since: u64,
        /// The stores that it relies on.
        relies_on: Vec<StoreId>,
    },
}

/// What a leader asks for that has nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) from: Peer,
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) attempt: u64,
}

/// A peer's sleep.
#[derive(Default, Debug)]
pub(crate) struct Hibernation {
    pub(crate) rest: Rest,
    /// Counts our attempts, as a leader.
    attempt: u64,
    /// The leader has asked us, in this turn: what else came with it is dealt with first.
    pub(crate) asked: Option<Asked>,
}

impl<E: Engine> PeerState<E> {
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.hibernation.rest, Rest::Asleep { .. })
    }

    /// The stores that a peer which sleeps relies on; none otherwise.
    pub(crate) fn relies_on(&self) -> &[StoreId] {
        match &self.hibernation.rest {
            Rest::Asleep { relies_on, .. } => relies_on,
            Rest::Awake | Rest::Drowsy { .. } => &[],
        }
    }

    /// Goes towards sleep as far as possible; at the end of a turn in which something happened here.
    pub(crate) fn settle_down(&mut self, turn: &mut Turn<E>) {
        if let Some(asked) = self.hibernation.asked.take() {
            self.sleep_as_asked(turn, asked);
        }
        match &self.hibernation.rest {
            Rest::Asleep { .. } => {}
            Rest::Awake => {
                if self.wants_sleep(turn) {
                    self.propose_sleep(turn);
                }
            }
            Rest::Drowsy { left, until } => {
                let (agreed, late) = (left.is_empty(), *until <= turn.ticks);
                if late || !self.wants_sleep(turn) || sim_point!("raftstore.stay_awake") {
                    self.stay_awake(turn);
                } else if agreed {
                    self.fall_asleep(turn, self.other_stores());
                }
            }
        }
    }

    /// We lead, nobody has wanted anything of the region for long, and nothing is under way.
    fn wants_sleep(&mut self, turn: &Turn<E>) -> bool {
        let after = turn.shared.config.hibernate_after_ticks();
        self.note_growth(turn.ticks);
        if after == 0 || !self.is_leader() || self.quiet_ticks(turn.ticks) < after {
            return false;
        }
        let pending = self.report.due || !self.report.pending.is_empty() || !self.removed.is_empty();
        let measuring = self.size.measuring
            || self.size.measure_at.is_some()
            || self.wants_measuring(&turn.shared.config, turn.now);
        if turn.stalled || turn.liveness.sleepless || pending || measuring || !self.can_rest() {
            return false;
        }
        // Reads under the lease pass the worker by.
        let read = self.delegate.as_ref().is_some_and(|delegate| delegate.take_use());
        if read {
            self.stir(turn.ticks);
        }
        !read
    }

    /// Nobody waits for anything here, and nothing is under way.
    fn can_rest(&self) -> bool {
        self.is_normal()
            && self.is_initialized()
            && self.unpersisted == 0
            && self.incoming.is_none()
            && self.applying.splits.is_empty()
            && !self.somebody_waits()
            && self.raft.can_hibernate().is_ok()
    }

    fn others(&self) -> impl Iterator<Item = &Peer> {
        self.region.peers.iter().filter(|peer| peer.id != self.me.id)
    }

    fn other_stores(&self) -> Vec<StoreId> {
        self.others().map(|peer| peer.store_id).collect()
    }

    fn is_live(&self, turn: &Turn<E>, store: StoreId, since: Option<u64>) -> bool {
        let now = (turn.ticks, u64::from(turn.shared.config.election_ticks));
        turn.liveness.is_live(store, self.region.id, since, now)
    }

    /// Asks all members whether the group may sleep, once all their stores are known to be at work.
    fn propose_sleep(&mut self, turn: &mut Turn<E>) {
        let stores = self.other_stores();
        let heartbeat = u64::from(turn.shared.config.heartbeat_ticks);
        if !stores.iter().all(|store| self.is_live(turn, *store, None)) {
            let until = turn.ticks + 2 * u64::from(turn.shared.config.election_ticks);
            return turn.liveness.want(&stores, until);
        }
        self.hibernation.attempt += 1;
        let status = self.raft.status();
        for to in self.others().copied() {
            let message = StoreMessage::Sleep {
                region_id: self.region.id,
                from: self.me,
                to,
                term: status.term,
                index: status.last.index,
                attempt: self.hibernation.attempt,
            };
            turn.out.messages.push((to.store_id, message));
        }
        let left: Vec<PeerId> = self.others().map(|peer| peer.id).collect();
        match left.is_empty() {
            true => self.fall_asleep(turn, Vec::new()),
            false => self.hibernation.rest = Rest::Drowsy { left, until: turn.ticks + heartbeat },
        }
    }

    /// The attempt has failed: the next one is due after as long a pause. Whoever sleeps already hears the next heartbeat.
    fn stay_awake(&mut self, turn: &Turn<E>) {
        self.hibernation.rest = Rest::Awake;
        self.stir(turn.ticks);
    }

    /// A member sleeps.
    pub(crate) fn on_sleep_agreed(&mut self, from: PeerId, attempt: u64) {
        if attempt == self.hibernation.attempt
            && let Rest::Drowsy { left, .. } = &mut self.hibernation.rest
        {
            left.retain(|id| *id != from);
        }
    }

    /// The leader has asked whether we can sleep.
    fn sleep_as_asked(&mut self, turn: &mut Turn<E>, asked: Asked) {
        let Asked { from, term, index, attempt } = asked;
        let status = self.raft.status();
        let same = status.role == Role::Follower
            && (status.lead, status.term) == (from.id, term)
            && (status.last.index, status.committed, self.applying.applied.index) == (index, index, index);
        if !self.is_asleep() {
            let free = !turn.stalled && !turn.liveness.sleepless && self.can_rest();
            if !same || !free || !self.is_live(turn, from.store_id, None) {
                return;
            }
            self.fall_asleep(turn, vec![from.store_id]);
        } else if !same {
            return self.wake_and_tell(turn);
        }
        let (region_id, to) = (self.region.id, from);
        let agreed = StoreMessage::SleepAgreed { region_id, from: self.me, to, attempt };
        turn.out.messages.push((from.store_id, agreed));
    }

    fn fall_asleep(&mut self, turn: &mut Turn<E>, relies_on: Vec<StoreId>) {
        self.revoke_lease(turn);
        self.give_back();
        turn.liveness.rely_on(&relies_on);
        turn.liveness.sleeps += 1;
        self.hibernation.rest = Rest::Asleep { since: turn.ticks, relies_on };
    }

    /// Time goes on. Nothing happens to a peer that is awake, but that it stays so.
    pub(crate) fn wake_up(&mut self, turn: &mut Turn<E>, why: Wake) {
        match std::mem::take(&mut self.hibernation.rest) {
            Rest::Awake => {}
            Rest::Drowsy { .. } => {
                self.stay_awake(turn);
                self.raft.ping();
                turn.dirty.push(self.region.id);
            }
            Rest::Asleep { relies_on, .. } => {
                turn.liveness.release(&relies_on);
                self.catch_up(turn.ticks);
                self.raft.wake(why);
                self.stir(turn.ticks);
                // The silence of those who slept means nothing (tikv#10017).
                self.report.heard.values_mut().for_each(|heard| *heard = turn.now);
                turn.dirty.push(self.region.id);
            }
        }
    }

    /// Wakes for a reason of our own, so that the leader may have to be told.
    pub(crate) fn wake_and_tell(&mut self, turn: &mut Turn<E>) {
        if !self.is_asleep() {
            return;
        }
        self.wake_up(turn, Wake::Local);
        let lead = self.raft.status().lead;
        if lead != self.me.id
            && let Some(to) = self.find_peer(lead)
        {
            turn.out.messages.push((to.store_id, StoreMessage::Wake { region_id: self.region.id, to }));
        }
    }

    /// We have ceased to lead, for whatever reason: nobody sleeps on in the belief that we do.
    pub(crate) fn wake_others(&self, turn: &mut Turn<E>) {
        // While our log is stuck we are not said to be alive, which wakes them as well.
        if turn.shared.config.hibernate_after_ticks() > 0 && !turn.stalled {
            let wake = |to: &Peer| (to.store_id, StoreMessage::Wake { region_id: self.region.id, to: *to });
            turn.out.messages.extend(self.others().map(wake));
        }
    }

    /// A peer that sleeps is looked at: wakes if it cannot go on relying on those it relies on, else tells PD how it is.
    pub(crate) fn look_up(&mut self, turn: &mut Turn<E>) {
        let Rest::Asleep { since, relies_on } = &self.hibernation.rest else { return };
        if relies_on.iter().all(|store| self.is_live(turn, *store, Some(*since))) {
            return self.report(turn);
        }
        turn.liveness.losses += 1;
        if self.is_leader() {
            // Members that come back may have lost what they were sent last; those that do not are missed from now on.
            return self.wake_up(turn, Wake::Local);
        }
        self.wake_up(turn, Wake::LeaderLost);
        // Refused where nothing can be won: then the timeout decides.
        let _later = self.drive(turn, |peer, _| peer.raft.campaign()).is_err();
    }

    /// Whether what must hold of a peer that sleeps does.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn check_sleep(&self) -> Result<(), String> {
        let id = self.region.id;
        if !self.is_asleep() {
            return Ok(());
        }
        if self.delegate.is_some() {
            return Err(format!("INV-STORE-16: region {id} sleeps and has a lease"));
        }
        if !self.can_rest() {
            let why = self.raft.can_hibernate();
            return Err(format!("INV-STORE-16: region {id} sleeps, but is not at rest: {why:?}"));
        }
        Ok(())
    }

    /// When a peer that sleeps, and relied on a store that is lost, is looked at.
    pub(crate) fn wake_tick(&self, turn: &Turn<E>) -> u64 {
        turn.ticks + 1 + (self.region.id.get() ^ self.me.id.get()) % WAKE_WINDOW_TICKS
    }

    /// True for a message that a peer sleeps through.
    pub(crate) fn sleeps_through(&mut self, turn: &mut Turn<E>, message: &raft::Message) -> bool {
        if !self.is_asleep() {
            return false;
        }
        let status = self.raft.status();
        match &message.body {
            // An answer that was overtaken by the agreement to sleep.
            Body::HeartbeatResp { .. } | Body::AppendResp { reject: None, .. } => {
                self.is_leader() && message.term == status.term
            }
            // Somebody has lost touch with the group. Its leader can be reached, and will be heard by both of us; should it
            // not lead any more, the next question finds us awake.
            Body::Vote { kind: VoteKind::Pre, .. } if !self.is_leader() => {
                let live = self.relies_on().iter().all(|store| self.is_live(turn, *store, None));
                self.wake_and_tell(turn);
                live
            }
            _ => false,
        }
    }
}
