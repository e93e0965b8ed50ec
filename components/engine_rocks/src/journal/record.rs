//! How records lie in a segment, and which of what lies there are records.
//!
//! ```text
//! record:  checksum u32 | length u32 | number u64 | payload          (little-endian)
//! segment: head, to the end of its block | write | write | …
//! write:   record | record | … | zeros to the end of the block
//! ```
//!
//! A checksum covers its record and the segment's identity, so nothing that was written there before, as part of another
//! segment or of another life of this directory, is a record of this one: whatever clients have put into it.

use std::ops::Range;

/// What is written and aligned, on disk and in memory: no block is ever written twice within one life of a segment, so a
/// write that was torn has harmed nothing that was there before it.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of a record before its payload.
pub(crate) const HEAD_BYTES: usize = 16;

/// What makes the records of a segment its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Identity {
    /// Grows each time the directory is opened.
    pub(crate) generation: u64,
    /// Counts the segments of a generation.
    pub(crate) segment: u64,
}

impl Identity {
    fn checksum(self, rest_of_head: &[u8], payload: &[u8]) -> u32 {
        let own = crc32c::crc32c(&self.generation.to_le_bytes());
        let own = crc32c::crc32c_append(own, &self.segment.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(own, rest_of_head), payload)
    }
}

/// Appends a record whose checksum is [`seal`]ed later, when it is known which segment it goes to.
pub(crate) fn push(number: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a batch is under 4 GiB");
    out.reserve(HEAD_BYTES + payload.len());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Makes records that were pushed one after another those of a segment.
pub(crate) fn seal(identity: Identity, records: &mut [u8]) {
    let mut at = 0;
    while at < records.len() {
        let end = at + HEAD_BYTES + length(&records[at..]);
        let (head, payload) = records[at..end].split_at_mut(HEAD_BYTES);
        let checksum = identity.checksum(&head[4..], payload);
        head[..4].copy_from_slice(&checksum.to_le_bytes());
        at = end;
    }
}

fn length(head: &[u8]) -> usize {
    u32::from_le_bytes(head[4..8].try_into().expect("4 bytes")) as usize
}

/// Finds the records of a segment, in order, until what follows is none, or not the next one.
pub(crate) struct Records<'a> {
    identity: Identity,
    bytes: &'a [u8],
    at: usize,
    next: u64,
}

impl<'a> Records<'a> {
    /// Those that lie from the start of a block on, and whose numbers follow each other from `first`.
    pub(crate) fn new(identity: Identity, bytes: &'a [u8], start: usize, first: u64) -> Self {
        assert_eq!(start % BLOCK_BYTES, 0, "writes begin with a block");
        Self { identity, bytes, at: start, next: first }
    }

    fn look(&self) -> Option<Range<usize>> {
        let head = self.bytes.get(self.at..self.at + HEAD_BYTES)?;
        let start = self.at + HEAD_BYTES;
        let end = start.checked_add(length(head))?;
        let payload = self.bytes.get(start..end)?;
        let checksum = u32::from_le_bytes(head[..4].try_into().expect("4 bytes"));
        let number = u64::from_le_bytes(head[8..].try_into().expect("8 bytes"));
        let is_next = number == self.next && checksum == self.identity.checksum(&head[4..], payload);
        is_next.then_some(start..end)
    }
}

impl<'a> Iterator for Records<'a> {
    /// A record's number and its payload.
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        let found = self.look().or_else(|| {
            // The last one of a write: what fills its block is no record, and the next write begins with the next block.
            self.at = self.at.next_multiple_of(BLOCK_BYTES);
            self.look()
        });
        let (payload, number) = (found?, self.next);
        self.at = payload.end;
        self.next += 1;
        Some((number, &self.bytes[payload]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { generation: 3, segment: 5 };

    /// Writes of records of such lengths, each filled up to its block. Their numbers ascend from 1.
    fn segment(identity: Identity, writes: &[&[usize]]) -> Vec<u8> {
        let (mut bytes, mut number) = (Vec::new(), 0);
        for write in writes {
            let mut records = Vec::new();
            for length in *write {
                number += 1;
                push(number, &vec![number as u8; *length], &mut records);
            }
            seal(identity, &mut records);
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        bytes
    }

    fn lengths(bytes: &[u8]) -> Vec<usize> {
        let records: Vec<(u64, &[u8])> = Records::new(IDENTITY, bytes, 0, 1).collect();
        for (at, (number, payload)) in records.iter().enumerate() {
            assert_eq!(*number, at as u64 + 1);
            assert!(payload.iter().all(|byte| *byte == *number as u8), "{number}");
        }
        records.iter().map(|(_, payload)| payload.len()).collect()
    }

    #[test]
    fn records_are_found_in_order_whatever_fills_their_blocks() {
        let exact = BLOCK_BYTES - HEAD_BYTES;
        let writes: [&[usize]; 5] =
            [&[0, 1, 100], &[exact], &[exact - 3], &[exact - HEAD_BYTES, 0], &[10_000, 7]];
        let found = lengths(&segment(IDENTITY, &writes));
        assert_eq!(found, writes.concat());
    }

    #[test]
    fn what_was_there_before_is_no_record() {
        // A client has put what would be the next record, had it known the segment: it lies where the next write goes.
        let old = segment(Identity { generation: 3, segment: 4 }, &[&[10], &[20], &[30]]);
        let mut bytes = segment(IDENTITY, &[&[10]]);
        bytes.extend_from_slice(&old[BLOCK_BYTES..]);
        assert_eq!(lengths(&bytes), [10]);
    }

    #[test]
    fn what_is_damaged_ends_them_and_never_panics() {
        let whole = segment(IDENTITY, &[&[10, 20], &[5000], &[30]]);
        for at in (0..whole.len()).step_by(37) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let found = lengths(&bytes);
            assert_eq!(found, [10, 20, 5000, 30][..found.len()], "damage at {at}");
            assert_eq!(
                lengths(&whole[..at]),
                [10, 20, 5000, 30][..lengths(&whole[..at]).len()],
                "cut at {at}"
            );
        }
    }
}
