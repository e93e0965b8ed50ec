//! What is kept in memory of locks, and what becomes of it when the leader goes or the region is cut.

use crate::command::{Change, WriteItem};
use crate::held::{HeldLimits, HeldLock, HeldLocks, HeldView, NotHeld};
use bytes::Bytes;
use engine::Cf;
use types::{Epoch, Key, KeyRange, Region, RegionId, Term, Timestamp};

const REGION: RegionId = RegionId(1);
const LED: (Term, u64) = (Term(6), 1);
const ROOM: HeldLimits = HeldLimits { region_bytes_max: 10_000, store_bytes_max: 15_000 };

fn set(key: &'static str, value: &'static str) -> Change {
    Change::Put { family: Cf::Lock as u8, key: key.into(), value: value.into() }
}

fn end(key: &'static str) -> Change {
    Change::Delete { family: Cf::Lock as u8, key: key.into() }
}

fn led() -> HeldLocks {
    let held = HeldLocks::default();
    held.open(REGION, LED.0, LED.1, Vec::new());
    held
}

fn absorb(held: &HeldLocks, start_ts: u64, changes: &[Change]) -> Result<(), NotHeld> {
    held.absorb(REGION, LED, Timestamp(start_ts), changes, &[], ROOM)
}

fn all(held: &HeldLocks) -> HeldView {
    held.look_for(REGION, &KeyRange::full(), Timestamp(u64::MAX))
}

fn keys(view: &HeldView) -> Vec<&[u8]> {
    let locks = view.under(LED.0, LED.1).expect("led as before");
    locks.iter().map(|(key, _)| &key[..]).collect()
}

/// The keys whose locks nothing is about to change.
fn settled(held: &HeldLocks) -> Vec<Key> {
    held.all().into_iter().filter(|now| !now.is_moving).map(|now| now.key).collect()
}

fn region(id: u64, start: &'static str, end: &'static str) -> Region {
    let epoch = Epoch { version: 2, ..Epoch::default() };
    Region { id: RegionId(id), range: KeyRange::new(start, end), epoch, ..Region::default() }
}

/// The keys of each item that is to be proposed, by transaction.
fn proposed(items: &[WriteItem]) -> Vec<(u64, Vec<&[u8]>)> {
    let mut proposed = Vec::new();
    for item in items {
        let WriteItem::OfTxn { start_ts, gets_locks: true, changes } = item else { panic!("{item:?}") };
        proposed.push((start_ts.0, changes.iter().map(|change| &change.key()[..]).collect()));
    }
    proposed
}

/// Locks are set, renewed and removed without a word in the log; who looks sees them, or those of its keys.
#[test]
fn locks_are_held_while_the_region_is_led() {
    let held = led();
    assert_eq!(absorb(&held, 10, &[set("a", "1"), set("b", "1")]), Ok(()));
    assert_eq!(absorb(&held, 20, &[set("c", "2")]), Ok(()));
    assert_eq!(absorb(&held, 10, &[set("a", "longer"), end("b")]), Ok(()));
    assert_eq!(keys(&all(&held)), [b"a", b"c"]);
    let view = held.view(REGION, &["c".into(), "z".into()]);
    assert_eq!(view.under(LED.0, LED.1), Some(&[("c".into(), "2".into())][..]));
    let stats = held.stats();
    assert_eq!((stats.locks, stats.absorbed, stats.refused), (2, 5, [0; NotHeld::ALL.len()]));
    absorb(&held, 10, &[end("a")]).unwrap();
    absorb(&held, 20, &[end("c")]).unwrap();
    assert_eq!((held.stats().locks, held.stats().bytes), (0, 0));
}

#[test]
#[should_panic(expected = "INV-TXN-2")]
fn a_lock_is_not_put_over_that_of_another_transaction() {
    let held = led();
    absorb(&held, 10, &[set("a", "1")]).unwrap();
    let _never = absorb(&held, 20, &[set("a", "2")]);
}

