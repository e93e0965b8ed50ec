//! Encodings of the words of `types`.

use crate::{Decode, DecodeError, Encode, Reader, put_delimited, put_varint};
use bytes::BytesMut;
use types::{
    ClusterId, Epoch, KeyRange, KeyspacePoint, LogIndex, Peer, PeerId, PeerRole, Region, RegionId,
    SafePoints, StoreId, Term, Timestamp,
};

macro_rules! number {
    ($($ty:ty),*) => {$(
        impl Encode for $ty {
            fn encode(&self, out: &mut BytesMut) {
                put_varint(out, self.0);
            }
        }
        impl Decode for $ty {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.varint().map(Self)
            }

            fn missing() -> Result<Self, DecodeError> {
                Ok(Self(0))
            }
        }
    )*};
}
number!(ClusterId, LogIndex, PeerId, RegionId, StoreId, Term, Timestamp);

impl Encode for PeerRole {
    fn encode(&self, out: &mut BytesMut) {
        let tag: u8 = match self {
            Self::Voter => 0,
            Self::Learner => 1,
            Self::IncomingVoter => 2,
            Self::DemotingVoter => 3,
        };
        tag.encode(out);
    }
}

impl Decode for PeerRole {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(reader)? {
            0 => Self::Voter,
            1 => Self::Learner,
            2 => Self::IncomingVoter,
            3 => Self::DemotingVoter,
            tag => return Err(DecodeError::UnknownVariant { of: "PeerRole", tag: tag.into() }),
        })
    }
}

crate::codec_struct!(Epoch { conf_ver, version });
crate::codec_struct!(KeyRange { start, end });
crate::codec_struct!(Peer { id, store_id, role });
crate::codec_struct!(Region { id, range, epoch, peers });
crate::codec_struct!(KeyspacePoint { keyspace, at });

impl Encode for SafePoints {
    fn encode(&self, out: &mut BytesMut) {
        put_delimited(out, |out| {
            self.common.encode(out);
            self.own.encode(out);
        });
    }
}

impl Decode for SafePoints {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.delimited(|reader| {
            let common = Decode::decode(reader)?;
            let mut own: Vec<KeyspacePoint> =
                if reader.is_at_end() { Vec::new() } else { Decode::decode(reader)? };
            // What is looked up in it relies on their order.
            own.sort_by_key(|point| point.keyspace);
            own.dedup_by_key(|point| point.keyspace);
            Ok(Self { common, own })
        })
    }

    /// Older writers removed nothing.
    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}
