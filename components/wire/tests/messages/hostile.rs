//! Bytes from anyone: they give a message or an error, never a panic, and never much more memory than they are long.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use crate::samples::{Family, families};
use bytes::{BufMut as _, Bytes, BytesMut};
use codec::put_varint;
use env::{Dice, SplitMix};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// A list's first allocation holds up to 256 items whatever its length turns out to be; a few of them may be nested.
const ALLOCATED_FREE: usize = 256 << 10;
/// The most that a message may take in memory per byte on the wire. The dearest is a list of empty structs: one byte
/// each on the wire, and in memory a struct of texts and lists, in a vector that doubles as it grows.
const ALLOCATED_PER_BYTE: usize = 256;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands on to the system's allocator; the count touches no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|allocated| allocated.set(allocated.get() + layout.size()));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads the bytes as a message; answers with what was allocated over it, its text not counted.
fn read(family: &Family, bytes: &Bytes) -> usize {
    let before = ALLOCATED.get();
    let understood = (family.check)(bytes);
    let allocated = ALLOCATED.get() - before;
    let bound = ALLOCATED_FREE + ALLOCATED_PER_BYTE * bytes.len();
    assert!(
        allocated <= bound,
        "{:?}: {} bytes (understood: {understood}) made us allocate {allocated}",
        family.kind,
        bytes.len()
    );
    // What is understood can be written and understood again.
    if understood {
        let (debug, written) = (family.read)(bytes).unwrap();
        assert_eq!((family.read)(&written).unwrap(), (debug, written.clone()), "{:?}", family.kind);
    }
    allocated
}

#[test]
fn every_truncation_and_every_flipped_bit_of_every_message_is_survived() {
    for family in families() {
        for sample in &family.samples {
            for len in 0..sample.bytes.len() {
                read(&family, &sample.bytes.slice(..len));
            }
            // The longest sample holds all the others.
            for bit in 0..sample.bytes.len().min(400) * 8 {
                let mut damaged = BytesMut::from(&sample.bytes[..]);
                damaged[bit / 8] ^= 1 << (bit % 8);
                read(&family, &damaged.freeze());
            }
        }
    }
}

#[test]
fn random_bytes_and_random_damage_are_survived() {
    let mut dice = SplitMix::new(0x57_1e_e1).fork("hostile bytes");
    for family in families() {
        for round in 0..20_000 {
            let mut bytes = if round % 4 == 0 {
                let len = dice.below(200) as usize;
                (0..len).map(|_| dice.next_u64() as u8).collect::<Vec<_>>()
            } else {
                family.samples[dice.below(family.samples.len() as u64) as usize].bytes.to_vec()
            };
            for _ in 0..dice.below(4) {
                damage(&mut bytes, &mut dice);
            }
            read(&family, &Bytes::from(bytes));
        }
    }
}

/// Changes, removes, repeats or inserts a few bytes.
fn damage(bytes: &mut Vec<u8>, dice: &mut SplitMix) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len() as u64) as usize;
    let until = (at + 1 + dice.below(8) as usize).min(bytes.len());
    match dice.below(5) {
        0 => bytes[at] = dice.next_u64() as u8,
        1 => bytes[at] = [0, 0x7f, 0x80, 0xff][dice.below(4) as usize],
        2 => drop(bytes.drain(at..until)),
        3 => {
            let copy = bytes[at..until].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => bytes.truncate(at),
    }
}

#[test]
fn a_list_of_empty_items_is_refused_before_it_takes_memory() {
    // The dearest that we know of: a reply with a list of operators, each of them a struct of no bytes on the wire and
    // hundreds in memory. A megabyte of it once took 250.
    let families = families();
    let family = families.iter().find(|family| family.kind == wire::FrameKind::PdResponse).unwrap();
    let items = 1 << 20;
    let mut list = BytesMut::new();
    put_varint(&mut list, items);
    list.put_bytes(0, items as usize);
    let reply = tagged(10, &list);
    let message = tagged(1, &reply).freeze();
    assert!(!(family.check)(&message));
    assert!(read(family, &message) < ALLOCATED_FREE);
}

fn tagged(tag: u64, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_varint(&mut out, tag);
    put_varint(&mut out, body.len() as u64);
    out.extend_from_slice(body);
    out
}

#[test]
fn a_count_beyond_the_input_allocates_nothing_for_it() {
    for family in families() {
        for claimed in [u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut list = BytesMut::new();
            put_varint(&mut list, claimed);
            read(&family, &list.clone().freeze());
            read(&family, &tagged(1, &tagged(10, &list)).freeze());
        }
    }
}
