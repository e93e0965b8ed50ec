//! How the words of this crate become bytes.
//!
//! Structs are length-delimited and only ever grow at their end; tags are never used again. Payloads are slices of the
//! input, never copies. What is decoded is well formed but not yet believed: [`RawNode::step`](crate::RawNode::step)
//! checks what a message claims.

use crate::{
    Body, ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Entries, Entry, EntryId, EntryKind, HardState,
    LogMark, Message, Reject, Snapshot, SnapshotMeta, Transition, VoteKind,
};
use bytes::BytesMut;
use codec::{
    Decode, DecodeError, Encode, Reader, codec_enum, codec_struct, put_delimited, put_varint, varint_len,
};
use types::PeerId;

/// Enums without fields take one byte.
macro_rules! one_byte {
    ($ty:ident { $($tag:literal = $variant:ident),* $(,)? }) => {
        impl Encode for $ty {
            fn encode(&self, out: &mut BytesMut) {
                let tag: u8 = match self { $( Self::$variant => $tag, )* };
                tag.encode(out);
            }
        }
        impl Decode for $ty {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match u8::decode(reader)? {
                    $( $tag => Ok(Self::$variant), )*
                    tag => Err(DecodeError::UnknownVariant { of: stringify!($ty), tag: tag.into() }),
                }
            }
        }
    };
}

one_byte!(EntryKind { 0 = Normal, 1 = ConfChange });
one_byte!(ConfChangeKind { 0 = AddVoter, 1 = AddLearner, 2 = Remove });
one_byte!(Transition { 0 = Auto, 1 = JointImplicit, 2 = JointExplicit });

codec_struct!(EntryId { term, index });
codec_struct!(LogMark { accepted_term, index });
codec_struct!(HardState { term, vote, commit, lead, lead_epoch });
codec_struct!(ConfChange { transition, ops, context });
codec_struct!(SnapshotMeta { index, term, conf_state });
codec_struct!(Snapshot { meta, data });
codec_struct!(Reject { rejected, hint });

codec_enum!(VoteKind { 0 = Pre, 1 = Real, 2 = Transfer { leader_term } });
codec_enum!(Body {
    1 = Append { prev, entries, commit },
    2 = AppendResp { index, commit, reject },
    3 = Vote { kind, last, commit },
    4 = VoteResp { pre, reject, commit },
    5 = Heartbeat { commit, round },
    6 = HeartbeatResp { commit, round },
    7 = Snapshot { snapshot },
    8 = TimeoutNow,
    9 = ReadIndex { token },
    10 = ReadIndexResp { index, token, reject },
});

/// A member that is more or less than its list says (one that votes and holds no data, say). This version knows none.
struct SpecialMember {
    id: PeerId,
    role: u8,
}
codec_struct!(SpecialMember { id, role });

impl Encode for ConfState {
    fn encode(&self, out: &mut BytesMut) {
        put_delimited(out, |out| {
            self.voters.encode(out);
            self.learners.encode(out);
            self.voters_outgoing.encode(out);
            self.learners_next.encode(out);
            self.auto_leave.encode(out);
            // Here follows the list of special members, if there are any.
        });
    }
}

impl Decode for ConfState {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        fn field<T: Decode>(r: &mut Reader<'_>) -> Result<T, DecodeError> {
            if r.is_at_end() { T::missing() } else { T::decode(r) }
        }
        reader.delimited(|r| {
            let conf = Self {
                voters: field(r)?,
                learners: field(r)?,
                voters_outgoing: field(r)?,
                learners_next: field(r)?,
                auto_leave: field(r)?,
            };
            // Whoever takes such a member for what its list says may count on data that it does not hold.
            match field::<Vec<SpecialMember>>(r)?.first() {
                None => Ok(conf),
                Some(special) => {
                    Err(DecodeError::UnknownVariant { of: "role of a member", tag: special.role.into() })
                }
            }
        })
    }
}

impl Encode for Entry {
    fn encode(&self, out: &mut BytesMut) {
        // The length is known beforehand, so that a large payload is written once, in its place.
        let len = varint_len(self.term.0)
            + varint_len(self.index.0)
            + 1
            + varint_len(self.data.len() as u64)
            + self.data.len();
        out.reserve(len + 10);
        put_varint(out, len as u64);
        let start = out.len();
        self.term.encode(out);
        self.index.encode(out);
        self.kind.encode(out);
        self.data.encode(out);
        debug_assert_eq!(out.len() - start, len, "an entry takes as many bytes as announced");
    }
}

impl Decode for Entry {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.delimited(|r| {
            Ok(Self {
                term: Decode::decode(r)?,
                index: Decode::decode(r)?,
                kind: Decode::decode(r)?,
                data: Decode::decode(r)?,
            })
        })
    }
}

impl Encode for Entries {
    fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.len() as u64);
        for entry in self {
            entry.encode(out);
        }
    }
}

impl Decode for Entries {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Vec::<Entry>::decode(reader).map(Self::from)
    }

    fn missing() -> Result<Self, DecodeError> {
        Vec::<Entry>::missing().map(Self::from)
    }
}

// An operation has no default, and a message without a body says nothing: both must be whole.

impl Encode for ConfChangeOp {
    fn encode(&self, out: &mut BytesMut) {
        put_delimited(out, |out| {
            self.kind.encode(out);
            self.id.encode(out);
        });
    }
}

