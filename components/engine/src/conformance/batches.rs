//! Batches: order, atomicity as far as one caller sees it, families, ranges, sizes.

use super::{assert_value, get, put_all, scan_all, write};
use crate::{Cf, Engine, Snapshot as _, WriteBatch};
use types::KeyRange;

pub(super) fn an_empty_engine_holds_nothing(engine: &impl Engine) {
    for cf in Cf::ALL {
        assert_value(engine, cf, "k", None);
        assert!(scan_all(engine, cf).is_empty());
    }
    engine.sync().expect("nothing to sync is no error");
}

pub(super) fn later_operations_of_a_batch_win(engine: &impl Engine) {
    put_all(engine, Cf::Default, &[("c", "old"), ("d", "old")]);
    write(engine, |batch| {
        batch.put(Cf::Default, b"a", b"1");
        batch.put(Cf::Default, b"a", b"2");
        batch.put(Cf::Default, b"b", b"1");
        batch.delete(Cf::Default, b"b");
        batch.delete(Cf::Default, b"c");
        batch.put(Cf::Default, b"c", b"2");
        // A range removes what its own batch has written before it, and nothing that is written after it.
        batch.put(Cf::Default, b"d", b"1");
        batch.put(Cf::Default, b"e", b"1");
        batch.delete_range(Cf::Default, b"d", b"f");
        batch.put(Cf::Default, b"e", b"2");
    });
    assert_eq!(scan_all(engine, Cf::Default), ["a=2", "c=2", "e=2"]);
}

pub(super) fn later_batches_win(engine: &impl Engine) {
    for value in ["1", "2", "3"] {
        put_all(engine, Cf::Write, &[("k", value)]);
        assert_value(engine, Cf::Write, "k", Some(value));
    }
    engine.sync().expect("an engine in health syncs");
    assert_value(engine, Cf::Write, "k", Some("3"));
    write(engine, |batch| batch.delete(Cf::Write, b"k"));
    assert_value(engine, Cf::Write, "k", None);
    let (mut first, mut second) = (WriteBatch::new(), WriteBatch::new());
    first.put(Cf::Write, b"k", b"first");
    second.put(Cf::Write, b"k", b"second");
    first.append(&second);
    engine.write(&first).expect("an engine in health takes a batch");
    assert_value(engine, Cf::Write, "k", Some("second"));
}

pub(super) fn families_are_apart(engine: &impl Engine) {
    write(engine, |batch| {
        for cf in Cf::ALL {
            batch.put(cf, b"k", cf.name().as_bytes());
            batch.put(cf, b"z", b"1");
        }
    });
    for cf in Cf::ALL {
        assert_value(engine, cf, "k", Some(cf.name()));
    }
    write(engine, |batch| {
        batch.delete(Cf::Lock, b"k");
        batch.delete_range(Cf::Raft, b"a", b"zz");
    });
    assert_eq!(scan_all(engine, Cf::Default), ["k=default", "z=1"]);
    assert_eq!(scan_all(engine, Cf::Lock), ["z=1"]);
    assert_eq!(scan_all(engine, Cf::Write), ["k=write", "z=1"]);
    assert!(scan_all(engine, Cf::Raft).is_empty());
}

pub(super) fn a_range_is_removed_without_its_end(engine: &impl Engine) {
    for cf in Cf::ALL {
        put_all(engine, cf, &[("a", "1"), ("b", "1"), ("b\0", "1"), ("c", "1"), ("d", "1")]);
        write(engine, |batch| batch.delete_range(cf, b"b", b"c"));
        assert_eq!(scan_all(engine, cf), ["a=1", "c=1", "d=1"]);
        // Nothing lies in an empty range, nor in one whose ends are swapped.
        write(engine, |batch| {
            batch.delete_range(cf, b"c", b"c");
            batch.delete_range(cf, b"d", b"a");
        });
        assert_eq!(scan_all(engine, cf), ["a=1", "c=1", "d=1"]);
        // The lowest key is an inclusive start like any other.
        write(engine, |batch| batch.delete_range(cf, b"", b"b"));
        assert_eq!(scan_all(engine, cf), ["c=1", "d=1"]);
    }
}

pub(super) fn a_removed_range_can_be_written_again(engine: &impl Engine) {
    put_all(engine, Cf::Raft, &[("a", "1"), ("b", "1"), ("c", "1")]);
    write(engine, |batch| batch.delete_range(Cf::Raft, b"a", b"d"));
    put_all(engine, Cf::Raft, &[("b", "2")]);
    assert_eq!(scan_all(engine, Cf::Raft), ["b=2"]);
    write(engine, |batch| batch.delete_range(Cf::Raft, b"a", b"c"));
    assert!(scan_all(engine, Cf::Raft).is_empty());
}

pub(super) fn empty_batches_and_absent_keys_are_no_errors(engine: &impl Engine) {
    write(engine, |_| {});
    write(engine, |batch| {
        batch.delete(Cf::Default, b"absent");
        batch.delete_range(Cf::Default, b"a", b"z");
    });
    put_all(engine, Cf::Default, &[("k", "")]);
    assert_value(engine, Cf::Default, "k", Some(""));
    assert_eq!(scan_all(engine, Cf::Default), ["k="]);
}

pub(super) fn any_bytes_are_keys_and_values(engine: &impl Engine) {
    // Ascending in unsigned byte order: what the engine must sort by.
    let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\xff", b"\xff", b"\xff\xff"];
    write(engine, |batch| {
        for key in keys {
            batch.put(Cf::Default, key, key);
        }
    });
    let snapshot = engine.snapshot();
    let mut iterator = snapshot.iter(Cf::Default, &KeyRange::full());
    let mut found = iterator.seek_to_first();
    for key in keys {
        assert!(found && iterator.key() == key && iterator.value() == key, "{key:?} is in its place");
        found = iterator.next();
    }
    assert!(!found, "there is no further key");
}

pub(super) fn large_values_and_batches_come_back_whole(engine: &impl Engine) {
    let large: Vec<u8> = (0..3_000_000_u32).map(|index| (index.wrapping_mul(31) >> 3) as u8).collect();
    write(engine, |batch| {
        batch.put(Cf::Default, b"large", &large);
        for number in 0..20_000_u32 {
            batch.put(Cf::Write, &number.to_be_bytes(), &(number * 7).to_le_bytes());
        }
    });
    engine.sync().expect("an engine in health syncs");
    assert!(
        get(engine, Cf::Default, b"large").is_some_and(|value| value == large),
        "3 MB come back as they were"
    );
    let snapshot = engine.snapshot();
    let mut iterator = snapshot.iter(Cf::Write, &KeyRange::full());
    let mut found = iterator.seek_to_first();
    for number in 0..20_000_u32 {
        assert!(found && iterator.key() == number.to_be_bytes(), "key {number} follows");
        assert_eq!(iterator.value(), (number * 7).to_le_bytes());
        found = iterator.next();
    }
    assert!(!found, "there is no further key");
}

pub(super) fn clones_are_one_engine(engine: &impl Engine) {
    let clone = engine.clone();
    put_all(&clone, Cf::Default, &[("k", "v")]);
    assert_value(engine, Cf::Default, "k", Some("v"));
    clone.sync().expect("an engine in health syncs");
    drop(clone);
    assert_value(engine, Cf::Default, "k", Some("v"));
}
