//! Snapshot streams.

use crate::common::{Event, Fixture, SERVER, STORE_2, until};
use bytes::Bytes;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use transport::{
    Counters, Pacer, Settings, SnapshotOptions, SnapshotSendError, send_snapshot, send_snapshot_over,
};
use types::{Epoch, KeyRange, LogIndex, Peer, PeerId, Region, RegionId, Term};
use wire::store::{RaftMessage, SnapshotKey, SnapshotPiece};

const CHUNK_SIZE: usize = 10 << 10;

fn key() -> SnapshotKey {
    SnapshotKey { region_id: RegionId(3), to_peer: PeerId(9), term: Term(4), index: LogIndex(100) }
}

/// A start, `chunks` chunks and an end; or nothing where the end would be.
fn pieces(
    chunks: usize,
    ends: bool,
    pulled: Arc<AtomicUsize>,
) -> impl FnMut() -> Option<SnapshotPiece> + Send {
    move || {
        let n = pulled.fetch_add(1, Ordering::Relaxed);
        let message = wire::raft::Message {
            from: PeerId(1),
            to: PeerId(9),
            term: Term(4),
            body: wire::raft::Body::TimeoutNow,
        };
        match n {
            0 => Some(SnapshotPiece::Start {
                key: key(),
                region: Region::default(),
                message: Box::new(RaftMessage {
                    region_id: RegionId(3),
                    from: Peer::default(),
                    to: Peer::default(),
                    epoch: Epoch::default(),
                    range: KeyRange::full(),
                    message,
                }),
            }),
            n if n <= chunks => {
                let pairs = vec![(Bytes::from(format!("{n:06}")), Bytes::from(vec![n as u8; CHUNK_SIZE]))];
                Some(SnapshotPiece::Chunk { key: key(), family: 0, pairs })
            }
            _ if ends => Some(SnapshotPiece::End { key: key(), pairs: chunks as u64, checksum: 7 }),
            _ => None,
        }
    }
}

/// Sends over a pipe that holds one chunk or two.
fn send(
    fixture: &Fixture,
    options: SnapshotOptions,
    pieces: impl FnMut() -> Option<SnapshotPiece> + Send + 'static,
) -> JoinHandle<Result<(), SnapshotSendError>> {
    let (ours, theirs) = tokio::io::duplex(2 * CHUNK_SIZE);
    fixture.server.attach(theirs);
    tokio::spawn(async move {
        let (settings, counters) = (Settings::default(), Arc::new(Counters::default()));
        send_snapshot_over(ours, SERVER.store_id, STORE_2, &settings, &counters, &options, pieces).await
    })
}

#[tokio::test]
async fn a_snapshot_arrives_whole_over_a_socket_and_is_accepted_twice() {
    let (mut fixture, target) = Fixture::listening(Settings::default());
    let pulled = Arc::new(AtomicUsize::new(0));
    let source = pieces(100, true, Arc::clone(&pulled));
    let sending = tokio::spawn(async move {
        let (settings, counters) = (Settings::default(), Arc::new(Counters::default()));
        send_snapshot(&target, STORE_2, &settings, &counters, &SnapshotOptions::default(), source).await
    });
    let (start, receipt) = fixture.piece().await;
    assert!(matches!(start, SnapshotPiece::Start { .. }));
    assert_eq!(pulled.load(Ordering::Relaxed), 1, "no chunk is made before the start is accepted");
    receipt.accept();
    for n in 1..=100 {
        let (SnapshotPiece::Chunk { pairs, .. }, _) = fixture.piece().await else { panic!("chunk {n}") };
        assert_eq!(pairs[0].0, format!("{n:06}"));
    }
    let (SnapshotPiece::End { pairs: 100, checksum: 7, .. }, receipt) = fixture.piece().await else {
        panic!("end")
    };
    assert!(!sending.is_finished(), "the last word is the receiver's");
    receipt.accept();
    assert_eq!(sending.await.unwrap(), Ok(()));
    assert!(matches!(fixture.event().await, Event::Disconnected));
}

