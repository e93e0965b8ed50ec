//! What becomes of a write when something goes wrong: repeated if it cannot have been made, and never otherwise.

use crate::cluster::{Cluster, Fate};
use crate::ms;
use crate::world::World;
use client_core::{Cause, Error, InvalidArgument, Options, RawClient, TimeToLive};
use types::{KEY_SIZE_MAX, Key, KeyRange, VALUE_SIZE_MAX};
use wire::kv::{BusyReason, KvError, KvReply};

/// A put whose first attempts meet these fates: what it was told, how many requests were sent, how often it was made.
fn put_meets(fates: &[Fate]) -> (Result<(), Error>, usize, u32) {
    let world = World::new(1);
    let cluster = Cluster::new(&world, &[]);
    cluster.state.lock().fates.extend(fates.iter().cloned());
    let raw = cluster.core(Options::default()).raw();
    let result = world.run(async move { raw.put("k", "v").await });
    let state = cluster.state.lock();
    (result, state.kv_sent.len(), state.applied.get(&b"v"[..]).copied().unwrap_or_default())
}

#[test]
fn a_write_is_repeated_after_refusals_that_mean_it_was_not_made() {
    let refusals = [
        KvError::NotLeader { region_id: types::RegionId(2), leader: None },
        KvError::EpochNotMatch { current_regions: vec![] },
        KvError::RegionNotFound { region_id: types::RegionId(2) },
        KvError::KeyNotInRegion { region_id: types::RegionId(2), range: KeyRange::new("a", "b") },
        KvError::ServerIsBusy { reason: BusyReason::Memory, backoff_ms: 20 },
        KvError::StaleCommand,
        KvError::DeadlineExceeded,
    ];
    for refusal in refusals {
        let (result, _, applied) =
            put_meets(&[Fate::Refused(refusal.clone()), Fate::Refused(refusal.clone())]);
        assert_eq!((result, applied), (Ok(()), 1), "after {refusal:?}");
    }
    let (result, _, applied) = put_meets(&[Fate::NotSent, Fate::NotSent]);
    assert_eq!((result, applied), (Ok(()), 1));
}

#[test]
fn a_write_is_never_repeated_once_it_may_have_been_made() {
    for (fate, applied) in [
        (Fate::AnswerLost, 1),
        (Fate::RequestLost, 0),
        (Fate::AnswerSilent, 1),
        (Fate::RequestSilent, 0),
        (Fate::Answered(KvReply::Started), 0),
    ] {
        let (result, sent, times) = put_meets(std::slice::from_ref(&fate));
        assert!(matches!(result, Err(Error::Undetermined { .. })), "{fate:?} gave {result:?}");
        assert_eq!((sent, times), (1, applied), "after {fate:?}");
    }
    let (result, sent, _) = put_meets(&[Fate::Refused(KvError::UndeterminedResult)]);
    assert!(matches!(result, Err(Error::Undetermined { cause: Cause::StoreLostTrack { .. } })));
    assert_eq!(sent, 1);
}

#[test]
fn refusals_that_will_not_change_are_told_at_once() {
    let (result, sent, _) = put_meets(&[Fate::Refused(KvError::DiskFull)]);
    assert_eq!((result, sent), (Err(Error::DiskFull), 1));
    let message = "too large".to_owned();
    let (result, sent, _) = put_meets(&[Fate::Refused(KvError::InvalidRequest { message: message.clone() })]);
    assert_eq!((result, sent), (Err(InvalidArgument::Refused { message }.into()), 1));
}

fn three_regions(world: &World) -> (Cluster, RawClient) {
    let cluster = Cluster::new(world, &["b", "c"]);
    // One request at a time, so that fates meet regions in the order of their keys.
    let raw = cluster.core(Options { batch_concurrency: 1, ..Options::default() }).raw();
    (cluster, raw)
}

