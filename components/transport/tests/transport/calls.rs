//! Requests and answers over one connection.

use crate::common::{CLIENT, Event, Fixture, Raw, SERVER, echo, get, key_of, until, value};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use transport::{
    CallError, CallOptions, Channel, ConnectError, Connection, Counters, Ended, Settings, hold_wakes,
};
use types::{RegionId, StoreId};
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole};
use wire::kv::{KvError, KvResponse};
use wire::pd::{PdReply, PdRequest, PdResponse};
use wire::trace::{Span, Stage, Trace};

const LONG: Duration = Duration::from_secs(60);

async fn connect(target: &transport::Target, settings: &Settings) -> (Connection, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Connection::connect(target, CLIENT, settings, &counters).await.unwrap(), counters)
}

async fn over_pipe(fixture: &Fixture, settings: &Settings, size: usize) -> (Connection, Arc<Counters>) {
    let (ours, theirs) = tokio::io::duplex(size);
    fixture.server.attach(theirs);
    let counters = Arc::new(Counters::default());
    (Connection::over(ours, SERVER.store_id, CLIENT, settings, &counters).await.unwrap(), counters)
}

#[tokio::test]
async fn a_thousand_requests_share_a_connection_and_their_answers_may_overtake() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, counters) = connect(&target, &settings).await;
    let calls: Vec<_> = (0..1000).map(|n| connection.kv(&get(format!("key {n}")), LONG)).collect();
    let mut requests = Vec::new();
    for _ in 0..1000 {
        requests.push(fixture.request().await);
    }
    assert_eq!(key_of(&requests[999]), "key 999");
    // From a thread of its own, last first, in one go.
    std::thread::scope(|scope| {
        scope.spawn(|| hold_wakes(|| requests.into_iter().rev().for_each(echo)));
    });
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await, Ok(value(format!("key {n}"))));
    }
    // All requests were there before the first write, and all answers before theirs.
    assert!(counters.writes() <= 3, "{} writes", counters.writes());
    assert!(fixture.counters.writes() <= 3, "{} writes", fixture.counters.writes());
    assert_eq!(fixture.counters.frames_received(), 1000);
}

#[tokio::test]
async fn deadline_trace_and_kind_arrive_with_the_request() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let options = CallOptions { timeout: Duration::from_millis(12_345), trace: "00-trace".into() };
    let call = connection.pd(&PdRequest::AllocateIds { count: 3 }, options);
    let request = fixture.request().await;
    assert_eq!(request.body, transport::RequestBody::Pd(PdRequest::AllocateIds { count: 3 }));
    assert_eq!(
        (request.time_left, &request.trace[..]),
        (Some(Duration::from_millis(12_345)), &b"00-trace"[..])
    );
    request.responder.respond_pd(&PdResponse::Ok(PdReply::Ids { first: 9 }));
    assert_eq!(call.await, Ok(PdResponse::Ok(PdReply::Ids { first: 9 })));
}

fn trace() -> Trace {
    let span = Span { stage: Stage::LogSync, begin_us: 40, took_us: 300 };
    Trace { store_id: StoreId(1), region_id: RegionId(2), took_us: 400, spans: vec![span] }
}

/// Who asks where the time went is told by a store that knows the flag; the others' frames are as they ever were.
#[tokio::test]
async fn an_answer_tells_where_the_time_went_if_it_was_asked_for() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let (asked, plain) = (connection.kv_traced(&get("a"), LONG), connection.kv(&get("b"), LONG));
    let (request, other) = (fixture.request().await, fixture.request().await);
    assert_eq!((request.timed, other.timed), (true, false));
    let KvResponse::Ok(reply) = value("a") else { unreachable!("it is one") };
    request.responder.respond_traced(&KvResponse::Ok(reply), &trace());
    echo(other);
    assert_eq!((asked.await, plain.await), (Ok((value("a"), Some(trace()))), Ok(value("b"))));
    // An older store answers without.
    let asked = connection.kv_traced(&get("c"), LONG);
    echo(fixture.request().await);
    assert_eq!(asked.await, Ok((value("c"), None)));
    // Nobody is told more than a frame can hold, and a trace is the first to go.
    let asked = connection.kv_traced(&get("d"), LONG);
    let large = value(vec![0; settings.frame_size_max - 50]);
    fixture.request().await.responder.respond_traced(&large, &trace());
    assert_eq!(asked.await, Ok((large, None)));
}

#[tokio::test]
async fn dropping_a_call_cancels_it_and_its_answer_harms_nobody() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let call = connection.kv(&get("gone"), LONG);
    let request = fixture.request().await;
    drop(call);
    let Event::Cancelled(id) = fixture.event().await else { panic!("a cancel was expected") };
    assert_eq!(id, request.responder.request_id());
    // The next call takes the same place in the table; the late answer must not be taken for its own.
    let next = connection.kv(&get("next"), LONG);
    echo(request);
    echo(fixture.request().await);
    assert_eq!(next.await, Ok(value("next")));
}

