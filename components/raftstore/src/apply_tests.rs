//! What entries do to the data, seen from the batch that an applier makes of them.

use super::*;
use codec::Encode;
use engine::{MemEngine, Snapshot as _};
use std::sync::Arc;
use types::{Epoch, LogIndex, MonoTime, StoreId, Term};
use wire::kv::WriteOp;

const REGION: RegionId = RegionId(2);

fn region() -> Region {
    Region {
        id: REGION,
        range: KeyRange::full(),
        epoch: Epoch { conf_ver: 4, version: 1 },
        peers: vec![Peer::voter(PeerId(3), StoreId(1)), Peer::learner(PeerId(4), StoreId(2))],
    }
}

fn applier(engine: &MemEngine, peer_id: u64) -> Applier<MemEngine> {
    let record = RegionRecord {
        state: PeerState::Normal,
        region: region(),
        peer_id: PeerId(peer_id),
        removed: Vec::new(),
    };
    let apply = ApplyRecord { applied: LOG_START, truncated: LOG_START };
    let mut applier = Applier::new(engine.clone(), Arc::default());
    applier.apply(vec![ApplyTask::Register { record, apply }]).expect("readable");
    applier
}

/// Entries from the first of the log on, with a token for each item: 1, 2, and so on.
fn task(kinds: Vec<(EntryKind, Bytes, u64)>) -> ApplyTask {
    let (mut entries, mut proposals, mut token) = (Vec::new(), Vec::new(), 0);
    for (index, (kind, data, tokens)) in (LOG_START.index.get() + 1..).zip(kinds) {
        let entry = Entry { term: Term(6), index: LogIndex(index), kind, data };
        proposals.push(Proposal {
            id: entry.id(),
            tokens: (token + 1..=token + tokens).collect(),
            times: EntryTimes { proposed: MonoTime(entry.index.get()), ..EntryTimes::default() },
        });
        token += tokens;
        entries.push(entry);
    }
    ApplyTask::Entries { region_id: REGION, entries: entries.into(), proposals }
}

fn write(items: Vec<WriteItem>) -> (EntryKind, Bytes, u64) {
    let tokens = items.len() as u64;
    (EntryKind::Normal, Command::Write { version: 1, items }.to_bytes(), tokens)
}

fn put(key: &'static str, value: &'static str) -> WriteItem {
    WriteItem::Ops(vec![WriteOp::Put { key: key.into(), value: value.into() }])
}

fn swap(key: &'static str, expected: Option<&'static str>, new: &'static str) -> WriteItem {
    let (expected, new) = (expected.map(Bytes::from), Some(new.into()));
    WriteItem::CompareAndSwap { key: key.into(), expected, new, now_ms: 0 }
}

fn swapped(succeeded: bool, previous: Option<&'static str>) -> Result<KvReply, KvError> {
    Ok(KvReply::Swapped { succeeded, previous: previous.map(Bytes::from) })
}

fn split() -> (EntryKind, Bytes, u64) {
    let ids = vec![SplitIds { region_id: RegionId(7), peer_ids: vec![PeerId(8), PeerId(9)] }];
    let command = Command::Split { epoch: region().epoch, keys: vec!["m".into()], ids };
    (EntryKind::Normal, command.to_bytes(), 1)
}

fn replies(batch: &ApplyBatch) -> Vec<Result<KvReply, KvError>> {
    assert!(batch.replies.iter().map(|(token, _)| *token).eq(1..=batch.replies.len() as u64));
    batch.replies.iter().map(|(_, answer)| answer.clone()).collect()
}

#[test]
fn compare_and_swap_sees_puts_deletes_and_range_deletes_of_its_own_batch() {
    let engine = MemEngine::new();
    let mut before = WriteBatch::new();
    before.put(Cf::Default, b"b", b"old");
    engine.write(&before).expect("the disk works");
    let range = KeyRange::new("a", "c");
    let cut = || WriteItem::Ops(vec![WriteOp::DeleteRange { range: range.clone() }]);
    let items = vec![
        put("a", "1"),
        cut(),
        swap("a", Some("1"), "x"),
        swap("b", Some("old"), "x"),
        put("b", "2"),
        swap("b", Some("2"), "3"),
        cut(),
        swap("b", None, "4"),
        swap("c", None, "5"),
    ];
    let batch = applier(&engine, 3).apply(vec![task(vec![write(items)])]).expect("readable");
    let answers = replies(&batch);
    let swaps: Vec<_> = [2, 3, 5, 7, 8].into_iter().map(|at: usize| answers[at].clone()).collect();
    let wanted = [
        swapped(false, None),
        swapped(false, None),
        swapped(true, Some("2")),
        swapped(true, None),
        swapped(true, None),
    ];
    assert_eq!(swaps, wanted);
    engine.write(&batch.batch).expect("the disk works");
    let view = engine.snapshot();
    let value = |key: &[u8]| view.get(Cf::Default, key).expect("readable");
    assert_eq!((value(b"a"), value(b"b"), value(b"c")), (None, Some("4".into()), Some("5".into())));
}

