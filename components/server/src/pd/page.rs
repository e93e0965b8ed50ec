//! What a placement driver shows of itself.

use super::Shared;
use super::published::{CODES, METHODS};
use crate::BootClock;
use crate::measure::{Durations, Exposition, get};
use crate::status::{Page, Readiness, build_info, transport_metrics};
use env::Clock as _;
use serde_json::{Value, json};
use std::sync::Arc;
use types::MonoTime;

/// A placement driver's page.
pub(crate) struct PdPage {
    pub(crate) started: MonoTime,
    pub(crate) readiness: Readiness,
    pub(crate) address: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) served: Arc<transport::Counters>,
}

impl Page for PdPage {
    fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    fn status(&self) -> Value {
        let published = &self.shared.published;
        let status = published.status.lock().clone();
        let reason = self.readiness.reason();
        let [up, disconnected, down] = *published.stores.lock();
        json!({
            "component": "pd",
            "version": crate::VERSION,
            "uptime_seconds": BootClock.now().since(self.started).as_secs_f64(),
            "ready": reason.is_none(),
            "reason": reason,
            "address": self.address,
            "cluster_id": status.cluster_id.get(),
            "bootstrapped": status.bootstrapped,
            "member": status.id.get(),
            "role": format!("{:?}", status.role).to_lowercase(),
            "leader": status.leader.get(),
            "term": status.term.get(),
            "is_serving": status.is_serving,
            "is_scheduling": status.is_scheduling,
            "stores": { "up": up, "disconnected": disconnected, "down": down },
            "regions": status.region_count,
            "operators_running": status.operators_running,
            "tso_upper_ms": status.tso_upper_ms,
            "counters": {
                "requests": published.rpc.iter().map(Durations::count).sum::<u64>(),
                "turns": get(&published.turns),
                "fsyncs": get(&published.log_syncs),
                "timestamp_requests": get(&published.timestamps),
                "operators_started": status.operators_started,
                "operators_finished": status.operators_finished,
                "heartbeats_stale": status.heartbeats_stale,
                "heartbeats_invalid": status.heartbeats_invalid,
            },
        })
    }

    fn metrics(&self, e: &mut Exposition) {
        let published = &self.shared.published;
        let status = published.status.lock().clone();
        build_info(e, "pd");
        let help =
            "One while this member answers requests; over all members, anything but one means trouble.";
        e.gauge("flotilla_pd_serving", help, &[], f64::from(u8::from(status.is_serving)));
        let help = "Stores, by what their heartbeats say.";
        let stores = *published.stores.lock();
        for (state, count) in ["up", "disconnected", "down"].into_iter().zip(stores) {
            e.gauge("flotilla_pd_stores", help, &[("state", state)], count as f64);
        }
        let help = "Regions that the placement driver has heard of.";
        e.gauge("flotilla_pd_regions", help, &[], status.region_count as f64);
        let help = "Regions of which a peer is missing or superfluous, silent or behind; for long, it means that the cluster does not heal itself.";
        for (state, count) in [
            ("miss_peer", status.regions_missing_peers),
            ("extra_peer", status.regions_extra_peers),
            ("down_peer", status.regions_down_peers),
            ("pending_peer", status.regions_pending_peers),
        ] {
            e.gauge("flotilla_pd_unhealthy_regions", help, &[("state", state)], count as f64);
        }
        let help = "Operators that run now.";
        e.gauge("flotilla_pd_operators_running", help, &[], status.operators_running as f64);
        let help = "Requests that wait for locks in the whole cluster, as stores have reported.";
        e.gauge("flotilla_pd_lock_waits", help, &[], status.lock_waits as f64);
        let help = "Transactions that were told to give way because they and others waited for each other.";
        e.counter("flotilla_pd_deadlocks_total", help, &[], status.deadlocks_found);
        let help = "Operators of this leadership, by what became of them.";
        for (event, count) in [("started", status.operators_started), ("finished", status.operators_finished)]
        {
            e.counter("flotilla_pd_operators_total", help, &[("kind", "any"), ("event", event)], count);
        }
        let help = "Heartbeats of regions that were refused.";
        for (reason, count) in [("stale", status.heartbeats_stale), ("invalid", status.heartbeats_invalid)] {
            e.counter("flotilla_pd_heartbeats_refused_total", help, &[("reason", reason)], count);
        }
        let help = "Requests for timestamps that were answered.";
        e.counter("flotilla_pd_tso_events_total", help, &[("event", "answered")], get(&published.timestamps));
        let help = "Timestamps up to here may have been handed out, in seconds since 1970.";
        let upper = status.tso_upper_ms as f64 / 1000.0;
        e.gauge("flotilla_pd_tso_upper_timestamp_seconds", help, &[], upper);
        let help = "Safe points: reads below the guarded one are refused, versions below the removable one may be gone.";
        let points = [("guarded", status.gc_guarded), ("removable", status.gc_removable)];
        for (kind, at) in points {
            let seconds = at.physical_ms() as f64 / 1000.0;
            e.gauge("flotilla_gc_safe_point_timestamp_seconds", help, &[("kind", kind)], seconds);
        }
        let help = "By how much the removable safe point is behind the time; a rise beyond life time and interval means that \
                    something holds it: ask `flotilla ctl gc explain`.";
        let lag = status.tso_upper_ms.saturating_sub(status.gc_removable.physical_ms()) as f64 / 1000.0;
        let lag = if status.gc_removable.0 == 0 { 0.0 } else { lag };
        e.gauge("flotilla_gc_lag_seconds", help, &[], lag);
        let help = "Old locks that this process has resolved.";
        e.counter("flotilla_gc_locks_resolved_total", help, &[], get(&published.gc_locks));
        let help = "Records of old versions that this process has removed.";
        e.counter("flotilla_gc_versions_removed_total", help, &[], get(&published.gc_versions));
        let help =
            "Attempts to resolve or remove that have failed; a rise means a region that does not answer.";
        e.counter("flotilla_gc_failures_total", help, &[], get(&published.gc_failures));
        let help = "Raw values whose time to live was over that this process has removed.";
        e.counter("flotilla_ttl_values_removed_total", help, &[], get(&published.expired_values));
        let help = "From a request's arrival to its answer.";
        for (method, durations) in METHODS.iter().zip(&published.rpc) {
            e.durations("flotilla_rpc_duration_seconds", help, &[("method", method)], durations);
        }
        let help = "Requests that were refused.";
        for (method, codes) in METHODS.iter().zip(&published.rpc_errors) {
            for (code, count) in CODES.iter().zip(codes) {
                let labels = [("method", *method), ("code", *code)];
                e.counter("flotilla_rpc_errors_total", help, &labels, get(count));
            }
        }
        let help = "Requests under way.";
        e.gauge("flotilla_requests_pending", help, &[], get(&published.waiting) as f64);
        let help = "One sync of the log; a rise means a slow disk.";
        e.durations("flotilla_raft_log_sync_duration_seconds", help, &[], &published.log_sync);
        e.counter("flotilla_raft_log_syncs_total", "Syncs of the log.", &[], get(&published.log_syncs));
        if let Some(stats) = &*published.engine.lock() {
            let help = "Write-ahead log on disk.";
            e.gauge("flotilla_rocksdb_wal_bytes", help, &[("db", "pd")], stats.wal_bytes as f64);
        }
        transport_metrics(e, &[("server", &self.served)]);
    }
}