#[tokio::test(start_paused = true)]
async fn a_call_times_out_alone_and_is_cancelled() {
    let settings = Settings::default();
    let mut fixture = Fixture::new(settings.clone());
    let (connection, _) = over_pipe(&fixture, &settings, 1 << 16).await;
    let patient = connection.kv(&get("patient"), LONG);
    let begun = tokio::time::Instant::now();
    assert_eq!(connection.kv(&get("hasty"), Duration::from_millis(70)).await, Err(CallError::Timeout));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(70) && took < Duration::from_millis(75), "{took:?}");
    echo(fixture.request().await);
    fixture.request().await.responder.discard();
    assert!(matches!(fixture.event().await, Event::Cancelled(_)));
    assert_eq!(patient.await, Ok(value("patient")));
}

#[tokio::test]
async fn a_lost_connection_tells_what_was_sent_from_what_was_not() {
    let (ours, theirs) = tokio::io::duplex(4 << 10);
    let counters = Arc::new(Counters::default());
    let settings = Settings::default();
    let mut raw = Raw::new(theirs);
    let connecting = Connection::over(ours, SERVER.store_id, CLIENT, &settings, &counters);
    let (connection, ()) = tokio::join!(connecting, raw.welcome());
    let connection = connection.unwrap();
    let sent = connection.kv(&get("sent"), LONG);
    assert_eq!(raw.next().await.unwrap().0, FrameKind::KvRequest);
    // Larger than the pipe: its beginning leaves, its end never does.
    let unsent = connection.kv(&get(vec![0; 1 << 20]), LONG);
    until("the pipe is full", || counters.bytes_sent() >= 4 << 10).await;
    drop(raw);
    let (sent, unsent) = (sent.await.unwrap_err(), unsent.await.unwrap_err());
    assert_eq!(sent, CallError::ConnectionLost { sent: true });
    assert_eq!(unsent, CallError::ConnectionLost { sent: false });
    assert!(sent.may_have_been_done() && !unsent.may_have_been_done());
    assert!(!connection.is_open());
    let late = connection.kv(&get("late"), LONG).await;
    assert_eq!(late, Err(CallError::ConnectionLost { sent: false }));
}

#[tokio::test]
async fn a_channel_connects_again_when_the_listener_is_back() {
    let settings = Settings {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..Settings::default()
    };
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let channel = Channel::new(target.clone(), CLIENT, settings.clone(), Arc::default());
    let request = get("a");
    let (answer, ()) = tokio::join!(channel.kv(&request, LONG), async { echo(fixture.request().await) });
    assert_eq!(answer, Ok(value("a")));
    drop(fixture);
    // The loss is noticed at once, or by the next call; then nobody listens, and calls fail without being sent.
    let error = loop {
        match channel.kv(&request, LONG).await.unwrap_err() {
            CallError::ConnectionLost { .. } => {}
            error => break error,
        }
    };
    assert!(matches!(error, CallError::NotConnected(ConnectError::Unreachable(_))), "{error}");
    assert!(!error.may_have_been_done());
    let mut fixture = Fixture::new(settings);
    fixture.listen(&target.address);
    let served = tokio::spawn(async move {
        echo(fixture.request().await);
        fixture
    });
    let answer = loop {
        match channel.kv(&request, LONG).await {
            Err(CallError::NotConnected(_)) => tokio::task::yield_now().await,
            other => break other,
        }
    };
    assert_eq!(answer, Ok(value("a")));
    drop(served.await.unwrap());
}

