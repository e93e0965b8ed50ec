//! Versions that nobody reads any more.
//!
//! Of each key the newest version at or below the safe point stays, with all that is above. What is older goes, and so do
//! records below the safe point that change nothing: of locks, and of transactions that were rolled back, which cannot come
//! any more. If the version that stays is a removal of the key it goes too, but not before everything beneath it: else that
//! would be seen again (INV-TXN-6). Only keys are looked at of which there is something beside their newest version, and a
//! key that was removed is one.
//!
//! What happened below a safe point changes no more, so a step may be decided on any view that has the locks up to there
//! resolved, may be done twice, and is right whatever else has been written meanwhile. That is not true of what stands under
//! the key itself, which is replaced: where nothing is left of a key it is removed only if it is still the same.

use crate::key::{TIMESTAMP_SIZE, versioned, without_timestamp};
use crate::reader::record_at;
use crate::{MvccReader, WriteKind, delete_value};
use bytes::Bytes;
use codec::Encode;
use engine::{Cf, EngineError, Snapshot, WriteBatch};
use types::{Key, KeyRange, SafePoints};

/// So many steps are tried before a seek, which costs about as much.
const STEPS_BEFORE_SEEK: usize = 8;

/// How much one step may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GcLimits {
    /// Records removed; one at least.
    pub removed_max: usize,
    /// Moves of the cursor, what stays included; one key at least is looked at.
    pub steps_max: usize,
}

/// What a step has come to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GcStep {
    /// Records whose removal was appended to the batch.
    pub removed: u64,
    /// Values that stood beside them, likewise.
    pub values: u64,
    /// Keys of which nothing is left, and what stands under them: it is to be removed as well, if it is still that.
    pub spent: Vec<(Key, Bytes)>,
    /// Where the next step begins; `None` when the range is done.
    pub resume: Option<Key>,
}

