//! What both implementations are asked to do, so that every row is one piece of code that runs on either.

/// How a group behaves; the same on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) voters: Vec<u64>,
    /// Not empty: the group is in a joint configuration, which it left these voters for.
    pub(crate) outgoing: Vec<u64>,
    pub(crate) election_tick: u32,
    pub(crate) heartbeat_tick: u32,
    /// Which group it is: our timeouts follow from it, raft-rs throws dice.
    pub(crate) group: u64,
    pub(crate) max_inflight_messages: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            voters: vec![1, 2, 3],
            outgoing: Vec::new(),
            election_tick: 10,
            heartbeat_tick: 2,
            group: 1,
            max_inflight_messages: 256,
        }
    }
}

/// Where a log stands: term and index.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct At {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// One peer of one implementation, with its log.
pub(crate) trait Core: Sized {
    /// What peers send each other.
    type Message: Clone;
    /// What a driver keeps from turn to turn, once for all groups.
    type Room: Default;
    /// What the encoding row encodes into.
    type Wire;

    /// How it is called in the table.
    const NAME: &'static str;

    /// A peer that holds `log` (terms of the entries from index 1 on), all of it durable and `applied` of it applied.
    fn new(setup: &Setup, id: u64, log: &[u64], applied: u64) -> Self;

    /// A tick passes. True if there may be effects.
    fn tick(&mut self) -> bool;
    fn has_ready(&self) -> bool;
    fn campaign(&mut self);
    fn propose(&mut self, data: Vec<u8>);
    fn step(&mut self, message: Self::Message);
    /// Carries out all effects as a driver does whose disk answers at once: sends, writes, reports the write durable,
    /// sends what waited for it, applies, reports that.
    fn turn(&mut self, room: &mut Self::Room, out: &mut Vec<Self::Message>);

    fn leads(&self) -> bool;
    fn applied(&self) -> u64;
    fn last(&self) -> At;
    /// Drops the log before what is applied, but for `keep` entries.
    fn compact(&mut self, keep: u64);
    /// Takes the log away, so that what is left is the core with a handle. The peer cannot be used any more.
    fn forget_log(&mut self);
    /// Gives back what an idle peer does not need, where there is such a call.
    fn shrink(&mut self);

    fn to(message: &Self::Message) -> u64;
    fn is_append(message: &Self::Message) -> bool;
    /// An append of the leader `from`, with `entries` entries of `size` bytes.
    fn append(
        from: u64,
        to: u64,
        term: u64,
        prev: At,
        entries: u64,
        size: usize,
        commit: u64,
    ) -> Self::Message;
    /// The answer to an append.
    fn append_resp(from: u64, to: u64, term: u64, index: u64) -> Self::Message;
    /// The answer to `heartbeat`.
    fn heartbeat_resp(heartbeat: &Self::Message) -> Self::Message;

    fn wire() -> Self::Wire;
    /// Encodes into a buffer that is used again and again; returns the length.
    fn encode(message: &Self::Message, wire: &mut Self::Wire) -> usize;
    /// A whole message as bytes that can be decoded without copying payloads.
    fn encoded(message: &Self::Message) -> bytes::Bytes;
    fn decode(bytes: &bytes::Bytes) -> Self::Message;

    /// What index a quorum holds, as a leader finds it when an answer comes.
    fn quorum_reached(&mut self) -> u64;
}

/// A whole group in one thread. Messages arrive in the order in which they were sent.
pub(crate) struct Group<C: Core> {
    pub(crate) peers: Vec<C>,
    inbox: Vec<C::Message>,
    out: Vec<C::Message>,
    room: C::Room,
    uncompacted: u64,
}

impl<C: Core> Group<C> {
    /// A group that has elected its first peer and is quiet.
    pub(crate) fn led(setup: &Setup) -> Self {
        let members = setup.voters.iter().chain(&setup.outgoing).max().copied().unwrap_or(0);
        let peers = (1..=members).map(|id| C::new(setup, id, &[], 0)).collect();
        let mut group = Self {
            peers,
            inbox: Vec::new(),
            out: Vec::new(),
            room: C::Room::default(),
            uncompacted: 0,
        };
        group.peers[0].campaign();
        group.settle();
        assert!(group.peers[0].leads(), "{} does not elect who campaigns alone", C::NAME);
        group
    }

    /// Everybody takes turns until nobody has anything to say. Returns after how many rounds.
    pub(crate) fn settle(&mut self) -> u64 {
        let mut rounds = 0;
        // By bit: who may have something to do. At first that may be anybody, then whoever was sent something.
        let mut stirred = u64::MAX;
        loop {
            // One turn of a driver: all that came in is stepped first, then the effects are collected once.
            for message in self.inbox.drain(..) {
                let place = C::to(&message) as usize - 1;
                self.peers[place].step(message);
                stirred |= 1 << place;
            }
            for (place, peer) in self.peers.iter_mut().enumerate() {
                if stirred & 1 << place != 0 {
                    peer.turn(&mut self.room, &mut self.out);
                }
            }
            stirred = 0;
            if self.out.is_empty() {
                return rounds;
            }
            rounds += 1;
            std::mem::swap(&mut self.inbox, &mut self.out);
        }
    }

    /// Heartbeats go round, so that everybody knows what is committed, as on a group that has been idle for a while.
    pub(crate) fn beat(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for peer in &mut self.peers {
                peer.tick();
            }
            self.settle();
        }
    }

    /// The leader proposes `batch` values of `size` bytes and all goes its way until it has applied them.
    pub(crate) fn commit(&mut self, batch: u64, size: usize) {
        let leader = &mut self.peers[0];
        let goal = leader.last().index + batch;
        for _ in 0..batch {
            leader.propose(vec![7; size]);
        }
        self.settle();
        assert_eq!(self.peers[0].applied(), goal, "{} has not applied what was proposed", C::NAME);
        self.uncompacted += batch;
        if self.uncompacted >= 1024 {
            self.uncompacted = 0;
            for peer in &mut self.peers {
                peer.compact(256);
            }
        }
    }
}
