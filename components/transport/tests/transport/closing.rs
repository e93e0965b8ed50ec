//! Stopping in good order, and otherwise.

use crate::common::{CLIENT, Fixture, echo, get, value};
use std::sync::Arc;
use std::time::Duration;
use transport::{CallError, Connection, Counters, Ended, Settings};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_server_that_stops_answers_what_it_was_asked_and_no_more() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let counters = Arc::new(Counters::default());
    let connection = Connection::connect(&target, CLIENT, &settings, &counters).await.unwrap();
    let idle = Connection::connect(&target, CLIENT, &settings, &counters).await.unwrap();
    let call = connection.kv(&get("last"), LONG);
    let request = fixture.request().await;
    let Fixture { server, events, .. } = fixture;
    let stopping = tokio::spawn(async move { server.stop(LONG).await });
    crate::common::until("clients know", || !connection.is_open() && !idle.is_open()).await;
    let refused = connection.kv(&get("too late"), LONG).await.unwrap_err();
    assert!(matches!(refused, CallError::NotConnected(_)), "{refused}");
    assert!(!refused.may_have_been_done());
    echo(request);
    assert_eq!(call.await, Ok(value("last")));
    assert_eq!(stopping.await.unwrap(), 0, "all connections came to their end");
    drop(events);
}

#[tokio::test(start_paused = true)]
async fn a_server_does_not_wait_beyond_its_grace() {
    let settings = Settings::default();
    let mut fixture = Fixture::new(settings.clone());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    fixture.server.attach(theirs);
    let counters = Arc::new(Counters::default());
    let connection =
        Connection::over(ours, crate::common::SERVER.store_id, CLIENT, &settings, &counters).await.unwrap();
    let call = connection.kv(&get("stuck"), LONG);
    let request = fixture.request().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(fixture.server.stop(Duration::from_secs(5)).await, 1);
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!(call.await, Err(CallError::ConnectionLost { sent: true }));
    crate::common::until("the task is gone", || fixture.counters.connections_open() == 0).await;
    assert_eq!(fixture.counters.ended(Ended::Stopped), 1);
    // Nobody is there to be answered, so this is no defect.
    assert!(!request.responder.is_connected());
    drop(request);
}

#[tokio::test]
async fn a_client_that_lets_go_closes_once_its_calls_are_answered() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let counters = Arc::new(Counters::default());
    let connection = Connection::connect(&target, CLIENT, &settings, &counters).await.unwrap();
    let call = connection.kv(&get("one more"), LONG);
    connection.close();
    drop(connection);
    echo(fixture.request().await);
    assert_eq!(call.await, Ok(value("one more")));
    assert!(matches!(fixture.event().await, crate::common::Event::Disconnected));
    crate::common::until("both ends are gone", || {
        counters.connections_open() == 0 && fixture.counters.connections_open() == 0
    })
    .await;
    assert_eq!((counters.ended(Ended::Finished), fixture.counters.ended(Ended::Lost)), (1, 1));
}