/// What was looked at, or decided, in another term or under another version counts for nothing.
#[test]
fn locks_count_under_one_leadership() {
    let held = led();
    absorb(&held, 10, &[set("a", "1")]).unwrap();
    for other in [(Term(5), 1), (Term(7), 1), (Term(6), 2)] {
        let result = held.absorb(REGION, other, Timestamp(20), &[set("b", "2")], &[], ROOM);
        assert_eq!((result, all(&held).under(other.0, other.1)), (Err(NotHeld::LeaderMoves), None));
    }
    let before = all(&held);
    held.close(REGION);
    assert_eq!((held.stats().locks, held.stats().lost), (0, 1));
    assert_eq!(all(&held).under(LED.0, LED.1), None, "nobody leads here");
    assert_eq!(absorb(&held, 10, &[set("b", "1")]), Err(NotHeld::LeaderMoves));
    held.open(REGION, Term(8), 1, Vec::new());
    assert_eq!(all(&held).under(Term(8), 1), Some(&[][..]));
    assert_eq!(before.under(Term(8), 1), None, "it was looked at under another leader");
}

/// All that a command does fits, or nothing of it is done.
#[test]
fn what_does_not_fit_is_left_to_the_log() {
    let held = led();
    held.open(RegionId(2), LED.0, LED.1, Vec::new());
    let fill = |region_id, start_ts, key: &'static str, size| {
        let value = Bytes::from(vec![0; size]);
        let change = Change::Put { family: Cf::Lock as u8, key: key.into(), value };
        held.absorb(region_id, LED, Timestamp(start_ts), &[set("small", "1"), change], &[], ROOM)
    };
    assert_eq!(fill(REGION, 10, "a", 9_800), Err(NotHeld::RegionFull));
    assert_eq!(held.stats().locks, 0);
    assert_eq!(fill(REGION, 10, "a", 9_000), Ok(()));
    assert_eq!(fill(RegionId(2), 20, "b", 9_000), Err(NotHeld::StoreFull));
    // One that takes no more room than before.
    assert_eq!(fill(REGION, 10, "a", 8_000), Ok(()));
    assert_eq!(fill(RegionId(2), 20, "b", 6_000), Ok(()));
}

/// A write that ends a lock is on its way. Until it is known what becomes of it nobody changes the lock here.
#[test]
fn a_lock_that_a_write_changes_stays_until_the_write_is_settled() {
    let held = led();
    absorb(&held, 10, &[set("a", "1"), set("b", "1")]).unwrap();
    let changed: [Key; 2] = ["a".into(), "b".into()];
    held.proposed(REGION, changed.iter());
    assert_eq!(settled(&held), Vec::<Key>::new());
    assert_eq!(absorb(&held, 10, &[end("a")]), Err(NotHeld::Moving));
    assert_eq!(keys(&all(&held)), [b"a", b"b"]);
    held.settle(REGION, &changed[..1], true);
    held.settle(REGION, &changed[1..], false);
    assert_eq!(settled(&held), ["b"]);
    assert_eq!(absorb(&held, 10, &[end("a")]), Err(NotHeld::Moving), "the engine has it");
    assert_eq!(absorb(&held, 10, &[end("b")]), Ok(()));
}

/// A leader hands over. Its locks go into the log, by transaction, but for those that a write on its way ends: they would
/// come after it. There are no new ones meanwhile.
#[test]
fn locks_go_into_the_log_before_the_region_is_handed_over() {
    let held = led();
    absorb(&held, 20, &[set("a", "2"), set("d", "2")]).unwrap();
    absorb(&held, 10, &[set("b", "1"), set("c", "1")]).unwrap();
    held.proposed(REGION, [Key::from("c")].iter());
    let items = held.hand_over(REGION);
    assert_eq!(proposed(&items), [(10, vec![&b"b"[..]]), (20, vec![b"a", b"d"])]);
    assert_eq!(held.hand_over(REGION), [], "once");
    assert_eq!(absorb(&held, 30, &[set("e", "3")]), Err(NotHeld::LeaderMoves));
    assert_eq!(absorb(&held, 20, &[end("a")]), Err(NotHeld::Moving));
    assert_eq!(keys(&all(&held)), [b"a", b"b", b"c", b"d"], "who looks sees them still");
    held.close(REGION);
    assert_eq!((held.stats().lost, held.stats().handed_over), (0, 3));
}

