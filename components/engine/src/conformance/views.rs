//! Snapshots, iterators, and what is told about size and pressure.

use super::{assert_value, put_all, scan, scan_all, write};
use crate::{Cf, Engine, EngineIterator, Pressure, Snapshot};
use types::KeyRange;

pub(super) fn a_snapshot_sees_what_was_written_before_it(engine: &impl Engine) {
    let empty = engine.snapshot();
    for cf in Cf::ALL {
        put_all(engine, cf, &[("a", "1"), ("b", "1"), ("c", "1")]);
    }
    let first = engine.snapshot();
    for cf in Cf::ALL {
        write(engine, |batch| {
            batch.put(cf, b"a", b"2");
            batch.delete(cf, b"b");
            batch.delete_range(cf, b"c", b"d");
            batch.put(cf, b"e", b"2");
        });
    }
    let second = engine.snapshot();
    engine.sync().expect("an engine in health syncs");
    put_all(engine, Cf::Default, &[("a", "3")]);
    for cf in Cf::ALL {
        assert!(scan(&empty, cf, &KeyRange::full()).is_empty());
        assert_eq!(scan(&first, cf, &KeyRange::full()), ["a=1", "b=1", "c=1"]);
        assert_eq!(scan(&second, cf, &KeyRange::full()), ["a=2", "e=2"]);
        assert_eq!(first.get(cf, b"b").expect("a snapshot reads").as_deref(), Some(&b"1"[..]));
        assert_eq!(second.get(cf, b"b"), Ok(None));
    }
    // An iterator opened before a write does not see it either.
    let mut iterator = second.iter(Cf::Default, &KeyRange::full());
    assert!(iterator.seek_to_first());
    write(engine, |batch| batch.delete_range(Cf::Default, b"a", b"z"));
    assert!(iterator.next() && iterator.key() == b"e" && !iterator.next());
    assert!(scan_all(engine, Cf::Default).is_empty());
}

pub(super) fn a_snapshot_outlives_the_handle_it_came_from(engine: &impl Engine) {
    put_all(engine, Cf::Lock, &[("k", "1")]);
    let handle = engine.clone();
    let snapshot = handle.snapshot();
    drop(handle);
    put_all(engine, Cf::Lock, &[("k", "2")]);
    assert_eq!(scan(&snapshot, Cf::Lock, &KeyRange::full()), ["k=1"]);
    drop(snapshot);
    assert_value(engine, Cf::Lock, "k", Some("2"));
}

pub(super) fn iterators_walk_both_ways(engine: &impl Engine) {
    for cf in Cf::ALL {
        put_all(engine, cf, &[("b", "2"), ("a", "1"), ("d", "4"), ("c", "3")]);
        write(engine, |batch| batch.delete(cf, b"c"));
        // `scan` walks back as well and compares.
        assert_eq!(scan_all(engine, cf), ["a=1", "b=2", "d=4"]);
    }
}

