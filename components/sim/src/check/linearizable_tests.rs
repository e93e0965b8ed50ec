//! Known good and known bad histories, and a comparison with the definition on many small random ones.

use super::*;
use env::{Dice, SplitMix};

/// `returned` of zero: unknown outcome.
fn op(process: u64, invoked: u64, returned: u64, action: Action, outcome: Outcome) -> Operation {
    let returned = if outcome == Outcome::Unknown { u64::MAX } else { returned };
    Operation { process, key: Bytes::from_static(b"k"), action, outcome, invoked, returned }
}

fn value(name: &'static str) -> Option<Bytes> {
    (name != "-").then(|| Bytes::from_static(name.as_bytes()))
}

fn get(invoked: u64, returned: u64, seen: &'static str) -> Operation {
    op(0, invoked, returned, Action::Get, Outcome::Value(value(seen)))
}

fn put(invoked: u64, returned: u64, new: &'static str) -> Operation {
    op(1, invoked, returned, Action::Put(value(new).unwrap()), Outcome::Written)
}

fn delete(invoked: u64, returned: u64) -> Operation {
    op(2, invoked, returned, Action::Delete, Outcome::Written)
}

fn swap(
    invoked: u64,
    returned: u64,
    expected: &'static str,
    new: &'static str,
    succeeded: bool,
) -> Operation {
    let action = Action::CompareAndSwap { expected: value(expected), new: value(new) };
    op(3, invoked, returned, action, Outcome::Swapped { succeeded, previous: None })
}

fn unknown(mut operation: Operation) -> Operation {
    operation.outcome = Outcome::Unknown;
    operation.returned = u64::MAX;
    operation
}

fn check(history: &[Operation]) -> Verdict {
    linearizable(history, DEFAULT_STEPS_MAX)
}

#[track_caller]
fn good(history: &[Operation]) {
    assert_eq!(check(history), Verdict::Linearizable);
}

#[track_caller]
fn bad(history: &[Operation]) -> Box<Violation> {
    match check(history) {
        Verdict::Violation(violation) => violation,
        other => panic!("a violation was expected, not {other:?}"),
    }
}

#[test]
fn a_sequential_history_is_linearizable() {
    good(&[]);
    good(&[
        get(1, 2, "-"),
        put(3, 4, "a"),
        get(5, 6, "a"),
        swap(7, 8, "a", "b", true),
        swap(9, 10, "a", "c", false),
        get(11, 12, "b"),
        delete(13, 14),
        get(15, 16, "-"),
        swap(17, 18, "-", "d", true),
        get(19, 20, "d"),
    ]);
}

#[test]
fn concurrent_operations_take_effect_in_any_order() {
    good(&[put(1, 10, "a"), put(1, 10, "b"), get(2, 3, "b"), get(4, 5, "a")]);
    good(&[put(1, 10, "a"), put(1, 10, "b"), get(2, 3, "a"), get(4, 5, "b")]);
    // A point in common is enough to be concurrent.
    good(&[put(1, 5, "a"), get(5, 6, "-")]);
    bad(&[put(1, 10, "a"), put(1, 10, "b"), get(2, 3, "a"), get(4, 5, "b"), get(6, 7, "a")]);
}

#[test]
fn a_stale_read_is_found_and_told() {
    let violation = bad(&[put(1, 2, "a"), put(3, 4, "b"), get(5, 6, "a")]);
    assert_eq!(violation.key, "k");
    assert_eq!(violation.stuck, [put(3, 4, "b")]);
    let violation = bad(&[put(1, 2, "a"), get(3, 4, "-")]);
    assert_eq!(
        violation.to_string(),
        "key k is not linearizable\n  explained are 0 operations, the last of them:\n  the key then holds -, and none \
         of these can follow:\n    [0.000000, 0.000000] process 1 put k = a -> done\n"
    );
}

#[test]
fn a_lost_write_is_found_once_it_is_missed() {
    bad(&[put(1, 2, "a"), put(3, 4, "b"), get(5, 6, "b"), get(7, 8, "a")]);
    bad(&[put(1, 2, "a"), delete(3, 4), get(5, 6, "a")]);
    // Nobody looked before it was overwritten: nobody can tell.
    good(&[put(1, 2, "a"), put(3, 4, "lost"), put(5, 6, "c"), get(7, 8, "c")]);
}

#[test]
fn a_read_of_what_nobody_wrote_is_found() {
    bad(&[put(1, 2, "a"), get(3, 4, "x")]);
    // Of what is not written yet.
    bad(&[get(1, 2, "a"), put(3, 4, "a")]);
    // Of what was promised not to happen.
    let mut refused = put(1, 2, "a");
    refused.outcome = Outcome::NotDone;
    bad(&[refused, get(3, 4, "a")]);
}