/// Nobody takes the region over. The engine has the locks by now; one of them is changed by a write that is refused later.
#[test]
fn a_leader_that_stays_takes_locks_again() {
    let held = led();
    absorb(&held, 10, &[set("a", "1"), set("b", "1"), set("c", "1")]).unwrap();
    let ends = [Key::from("c")];
    held.hand_over(REGION);
    held.proposed(REGION, ends.iter());
    held.keep(REGION, false);
    assert_eq!(keys(&all(&held)), [b"c"]);
    held.settle(REGION, &ends, false);
    assert_eq!(keys(&all(&held)), Vec::<&[u8]>::new(), "the engine has that one, too");
    let renewed = [set("a", "later")];
    let result = held.absorb(REGION, LED, Timestamp(10), &renewed, &["a".into()], ROOM);
    assert_eq!(result, Err(NotHeld::Moving), "it was here when that was decided");
    assert_eq!(absorb(&held, 20, &[set("d", "2")]), Ok(()));
    // The next time they cannot be proposed.
    assert_eq!(held.hand_over(REGION).len(), 1);
    held.keep(REGION, true);
    assert_eq!(absorb(&held, 20, &[end("d")]), Ok(()));
}

/// A region is cut: each piece gets its locks, but for those that a write changes or has changed.
#[test]
fn each_piece_of_a_region_gets_its_locks() {
    let held = led();
    absorb(&held, 10, &["a", "b", "m", "y", "z"].map(|key| set(key, "1"))).unwrap();
    held.proposed(REGION, ["b".into(), "z".into()].iter());
    let rest = region(1, "n", "");
    let of_pieces = held.split(&rest, &[region(2, "", "g"), region(3, "g", "n")]);
    let names = |locks: &Vec<(Key, HeldLock)>| locks.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(of_pieces.iter().map(names).collect::<Vec<_>>(), [vec![Key::from("a")], vec!["m".into()]]);
    assert_eq!(absorb(&held, 10, &[end("y")]), Err(NotHeld::LeaderMoves), "it was decided before the cut");
    assert_eq!(settled(&held), ["y"]);
    held.settle(REGION, &["z".into()], false);
    let [of_first, _] = &of_pieces[..] else { panic!("two pieces") };
    held.open(RegionId(2), Term(6), 2, of_first.clone());
    assert_eq!(held.view(RegionId(2), &["a".into()]).under(Term(6), 2).map(<[_]>::len), Some(1));
    assert_eq!(held.stats().locks, 2);
}

/// Somebody looks for all locks of old transactions, of which the log takes no more: nor are there more here.
#[test]
fn who_has_looked_for_old_locks_has_seen_all_there_will_be() {
    let held = led();
    absorb(&held, 10, &[set("a", "1")]).unwrap();
    absorb(&held, 30, &[set("b", "3")]).unwrap();
    assert_eq!(keys(&held.look_for(REGION, &KeyRange::full(), Timestamp(20))), [b"a"]);
    assert_eq!(absorb(&held, 20, &[set("c", "2")]), Err(NotHeld::LookedFor));
    assert_eq!(absorb(&held, 21, &[set("c", "2")]), Ok(()));
    assert_eq!(absorb(&held, 10, &[set("a", "1 again")]), Ok(()), "that one was seen");
    all(&held);
    assert_eq!(absorb(&held, 40, &[set("d", "4")]), Ok(()), "who wants to see all there is refuses nothing");
}
