//! Versions that nobody reads any more.
//!
//! Of each key the newest version at or below the safe point stays, with all that is above. What is older goes, and so do
//! records below the safe point that change nothing: of locks, and of transactions that were rolled back, which cannot come
//! any more. If the version that stays is a deletion it goes too, but not before everything beneath it: else that would be
//! seen again (INV-TXN-6).
//!
//! What happened below a safe point changes no more, so a step may be decided on any view that has the locks up to there
//! resolved, may be done twice, and is right whatever else has been written meanwhile.

use crate::key::{TIMESTAMP_SIZE, versioned, without_timestamp};
use crate::reader::record_at;
use crate::{MvccReader, WriteKind, delete_value};
use bytes::Bytes;
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
            let (mut above, mut has_newest) = (0, false);
            // A deletion that goes when nothing is left beneath it.
            let mut deletion = None;
            while valid && is_of_key(iter.key()) {
                let (commit_ts, write) = record_at(&*iter)?;
                steps += 1;
                if commit_ts > safe_point {
                    above += 1;
                    valid = match above < STEPS_BEFORE_SEEK {
                        true => iter.next(),
                        false => iter.seek(&versioned(&key, safe_point)),
                    };
                    continue;
                }
                if step.removed >= limits.removed_max as u64 {
                    // The key is not done, and its deletion must stay until it is.
                    step.resume = Some(key);
                    return Ok(step);
                }
                match (write.kind, has_newest) {
                    (WriteKind::Put, false) => has_newest = true,
                    (WriteKind::Delete, false) => {
                        has_newest = true;
                        deletion = Some(commit_ts);
                    }
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
            if let Some(commit_ts) = deletion {
                batch.delete(Cf::Write, &versioned(&key, commit_ts));
                step.removed += 1;
            }
        }
        iter.status()?;
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{View, Write, put_value, put_write};
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
                put_write(&mut batch, &key(name), Timestamp(*at), &write);
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
        assert_eq!(collect(&engine, 53, EVERYTHING, None), GcStep { removed: 1, values: 1, resume: None });
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