#[test]
fn two_swaps_of_one_value_cannot_both_succeed() {
    bad(&[put(1, 2, "a"), swap(3, 9, "a", "b", true), swap(3, 9, "a", "c", true)]);
    good(&[put(1, 2, "a"), swap(3, 9, "a", "b", true), swap(3, 9, "a", "c", false)]);
    bad(&[put(1, 2, "a"), swap(3, 4, "a", "b", false)]);
    bad(&[put(1, 2, "a"), swap(3, 4, "b", "c", true)]);
}

#[test]
fn what_a_swap_says_it_found_is_an_observation() {
    let told = |previous: &'static str, succeeded: bool| {
        let mut operation = swap(5, 6, "b", "c", succeeded);
        operation.outcome = Outcome::Swapped { succeeded, previous: Some(value(previous)) };
        operation
    };
    good(&[put(1, 2, "a"), told("a", false)]);
    bad(&[put(1, 2, "a"), told("-", false)]);
    // It contradicts itself.
    bad(&[put(1, 2, "b"), told("b", false)]);
    bad(&[put(1, 2, "b"), told("a", true)]);
}

#[test]
fn an_unknown_write_takes_effect_at_any_time_or_never() {
    let maybe = unknown(put(1, 0, "u"));
    good(std::slice::from_ref(&maybe));
    good(&[maybe.clone(), put(2, 3, "a"), get(4, 5, "a"), get(6, 7, "u"), get(8, 9, "u")]);
    good(&[maybe.clone(), get(4, 5, "-")]);
    // But once, and not before it was asked for.
    bad(&[maybe.clone(), get(2, 3, "u"), put(4, 5, "a"), get(6, 7, "u")]);
    bad(&[get(1, 2, "v"), unknown(put(3, 0, "v"))]);
    bad(&[maybe, get(2, 3, "u"), get(4, 5, "-")]);
}

#[test]
fn unknown_swaps_and_deletes_explain_what_they_can() {
    // A chain of two unknown ones.
    good(&[unknown(put(1, 0, "a")), unknown(swap(2, 0, "a", "b", true)), get(3, 4, "b")]);
    bad(&[unknown(swap(2, 0, "a", "b", true)), get(3, 4, "b")]);
    // An unknown write makes a swap fail that does not say what it saw.
    good(&[put(1, 2, "a"), unknown(put(3, 0, "u")), swap(4, 5, "a", "b", false)]);
    // Two unknown deletes serve two disappearances, not three.
    let gone = |count: usize| {
        let mut history: Vec<Operation> = (0..2).map(|_| unknown(delete(1, 0))).collect();
        let names = ["x", "y", "z"];
        for (round, name) in names.into_iter().enumerate().take(count) {
            let start = 10 * (round as u64 + 1);
            history.extend([put(start, start + 1, name), get(start + 2, start + 3, "-")]);
        }
        history
    };
    good(&gone(2));
    bad(&gone(3));
}

#[test]
fn keys_are_checked_apart() {
    let mut other = get(5, 6, "-");
    other.key = Bytes::from_static(b"other");
    good(&[put(1, 2, "a"), other.clone(), get(5, 6, "a")]);
    other.outcome = Outcome::Value(value("a"));
    assert_eq!(bad(&[put(1, 2, "a"), other]).key, "other");
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let history = [put(1, 9, "a"), put(1, 9, "b"), get(10, 11, "a")];
    assert_eq!(linearizable(&history, 0), Verdict::Undecided { key: Bytes::from_static(b"k") });
}

/// The definition, tried in every way: each order that respects real time, with and without each unknown operation.
fn by_definition(history: &[Operation]) -> bool {
    fn extend(history: &[Operation], left: u32, state: &Option<Bytes>) -> bool {
        let is_left = |index: usize| left & 1 << index != 0;
        let owed = |operation: &Operation| !matches!(operation.outcome, Outcome::Unknown | Outcome::NotDone);
        if !(0..history.len()).any(|index| is_left(index) && owed(&history[index])) {
            return true;
        }
        (0..history.len()).any(|index| {
            let operation = &history[index];
            let overtaken = (0..history.len()).any(|other| {
                is_left(other) && owed(&history[other]) && history[other].returned < operation.invoked
            });
            if !is_left(index) || overtaken || operation.outcome == Outcome::NotDone {
                return false;
            }
            let known = operation.outcome != Outcome::Unknown;
            let (after, outcome) = match &operation.action {
                Action::Get => (state.clone(), Outcome::Value(state.clone())),
                Action::Put(value) => (Some(value.clone()), Outcome::Written),
                Action::Delete => (None, Outcome::Written),
                Action::CompareAndSwap { expected, new } => {
                    let succeeded = expected == state;
                    let after = if succeeded { new.clone() } else { state.clone() };
                    let told = matches!(&operation.outcome, Outcome::Swapped { previous: Some(_), .. });
                    (after, Outcome::Swapped { succeeded, previous: told.then(|| state.clone()) })
                }
            };
            (!known || outcome == operation.outcome) && extend(history, left & !(1 << index), &after)
        })
    }
    extend(history, (1 << history.len()) - 1, &None)
}

