//! The clauses of the contract as tests, for every engine to pass.
//!
//! An implementation's test calls [`run`] with a way to open empty engines. A clause that does not hold panics with
//! the values that differ. Crashes are not part of it: how an engine is made to lose its power is its own matter.

mod batches;
mod files;
mod views;

use crate::{Cf, Engine, EngineIterator, Snapshot, WriteBatch};
use types::KeyRange;

/// Checks every clause, each on an engine of its own from `open`, which returns an empty one at each call.
pub fn run<E: Engine>(open: &mut dyn FnMut() -> E) {
    let clauses: [fn(&E); 23] = [
        batches::an_empty_engine_holds_nothing,
        batches::later_operations_of_a_batch_win,
        batches::later_batches_win,
        batches::families_are_apart,
        batches::a_range_is_removed_without_its_end,
        batches::a_removed_range_can_be_written_again,
        batches::empty_batches_and_absent_keys_are_no_errors,
        batches::any_bytes_are_keys_and_values,
        batches::large_values_and_batches_come_back_whole,
        batches::clones_are_one_engine,
        views::a_snapshot_sees_what_was_written_before_it,
        views::a_snapshot_outlives_the_handle_it_came_from,
        views::iterators_walk_both_ways,
        views::iterators_stay_within_bounds,
        views::seeks_find_the_nearest_key_within_bounds,
        views::the_first_pair_of_a_range_is_found_wherever_it_is,
        views::an_iterator_can_turn_round_and_be_moved_again,
        views::empty_and_inverted_ranges_hold_nothing,
        files::ingested_keys_win_over_older_writes_and_lose_to_newer,
        files::snapshots_do_not_see_later_ingestions,
        files::files_are_listed_and_stay_until_removed,
        files::what_is_missing_is_not_ingested_even_in_part,
        files::a_range_is_cleared_by_files_and_a_batch,
    ];
    for clause in clauses {
        clause(&open());
    }
    views::sizes_grow_with_the_data(&open());
}

/// Applies what `fill` puts into a batch.
fn write(engine: &impl Engine, fill: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    engine.write(&batch).expect("an engine in health takes a batch");
}

/// Sets keys of `cf` in one batch.
fn put_all(engine: &impl Engine, cf: Cf, pairs: &[(&str, &str)]) {
    write(engine, |batch| {
        for (key, value) in pairs {
            batch.put(cf, key.as_bytes(), value.as_bytes());
        }
    });
}

/// The value at `key`, read through the engine and, the same, through a new snapshot.
fn get(engine: &impl Engine, cf: Cf, key: &[u8]) -> Option<Vec<u8>> {
    let direct = engine.get(cf, key).expect("an engine in health reads");
    let through_snapshot = engine.snapshot().get(cf, key).expect("a snapshot reads");
    assert_eq!(direct, through_snapshot, "an engine and its newest snapshot agree at {key:?}");
    direct.map(|value| value.to_vec())
}

fn assert_value(engine: &impl Engine, cf: Cf, key: &str, expected: Option<&str>) {
    let found = get(engine, cf, key.as_bytes());
    assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{} at {key}", cf.name());
}

/// The keys and values of `range`, as `key=value`, walked forward; walked backward they are the same.
fn scan(snapshot: &impl Snapshot, cf: Cf, range: &KeyRange) -> Vec<String> {
    let mut iterator = snapshot.iter(cf, range);
    let here = |iterator: &dyn EngineIterator| {
        format!("{}={}", String::from_utf8_lossy(iterator.key()), String::from_utf8_lossy(iterator.value()))
    };
    let mut forward = Vec::new();
    let mut found = iterator.seek_to_first();
    while found {
        forward.push(here(&*iterator));
        found = iterator.next();
    }
    assert_eq!(iterator.status(), Ok(()), "the end of the bounds is no error");
    let mut backward = Vec::new();
    let mut found = iterator.seek_to_last();
    while found {
        backward.push(here(&*iterator));
        found = iterator.prev();
    }
    assert_eq!(iterator.status(), Ok(()), "the end of the bounds is no error");
    backward.reverse();
    assert_eq!(forward, backward, "both directions find the same");
    forward
}

/// Everything in `cf` now.
fn scan_all(engine: &impl Engine, cf: Cf) -> Vec<String> {
    scan(&engine.snapshot(), cf, &KeyRange::full())
}

/// Writes a file of these pairs; they ascend.
fn write_sst(engine: &impl Engine, cf: Cf, name: &str, pairs: &[(&str, &str)]) {
    let mut writer = engine.create_sst(cf, name).expect("a file can be created");
    for (key, value) in pairs {
        writer.put(key.as_bytes(), value.as_bytes()).expect("a file takes ascending keys");
    }
    let kept = writer.finish().expect("a file can be finished");
    assert_eq!(kept, !pairs.is_empty(), "a file is kept if it holds a key");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_engine_in_memory_keeps_the_contract() {
        super::run(&mut crate::MemEngine::new);
    }
}
