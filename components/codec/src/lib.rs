//! How values become bytes: varints, length-delimited structs, frames.
//!
//! Every struct is written as its length and then its fields in order. Fields are only ever appended: an older decoder
//! skips what follows the fields it knows, a newer one takes the default for fields that are missing. Decoders never
//! panic on any input and never allocate more than a small multiple of it; that is what this crate keeps true.
//! It knows no message of any protocol (those implement [`Encode`] and [`Decode`] beside their definitions, mostly by
//! [`codec_struct!`] and [`codec_enum!`]), except the words of `types`, whose encodings live in `words`.

mod error;
pub mod frame;
mod macros;
pub mod ordered;
mod primitive;
mod reader;
mod words;

pub use error::DecodeError;
pub use primitive::{put_bytes, put_varint, varint_len};
pub use reader::Reader;

#[doc(hidden)]
pub use bytes::BytesMut as __BytesMut;

use bytes::{Bytes, BytesMut};

/// Values that can be written as bytes.
pub trait Encode {
    /// Appends the value to `out`.
    fn encode(&self, out: &mut BytesMut);

    /// The value as bytes of its own.
    fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

/// Values that can be read from bytes.
pub trait Decode: Sized {
    /// Reads one value and moves `reader` past it.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the input is damaged, or written by a version that we do not know.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The value of a field that an older writer did not write: nothing, for numbers, texts, lists and options. Structs
    /// and enums have no such value, so one that is added to a message later is added as an `Option`.
    ///
    /// # Errors
    /// [`DecodeError::MissingField`].
    fn missing() -> Result<Self, DecodeError> {
        Err(DecodeError::MissingField)
    }

    /// Reads a value that fills `input` to its end.
    ///
    /// # Errors
    /// As [`Decode::decode`], and [`DecodeError::TrailingBytes`].
    fn from_bytes(input: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input);
        let value = Self::decode(&mut reader)?;
        match reader.remaining() {
            0 => Ok(value),
            left => Err(DecodeError::TrailingBytes { left }),
        }
    }
}

/// Writes what `body` appends, preceded by its length as a varint.
pub fn put_delimited(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    // Most structs are shorter than 128 bytes, so one byte is reserved; longer bodies are moved up once.
    let start = out.len();
    out.extend_from_slice(&[0]);
    body(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
        return;
    }
    let extra = varint_len(len as u64) - 1;
    let end = out.len();
    out.resize(end + extra, 0);
    out.copy_within(start + 1..end, start + 1 + extra);
    primitive::write_varint(&mut out[start..start + 1 + extra], len as u64);
}
