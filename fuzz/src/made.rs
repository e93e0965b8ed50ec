//! Values made of bytes: from few bytes something that a decoder would let pass, so that what stands behind it is reached.

use bytes::Bytes;
use raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Entry, EntryId, EntryKind, Message, Reject,
    Snapshot, SnapshotMeta, Transition, VoteKind,
};
use types::{LogIndex, PeerId, Term};

/// Numbers at which something might break; most of those drawn are small.
const EDGES: [u64; 8] =
    [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, (1 << 62) - 1, (1 << 62) - 2, u32::MAX as u64, 1 << 32];

/// Bytes that decide; when they are used up, everything is zero.
pub(crate) struct Source<'a> {
    bytes: &'a [u8],
    /// A position that is worth speaking of; most of those drawn are close to it.
    pub(crate) near: EntryId,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, near: EntryId::default() }
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::from(self.byte()) % bound
    }

    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..240 => u64::from(small) % 12,
            edge => EDGES[usize::from(edge) % EDGES.len()],
        }
    }

    fn index(&mut self) -> LogIndex {
        let near = self.near.index.0;
        match self.byte() {
            0..80 => LogIndex(near),
            close @ 80..200 => LogIndex((near + u64::from(close) % 4).saturating_sub(2)),
            _ => LogIndex(self.number()),
        }
    }

    fn term(&mut self) -> Term {
        let near = self.near.term.0;
        match self.byte() {
            0..160 => Term(near),
            close @ 160..220 => Term((near + u64::from(close) % 3).saturating_sub(1)),
            _ => Term(self.number()),
        }
    }

    fn id(&mut self) -> EntryId {
        EntryId::new(self.term(), self.index())
    }

    pub(crate) fn peer(&mut self) -> PeerId {
        PeerId(self.below(7))
    }

    fn peers(&mut self) -> Vec<PeerId> {
        // A set, mostly; sometimes what is none.
        let mask = self.byte();
        let mut peers: Vec<_> =
            (0..6).filter(|bit| mask & (1 << bit) != 0).map(|bit| PeerId(bit + 1)).collect();
        if mask & 0xc0 == 0xc0 {
            peers.reverse();
        }
        peers
    }

    pub(crate) fn conf_state(&mut self) -> ConfState {
        ConfState {
            voters: self.peers(),
            learners: self.peers(),
            voters_outgoing: self.peers(),
            learners_next: self.peers(),
            auto_leave: self.flag(),
        }
    }

    pub(crate) fn conf_change(&mut self) -> ConfChange {
        let transition =
            [Transition::Auto, Transition::JointImplicit, Transition::JointExplicit][self.below(3) as usize];
        let mut op = || ConfChangeOp {
            kind: [ConfChangeKind::AddVoter, ConfChangeKind::AddLearner, ConfChangeKind::Remove]
                [self.below(3) as usize],
            id: self.peer(),
        };
        let ops = (0..op().id.0 % 4).map(|_| op()).collect();
        ConfChange { transition, ops, context: Bytes::new() }
    }

    /// An entry; `at` and `term` are those that would follow, mostly.
    fn entry(&mut self, at: LogIndex, term: Term) -> Entry {
        let shape = self.byte();
        let index = if shape & 0x70 == 0x70 { self.index() } else { at };
        let term = if shape & 0x0c == 0x0c { self.term() } else { term };
        let (kind, data) = match shape & 3 {
            3 => (EntryKind::ConfChange, codec::Encode::to_bytes(&self.conf_change())),
            2 => (EntryKind::ConfChange, Bytes::from(vec![self.byte(); 3])),
            _ => (EntryKind::Normal, Bytes::from(vec![self.byte()])),
        };
        Entry { term, index, kind, data }
    }

    fn entries(&mut self, prev: EntryId, term: Term) -> Vec<Entry> {
        let count = self.below(5);
        (1..=count).map(|offset| self.entry(LogIndex(prev.index.0.wrapping_add(offset)), term)).collect()
    }

    /// A message, mostly from a member to us.
    pub(crate) fn message(&mut self, us: PeerId) -> Message {
        let (tag, from) = (self.below(13), self.peer());
        let to = if self.byte() > 250 { self.peer() } else { us };
        let term = self.term();
        let body = match tag {
            0 | 1 => {
                let prev = self.id();
                Body::Append { prev, entries: self.entries(prev, term).into(), commit: self.index() }
            }
            2 => {
                let reject = self.flag().then(|| Reject { rejected: self.index(), hint: self.id() });
                Body::AppendResp { index: self.index(), commit: self.index(), reject }
            }
            3 => {
                let kind = match self.below(3) {
                    0 => VoteKind::Pre,
                    1 => VoteKind::Real,
                    _ => VoteKind::Transfer { leader_term: self.term() },
                };
                Body::Vote { kind, last: self.id(), commit: self.id() }
            }
            4 | 5 => Body::VoteResp { pre: self.flag(), reject: self.flag(), commit: self.id() },
            6 => Body::Heartbeat { commit: self.index(), round: self.number() },
            7 => Body::HeartbeatResp { commit: self.index(), round: self.number() },
            8 => {
                let conf_state = match self.byte() {
                    0..200 => ConfState::of_voters((1..=3).map(PeerId)),
                    _ => self.conf_state(),
                };
                let index = LogIndex(self.index().0.saturating_add(self.below(3)));
                let meta = SnapshotMeta { index, term: self.term(), conf_state };
                Body::Snapshot { snapshot: Box::new(Snapshot { meta, data: Bytes::new() }) }
            }
            9 => Body::TimeoutNow,
            10 => Body::ReadIndex { token: self.number() },
            11 => Body::ReadIndexResp { index: self.index(), token: self.number(), reject: self.flag() },
            _ => Body::AppendResp { index: self.index(), commit: LogIndex(0), reject: None },
        };
        Message { from, to, term, body }
    }
}
