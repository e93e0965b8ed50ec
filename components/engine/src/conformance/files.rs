//! SST files: written, listed, ingested, removed; and the deletion of files by range.

use super::{assert_value, put_all, scan, scan_all, write, write_sst};
use crate::{Cf, Engine, EngineError};
use types::KeyRange;

pub(super) fn ingested_keys_win_over_older_writes_and_lose_to_newer(engine: &impl Engine) {
    for cf in Cf::DATA {
        put_all(engine, cf, &[("a", "old"), ("b", "old"), ("d", "old")]);
        write(engine, |batch| batch.delete(cf, b"d"));
        let (first, second) = (format!("{}-1", cf.name()), format!("{}-2.sst", cf.name()));
        write_sst(engine, cf, &first, &[("b", "new"), ("c", "new")]);
        write_sst(engine, cf, &second, &[("d", "new"), ("e", "new")]);
        assert_eq!(scan_all(engine, cf), ["a=old", "b=old"], "a finished file is not visible yet");
        engine.ingest(&[(cf, first), (cf, second)]).expect("finished files can be ingested");
        assert_eq!(scan_all(engine, cf), ["a=old", "b=new", "c=new", "d=new", "e=new"]);
        put_all(engine, cf, &[("b", "newer")]);
        write(engine, |batch| batch.delete_range(cf, b"c", b"e"));
        assert_eq!(scan_all(engine, cf), ["a=old", "b=newer", "e=new"]);
    }
    // Several families in one call, and again what was ingested before.
    let names = [(Cf::Default, "default-1".to_owned()), (Cf::Write, "write-1".to_owned())];
    engine.ingest(&names).expect("a file can be ingested again");
    assert_eq!(scan_all(engine, Cf::Default), ["a=old", "b=new", "c=new", "e=new"]);
    assert_eq!(scan_all(engine, Cf::Lock), ["a=old", "b=newer", "e=new"]);
    assert_eq!(scan_all(engine, Cf::Write), ["a=old", "b=new", "c=new", "e=new"]);
    engine.ingest(&[]).expect("nothing to ingest is no error");
}

pub(super) fn snapshots_do_not_see_later_ingestions(engine: &impl Engine) {
    put_all(engine, Cf::Write, &[("b", "old")]);
    write_sst(engine, Cf::Write, "f", &[("a", "new"), ("b", "new")]);
    let before = engine.snapshot();
    engine.ingest(&[(Cf::Write, "f".to_owned())]).expect("a finished file can be ingested");
    let after = engine.snapshot();
    engine.remove_sst("f").expect("a file can be removed");
    assert_eq!(scan(&before, Cf::Write, &KeyRange::full()), ["b=old"]);
    assert_eq!(scan(&after, Cf::Write, &KeyRange::full()), ["a=new", "b=new"]);
}

pub(super) fn files_are_listed_and_stay_until_removed(engine: &impl Engine) {
    let listed = || engine.list_sst().expect("files can be listed");
    assert!(listed().is_empty());
    write_sst(engine, Cf::Default, "b", &[("k", "1")]);
    write_sst(engine, Cf::Default, "a", &[("k", "2")]);
    write_sst(engine, Cf::Default, "empty", &[]);
    let mut unfinished = engine.create_sst(Cf::Default, "unfinished").expect("a file can be created");
    unfinished.put(b"k", b"v").expect("a file takes keys");
    assert_eq!(listed(), ["a", "b"], "finished files that hold keys, in order");
    drop(unfinished);
    assert_eq!(listed(), ["a", "b"]);
    engine.ingest(&[(Cf::Default, "a".to_owned())]).expect("a finished file can be ingested");
    assert_eq!(listed(), ["a", "b"], "an ingested file stays in place");
    engine.remove_sst("a").expect("a file can be removed");
    engine.remove_sst("a").expect("removing what is not there is no error");
    assert_eq!(listed(), ["b"]);
    assert_value(engine, Cf::Default, "k", Some("2"));
    // A name can be used again; the new content replaces the old when it is finished.
    write_sst(engine, Cf::Default, "b", &[("k", "3")]);
    assert_eq!(listed(), ["b"]);
    engine.ingest(&[(Cf::Default, "b".to_owned())]).expect("a finished file can be ingested");
    assert_value(engine, Cf::Default, "k", Some("3"));
}

pub(super) fn what_is_missing_is_not_ingested_even_in_part(engine: &impl Engine) {
    put_all(engine, Cf::Default, &[("k", "old")]);
    write_sst(engine, Cf::Default, "present", &[("k", "new")]);
    let names = [(Cf::Default, "present".to_owned()), (Cf::Write, "absent".to_owned())];
    assert_eq!(engine.ingest(&names), Err(EngineError::MissingFile("absent".to_owned())));
    assert_value(engine, Cf::Default, "k", Some("old"));
    put_all(engine, Cf::Default, &[("k", "newer")]);
    assert_value(engine, Cf::Default, "k", Some("newer"));
}

pub(super) fn a_range_is_cleared_by_files_and_a_batch(engine: &impl Engine) {
    for cf in Cf::DATA {
        put_all(engine, cf, &[("a", "1"), ("b", "1"), ("y", "1"), ("z", "1")]);
        let name = cf.name();
        write_sst(engine, cf, name, &[("c", "1"), ("d", "1"), ("x", "1")]);
        engine.ingest(&[(cf, name.to_owned())]).expect("a finished file can be ingested");
        engine.sync().expect("an engine in health syncs");
        put_all(engine, cf, &[("d", "2"), ("e", "2")]);
        let range = KeyRange::new("b", "y");
        engine.delete_files_in_range(cf, &range).expect("files can be deleted");
        assert_value(engine, cf, "a", Some("1"));
        assert_value(engine, cf, "y", Some("1"));
        write(engine, |batch| batch.delete_range(cf, b"b", b"y"));
        assert_eq!(scan_all(engine, cf), ["a=1", "y=1", "z=1"]);
        assert!(scan(&engine.snapshot(), cf, &range).is_empty());
    }
}