#[tokio::test]
async fn a_connection_with_too_much_in_flight_is_not_read_until_answers_make_room() {
    let settings = Settings { in_flight_bytes_max: 100 << 10, ..Settings::default() };
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let calls: Vec<_> = (0..100).map(|n| connection.kv(&get(vec![n; 16 << 10]), LONG)).collect();
    let counters = Arc::clone(&fixture.counters);
    until("reading stops", || counters.read_pauses() > 0).await;
    // The limit, and at most one read beyond it.
    let waiting = fixture.events.len();
    assert!(waiting <= 11, "{waiting} requests were read");
    for _ in 0..100 {
        echo(fixture.request().await);
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await, Ok(value(vec![n as u8; 16 << 10])));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_holds_back_is_still_known_to_be_there() {
    let settings = Settings { in_flight_bytes_max: 1, ..Settings::default() };
    let mut fixture = Fixture::new(settings.clone());
    let (connection, _) = over_pipe(&fixture, &settings, 1 << 16).await;
    let first = connection.kv(&get("first"), LONG * 2);
    let request = fixture.request().await;
    let second = connection.kv(&get("second"), LONG * 2);
    // Far longer than either side waits for a silent one.
    let until = tokio::time::Instant::now() + LONG;
    tokio::time::sleep_until(until).await;
    echo(request);
    assert_eq!(first.await, Ok(value("first")));
    echo(fixture.request().await);
    assert_eq!(second.await, Ok(value("second")));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_and_then_given_up() {
    let (ours, theirs) = tokio::io::duplex(4 << 10);
    let counters = Arc::new(Counters::default());
    let settings = Settings::default();
    let mut raw = Raw::new(theirs);
    let connecting = Connection::over(ours, SERVER.store_id, CLIENT, &settings, &counters);
    let (connection, ()) = tokio::join!(connecting, raw.welcome());
    let call = connection.unwrap().kv(&get("anyone?"), LONG);
    assert_eq!(call.await, Err(CallError::ConnectionLost { sent: true }));
    assert_eq!(counters.ended(Ended::Silent), 1);
    assert_eq!(raw.next().await.unwrap().0, FrameKind::KvRequest);
    assert_eq!(raw.next().await.unwrap().0, FrameKind::Ping);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_disconnected() {
    let settings = Settings { frame_size_max: 1 << 20, outgoing_bytes_max: 1 << 20, ..Settings::default() };
    let (mut fixture, target) = Fixture::listening(settings);
    let mut raw = Raw::new(TcpStream::connect(&target.address).await.unwrap());
    raw.greet(ConnectionRole::Client).await;
    // The system takes some megabytes on its own; what matters is that it ends.
    for id in 1..=200 {
        raw.send(&crate::common::frame(FrameKind::KvRequest, id, &get("x"))).await;
        match fixture.event().await {
            Event::Request(request) => request.responder.respond_kv(&value(vec![0; 500 << 10])),
            Event::Disconnected => break,
            other => panic!("{other:?}"),
        }
        if fixture.counters.ended(Ended::Overflowed) > 0 {
            break;
        }
    }
    let counters = Arc::clone(&fixture.counters);
    drop(raw);
    until("the connection is over", || counters.connections_open() == 0).await;
    assert_eq!(counters.ended(Ended::Overflowed), 1);
}

#[tokio::test]
async fn what_does_not_fit_a_frame_is_an_error_of_its_own_and_harms_nobody() {
    let settings = Settings { frame_size_max: 64 << 10, outgoing_bytes_max: 64 << 10, ..Settings::default() };
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let error = connection.kv(&get(vec![0; 64 << 10]), LONG).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { max: 65_536, .. }), "{error}");
    let call = connection.kv(&get("much"), LONG);
    fixture.request().await.responder.respond_kv(&value(vec![0; 64 << 10]));
    let answer = call.await.unwrap();
    assert!(matches!(answer, KvResponse::Err(KvError::InvalidRequest { .. })), "{answer:?}");
    let call = connection.kv(&get("little"), LONG);
    echo(fixture.request().await);
    assert_eq!(call.await, Ok(value("little")));
}

#[tokio::test]
async fn more_calls_or_bytes_than_allowed_are_refused_unsent() {
    let settings = Settings { calls_max: 2, ..Settings::default() };
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let (first, second) = (connection.kv(&get("1"), LONG), connection.kv(&get("2"), LONG));
    assert_eq!(connection.kv(&get("3"), LONG).await, Err(CallError::TooBusy));
    echo(fixture.request().await);
    assert_eq!(first.await, Ok(value("1")));
    let third = connection.kv(&get("3"), LONG);
    echo(fixture.request().await);
    echo(fixture.request().await);
    assert_eq!((second.await, third.await), (Ok(value("2")), Ok(value("3"))));
}

#[tokio::test]
async fn a_request_dropped_without_an_answer_is_a_defect_and_answered_as_undetermined() {
    let settings = Settings::default();
    let (mut fixture, target) = Fixture::listening(settings.clone());
    let (connection, _) = connect(&target, &settings).await;
    let call = connection.kv(&get("forgotten"), LONG);
    let request = fixture.request().await;
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(request)));
    assert_eq!(dropped.is_err(), cfg!(debug_assertions));
    assert_eq!(call.await, Ok(KvResponse::Err(KvError::UndeterminedResult)));
    assert_eq!(fixture.counters.requests_unanswered(), 1);
}

