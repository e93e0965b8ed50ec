//! How stores are linked to each other, and how their threads are at times.

use crate::cluster::World;
use crate::network::Lane;
use env::Dice;
use std::time::Duration;

/// How stores talk to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreLinks {
    /// On connections, as in the product, or by datagrams, which is harder on Raft.
    pub lane: Lane,
    /// Each message travels alone.
    pub one_by_one: bool,
    /// How long a thread may take to notice that there is work.
    pub hand_over_max: Duration,
    /// How many threads the actors share; zero: each has one of its own.
    pub threads: u64,
    /// Of so many steps of a thread, after one the rest of the world may go first; zero: after none.
    pub pause_one_in: u64,
    /// Of so many turns, one is the last that its thread takes for a while; zero for none.
    pub stall_one_in: u64,
    /// The same for appliers alone, in half of the processes: they are behind while all else goes on; zero for none.
    pub lag_one_in: u64,
    /// How long an applier stands still at most.
    pub lag_max: Duration,
    /// Of so many pieces of snapshots, one is damaged before anything guards it; zero for none.
    pub damage_one_in: u64,
}

impl StoreLinks {
    /// Threads that keep up, on a lane that damages nothing.
    pub(crate) const fn calm(lane: Lane) -> Self {
        Self {
            lane,
            one_by_one: false,
            hand_over_max: Duration::ZERO,
            threads: 0,
            pause_one_in: 0,
            stall_one_in: 0,
            lag_one_in: 0,
            lag_max: Duration::ZERO,
            damage_one_in: 0,
        }
    }

    /// Whether something else may come before the next step of a thread that has begun something.
    pub(super) fn pauses(&self, world: &mut World<'_>) -> bool {
        self.pause_one_in > 0 && world.dice().chance(1, self.pause_one_in)
    }
}