#[tokio::test]
async fn pieces_that_are_not_stored_yet_hold_the_sender_back() {
    let settings = Settings { in_flight_bytes_max: 4 * CHUNK_SIZE, ..Settings::default() };
    let mut fixture = Fixture::new(settings);
    let pulled = Arc::new(AtomicUsize::new(0));
    let sending = send(&fixture, SnapshotOptions::default(), pieces(100, true, Arc::clone(&pulled)));
    fixture.piece().await.1.accept();
    let counters = Arc::clone(&fixture.counters);
    until("reading stops", || counters.read_pauses() > 0).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    // Those in flight, one read beyond, those in the pipe, and the one that waits to get in.
    let made = pulled.load(Ordering::Relaxed);
    assert!(made <= 16, "{made} pieces were made");
    for _ in 0..100 {
        drop(fixture.piece().await);
    }
    fixture.piece().await.1.accept();
    assert_eq!(sending.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_refused_start_costs_no_chunk() {
    let mut fixture = Fixture::new(Settings::default());
    let pulled = Arc::new(AtomicUsize::new(0));
    let sending = send(&fixture, SnapshotOptions::default(), pieces(100, true, Arc::clone(&pulled)));
    fixture.piece().await.1.refuse("too many snapshots");
    assert_eq!(sending.await.unwrap(), Err(SnapshotSendError::Refused("too many snapshots".into())));
    assert_eq!(pulled.load(Ordering::Relaxed), 1);
    assert!(matches!(fixture.event().await, Event::Disconnected), "who refused is not told that it is lost");
}

#[tokio::test]
async fn a_refusal_on_the_way_ends_the_transfer() {
    let mut fixture = Fixture::new(Settings::default());
    let pulled = Arc::new(AtomicUsize::new(0));
    let sending = send(&fixture, SnapshotOptions::default(), pieces(10_000, true, Arc::clone(&pulled)));
    fixture.piece().await.1.accept();
    drop(fixture.piece().await);
    fixture.piece().await.1.refuse("the disk is full");
    assert_eq!(sending.await.unwrap(), Err(SnapshotSendError::Refused("the disk is full".into())));
    assert!(pulled.load(Ordering::Relaxed) < 1000);
    // Pieces that were read before the refusal may be there; none is handed over after it.
    while !matches!(fixture.event().await, Event::Disconnected) {}
}

#[tokio::test]
async fn a_source_that_gives_up_is_a_lost_snapshot_to_the_receiver() {
    let mut fixture = Fixture::new(Settings::default());
    let sending = send(&fixture, SnapshotOptions::default(), pieces(3, false, Arc::default()));
    fixture.piece().await.1.accept();
    for _ in 0..3 {
        drop(fixture.piece().await);
    }
    assert_eq!(sending.await.unwrap(), Err(SnapshotSendError::Aborted));
    let Event::Lost(lost) = fixture.event().await else { panic!("the receiver is told") };
    assert_eq!(lost, key());
}

#[tokio::test]
async fn a_receiver_that_goes_away_is_a_lost_connection() {
    let mut fixture = Fixture::new(Settings::default());
    let sending = send(&fixture, SnapshotOptions::default(), pieces(3, true, Arc::default()));
    let (_, receipt) = fixture.piece().await;
    let Fixture { server, mut events, .. } = fixture;
    drop(server);
    assert_eq!(sending.await.unwrap(), Err(SnapshotSendError::ConnectionLost));
    assert!(matches!(events.recv().await, Some(Event::Lost(_))));
    drop(receipt);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_does_not_come_is_not_waited_for_forever() {
    let mut fixture = Fixture::new(Settings::default());
    let options = SnapshotOptions { step_timeout: Duration::from_secs(20), ..SnapshotOptions::default() };
    let sending = send(&fixture, options, pieces(3, true, Arc::default()));
    let (_, receipt) = fixture.piece().await;
    let begun = Instant::now();
    assert_eq!(sending.await.unwrap(), Err(SnapshotSendError::Timeout));
    assert!(begun.elapsed() >= Duration::from_secs(20));
    drop(receipt);
}

#[tokio::test(start_paused = true)]
async fn a_pacer_spreads_chunks_over_time() {
    let mut fixture = Fixture::new(Settings::default());
    let pacer = Pacer::new(NonZeroU64::new(CHUNK_SIZE as u64).unwrap());
    let options = SnapshotOptions { pacer: Some(Arc::new(pacer)), ..SnapshotOptions::default() };
    let begun = Instant::now();
    let sending = send(&fixture, options, pieces(10, true, Arc::default()));
    fixture.piece().await.1.accept();
    for _ in 0..10 {
        drop(fixture.piece().await);
    }
    fixture.piece().await.1.accept();
    assert_eq!(sending.await.unwrap(), Ok(()));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(12), "{took:?}");
}