#[tokio::test]
async fn who_is_not_welcome_is_told_why() {
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let (fixture, target) = Fixture::listening(settings.clone());
    let counters = Arc::new(Counters::default());
    let stranger = transport::Identity { cluster_id: types::ClusterId(8), ..CLIENT };
    let refused = Connection::connect(&target, stranger, &settings, &counters).await.unwrap_err();
    assert_eq!(refused, ConnectError::Refused(Close::WrongCluster { ours: crate::common::CLUSTER }));
    let lost = transport::Target { store_id: types::StoreId(9), ..target.clone() };
    until("the stranger is gone", || fixture.counters.connections_open() == 0).await;
    let refused = Connection::connect(&lost, CLIENT, &settings, &counters).await.unwrap_err();
    assert_eq!(refused, ConnectError::Refused(Close::WrongStore { ours: SERVER.store_id }));
    until("the lost one is gone", || fixture.counters.connections_open() == 0).await;
    let _first = Connection::connect(&target, CLIENT, &settings, &counters).await.unwrap();
    let refused = Connection::connect(&target, CLIENT, &settings, &counters).await.unwrap_err();
    assert_eq!(refused, ConnectError::Refused(Close::TooBusy));
    assert_eq!(fixture.counters.ended(Ended::WrongCluster), 1);
    assert_eq!(fixture.counters.ended(Ended::WrongStore), 1);
    assert_eq!(counters.connect_errors(), 3);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_in_this_kind_closes_the_connection() {
    let (ours, theirs) = tokio::io::duplex(4 << 10);
    let counters = Arc::new(Counters::default());
    let settings = Settings::default();
    let mut raw = Raw::new(theirs);
    let connecting = Connection::over(ours, SERVER.store_id, CLIENT, &settings, &counters);
    let (connection, ()) = tokio::join!(connecting, raw.welcome());
    let call = connection.unwrap().kv(&get("k"), LONG);
    let (_, asked) = raw.next().await.unwrap();
    let answer = PdResponse::Ok(PdReply::Done);
    raw.send(&crate::common::frame(FrameKind::PdResponse, asked.head.request_id, &answer)).await;
    assert!(matches!(raw.close_reason().await, Close::BadFrame { .. }));
    drop(raw);
    assert_eq!(call.await, Err(CallError::ConnectionLost { sent: true }));
    assert_eq!(counters.bad_frames(transport::BadFrame::OutOfPlace), 1);
}

/// A listener that is spoken for by hand, and a channel to it.
async fn unanswered(settings: &Settings) -> (tokio::net::TcpListener, Arc<Channel>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = transport::Target::store(SERVER.store_id, listener.local_addr().unwrap().to_string());
    (listener, Arc::new(Channel::new(target, CLIENT, settings.clone(), Arc::default())))
}

#[tokio::test]
async fn who_waits_for_a_connection_and_is_not_polled_holds_up_nobody() {
    // The first caller begins the attempt and then neither goes on nor goes away, like a scan that is not read.
    let (listener, channel) = unanswered(&Settings::default()).await;
    let mut stuck = Box::pin(channel.connection());
    assert!(poll_once(&mut stuck).is_pending());
    let waiting = tokio::spawn({
        let channel = Arc::clone(&channel);
        async move { channel.connection().await.is_ok() }
    });
    let (stream, _) = listener.accept().await.unwrap();
    let mut server = Raw::new(stream);
    server.welcome().await;
    until("the second caller is served", || waiting.is_finished()).await;
    assert!(waiting.await.unwrap());
    assert!(stuck.await.is_ok(), "the first gets the same, late");
}

#[tokio::test]
async fn an_attempt_to_connect_outlives_the_caller_who_began_it() {
    let (listener, channel) = unanswered(&Settings::default()).await;
    let mut dropped = Box::pin(channel.connection());
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    let (stream, _) = listener.accept().await.unwrap();
    let mut server = Raw::new(stream);
    server.welcome().await;
    // No second attempt is made: the listener would have to accept it.
    assert!(channel.connection().await.is_ok());
}

#[tokio::test]
async fn no_more_callers_wait_for_a_connection_than_may() {
    let (_listener, channel) = unanswered(&Settings { calls_max: 2, ..Settings::default() }).await;
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(channel.connection())).collect();
    assert!(poll_once(&mut waiting[0]).is_pending());
    assert!(poll_once(&mut waiting[1]).is_pending());
    assert_eq!(waiting.pop().unwrap().await.err(), Some(ConnectError::TooManyWait));
    waiting.pop();
    let mut another = Box::pin(channel.connection());
    assert!(poll_once(&mut another).is_pending(), "one has gone, so there is room");
}

#[tokio::test]
async fn a_channel_closed_while_it_connects_keeps_no_connection() {
    let (listener, channel) = unanswered(&Settings::default()).await;
    let mut waiting = Box::pin(channel.connection());
    assert!(poll_once(&mut waiting).is_pending());
    channel.close();
    let (stream, _) = listener.accept().await.unwrap();
    let mut first = Raw::new(stream);
    first.welcome().await;
    drop(waiting.await.expect("who waited is served"));
    assert!(first.next().await.is_none(), "nobody keeps it");
}

/// Polls a future once.
fn poll_once<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> std::task::Poll<T> {
    future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