#[test]
fn a_write_behind_a_split_fails_and_the_next_entries_go_on() {
    let engine = MemEngine::new();
    let entries = vec![split(), write(vec![put("a", "1"), put("z", "1")]), split()];
    let batch = applier(&engine, 3).apply(vec![task(entries)]).expect("readable");
    let answers = replies(&batch);
    assert!(matches!(&answers[0], Ok(KvReply::Regions(regions)) if regions.len() == 2));
    for answer in &answers[1..] {
        assert!(matches!(answer, Err(KvError::EpochNotMatch { .. })), "{answer:?}");
    }
    engine.write(&batch.batch).expect("the disk works");
    assert_eq!(engine.get(Cf::Default, b"a"), Ok(None));
    let (record, apply) = records::records_in(&engine.snapshot(), REGION).expect("readable").expect("there");
    assert_eq!((record.region.range, apply.applied.index), (KeyRange::new("m", ""), LogIndex(8)));
    let child = region_record(&engine, RegionId(7)).expect("readable").expect("made");
    assert_eq!((child.peer_id, child.region.range), (PeerId(8), KeyRange::new("", "m")));
}

#[test]
fn a_child_that_was_removed_before_the_split_got_here_is_not_made_and_its_data_goes() {
    let engine = MemEngine::new();
    let mut before = WriteBatch::new();
    before.put(Cf::Default, b"a", b"old");
    before.put(Cf::Default, b"z", b"old");
    let gone = Region { id: RegionId(7), ..Region::default() };
    let record =
        RegionRecord { state: PeerState::Tombstone, region: gone, peer_id: PeerId(8), removed: Vec::new() };
    put_region(&mut before, &record);
    engine.write(&before).expect("the disk works");
    let batch = applier(&engine, 3).apply(vec![task(vec![split()])]).expect("readable");
    let [RegionChange::Split { children, .. }] = &batch.outcomes[0].changes[..] else { panic!("a split") };
    assert_eq!(children[0].record, None);
    engine.write(&batch.batch).expect("the disk works");
    assert_eq!(region_record(&engine, RegionId(7)), Ok(Some(record)));
    assert_eq!(engine.get(Cf::Default, b"a"), Ok(None));
    assert_eq!(engine.get(Cf::Default, b"z"), Ok(Some("old".into())));
}

fn removal(id: u64) -> (EntryKind, Bytes, u64) {
    let context = crate::ChangeContext { epoch: region().epoch, peers: Vec::new() };
    let op = raft::ConfChangeOp { kind: ConfChangeKind::Remove, id: PeerId(id) };
    let change =
        ConfChange { ops: vec![op], context: context.to_bytes(), transition: raft::Transition::Auto };
    (EntryKind::ConfChange, change.to_bytes(), 0)
}

#[test]
fn entries_after_our_removal_and_after_a_stop_are_not_applied_nor_said_to_be_refused() {
    for stopped in [false, true] {
        let engine = MemEngine::new();
        let mut applier = applier(&engine, 4);
        let mut tasks = vec![task(vec![removal(4), write(vec![put("a", "1")])])];
        if stopped {
            tasks.insert(0, ApplyTask::Stop { region_id: REGION });
        }
        let bytes: u64 = tasks.iter().map(crate::worker::apply_bytes).sum();
        let batch = applier.apply(tasks).expect("readable");
        assert_eq!(replies(&batch), [Err(KvError::UndeterminedResult)]);
        // Whatever becomes of them, their credit comes back.
        assert_eq!(batch.outcomes.iter().map(|outcome| outcome.bytes_applied).sum::<u64>(), bytes);
        assert_eq!(batch.outcomes.iter().any(|outcome| outcome.stopped), stopped);
        assert_eq!(
            batch.outcomes.iter().map(|outcome| outcome.changes.len()).sum::<usize>(),
            usize::from(!stopped)
        );
        engine.write(&batch.batch).expect("the disk works");
        assert_eq!(engine.get(Cf::Default, b"a"), Ok(None));
    }
}

