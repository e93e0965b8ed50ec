//! A cursor over shared bytes, which hands out payloads without copying them.

use crate::DecodeError;
use bytes::Bytes;

/// A position in `Bytes`, with an end that is moved in while a length-delimited struct is read.
#[derive(Debug)]
pub struct Reader<'a> {
    buf: &'a Bytes,
    pos: usize,
    // Invariant: pos <= end <= buf.len().
    end: usize,
    /// Bytes that lists may still take in memory.
    budget: usize,
}

/// What decoded lists may take in memory, in bytes for each byte of input. An absent value, the shortest item of any
/// message, takes 32 bytes in memory for one on the wire; a hostile list of empty structs would take hundreds.
const MEMORY_PER_INPUT_BYTE: usize = 64;
/// And beside that, so that short messages need not count.
const MEMORY_FREE: usize = 64 << 10;

impl<'a> Reader<'a> {
    /// A reader over the whole of `buf`.
    #[must_use]
    pub fn new(buf: &'a Bytes) -> Self {
        let budget = buf.len().saturating_mul(MEMORY_PER_INPUT_BYTE).saturating_add(MEMORY_FREE);
        Self { buf, pos: 0, end: buf.len(), budget }
    }

    /// How many bytes are left (in the struct that is being read).
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.pos
    }

    /// True when nothing is left: fields from here on take their defaults.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.pos == self.end
    }

    /// The next `len` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated { needed: len, left: self.remaining() });
        }
        let slice = &self.buf[self.pos..self.pos + len];
        self.pos += len;
        Ok(slice)
    }

    /// The next `len` bytes, sharing the input's storage.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take_bytes(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let from = self.pos;
        self.take(len)?;
        Ok(self.buf.slice(from..from + len))
    }

    /// A varint (LEB128, at most ten bytes).
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::VarintOverflow`].
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::VarintOverflow);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintOverflow)
    }

    /// A varint that counts bytes still to come, so it cannot exceed them.
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`DecodeError::Truncated`].
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::VarintOverflow)?;
        if len > self.remaining() {
            return Err(DecodeError::Truncated { needed: len, left: self.remaining() });
        }
        Ok(len)
    }

    /// Counts `bytes` of memory that a list is about to take.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when all lists together take far more than their input justifies.
    pub fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.budget =
            self.budget.checked_sub(bytes).ok_or(DecodeError::Invalid("list far larger than its input"))?;
        Ok(())
    }

    /// Reads a length and then, with `body`, what it delimits; skips what `body` leaves unread.
    ///
    /// # Errors
    /// Those of `body`, and those of [`Reader::length`].
    pub fn delimited<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let len = self.length()?;
        let outer_end = self.end;
        let inner_end = self.pos + len;
        self.end = inner_end;
        let value = body(self);
        self.pos = inner_end;
        self.end = outer_end;
        value
    }
}
