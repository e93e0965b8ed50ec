//! Calls end by their deadline, in virtual time, and say what is known then.

use crate::cluster::{Cluster, Fate};
use crate::ms;
use crate::world::World;
use client_core::{Cause, Error, Options};
use std::time::Duration;
use wire::kv::{BusyReason, KvError};
use wire::pd::PdError;

/// Runs a call in a cluster prepared by `prepare`; what it gave and how long it took.
fn timed<T, F>(
    prepare: impl FnOnce(&Cluster),
    call: impl FnOnce(client_core::RawClient) -> F,
) -> (T, Duration)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let world = World::new(3);
    let cluster = Cluster::new(&world, &[]);
    let raw = cluster.core(Options::default()).raw();
    prepare(&cluster);
    let call = call(raw);
    let clock = world.clone();
    world.run(async move {
        let begun = clock.now();
        let value = call.await;
        (value, clock.now().since(begun))
    })
}

fn everything_is_silent(cluster: &Cluster) {
    cluster.state.lock().fates.extend(vec![Fate::RequestSilent; 100]);
}

#[test]
fn a_read_that_nobody_answers_ends_with_the_deadline() {
    let (result, taken) = timed(everything_is_silent, |raw| async move { raw.get("k").await });
    assert_eq!(result, Err(Error::DeadlineExceeded));
    assert!(taken > ms(9_000) && taken <= ms(10_000), "it took {taken:?}");
}

#[test]
fn a_write_that_nobody_answers_is_undetermined_at_the_deadline() {
    let (result, taken) =
        timed(everything_is_silent, |raw| async move { raw.with_deadline(ms(300)).put("k", "v").await });
    assert!(
        matches!(result, Err(Error::Undetermined { cause: Cause::StoreSilent { .. } })),
        "it gave {result:?}"
    );
    assert!(taken <= ms(300), "it took {taken:?}");
}

#[test]
fn a_read_turns_to_another_peer_when_a_store_is_silent() {
    let prepare = |cluster: &Cluster| {
        let mut state = cluster.state.lock();
        state.fates.push_back(Fate::RequestSilent);
    };
    let (result, taken) = timed(prepare, |raw| async move { raw.get("k").await });
    assert_eq!(result, Ok(None));
    assert!(taken >= ms(2_000) && taken < ms(2_200), "it took {taken:?}");
}

#[test]
fn a_store_that_stays_busy_makes_the_call_unavailable_and_nothing_written() {
    let busy = KvError::ServerIsBusy { reason: BusyReason::WriteStall, backoff_ms: 400 };
    let prepare = |cluster: &Cluster| cluster.state.lock().fates.extend(vec![Fate::Refused(busy); 100]);
    let (result, taken) = timed(prepare, |raw| async move { raw.put("k", "v").await });
    assert!(
        matches!(result, Err(Error::Unavailable { cause: Cause::StoreBusy { .. } })),
        "it gave {result:?}"
    );
    // It gives up when the next wait would not end in time.
    assert!(taken > ms(8_500) && taken <= ms(10_000), "it took {taken:?}");
}

#[test]
fn a_placement_driver_that_is_gone_makes_the_call_unavailable() {
    let prepare = |cluster: &Cluster| cluster.state.lock().pd_down = true;
    let (result, taken) =
        timed(prepare, |raw| async move { raw.with_deadline(ms(5_000)).put("k", "v").await });
    assert!(
        matches!(result, Err(Error::Unavailable { cause: Cause::PdUnreachable { .. } })),
        "it gave {result:?}"
    );
    assert!(taken <= ms(5_000), "it took {taken:?}");
}

#[test]
fn a_placement_driver_that_is_not_ready_is_asked_again() {
    let prepare = |cluster: &Cluster| {
        cluster.state.lock().pd_errors.extend([
            PdError::NotBootstrapped,
            PdError::NotLeader { leader: None },
            PdError::ServerIsBusy { backoff_ms: 5 },
        ]);
    };
    let (result, _) = timed(prepare, |raw| async move { raw.put("k", "v").await });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_call_without_time_fails_before_anything_is_sent() {
    let (result, taken) =
        timed(|_| {}, |raw| async move { raw.with_deadline(Duration::ZERO).put("k", "v").await });
    assert_eq!((result, taken), (Err(Error::DeadlineExceeded), Duration::ZERO));
}