#[test]
fn of_each_store_only_the_last_removed_peer_is_remembered() {
    let engine = MemEngine::new();
    let mut record =
        RegionRecord { state: PeerState::Normal, region: region(), peer_id: PeerId(3), removed: Vec::new() };
    for id in [90, 91] {
        let store_id = StoreId(id - 88);
        record
            .removed
            .push(RemovedPeer { peer: Peer::learner(PeerId(id), store_id), epoch: Epoch::default() });
    }
    let apply = ApplyRecord { applied: LOG_START, truncated: LOG_START };
    let mut applier = Applier::new(engine.clone(), Arc::default());
    let batch =
        applier.apply(vec![ApplyTask::Register { record, apply }, task(vec![removal(4)])]).expect("readable");
    engine.write(&batch.batch).expect("the disk works");
    let record = region_record(&engine, REGION).expect("readable").expect("there");
    let removed: Vec<u64> = record.removed.iter().map(|removed| removed.peer.id.get()).collect();
    assert_eq!(removed, [91, 4]);
}

/// Answers are in the order of their entries; each run of them says when its entry reached which stage, so that whoever
/// answers need not ask for it request by request.
#[test]
fn answers_know_how_their_entry_came_here() {
    let engine = MemEngine::new();
    let mut applier = applier(&engine, 3);
    let nobody = (EntryKind::Normal, Command::Write { version: 1, items: vec![put("b", "2")] }.to_bytes(), 0);
    let task = task(vec![write(vec![put("a", "1"), put("a", "2")]), nobody, write(vec![put("c", "3")])]);
    let batch = applier.apply(vec![task]).expect("readable");
    let first = LOG_START.index.get() + 1;
    let times: Vec<_> = batch.times.iter().map(|(place, times)| (*place, times.proposed.0)).collect();
    assert_eq!(times, [(0, first), (2, first + 2)]);
    assert_eq!(batch.replies.len(), 3);
}

/// What nobody needed any more when its removal was decided may be replaced before that is applied: then it stays.
#[test]
fn a_record_that_was_replaced_is_not_removed() {
    let engine = MemEngine::new();
    let mut applier = applier(&engine, 3);
    let family = Cf::Newest as u8;
    let put =
        |key: &'static str, value: &'static str| Change::Put { family, key: key.into(), value: value.into() };
    let remove = |key: &'static str, value: &'static str| Change::DeleteIf {
        family,
        key: key.into(),
        value: value.into(),
    };
    let changes = |changes| write(vec![WriteItem::Changes(changes)]);
    let first = changes(vec![put("a", "1"), put("b", "1"), put("c", "1"), remove("a", "1")]);
    let second = changes(vec![put("b", "2"), remove("b", "1"), remove("d", "1")]);
    let batch = applier.apply(vec![task(vec![first, second])]).expect("readable");
    engine.write(&batch.batch).expect("no fault was injected");
    let stored = |key: &[u8]| engine.get(Cf::Newest, key).expect("readable");
    assert_eq!([stored(b"a"), stored(b"b"), stored(b"c")], [None, Some("2".into()), Some("1".into())]);
}

fn guard(guarded: u64, removed: u64) -> WriteItem {
    let common = |at| types::SafePoints::common(Timestamp(at));
    WriteItem::Guard(GcRecord { guarded: common(guarded), removed: common(removed), has_ends: false })
}

fn of_txn(start_ts: u64, gets_locks: bool) -> WriteItem {
    let change = Change::Put { family: Cf::Lock as u8, key: "x\0\0\0k".into(), value: "lock".into() };
    WriteItem::OfTxn { start_ts: Timestamp(start_ts), gets_locks, changes: vec![change] }
}

/// A command that was decided before its region was guarded, and comes behind the guard in the log, has no effect if its
/// transaction began by then: whoever looks for old locks after the guard finds all there will ever be (INV-TXN-13).
#[test]
fn what_was_decided_before_a_guard_does_not_pass_it() {
    let engine = MemEngine::new();
    let mut applier = applier(&engine, 3);
    let items = vec![of_txn(20, true), guard(20, 10), of_txn(20, true), of_txn(21, true), of_txn(20, false)];
    let late = vec![of_txn(10, false), guard(15, 5)];
    let batch = applier.apply(vec![task(vec![write(items), write(late)])]).expect("readable");
    let answers: Vec<bool> = batch.replies.iter().map(|(_, answer)| answer.is_ok()).collect();
    assert_eq!(answers, [true, true, false, true, true, false, true]);
    let fault = TxnFault::BelowSafePoint { at: Timestamp(20), safe_point: Timestamp(20) };
    assert_eq!(batch.replies[2].1, Err(KvError::Txn(Box::new(fault))));
    engine.write(&batch.batch).expect("no fault was injected");
    let WriteItem::Guard(raised) = guard(20, 10) else { unreachable!("made so") };
    assert_eq!(gc_record(&engine.snapshot(), REGION), Ok(raised), "an earlier guard changes nothing");
}

