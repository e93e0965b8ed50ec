//! The unit of change: operations over several column families, applied atomically and in order.

use crate::Cf;

/// One operation of a [`WriteBatch`], borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// Sets a key.
    Put {
        /// Where.
        cf: Cf,
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key; removing what is not there is no error.
    Delete {
        /// Where.
        cf: Cf,
        /// The key.
        key: &'a [u8],
    },
    /// Removes the keys of `[start, end)`. Both ends are given: a range without an end is the caller's to bound.
    DeleteRange {
        /// Where.
        cf: Cf,
        /// Inclusive.
        start: &'a [u8],
        /// Exclusive.
        end: &'a [u8],
    },
}

/// Operations in order, kept in one buffer so that a batch of thousands costs few allocations.
///
/// ```text
/// operation: kind u8 | family u8 | first length u32 LE | second length u32 LE | first | second
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WriteBatch {
    buf: Vec<u8>,
    count: usize,
}

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;
const OP_HEAD: usize = 10;

impl WriteBatch {
    /// A batch without operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        self.push(PUT, cf, key, value);
    }

    /// Removes `key`.
    pub fn delete(&mut self, cf: Cf, key: &[u8]) {
        self.push(DELETE, cf, key, b"");
    }

    /// Removes the keys of `[start, end)`; nothing if the range is empty.
    pub fn delete_range(&mut self, cf: Cf, start: &[u8], end: &[u8]) {
        if start < end {
            self.push(DELETE_RANGE, cf, start, end);
        }
    }

    /// Appends all operations of `other`.
    pub fn append(&mut self, other: &Self) {
        self.buf.extend_from_slice(&other.buf);
        self.count += other.count;
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without operations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the batch occupies in memory, and about what it writes to the log.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.buf.len()
    }

    /// Removes all operations and keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.count = 0;
    }

    /// The operations in order.
    #[must_use]
    pub fn ops(&self) -> Ops<'_> {
        Ops { rest: &self.buf }
    }

    /// The operations as bytes, in this crate's layout.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.buf
    }

    /// The batch that [`encoded`](Self::encoded) gave; `None` of any other bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut rest, mut count) = (bytes, 0);
        while let Some((head, after)) = rest.split_at_checked(OP_HEAD).filter(|_| !rest.is_empty()) {
            let length =
                |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes")) as usize;
            if head[0] > DELETE_RANGE || usize::from(head[1]) >= Cf::ALL.len() {
                return None;
            }
            rest = after.get(length(2)..)?.get(length(6)..)?;
            count += 1;
        }
        rest.is_empty().then(|| Self { buf: bytes.to_vec(), count })
    }

    fn push(&mut self, kind: u8, cf: Cf, first: &[u8], second: &[u8]) {
        let length =
            |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values are under 4 GiB").to_le_bytes();
        self.buf.reserve(OP_HEAD + first.len() + second.len());
        self.buf.extend_from_slice(&[kind, cf as u8]);
        self.buf.extend_from_slice(&length(first));
        self.buf.extend_from_slice(&length(second));
        self.buf.extend_from_slice(first);
        self.buf.extend_from_slice(second);
        self.count += 1;
    }
}

/// The operations of a [`WriteBatch`], in order.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let length =
            |at: usize| u32::from_le_bytes(self.rest[at..at + 4].try_into().expect("4 bytes")) as usize;
        let (first_len, second_len) = (length(2), length(6));
        let (op, rest) = self.rest.split_at(OP_HEAD + first_len + second_len);
        self.rest = rest;
        let cf = Cf::ALL[op[1] as usize];
        let (first, second) = op[OP_HEAD..].split_at(first_len);
        Some(match op[0] {
            PUT => Op::Put { cf, key: first, value: second },
            DELETE => Op::Delete { cf, key: first },
            _ => Op::DeleteRange { cf, start: first, end: second },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_back_from_its_bytes_and_from_no_others() {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, b"key", b"value");
        batch.delete(Cf::Raft, b"");
        batch.delete_range(Cf::Lock, b"a", b"b");
        let bytes = batch.encoded().to_vec();
        assert_eq!(WriteBatch::decode(&bytes), Some(batch));
        assert_eq!(WriteBatch::decode(b""), Some(WriteBatch::new()));
        let boundaries = [0, 18, 28];
        for end in (0..bytes.len()).filter(|end| !boundaries.contains(end)) {
            assert_eq!(WriteBatch::decode(&bytes[..end]), None, "cut at {end}");
        }
        for (at, wrong) in [(0, 3), (1, 5), (2, 0xff), (5, 0xff), (9, 0x80)] {
            let mut damaged = bytes.clone();
            damaged[at] = wrong;
            assert_eq!(WriteBatch::decode(&damaged), None, "{wrong} at {at}");
        }
    }
}
