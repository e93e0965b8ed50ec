//! The status page of a process: for people, for orchestrators, for Prometheus.

use crate::measure::Exposition;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Whether the process serves, and if not, why.
#[derive(Debug)]
pub(crate) struct Readiness {
    reason: Mutex<Option<String>>,
}

impl Readiness {
    /// Not ready for this reason.
    pub(crate) fn new(reason: &str) -> Self {
        Self { reason: Mutex::new(Some(reason.to_owned())) }
    }

    pub(crate) fn not_ready(&self, reason: String) {
        *self.reason.lock() = Some(reason);
    }

    pub(crate) fn ready(&self) {
        *self.reason.lock() = None;
    }

    /// Why not; `None` if it is ready.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }
}

/// What a process shows.
pub(crate) trait Page: Send + Sync + 'static {
    /// Whether it serves.
    fn readiness(&self) -> &Readiness;
    /// What it is doing, for tools and tests.
    fn status(&self) -> Value;
    /// Its metrics.
    fn metrics(&self, exposition: &mut Exposition);
    /// One region, if it is here.
    fn region(&self, _id: u64) -> Option<Value> {
        None
    }
}

/// Serves the page until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, page: Arc<dyn Page>) {
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/status", get(async |State(page): State<Arc<dyn Page>>| Json(page.status())))
        .route("/metrics", get(metrics))
        .route("/region/{id}", get(region))
        .route("/debug/pprof/profile", get(crate::profile::profile))
        .route("/debug/pprof/heap", get(crate::profile::heap))
        .with_state(page);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "the status page is gone");
    }
}

async fn ready(State(page): State<Arc<dyn Page>>, RawQuery(query): RawQuery) -> Response {
    let reason = page.readiness().reason();
    let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose"))) {
        let reasons: Vec<String> = reason.into_iter().collect();
        return (code, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response();
    }
    (code, reason.map_or("ready\n".to_owned(), |reason| format!("not ready: {reason}\n"))).into_response()
}

async fn metrics(State(page): State<Arc<dyn Page>>) -> Response {
    let mut exposition = Exposition::default();
    page.metrics(&mut exposition);
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], exposition.text()).into_response()
}

async fn region(State(page): State<Arc<dyn Page>>, Path(id): Path<u64>) -> Response {
    match page.region(id) {
        Some(region) => Json(region).into_response(),
        None => (StatusCode::NOT_FOUND, format!("region {id} is not here\n")).into_response(),
    }
}

/// What both kinds of processes show of themselves.
pub(crate) fn build_info(exposition: &mut Exposition, component: &str) {
    let help = "The build that runs; always one.";
    let labels = [("version", crate::VERSION), ("component", component)];
    exposition.gauge("flotilla_build_info", help, &labels, 1.0);
    crate::pools::metrics(exposition);
}

/// The counters of a process's connections; `of` tells servers from clients.
pub(crate) fn transport_metrics(exposition: &mut Exposition, all: &[(&str, &transport::Counters)]) {
    use transport::{BadFrame, Counters, Ended};
    for (side, counters) in all {
        let help = "Connections open now.";
        let open = counters.connections_open() as f64;
        exposition.gauge("flotilla_transport_connections", help, &[("side", side)], open);
    }
    type Count = (&'static str, &'static str, fn(&Counters) -> u64);
    let counts: [Count; 9] = [
        (
            "flotilla_transport_connections_made_total",
            "Connections made or taken.",
            Counters::connections_made,
        ),
        (
            "flotilla_transport_connect_errors_total",
            "Attempts to connect that failed.",
            Counters::connect_errors,
        ),
        ("flotilla_transport_reads_total", "Reads that brought bytes.", Counters::reads),
        ("flotilla_transport_frames_received_total", "Frames that arrived.", Counters::frames_received),
        ("flotilla_transport_received_bytes_total", "Bytes that arrived.", Counters::bytes_received),
        ("flotilla_transport_writes_total", "Writes that took bytes.", Counters::writes),
        ("flotilla_transport_frames_sent_total", "Frames that left.", Counters::frames_sent),
        ("flotilla_transport_sent_bytes_total", "Bytes that left.", Counters::bytes_sent),
        (
            "flotilla_transport_read_pauses_total",
            "Times that a socket was left unread because too much was under way: a rise means clients ask for more \
             than is served.",
            Counters::read_pauses,
        ),
    ];
    for (name, help, value) in counts {
        for (side, counters) in all {
            exposition.counter(name, help, &[("side", side)], value(counters));
        }
    }
    let help = "Connections that ended, by reason; a rise of others than lost and finished means trouble.";
    for (side, counters) in all {
        for why in Ended::ALL {
            let labels = [("side", *side), ("reason", why.label())];
            exposition.counter("flotilla_transport_failures_total", help, &labels, counters.ended(*why));
        }
    }
    let help = "Frames that could not be used; any at all means a broken network or a foreign program.";
    for (side, counters) in all {
        for what in BadFrame::ALL {
            let labels = [("side", *side), ("kind", what.label())];
            exposition.counter(
                "flotilla_transport_bad_frames_total",
                help,
                &labels,
                counters.bad_frames(*what),
            );
        }
    }
}