/// A history of up to seven operations over three values, half of the times as a register would answer, then spoilt.
fn small_history(dice: &mut SplitMix) -> Vec<Operation> {
    const NAMES: [&str; 4] = ["-", "a", "b", "c"];
    let any = |dice: &mut SplitMix| value(NAMES[dice.below(4) as usize]);
    let length = 2 + dice.below(6);
    let span = 2 + dice.below(12);
    (0..length)
        .map(|process| {
            let invoked = dice.below(span);
            let returned = invoked + dice.below(5);
            let (action, outcome) = match dice.below(8) {
                0..=2 => (Action::Get, Outcome::Value(any(dice))),
                3 | 4 => (Action::Put(value(NAMES[1 + dice.below(3) as usize]).unwrap()), Outcome::Written),
                5 => (Action::Delete, Outcome::Written),
                _ => {
                    let action = Action::CompareAndSwap { expected: any(dice), new: any(dice) };
                    let previous = dice.chance(1, 2).then(|| any(dice));
                    (action, Outcome::Swapped { succeeded: dice.chance(1, 2), previous })
                }
            };
            let outcome = match dice.below(8) {
                0 | 1 => Outcome::Unknown,
                2 if dice.chance(1, 4) => Outcome::NotDone,
                _ => outcome,
            };
            op(process, invoked, returned, action, outcome)
        })
        .collect()
}

#[test]
fn the_search_agrees_with_the_definition_on_small_random_histories() {
    let mut dice = SplitMix::new(0x11ea);
    let mut counts = [0_u32; 2];
    for round in 0..30_000 {
        let history = small_history(&mut dice);
        let expected = by_definition(&history);
        counts[usize::from(expected)] += 1;
        let found = check(&history) == Verdict::Linearizable;
        assert_eq!(found, expected, "round {round}: {history:#?}");
    }
    assert!(counts.iter().all(|count| *count > 3_000), "both verdicts are tried: {counts:?}");
}

/// What a true register would record: effects at a drawn moment within each operation; some outcomes are then lost.
fn long_history(dice: &mut SplitMix, processes: u64, length: usize, lost_one_in: u64) -> Vec<Operation> {
    let mut free_at: Vec<u64> = (0..processes).map(|_| dice.below(100)).collect();
    let mut calls = Vec::new();
    for number in 0..length {
        let process = dice.below(processes);
        let invoked = free_at[process as usize];
        let took_effect = invoked + 1 + dice.below(50);
        let returned = took_effect + 1 + dice.below(50);
        free_at[process as usize] = returned + 1 + dice.below(20);
        calls.push((took_effect, number, process, invoked, returned));
    }
    calls.sort_unstable();
    let mut state: Option<Bytes> = None;
    let mut history = Vec::new();
    for (_, number, process, invoked, returned) in calls {
        let new = Bytes::from(format!("v{number}"));
        let lost = dice.chance(1, lost_one_in);
        let happens = !lost || dice.chance(1, 2);
        let (action, after, outcome) = match dice.below(10) {
            0..=3 => (Action::Get, state.clone(), Outcome::Value(state.clone())),
            4..=6 => (Action::Put(new.clone()), Some(new), Outcome::Written),
            7 => (Action::Delete, None, Outcome::Written),
            _ => {
                let expected = if dice.chance(2, 3) { state.clone() } else { None };
                let succeeded = expected == state;
                let after = if succeeded { Some(new.clone()) } else { state.clone() };
                let action = Action::CompareAndSwap { expected, new: Some(new) };
                (action, after, Outcome::Swapped { succeeded, previous: Some(state.clone()) })
            }
        };
        if happens {
            state = after;
        }
        history.push(op(process, invoked, returned, action, if lost { Outcome::Unknown } else { outcome }));
    }
    history
}

#[test]
fn thousands_of_operations_on_one_key_take_few_steps() {
    for seed in 0..10 {
        let mut dice = SplitMix::new(seed);
        let history = long_history(&mut dice, 12, 4_000, 40);
        assert_eq!(linearizable(&history, 400_000), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn a_stale_read_deep_in_a_long_history_is_found() {
    for seed in 0..10 {
        let mut dice = SplitMix::new(100 + seed);
        let mut history = long_history(&mut dice, 8, 3_000, 60);
        // Some read late in the history answers what an earlier one saw.
        let reads: Vec<usize> = (0..history.len())
            .filter(|index| matches!(history[*index].outcome, Outcome::Value(Some(_))))
            .collect();
        let (early, late) = (reads[reads.len() / 2], reads[reads.len() * 3 / 4]);
        assert_ne!(
            history[early].outcome, history[late].outcome,
            "values are unique and rarely last that long"
        );
        history[late].outcome = history[early].outcome.clone();
        match linearizable(&history, 4_000_000) {
            Verdict::Violation(_) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}
