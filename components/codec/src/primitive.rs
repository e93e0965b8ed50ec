//! Encodings of numbers, bytes, text and containers.

use crate::{Decode, DecodeError, Encode, Reader};
use bytes::{BufMut, Bytes, BytesMut};

/// How many bytes [`put_varint`] writes for `value`.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // One byte per started group of seven bits; zero takes one byte.
    ((63 - (value | 1).leading_zeros() as usize) / 7) + 1
}

/// Appends `value` as LEB128: seven bits a byte, low bits first, the high bit set on all but the last.
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes `value` over exactly `out.len()` bytes, which must be its [`varint_len`].
pub(crate) fn write_varint(out: &mut [u8], mut value: u64) {
    let last = out.len() - 1;
    for byte in &mut out[..last] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    debug_assert!(value < 0x80, "varint does not fit the {} bytes reserved for it", last + 1);
    out[last] = value as u8;
}

/// Appends `bytes` preceded by their length.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

macro_rules! unsigned {
    ($($ty:ty),*) => {$(
        impl Encode for $ty {
            fn encode(&self, out: &mut BytesMut) {
                put_varint(out, *self as u64);
            }
        }
        impl Decode for $ty {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$ty>::try_from(reader.varint()?).map_err(|_| DecodeError::VarintOverflow)
            }

            fn missing() -> Result<Self, DecodeError> {
                Ok(0)
            }
        }
    )*};
}
unsigned!(u16, u32, u64, usize);

impl Encode for u8 {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(*self);
    }
}

impl Decode for u8 {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.take(1)?[0])
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut BytesMut) {
        // Zigzag: small magnitudes of either sign stay short.
        put_varint(out, ((self << 1) ^ (self >> 63)) as u64);
    }
}

impl Decode for i64 {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let raw = reader.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(DecodeError::InvalidBool(byte)),
        }
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self);
    }
}

impl Decode for Bytes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = reader.length()?;
        reader.take_bytes(len)
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl Encode for String {
    fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.as_bytes());
    }
}

impl Decode for String {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = reader.length()?;
        let text = std::str::from_utf8(reader.take(len)?).map_err(|_| DecodeError::InvalidUtf8)?;
        Ok(text.to_owned())
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut BytesMut) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(reader)? { Some(T::decode(reader)?) } else { None })
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut BytesMut) {
        T::encode(self, out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(reader).map(Box::new)
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.len() as u64);
        for item in self {
            item.encode(out);
        }
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // An item takes a byte at least, so a count beyond the input is damage, found before anything is allocated.
        // In memory an item may be larger than on the wire, so the first allocation is bounded too.
        const FIRST_ALLOCATION: usize = 256;
        let count = reader.length()?;
        reader.spend(count.saturating_mul(size_of::<T>()))?;
        let mut items = Self::with_capacity(count.min(FIRST_ALLOCATION));
        for _ in 0..count {
            let before = reader.remaining();
            items.push(T::decode(reader)?);
            if reader.remaining() == before {
                return Err(DecodeError::Invalid("list item of no bytes"));
            }
        }
        Ok(items)
    }

    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::default())
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut BytesMut) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: T) {
        assert_eq!(T::from_bytes(&value.to_bytes()), Ok(value));
    }

    #[test]
    fn numbers_round_trip_at_every_length() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                round_trip(value);
                round_trip(value as i64);
                round_trip(-(value as i64 >> 1));
                let mut out = BytesMut::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "of {value}");
            }
        }
        round_trip(u64::MAX);
        round_trip(i64::MIN);
    }

    #[test]
    fn containers_round_trip() {
        round_trip(vec![Some(Bytes::from_static(b"x")), None]);
        round_trip(("text".to_owned(), vec![1_u8, 2, 3]));
    }

    #[test]
    fn a_count_or_length_beyond_the_input_is_refused_before_allocation() {
        let mut out = BytesMut::new();
        put_varint(&mut out, u64::MAX >> 1);
        let input = out.freeze();
        assert!(matches!(Vec::<u64>::from_bytes(&input), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Bytes::from_bytes(&input), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn a_list_of_large_items_in_few_bytes_is_refused() {
        let mut out = BytesMut::new();
        put_varint(&mut out, 100_000);
        out.resize(out.len() + 100_000, 0);
        let input = out.freeze();
        assert!(Vec::<Option<Bytes>>::from_bytes(&input).is_ok());
        type Large = (String, (String, (String, String)));
        assert_eq!(
            Vec::<Large>::from_bytes(&input).unwrap_err(),
            DecodeError::Invalid("list far larger than its input")
        );
    }

    #[test]
    fn varints_that_do_not_fit_are_refused() {
        let eleven = Bytes::from_static(&[0xff; 11]);
        assert_eq!(u64::from_bytes(&eleven), Err(DecodeError::VarintOverflow));
        assert_eq!(u16::from_bytes(&70_000_u64.to_bytes()), Err(DecodeError::VarintOverflow));
    }
}
