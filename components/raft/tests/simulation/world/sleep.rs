//! Groups that sleep: nobody visits a sleeping peer, until something comes for it.

use super::{TICK, World};
use env::Dice;
use raft::{Role, Wake};
use types::PeerId;

impl World {
    /// Whether `id` sleeps on. Now and then its store wakes it for no reason that concerns it.
    pub(super) fn sleeps_on(&mut self, id: PeerId) -> bool {
        if !self.asleep.contains(&id) {
            return false;
        }
        if self.network.has_arrived(self.now, id) || self.dice.chance(1, 40) {
            self.rouse(id);
            return false;
        }
        true
    }

    /// Puts `id` to sleep if it may.
    pub(super) fn fall_asleep(&mut self, id: PeerId) {
        let host = &self.hosts[&id];
        let idle = host.jobs.is_empty() && host.done.is_empty() && host.pages.is_empty();
        if idle && host.node.as_ref().is_some_and(|node| node.can_hibernate().is_ok()) {
            self.asleep.insert(id);
            self.node(id).shrink();
            self.summary.sleeps += 1;
            self.say(|| format!("{id} falls asleep"));
        }
    }

    /// `id` is wanted: it makes up for the time asleep, if it slept.
    pub(super) fn rouse(&mut self, id: PeerId) {
        if !self.asleep.remove(&id) {
            return;
        }
        let wake = match self.dice.below(4) {
            0 => Wake::Peer(self.any()),
            1 => Wake::LeaderLost,
            _ => Wake::Local,
        };
        let ticks = (self.now - self.hosts[&id].started) / TICK;
        let node = self.node(id);
        node.tick_n(ticks - node.tick_count());
        node.wake(wake);
        let (role, lead) = (node.status().role, node.status().lead);
        assert!(role != Role::Leader || lead == id, "a leader that wakes leads on");
        self.say(|| format!("{id} wakes, {wake:?}"));
    }
}