impl Decode for ConfChangeOp {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.delimited(|r| Ok(Self { kind: Decode::decode(r)?, id: Decode::decode(r)? }))
    }
}

impl Encode for Message {
    fn encode(&self, out: &mut BytesMut) {
        put_delimited(out, |out| {
            self.from.encode(out);
            self.to.encode(out);
            self.term.encode(out);
            self.body.encode(out);
        });
    }
}

impl Decode for Message {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.delimited(|r| {
            Ok(Self {
                from: Decode::decode(r)?,
                to: Decode::decode(r)?,
                term: Decode::decode(r)?,
                body: Decode::decode(r)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::{LogIndex, Term};

    fn samples() -> Vec<Message> {
        let entry = |index: u64, data: &[u8]| Entry {
            term: Term(300),
            index: LogIndex(index),
            kind: EntryKind::Normal,
            data: Bytes::copy_from_slice(data),
        };
        let change = ConfChange {
            transition: Transition::JointExplicit,
            ops: vec![ConfChangeOp { kind: ConfChangeKind::AddLearner, id: PeerId(9) }],
            context: Bytes::from_static(b"peer 9 on store 4"),
        };
        let conf_entry = Entry { kind: EntryKind::ConfChange, data: change.to_bytes(), ..entry(2, b"") };
        let id = EntryId::new(Term(2), LogIndex(1 << 40));
        let conf_state = ConfState {
            voters: vec![PeerId(1), PeerId(2)],
            learners: vec![PeerId(3)],
            voters_outgoing: vec![PeerId(1)],
            learners_next: vec![PeerId(7)],
            auto_leave: true,
        };
        let meta = SnapshotMeta { index: LogIndex(8), term: Term(2), conf_state };
        let snapshot = Box::new(Snapshot { meta, data: Bytes::from_static(b"where") });
        let bodies = vec![
            Body::Append {
                prev: id,
                entries: vec![entry(1, &[7; 5000]), conf_entry].into(),
                commit: LogIndex(3),
            },
            Body::AppendResp { index: LogIndex(5), commit: LogIndex(4), reject: None },
            Body::AppendResp {
                index: LogIndex(0),
                commit: LogIndex(4),
                reject: Some(Reject { rejected: LogIndex(9), hint: id }),
            },
            Body::Vote { kind: VoteKind::Pre, last: id, commit: id },
            Body::Vote { kind: VoteKind::Transfer { leader_term: Term(6) }, last: id, commit: id },
            Body::VoteResp { pre: true, reject: true, commit: id },
            Body::Heartbeat { commit: LogIndex(7), round: 12 },
            Body::HeartbeatResp { commit: LogIndex(7), round: 12 },
            Body::Snapshot { snapshot },
            Body::TimeoutNow,
            Body::ReadIndex { token: u64::MAX },
            Body::ReadIndexResp { index: LogIndex(1), token: 4, reject: true },
        ];
        bodies
            .into_iter()
            .map(|body| Message { from: PeerId(1), to: PeerId(2), term: Term(9), body })
            .collect()
    }

    #[test]
    fn every_message_survives_the_wire() {
        for message in samples() {
            assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
        }
    }

    #[test]
    fn members_in_a_role_that_we_do_not_know_are_refused() {
        let conf = ConfState::of_voters([PeerId(1), PeerId(2)]);
        assert_eq!(ConfState::from_bytes(&conf.to_bytes()), Ok(conf.clone()));
        let mut out = BytesMut::new();
        put_delimited(&mut out, |out| {
            out.extend_from_slice(&conf.to_bytes()[1..]);
            vec![SpecialMember { id: PeerId(2), role: 1 }].encode(out);
        });
        assert_eq!(
            ConfState::from_bytes(&out.freeze()),
            Err(DecodeError::UnknownVariant { of: "role of a member", tag: 1 })
        );
    }

    #[test]
    fn payloads_are_slices_of_the_input() {
        let bytes = samples()[0].to_bytes();
        let Body::Append { entries, .. } = Message::from_bytes(&bytes).expect("just encoded").body else {
            panic!("an append was encoded");
        };
        let input = bytes.as_ptr_range();
        assert!(input.contains(&entries[0].data.as_ptr()), "the payload was copied");
    }

    #[test]
    fn a_message_cut_short_anywhere_is_an_error_and_never_a_panic() {
        for message in samples() {
            let whole = message.to_bytes();
            for len in 0..whole.len() {
                assert!(Message::from_bytes(&whole.slice(..len)).is_err(), "{message:?} cut to {len} bytes");
            }
        }
    }

    #[test]
    fn no_single_damaged_byte_panics() {
        for message in samples() {
            let whole = message.to_bytes();
            for at in 0..whole.len().min(64) {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut damaged = BytesMut::from(&whole[..]);
                    damaged[at] = value;
                    let _ = Message::from_bytes(&damaged.freeze());
                }
            }
        }
    }

    #[test]
    fn hard_states_survive_the_disk() {
        let state =
            HardState { term: Term(5), vote: PeerId(2), commit: LogIndex(9), lead: PeerId(2), lead_epoch: 0 };
        assert_eq!(HardState::from_bytes(&state.to_bytes()), Ok(state));
        assert_eq!(HardState::from_bytes(&HardState::default().to_bytes()), Ok(HardState::default()));
    }
}
