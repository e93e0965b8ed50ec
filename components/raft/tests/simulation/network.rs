//! The network between the peers of one group.

use codec::{Decode, Encode};
use env::{Dice, SplitMix};
use raft::Message;
use std::collections::BTreeSet;
use types::PeerId;

/// Messages on their way.
pub(crate) struct Network {
    dice: SplitMix,
    /// When it arrives, and what.
    flying: Vec<(u64, Message)>,
    /// Directed links that lose everything.
    cut: BTreeSet<(PeerId, PeerId)>,
    /// Of a hundred messages.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) delay_max: u64,
}

impl Network {
    pub(crate) fn new(mut dice: SplitMix) -> Self {
        let (lost, repeated) = (dice.below(10), dice.below(10));
        let delay_max = [2, 10, 40][dice.below(3) as usize];
        Self { dice, flying: Vec::new(), cut: BTreeSet::new(), lost, repeated, delay_max }
    }

    /// False if the message is lost and the sender notices.
    pub(crate) fn send(&mut self, now: u64, message: &Message) -> bool {
        if self.cut.contains(&(message.from, message.to)) || self.dice.chance(self.lost, 100) {
            return self.dice.chance(3, 4);
        }
        let copies = 1 + u64::from(self.dice.chance(self.repeated, 100));
        for _ in 0..copies {
            let bytes = message.to_bytes();
            let message = Message::from_bytes(&bytes).expect("what we encode we decode");
            let straggles = self.dice.chance(1, 50);
            let delay =
                self.dice.below(self.delay_max + 1) + if straggles { self.dice.below(300) } else { 0 };
            self.flying.push((now + delay, message));
        }
        true
    }

    /// Whether there is something for `to`.
    pub(crate) fn has_arrived(&self, now: u64, to: PeerId) -> bool {
        self.flying.iter().any(|(at, message)| *at <= now && message.to == to)
    }

    /// Takes what has arrived at `to`, in any order.
    pub(crate) fn receive(&mut self, now: u64, to: PeerId) -> Vec<Message> {
        let mut arrived = Vec::new();
        let mut at = 0;
        while at < self.flying.len() {
            if self.flying[at].0 <= now && self.flying[at].1.to == to {
                arrived.push(self.flying.swap_remove(at).1);
            } else {
                at += 1;
            }
        }
        arrived
    }

    /// Cuts some links of `peers`, or mends all.
    pub(crate) fn cut_some(&mut self, peers: &[PeerId]) {
        self.cut.clear();
        match self.dice.below(4) {
            0 | 1 => {}
            // One peer alone.
            2 => {
                let lone = peers[self.dice.below(peers.len() as u64) as usize];
                self.cut_off(lone, peers);
            }
            // Any links, in either direction.
            _ => {
                for &from in peers {
                    for &to in peers {
                        if self.dice.chance(1, 3) {
                            self.cut.insert((from, to));
                        }
                    }
                }
            }
        }
    }

    /// Nothing reaches `lone` from `peers`, or them from it.
    pub(crate) fn cut_off(&mut self, lone: PeerId, peers: &[PeerId]) {
        for &peer in peers {
            self.cut.insert((lone, peer));
            self.cut.insert((peer, lone));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        (self.lost, self.repeated, self.delay_max) = (0, 0, 1);
    }
}