pub(super) fn iterators_stay_within_bounds(engine: &impl Engine) {
    put_all(engine, Cf::Default, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    let snapshot = engine.snapshot();
    let within = |start: &'static str, end: &'static str| {
        scan(&snapshot, Cf::Default, &KeyRange::new(start, end)).concat()
    };
    assert_eq!(within("", ""), "a=1b=2c=3d=4");
    assert_eq!(within("b", "d"), "b=2c=3", "the start is inclusive, the end is not");
    assert_eq!(within("b", ""), "b=2c=3d=4");
    assert_eq!(within("", "b"), "a=1");
    assert_eq!(within("aa", "cc"), "b=2c=3", "bounds need not be keys");
    assert_eq!(within("d\0", ""), "");
    assert_eq!(within("", "a"), "");
}

pub(super) fn seeks_find_the_nearest_key_within_bounds(engine: &impl Engine) {
    put_all(engine, Cf::Write, &[("a", "1"), ("c", "3"), ("e", "5"), ("g", "7")]);
    let snapshot = engine.snapshot();
    let mut iterator = snapshot.iter(Cf::Write, &KeyRange::new("b", "f"));
    let at = |iterator: &dyn EngineIterator, found: bool| {
        assert_eq!(iterator.status(), Ok(()));
        found.then(|| String::from_utf8_lossy(iterator.key()).into_owned())
    };
    let seeks: [(&[u8], Option<&str>, Option<&str>); 8] = [
        (b"", Some("c"), None),
        (b"a", Some("c"), None),
        (b"c", Some("c"), Some("c")),
        (b"cc", Some("e"), Some("c")),
        (b"e", Some("e"), Some("e")),
        (b"ee", None, Some("e")),
        (b"g", None, Some("e")),
        (b"\xff", None, Some("e")),
    ];
    for (key, at_or_after, at_or_before) in seeks {
        let found = iterator.seek(key);
        assert_eq!(at(&*iterator, found).as_deref(), at_or_after, "seek {key:?}");
        let found = iterator.seek_for_prev(key);
        assert_eq!(at(&*iterator, found).as_deref(), at_or_before, "seek_for_prev {key:?}");
    }
}

pub(super) fn the_first_pair_of_a_range_is_found_wherever_it_is(engine: &impl Engine) {
    // Between the pairs lie many that are deleted: more than anybody should pass over who looks at one place.
    let name = |number: u32| format!("{number:04}");
    for cf in Cf::ALL {
        write(engine, |batch| (0..1_000).for_each(|number| batch.put(cf, name(number).as_bytes(), b"1")));
        write(engine, |batch| {
            let gone = (0..1_000).filter(|number| number % 250 != 0);
            gone.for_each(|number| batch.delete(cf, name(number).as_bytes()));
        });
    }
    let snapshot = engine.snapshot();
    write(engine, |batch| batch.put(Cf::Write, b"0100", b"2"));
    let first = |cf, start: &str, end: &str| {
        let range = KeyRange { start: start.to_owned().into(), end: end.to_owned().into() };
        let found = snapshot.first(cf, &range).expect("a snapshot reads");
        found.map(|(key, _)| String::from_utf8_lossy(&key).into_owned())
    };
    for cf in Cf::ALL.into_iter().rev().chain([Cf::Write, Cf::Write]) {
        let found = |start, end| first(cf, start, end);
        assert_eq!(found("", "").as_deref(), Some("0000"));
        assert_eq!(found("0000", "0000\0").as_deref(), Some("0000"));
        assert_eq!(found("0000\0", "0250"), None, "the end is exclusive");
        assert_eq!(found("0100", "0101"), None, "what came later is not seen");
        assert_eq!(found("0001", "").as_deref(), Some("0250"));
        assert_eq!(found("0249", "0251").as_deref(), Some("0250"));
        assert_eq!((found("0751", ""), found("0750\0", "2"), found("2", "1")), (None, None, None));
    }
}

pub(super) fn an_iterator_can_turn_round_and_be_moved_again(engine: &impl Engine) {
    put_all(engine, Cf::Default, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let snapshot = engine.snapshot();
    let mut iterator = snapshot.iter(Cf::Default, &KeyRange::new("a", "c\0"));
    assert!(iterator.seek(b"b"));
    assert!(iterator.next() && iterator.key() == b"c");
    assert!(iterator.prev() && iterator.key() == b"b");
    assert!(iterator.prev() && iterator.key() == b"a" && iterator.value() == b"1");
    assert!(iterator.next() && iterator.key() == b"b" && iterator.value() == b"2");
    assert!(iterator.seek_to_last() && !iterator.next());
    assert!(iterator.seek_to_first() && !iterator.prev());
    assert!(iterator.seek_for_prev(b"bb") && iterator.key() == b"b");
}

pub(super) fn empty_and_inverted_ranges_hold_nothing(engine: &impl Engine) {
    put_all(engine, Cf::Default, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let snapshot = engine.snapshot();
    for range in [KeyRange::new("b", "b"), KeyRange::new("c", "a")] {
        assert!(scan(&snapshot, Cf::Default, &range).is_empty());
        let mut iterator = snapshot.iter(Cf::Default, &range);
        assert!(!iterator.seek(b"b") && !iterator.seek_for_prev(b"b"));
        assert_eq!(iterator.status(), Ok(()));
        assert_eq!(engine.approximate_size_bytes(Cf::Default, &range), 0);
        assert_eq!(engine.delete_files_in_range(Cf::Default, &range), Ok(()));
    }
    assert_eq!(scan_all(engine, Cf::Default), ["a=1", "b=2", "c=3"]);
}

pub(super) fn sizes_grow_with_the_data(engine: &impl Engine) {
    let all = KeyRange::full();
    assert_eq!(engine.approximate_size_bytes(Cf::Default, &all), 0);
    // Incompressible enough to be seen whatever an engine does to save room.
    let mut word = 1_u64;
    let mut value = || -> Vec<u8> {
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (word >> 8).to_le_bytes()
        };
        (0..128).flat_map(|_| next()).collect()
    };
    write(engine, |batch| {
        for number in 0..2_000_u32 {
            batch.put(Cf::Default, &number.to_be_bytes(), &value());
        }
    });
    let whole = engine.approximate_size_bytes(Cf::Default, &all);
    assert!((500_000..8_000_000).contains(&whole), "2 MB are reported as {whole} bytes");
    let half = KeyRange::new(1_000_u32.to_be_bytes().to_vec(), "");
    let part = engine.approximate_size_bytes(Cf::Default, &half);
    assert!((whole / 4..=whole * 3 / 4).contains(&part), "half of {whole} is reported as {part}");
    assert_eq!(engine.approximate_size_bytes(Cf::Lock, &all), 0);
    assert_eq!(engine.pressure(), Pressure::default(), "two megabytes put no engine under pressure");
}