impl<S: Snapshot> MvccReader<'_, S> {
    /// Appends the removal of versions of keys in `range` that nobody needs who reads at the safe points or above.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn collect(
        &self,
        range: &KeyRange,
        safe_points: &SafePoints,
        limits: GcLimits,
        batch: &mut WriteBatch,
    ) -> Result<GcStep, EngineError> {
        let mut step = GcStep::default();
        if range.is_empty() {
            return Ok(step);
        }
        let mut iter = self.snapshot.iter(Cf::Write, range);
        let (mut valid, mut steps) = (iter.seek_to_first(), 1);
        let mut is_first = true;
        while valid {
            let key = Bytes::copy_from_slice(without_timestamp(iter.key())?.0);
            if !is_first && (steps >= limits.steps_max || step.removed >= limits.removed_max as u64) {
                step.resume = Some(key);
                return Ok(step);
            }
            is_first = false;
            let safe_point = safe_points.of_key(&key);
            let is_of_key =
                |found: &[u8]| found.len() == key.len() + TIMESTAMP_SIZE && found.starts_with(&key);
            let newest = self.newest(&key)?.unwrap_or_default();
            let (mut above, mut stays) = (0, false);
            // What is seen at the safe point was met.
            let mut has_seen = newest.write.is_some() && newest.commit_ts <= safe_point;
            // A removal of the key that goes when nothing is left beneath it.
            let mut removal = None;
            while valid && is_of_key(iter.key()) {
                let (commit_ts, write) = record_at(&*iter)?;
                steps += 1;
                if commit_ts > safe_point {
                    (above, stays) = (above + 1, true);
                    valid = match above < STEPS_BEFORE_SEEK {
                        true => iter.next(),
                        false => iter.seek(&versioned(&key, safe_point)),
                    };
                    continue;
                }
                if step.removed >= limits.removed_max as u64 {
                    // The key is not done, and its removal must stay until it is.
                    step.resume = Some(key);
                    return Ok(step);
                }
                let is_newest = newest.commit_ts == commit_ts;
                match write.kind {
                    WriteKind::Delete if is_newest || !has_seen => {
                        (has_seen, removal) = (true, Some(commit_ts));
                    }
                    WriteKind::Put if !has_seen => (has_seen, stays) = (true, true),
                    _ => {
                        batch.delete(Cf::Write, iter.key());
                        step.removed += 1;
                        if write.kind == WriteKind::Put && write.short_value.is_none() {
                            delete_value(batch, &key, write.start_ts);
                            step.values += 1;
                        }
                    }
                }
                valid = iter.next();
            }
            let is_spent = !newest.is_put() && newest.last() <= safe_point && !stays;
            if let Some(commit_ts) = removal.filter(|at| *at != newest.commit_ts || is_spent) {
                batch.delete(Cf::Write, &versioned(&key, commit_ts));
                step.removed += 1;
            }
            if is_spent {
                step.spent.push((key, newest.to_bytes()));
            }
        }
        iter.status()?;
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;
    use crate::{View, Write, put_value};
    use engine::{Engine, MemEngine};
    use types::Timestamp;

    const EVERYTHING: GcLimits = GcLimits { removed_max: usize::MAX, steps_max: usize::MAX };

    fn key(name: &str) -> Key {
        let mut out = bytes::BytesMut::new();
        codec::ordered::put_ordered(&mut out, &[b"x\0\0\0", name.as_bytes()].concat());
        out.freeze()
    }

    /// Writes what `history` says of keys, the newest first: `P` with a value beside it, `p` with a short one, `D`, `L`, `R`.
    fn engine_with(histories: &[(&str, &[(char, u64)])]) -> MemEngine {
        let engine = MemEngine::new();
        let mut batch = WriteBatch::new();
        for (name, history) in histories {
            for (kind, at) in *history {
                let start_ts = Timestamp(if *kind == 'R' { *at } else { *at - 1 });
                let mut write = Write::new(
                    match kind {
                        'P' | 'p' => WriteKind::Put,
                        'D' => WriteKind::Delete,
                        'L' => WriteKind::Lock,
                        _ => WriteKind::Rollback,
                    },
                    start_ts,
                );
                match kind {
                    'P' => put_value(&mut batch, &key(name), start_ts, b"long"),
                    'p' => write.short_value = Some("short".into()),
                    _ => {}
                }
                record(&engine, &key(name), Timestamp(*at), &write);
            }
        }
        engine.write(&batch).expect("no fault was injected");
        engine
    }

    /// What is left of a key, the newest first.
    fn left(engine: &MemEngine, name: &str) -> Vec<u64> {
        let snapshot = engine.snapshot();
        let history = MvccReader::new(&snapshot).history(&key(name), 100).expect("readable");
        history.into_iter().map(|version| version.commit_ts.0).collect()
    }

    fn collect(engine: &MemEngine, safe_point: u64, limits: GcLimits, from: Option<Key>) -> GcStep {
        let snapshot = engine.snapshot();
        let mut batch = WriteBatch::new();
        let range = KeyRange { start: from.unwrap_or_default(), end: Key::new() };
        let points = SafePoints::common(Timestamp(safe_point));
        let step = MvccReader::new(&snapshot).collect(&range, &points, limits, &mut batch).expect("readable");
        for (key, expected) in &step.spent {
            assert_eq!(
                snapshot.get(Cf::Newest, key).as_ref(),
                Ok(&Some(expected.clone())),
                "it is still the same"
            );
            batch.delete(Cf::Newest, key);
        }
        engine.write(&batch).expect("no fault was injected");
        step
    }

    /// The newest version by the safe point stays, with what is above; what changes nothing goes.
    #[test]
    fn what_is_read_at_the_safe_point_stays() {
        let engine = engine_with(&[
            ("a", &[('p', 90), ('R', 60), ('p', 50), ('L', 40), ('P', 30), ('R', 20), ('p', 10)]),
            ("ab", &[('L', 55), ('R', 54), ('P', 53), ('P', 52)]),
            ("b", &[('p', 51)]),
            ("c", &[('R', 50)]),
        ]);
        let step = collect(&engine, 50, EVERYTHING, None);
        assert_eq!((step.removed, step.values, step.resume), (5, 1, None));
        assert_eq!(left(&engine, "a"), [90, 60, 50]);
        assert_eq!(left(&engine, "ab"), [55, 54, 53, 52], "above");
        assert_eq!((left(&engine, "b"), left(&engine, "c")), (vec![51], vec![]));
        assert_eq!(collect(&engine, 50, EVERYTHING, None).removed, 0, "once");
        assert_eq!(
            collect(&engine, 53, EVERYTHING, None),
            GcStep { removed: 1, values: 1, ..GcStep::default() }
        );
        assert_eq!(left(&engine, "ab"), [55, 54, 53]);
    }

    /// A deletion goes with what is beneath it, and after it if that takes several steps: what was deleted never returns.
    #[test]
    fn a_deletion_goes_last() {
        let engine =
            engine_with(&[("a", &[('D', 50), ('P', 40), ('p', 30), ('P', 20)]), ("b", &[('D', 60)])]);
        let two = GcLimits { removed_max: 2, steps_max: usize::MAX };
        let step = collect(&engine, 50, two, None);
        assert_eq!((left(&engine, "a"), step.resume.clone()), (vec![50, 20], Some(key("a"))));
        let step = collect(&engine, 50, two, step.resume);
        assert_eq!((left(&engine, "a"), step.removed, step.resume), (vec![], 2, Some(key("b"))));
        assert_eq!(left(&engine, "b"), [60]);
        collect(&engine, 60, two, None);
        assert_eq!(left(&engine, "b"), [0; 0]);
    }

    /// What stands under a key goes with the last of its other records, and not while there is one: else nobody would come
    /// by again.
    #[test]
    fn nothing_is_left_of_a_key_that_was_removed_or_never_had_a_value() {
        let engine = engine_with(&[
            ("a", &[('R', 60), ('D', 50), ('p', 40)]),
            ("b", &[('R', 50)]),
            ("c", &[('p', 50), ('D', 40), ('p', 30)]),
        ]);
        let spent = |safe_point| {
            let step = collect(&engine, safe_point, EVERYTHING, None);
            step.spent.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(spent(45), Vec::<Key>::new(), "something is newer");
        assert_eq!((left(&engine, "a"), left(&engine, "c")), (vec![60, 50, 40], vec![50]));
        assert_eq!(spent(50), [key("b")]);
        assert_eq!(left(&engine, "a"), [60, 50], "the removal stays with what came later");
        assert_eq!(spent(60), [key("a")]);
        assert_eq!((left(&engine, "a"), left(&engine, "b"), left(&engine, "c")), (vec![], vec![], vec![50]));
    }

    /// However little a step may do, all steps together come to the same, and readers at the safe point see the same after
    /// each of them.
    #[test]
    fn steps_of_any_size_come_to_the_same() {
        let histories: &[(&str, &[(char, u64)])] = &[
            ("a", &[('p', 99), ('p', 98), ('D', 45), ('P', 40), ('R', 35), ('p', 30)]),
            ("aa", &[('p', 44), ('P', 43)]),
            ("b", &[('L', 48), ('P', 47), ('D', 46), ('P', 2)]),
            ("c", &[('R', 49), ('R', 48)]),
        ];
        let seen = |engine: &MemEngine| -> Vec<_> {
            let snapshot = engine.snapshot();
            let reader = MvccReader::new(&snapshot);
            let get = |name, at| reader.get(&key(name), &View::at(Timestamp(at))).expect("readable");
            ["a", "aa", "b", "c"]
                .iter()
                .flat_map(|name| [get(name, 50), get(name, 98), get(name, 200)])
                .collect()
        };
        let whole = engine_with(histories);
        let before = seen(&whole);
        collect(&whole, 50, EVERYTHING, None);
        for (removed_max, steps_max) in [(1, 1), (1, usize::MAX), (usize::MAX, 1), (2, 3)] {
            let engine = engine_with(histories);
            let mut from = None;
            for round in 0.. {
                assert!(round < 100, "it ends");
                let step = collect(&engine, 50, GcLimits { removed_max, steps_max }, from);
                assert_eq!(seen(&engine), before);
                from = step.resume;
                if from.is_none() {
                    break;
                }
            }
            for name in ["a", "aa", "b", "c"] {
                assert_eq!(left(&engine, name), left(&whole, name), "{name}, {removed_max} and {steps_max}");
            }
        }
    }
}
