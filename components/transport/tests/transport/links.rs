//! Messages from store to store.

use crate::common::{Fixture, STORE_2, until};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use transport::{Counters, Settings, StoreLinks};
use types::{Peer, PeerId, RegionId, StoreId};
use wire::store::{DiskState, StoreMessage};

type Reports = Arc<Mutex<Vec<(StoreId, u64)>>>;

fn message(region: u64) -> StoreMessage {
    let peer = Peer { id: PeerId(1), store_id: StoreId(1), ..Peer::default() };
    StoreMessage::RemovedConfirmed { region_id: RegionId(region), peer, to: peer }
}

fn region(message: &StoreMessage) -> u64 {
    match message {
        StoreMessage::RemovedConfirmed { region_id, .. } => region_id.get(),
        other => panic!("{other:?}"),
    }
}

fn links(settings: Settings, address: Option<String>) -> (StoreLinks, Arc<Counters>, Reports) {
    let (counters, reports) = (Arc::new(Counters::default()), Reports::default());
    let told = Arc::clone(&reports);
    let links = StoreLinks::new(
        STORE_2,
        settings,
        Arc::clone(&counters),
        Arc::new(move |_| address.clone()),
        Arc::new(move |store, dropped| told.lock().push((store, dropped))),
        Handle::current(),
    );
    (links, counters, reports)
}

#[tokio::test]
async fn what_many_turns_say_arrives_in_order_over_one_connection_in_few_writes() {
    let (mut fixture, target) = Fixture::listening(Settings::default());
    let (links, counters, reports) = links(Settings::default(), Some(target.address));
    for turn in 0..1000 {
        links.send(StoreId(1), DiskState::Low, vec![message(2 * turn), message(2 * turn + 1)]);
    }
    for turn in 0..1000 {
        let batch = fixture.batch().await;
        assert_eq!((batch.from_store, batch.disk), (StoreId(2), DiskState::Low));
        assert_eq!(batch.messages.iter().map(region).collect::<Vec<_>>(), [2 * turn, 2 * turn + 1]);
    }
    assert_eq!((counters.connections_made(), counters.frames_sent()), (1, 1000));
    assert!(counters.writes() <= 3, "{} writes", counters.writes());
    assert!(reports.lock().is_empty(), "{:?}", reports.lock());
}

#[tokio::test]
async fn messages_to_nowhere_are_dropped_and_reported() {
    let (links, counters, reports) = links(Settings::default(), None);
    links.send(StoreId(1), DiskState::Ok, vec![message(1), message(2)]);
    until("the attempt fails", || !reports.lock().is_empty()).await;
    assert_eq!(*reports.lock(), [(StoreId(1), 2)]);
    // Until the next attempt is due they are dropped on the spot.
    links.send(StoreId(1), DiskState::Ok, vec![message(3)]);
    assert_eq!(*reports.lock(), [(StoreId(1), 2), (StoreId(1), 1)]);
    assert_eq!((counters.messages_dropped(), counters.connect_errors()), (3, 1));
}

#[tokio::test]
async fn messages_beyond_the_bound_are_dropped_and_reported() {
    // Somebody listens, but takes nobody in.
    let listener = transport::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let settings = Settings { frame_size_max: 256, outgoing_bytes_max: 1000, ..Settings::default() };
    let (links, counters, reports) = links(settings, Some(listener.local_addr().unwrap().to_string()));
    for region in 0..100 {
        links.send(StoreId(1), DiskState::Ok, vec![message(region)]);
    }
    let dropped = counters.messages_dropped();
    assert!(dropped > 50 && dropped < 100, "{dropped}");
    assert_eq!(reports.lock().len() as u64, dropped);
    // What was taken is reported too when it turns out that it cannot be sent.
    drop(listener);
    until("the rest is reported", || counters.messages_dropped() == 100).await;
}

#[tokio::test]
async fn a_batch_too_long_for_a_frame_is_sent_as_several() {
    let settings = Settings { frame_size_max: 256, outgoing_bytes_max: 1 << 20, ..Settings::default() };
    let (mut fixture, target) = Fixture::listening(Settings::default());
    let (links, _, reports) = links(settings, Some(target.address));
    links.send(StoreId(1), DiskState::Ok, (0..100).map(message).collect());
    let mut arrived = Vec::new();
    while arrived.len() < 100 {
        arrived.extend(fixture.batch().await.messages.iter().map(region));
    }
    assert_eq!(arrived, (0..100).collect::<Vec<_>>());
    assert!(reports.lock().is_empty());
}

#[tokio::test]
async fn a_lost_link_is_reported_and_made_again() {
    let settings = Settings {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..Settings::default()
    };
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (links, _, reports) = links(settings.clone(), Some(target.address.clone()));
    links.send(StoreId(1), DiskState::Ok, vec![message(1)]);
    assert_eq!(fixture.batch().await.messages.len(), 1);
    drop(fixture);
    until("the loss is reported", || !reports.lock().is_empty()).await;
    assert_eq!(*reports.lock(), [(StoreId(1), 0)], "what was written was not dropped by us");
    let mut fixture = Fixture::new(settings);
    fixture.listen(&target.address);
    let mut said = 0;
    until("it arrives", || {
        links.send(StoreId(1), DiskState::Ok, vec![message(2)]);
        said += 1;
        !fixture.events.is_empty()
    })
    .await;
    assert_eq!(region(&fixture.batch().await.messages[0]), 2);
}

#[tokio::test]
async fn stopping_writes_what_was_taken_and_takes_no_more() {
    let (mut fixture, target) = Fixture::listening(Settings::default());
    let (links, _, reports) = links(Settings::default(), Some(target.address));
    links.send(StoreId(1), DiskState::Ok, vec![message(1)]);
    links.stop(Duration::from_secs(60)).await;
    assert_eq!(region(&fixture.batch().await.messages[0]), 1);
    links.send(StoreId(1), DiskState::Ok, vec![message(2)]);
    assert_eq!(*reports.lock(), [(StoreId(1), 1)]);
}