/// Whoever has a view with a guard in it looks for it: readers are told before the batch is written, which may be at any time
/// after this (INV-TXN-13).
#[test]
fn readers_are_told_of_a_guard_before_it_can_be_seen() {
    let engine = MemEngine::new();
    let mut applier = applier(&engine, 3);
    assert_eq!(applier.meta.guarded_to(), Timestamp(0));
    let batch = applier.apply(vec![task(vec![write(vec![guard(20, 10)])])]).expect("readable");
    assert_eq!(applier.meta.guarded_to(), Timestamp(20));
    engine.write(&batch.batch).expect("no fault was injected");
    assert_eq!(records::guarded_to(&engine), Ok(Timestamp(20)), "what a restart begins with");
}

/// The pieces of a region refuse what it has refused, and so does who gets it by a snapshot.
#[test]
fn a_guard_is_inherited_by_pieces_and_sent_with_snapshots() {
    let engine = MemEngine::new();
    let mut applier = applier(&engine, 3);
    let child = SplitIds { region_id: RegionId(50), peer_ids: vec![PeerId(51), PeerId(52)] };
    let split = Command::Split { epoch: region().epoch, keys: vec!["m".into()], ids: vec![child] };
    let split = (EntryKind::Normal, split.to_bytes(), 1);
    let batch = applier.apply(vec![task(vec![write(vec![guard(20, 10)]), split])]).expect("readable");
    engine.write(&batch.batch).expect("no fault was injected");
    let WriteItem::Guard(raised) = guard(20, 10) else { unreachable!("made so") };
    assert_eq!(gc_record(&engine.snapshot(), RegionId(50)), Ok(raised.clone()));
    let (record, apply) = records::records_in(&engine.snapshot(), REGION).expect("readable").expect("there");
    let sent = records::raft_snapshot(&record, apply, &raised);
    assert_eq!(records::beside_in(&sent).map(|beside| beside.gc), Ok(raised));
    // As an earlier version sends it.
    let earlier = raft::Snapshot { data: record.removed.to_bytes(), ..sent };
    assert_eq!(records::beside_in(&earlier).map(|beside| beside.gc), Ok(GcRecord::default()));
}

fn put_for(key: &'static str, value: &'static str, ttl_ms: u64, now_ms: u64) -> WriteItem {
    WriteItem::OpsAt { now_ms, ops: vec![WriteOp::PutFor { key: key.into(), value: value.into(), ttl_ms }] }
}

/// What ends is compared, and removed, by the time that stands in the entry: all replicas decide alike, whenever they apply
/// it. Where the entry has none, nothing is done to a value that may be over.
#[test]
fn values_end_by_the_time_of_the_entry() {
    let engine = MemEngine::new();
    let mut applier = applier(&engine, 3);
    let swap_at = |now_ms, expected: Option<&'static str>, new: &'static str| WriteItem::CompareAndSwap {
        key: "a".into(),
        expected: expected.map(Bytes::from),
        new: Some(new.into()),
        now_ms,
    };
    let swap_for = WriteItem::CompareAndSwapFor {
        key: "a".into(),
        expected: Some("3".into()),
        new: "4".into(),
        ttl_ms: 5,
        now_ms: 120,
    };
    let remove = |now_ms| WriteItem::RemoveEnded { now_ms, keys: vec!["a".into(), "b".into()] };
    let items = vec![
        put_for("a", "1", 10, 100),
        swap_at(109, Some("1"), "2"),
        put_for("a", "2", 10, 100),
        swap_at(0, Some("2"), "x"),
        swap_at(110, Some("2"), "x"),
        swap_at(110, None, "3"),
        swap_for,
        put_for("b", "5", 100, 100),
        remove(124),
        swap_at(124, Some("x"), "x"),
        remove(125),
    ];
    let batch = applier.apply(vec![task(vec![write(items)])]).expect("readable");
    let answers = replies(&batch);
    assert_eq!(answers[1], swapped(true, Some("1")));
    assert_eq!(answers[3], Err(crate::write::busy(wire::kv::BusyReason::Clock)));
    assert_eq!(answers[4..7], [swapped(false, None), swapped(true, None), swapped(true, Some("3"))]);
    assert_eq!(answers[9], swapped(false, Some("4")), "its time is not over");
    engine.write(&batch.batch).expect("no fault was injected");
    let stored = |key: &[u8]| engine.get(Cf::Default, key).expect("readable").map(crate::raw_value);
    assert_eq!(stored(b"a"), None);
    assert_eq!(stored(b"b"), Some(crate::RawValue { value: "5".into(), ends_ms: Some(200) }));
    let record = GcRecord { has_ends: true, ..GcRecord::default() };
    assert_eq!(gc_record(&engine.snapshot(), REGION), Ok(record), "there is something to look for");
}