fn keys(names: &[&'static str]) -> Vec<Key> {
    names.iter().map(|name| Key::from(*name)).collect()
}

#[test]
fn a_batch_tells_apart_what_was_written_what_was_not_and_what_nobody_knows() {
    let world = World::new(1);
    let (cluster, raw) = three_regions(&world);
    cluster.state.lock().fates.extend([Fate::Pass, Fate::AnswerLost]);
    let result = world.run(async move {
        raw.batch_put([("c1", "5"), ("a1", "1"), ("b1", "3"), ("a2", "2"), ("b2", "4"), ("a1", "6")]).await
    });
    let Err(Error::Incomplete(parts)) = result else { panic!("it gave {result:?}") };
    assert_eq!(parts.written, keys(&["a1", "a2"]));
    assert_eq!(parts.undetermined, keys(&["b1", "b2"]));
    assert_eq!(parts.not_written, keys(&["c1"]), "nothing is begun after a failure");
    assert!(matches!(parts.cause, Error::Undetermined { .. }));
    let state = cluster.state.lock();
    assert_eq!(state.kv_sent.len(), 2);
    assert_eq!(state.applied.get(&b"6"[..]), Some(&1), "the last value counts for a key that comes twice");
    assert_eq!(state.applied.get(&b"1"[..]), None);
}

#[test]
fn a_batch_that_fails_as_one_fails_like_a_single_write() {
    let world = World::new(1);
    let (cluster, raw) = three_regions(&world);
    cluster.state.lock().fates.extend([Fate::Refused(KvError::DiskFull)]);
    let result = world.run(async move { raw.batch_put([("a1", "1"), ("b1", "2")]).await });
    assert_eq!(result, Err(Error::DiskFull), "nothing was written at all");
}

#[test]
fn a_range_that_was_deleted_in_part_tells_how_far() {
    let world = World::new(1);
    let (cluster, raw) = three_regions(&world);
    let left = world.run({
        let cluster = cluster.clone();
        async move {
            raw.batch_put([("a1", "1"), ("b1", "2"), ("c1", "3"), ("c2", "4")]).await.unwrap();
            cluster.state.lock().fates.extend([Fate::Pass, Fate::Pass, Fate::AnswerLost]);
            let result = raw.delete_range(KeyRange::new("a", "c2")).await;
            let Err(Error::RangeIncomplete { deleted_to, cause }) = result else {
                panic!("it gave {result:?}")
            };
            assert_eq!(deleted_to, "c");
            assert!(matches!(*cause, Error::Undetermined { .. }));
            raw.delete_range(KeyRange::new(deleted_to, "c2")).await.unwrap();
            raw.delete_range(KeyRange::new("c2", "c2")).await.unwrap();
            raw.scan_page(KeyRange::full(), 10).await.unwrap()
        }
    });
    assert_eq!(left, [crate::pair("c2", "4")]);
}

#[test]
fn large_batches_go_in_pieces_that_a_request_can_hold() {
    let world = World::new(1);
    let (cluster, raw) = three_regions(&world);
    world.run(async move {
        let value = vec![7; 400 << 10];
        raw.batch_put((0..8).map(|n| (format!("a{n}"), value.clone()))).await.unwrap();
        raw.batch_delete((0..1000).map(|n| format!("a{n}"))).await.unwrap();
    });
    for (_, request) in &cluster.state.lock().kv_sent {
        let wire::kv::KvCommand::Write { ops } = &request.command else { panic!("only writes were made") };
        let bytes: usize = ops.iter().map(wire::kv::WriteOp::size_bytes).sum();
        assert!(ops.len() <= 256 && bytes <= (2 << 20), "{} writes of {bytes} bytes", ops.len());
    }
}

#[test]
fn what_cannot_be_right_is_refused_before_anything_is_sent() {
    let world = World::new(1);
    let cluster = Cluster::new(&world, &[]);
    let raw = cluster.core(Options::default()).raw();
    world.run(async move {
        let too_long = vec![b'k'; KEY_SIZE_MAX + 1];
        let key_too_long = InvalidArgument::KeyTooLong { size: KEY_SIZE_MAX + 1, size_max: KEY_SIZE_MAX };
        let too_large = vec![0; VALUE_SIZE_MAX + 1];
        let value_too_long =
            InvalidArgument::ValueTooLong { size: VALUE_SIZE_MAX + 1, size_max: VALUE_SIZE_MAX };
        let invalid = |what: &InvalidArgument| Error::InvalidArgument(what.clone());
        assert_eq!(raw.get("").await, Err(invalid(&InvalidArgument::KeyEmpty)));
        assert_eq!(raw.put("", "v").await, Err(invalid(&InvalidArgument::KeyEmpty)));
        assert_eq!(raw.get(too_long.clone()).await, Err(invalid(&key_too_long)));
        assert_eq!(raw.delete(too_long.clone()).await, Err(invalid(&key_too_long)));
        assert_eq!(raw.batch_get([too_long]).await, Err(invalid(&key_too_long)));
        assert_eq!(raw.put("k", too_large.clone()).await, Err(invalid(&value_too_long)));
        assert_eq!(raw.batch_put([("k", too_large.clone())]).await, Err(invalid(&value_too_long)));
        assert_eq!(raw.put_if_absent("k", too_large).await, Err(invalid(&value_too_long)));
        let reversed = KeyRange::new("b", "a");
        assert_eq!(raw.delete_range(reversed.clone()).await, Err(invalid(&InvalidArgument::RangeReversed)));
        assert!(raw.scan(reversed, client_core::ScanOptions::default()).is_err());
        assert_eq!(raw.batch_get(Vec::<Key>::new()).await, Ok(vec![]));
        assert_eq!(raw.batch_put(Vec::<(Key, Key)>::new()).await, Ok(()));
        // The longest allowed is allowed.
        raw.with_deadline(ms(500)).put(vec![b'k'; KEY_SIZE_MAX], vec![0; VALUE_SIZE_MAX]).await.unwrap();
    });
    assert_eq!(cluster.state.lock().kv_sent.len(), 1);
}

/// A time to live reaches the store in milliseconds, of one key and of many; what is shorter than one counts as one, and
/// none at all is refused before anything is sent. Conditional writes have theirs too, and a plain write ends it.
#[test]
fn a_time_to_live_is_sent_and_told() {
    let world = World::new(1);
    let cluster = Cluster::new(&world, &["m"]);
    let raw = cluster.core(Options::default()).raw();
    let told = world.run(async move {
        let refused = raw.put_with_ttl("k", "v", ms(0)).await;
        assert_eq!(refused, Err(InvalidArgument::NoTimeToLive.into()));
        raw.put_with_ttl("k", "v", std::time::Duration::from_micros(3)).await?;
        raw.batch_put_with_ttl([("a", "1"), ("z", "2")], ms(1_500)).await?;
        assert!(raw.put_if_absent_with_ttl("new", "3", ms(20)).await?.succeeded);
        assert!(!raw.put_if_absent_with_ttl("a", "4", ms(20)).await?.succeeded);
        let mut told = Vec::new();
        for key in ["k", "a", "z", "new", "none"] {
            told.push(raw.get_ttl(key).await?);
        }
        raw.put("a", "5").await?;
        told.push(raw.get_ttl("a").await?);
        Ok::<_, Error>(told)
    });
    let left = |millis| Some(TimeToLive::Left(ms(millis)));
    let wanted = vec![left(1), left(1_500), left(1_500), left(20), None, Some(TimeToLive::Unlimited)];
    assert_eq!(told, Ok(wanted));
}
