//! What is told of a request's time, from stamps of a clock that is made up.

use super::counters::Method;
use super::stages::{Asked, Lines, Stopwatch, Way};
use raftstore::{EntryTimes, LogTimes};
use std::time::Duration;
use types::{MonoTime, RegionId, StoreId};
use wire::trace::{Span, Stage};

const fn at(micros: u64) -> MonoTime {
    MonoTime(micros * 1000)
}

const ASKED: Asked = Asked { region_id: RegionId(4), method: Method::Write, bytes: 144, since: at(100) };

fn spans(way: Way, now: MonoTime) -> Vec<(Stage, u64, u64)> {
    let trace = Stopwatch::new(StoreId(1), Duration::ZERO).trace(ASKED, way, now);
    assert_eq!((trace.store_id, trace.region_id), (StoreId(1), RegionId(4)));
    assert_eq!(trace.took_us, now.since(ASKED.since).as_micros() as u64);
    trace.spans.iter().map(|Span { stage, begin_us, took_us }| (*stage, *begin_us, *took_us)).collect()
}

/// From its arrival to its answer a write is always in some stage: the log stands beside replication, the others follow
/// each other without a gap.
#[test]
fn the_stages_of_a_write_leave_no_gap() {
    let log = LogTimes { handed: at(130), begun: at(150), durable: at(450) };
    let entry = EntryTimes { proposed: at(110), log, committed: at(600) };
    let told = spans(Way::Applied { entry, begun: at(640), written: at(700) }, at(705));
    assert_eq!(
        told,
        [
            (Stage::Queue, 0, 10),
            (Stage::Propose, 10, 20),
            (Stage::LogWait, 30, 20),
            (Stage::LogSync, 50, 300),
            (Stage::Replicate, 30, 470),
            (Stage::Commit, 500, 40),
            (Stage::Apply, 540, 60),
            (Stage::Reply, 600, 5),
        ]
    );
    let beside = [Stage::LogWait, Stage::LogSync];
    let sum: u64 = told.iter().filter(|(stage, ..)| !beside.contains(stage)).map(|(.., took)| took).sum();
    assert_eq!(sum, 605, "they make up the whole time");
}

#[test]
fn reads_tell_whether_a_quorum_was_asked() {
    assert_eq!(
        spans(Way::Read { by_lease: true, begun: at(101) }, at(104)),
        [(Stage::Queue, 0, 1), (Stage::Read, 1, 3)]
    );
    assert_eq!(
        spans(Way::Read { by_lease: false, begun: at(400) }, at(404)),
        [(Stage::Confirm, 0, 300), (Stage::Read, 300, 4)]
    );
}

/// Nobody stamps what a person asks for once in a while; then there is nothing to tell but the whole.
#[test]
fn what_was_not_stamped_is_left_out() {
    assert_eq!(spans(Way::Unknown, at(300)), []);
    let way = Way::Applied { entry: EntryTimes::default(), begun: at(200), written: at(300) };
    assert_eq!(spans(way, at(301)), [(Stage::Apply, 100, 100), (Stage::Reply, 200, 1)]);
}

/// A disk that stalls makes every request slow at once; the log must not be their flood, and say that it left some out.
#[test]
fn slow_requests_are_logged_a_few_in_a_second_and_the_others_counted() {
    let mut lines = Lines::default();
    let second = 1_000_000;
    let told: Vec<_> = (0..8).map(|number| lines.next(at(second + number))).collect();
    assert_eq!(told, [Some(0), Some(0), Some(0), Some(0), Some(0), None, None, None]);
    assert_eq!(lines.next(at(2 * second - 1)), None);
    assert_eq!((lines.next(at(2 * second)), lines.next(at(2 * second))), (Some(4), Some(0)));
}
