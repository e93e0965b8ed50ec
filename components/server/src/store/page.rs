//! What a store shows of itself.

use super::counters::{BUSY, Code, Counters, Method, Said};
use super::disk::Watch;
use super::hub::Hub;
use crate::BootClock;
use crate::measure::{Durations, Exposition, get};
use crate::status::{Page, Readiness, build_info, transport_metrics};
use engine_rocks::EngineStats;
use env::Clock as _;
use parking_lot::Mutex;
use raftstore::{HeldStats, NotHeld, WorkerStats};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::{MonoTime, RegionId, escape_key};

/// What a running store shows.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) hub: Arc<Hub>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) cluster_id: u64,
    pub(crate) address: String,
    pub(crate) served: Arc<transport::Counters>,
}

/// A store's page, from before it has joined until after it has stopped.
pub(crate) struct StorePage {
    pub(crate) started: MonoTime,
    pub(crate) readiness: Readiness,
    /// While it runs.
    pub(crate) running: Mutex<Option<Running>>,
}

impl Page for StorePage {
    fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    fn status(&self) -> Value {
        let uptime = BootClock.now().since(self.started).as_secs_f64();
        let reason = self.readiness.reason();
        let mut status = json!({
            "component": "store",
            "version": crate::VERSION,
            "uptime_seconds": uptime,
            "ready": reason.is_none(),
            "reason": reason,
        });
        let Some(running) = self.running.lock().clone() else { return status };
        let hub = &running.hub;
        let (counters, workers) = (&hub.counters, hub.workers.stats());
        let sum = |durations: &[Durations]| durations.iter().map(Durations::count).sum::<u64>();
        let more = json!({
            "cluster_id": running.cluster_id,
            "store_id": hub.store_id.get(),
            "address": running.address,
            "regions": workers.regions,
            "leaders": workers.leaders,
            "leaderless": workers.leaderless,
            "poisoned": workers.poisoned,
            "hibernated": workers.hibernated,
            "peers_lost": workers.peers_lost,
            "disk": format!("{:?}", hub.disk.state()).to_lowercase(),
            "capacity_bytes": get(&hub.disk.capacity_bytes),
            "available_bytes": get(&hub.disk.available_bytes),
            "used_bytes": get(&hub.disk.used_bytes),
            "pending_requests": hub.answers.pending(),
            "stalled": hub.workers.is_stalled(),
            "counters": {
                "requests": sum(&counters.rpc),
                "fsyncs": get(&counters.log_syncs),
                "log_writes": get(&counters.log_writes),
                "log_tasks": get(&counters.log_tasks),
                "log_appends": get(&counters.log_appends),
                "log_bytes": get(&counters.log_bytes),
                "turns": get(&counters.turns),
                "region_visits": workers.visits,
                "proposals": workers.proposals,
                "writes": workers.writes,
                "applied_entries": get(&counters.applied_entries),
                "apply_writes": get(&counters.apply_writes),
                "elections_won": workers.raft.elections_won,
                "splits": workers.splits,
                "snapshots_installed": workers.snapshots_installed,
                "snapshots_sent": get(&counters.snapshots_sent),
                "snapshots_failed": get(&counters.snapshots_failed),
                "snapshots_received": get(&counters.snapshots_received),
                "lease_reads": get(&counters.reads_lease),
                "read_index_reads": workers.read_index,
                "messages_received": get(&counters.messages_received),
                "messages_refused": get(&counters.messages_refused),
                "pd_calls": get(&counters.pd_calls),
                "pd_failures": get(&counters.pd_failures),
                "stray_answers": hub.answers.stray(),
            },
        });
        if let (Value::Object(status), Value::Object(more)) = (&mut status, more) {
            status.extend(more);
        }
        status
    }

    fn region(&self, id: u64) -> Option<Value> {
        let running = self.running.lock().clone()?;
        let meta = &running.hub.meta;
        let region = meta.region(RegionId(id))?;
        let delegate = meta.delegate(region.id);
        let now = BootClock.now();
        let peers: Vec<Value> = region
            .peers
            .iter()
            .map(|peer| {
                json!({
                    "id": peer.id.get(),
                    "store_id": peer.store_id.get(),
                    "role": format!("{:?}", peer.role).to_lowercase(),
                })
            })
            .collect();
        Some(json!({
            "id": id,
            "start": escape_key(&region.range.start),
            "end": escape_key(&region.range.end),
            "epoch": { "conf_ver": region.epoch.conf_ver, "version": region.epoch.version },
            "peers": peers,
            "leads_in_term": delegate.as_ref().map(|delegate| delegate.term.get()),
            "has_lease": delegate.is_some_and(|delegate| delegate.covers(now)),
        }))
    }

    fn metrics(&self, exposition: &mut Exposition) {
        build_info(exposition, "store");
        let help = "One once the store has joined its cluster and serves.";
        let ready = f64::from(u8::from(self.readiness.reason().is_none()));
        exposition.gauge("flotilla_store_ready", help, &[], ready);
        let Some(running) = self.running.lock().clone() else { return };
        let hub = &running.hub;
        store_metrics(exposition, hub);
        request_metrics(exposition, hub);
        raft_metrics(exposition, &hub.counters);
        group_metrics(exposition, &hub.workers.stats());
        if let Some(stats) = &*running.watch.engine.lock() {
            engine_metrics(exposition, stats);
        }
        let help = "A little written to the disk and synced, every few seconds; a rise means a slow disk, whatever the store does.";
        exposition.durations("flotilla_store_disk_probe_seconds", help, &[], &running.watch.probes);
        let help = "How slow the disk has been of late: one is well, a hundred is as bad as it gets; above ten for minutes means a failing disk.";
        exposition.gauge("flotilla_store_slow_score", help, &[], running.watch.slow_score.lock().get());
        transport_metrics(exposition, &[("server", &running.served), ("client", &hub.sender.counters)]);
    }
}

fn held_metrics(e: &mut Exposition, held: &HeldStats) {
    let help = "Pessimistic locks that stand in this store's memory alone.";
    e.gauge("flotilla_memory_locks", help, &[], held.locks as f64);
    let help = "What they take of memory.";
    e.gauge("flotilla_memory_locks_bytes", help, &[], held.bytes as f64);
    let help = "Pessimistic locks that were taken, renewed or given up in memory, without the log.";
    e.counter("flotilla_memory_lock_changes_total", help, &[], held.absorbed);
    let help = "Requests whose pessimistic locks went to the log, by the reason; full means that memory_size_max or \
                region_memory_size_max is too small.";
    for ((_, reason), count) in NotHeld::ALL.iter().zip(held.refused) {
        e.counter("flotilla_memory_lock_refusals_total", help, &[("reason", reason)], count);
    }
    let help = "Pessimistic locks that left memory because their region was led elsewhere: handed over with it, or lost.";
    for (how, count) in [("handed_over", held.handed_over), ("lost", held.lost)] {
        e.counter("flotilla_memory_locks_left_total", help, &[("how", how)], count);
    }
}

fn store_metrics(e: &mut Exposition, hub: &Hub) {
    let help = "The disk under the store, and what the store's data occupies of it.";
    for (kind, value) in [
        ("capacity", &hub.disk.capacity_bytes),
        ("available", &hub.disk.available_bytes),
        ("used", &hub.disk.used_bytes),
    ] {
        e.gauge("flotilla_store_size_bytes", help, &[("kind", kind)], get(value) as f64);
    }
    let help = "Requests of pessimistic transactions that wait for locks of others here.";
    e.gauge("flotilla_lock_waits", help, &[], hub.txn_shared.waits.waiting() as f64);
    let help = "Requests for pessimistic locks that were answered once their locks were in the log of their region's leader; those that \
                are lost had locks that were not applied after all, for another store led.";
    for (what, count) in [("answered", &hub.counters.pipelined), ("lost", &hub.counters.pipelined_lost)] {
        e.counter("flotilla_pipelined_lock_requests_total", help, &[("what", what)], get(count));
    }
    let help = "Commands of transactions that are not done, those that wait included; one that stays means a log that makes no progress.";
    e.gauge("flotilla_txn_commands_running", help, &[], get(&hub.counters.txn_commands) as f64);
    held_metrics(e, &hub.txn_shared.held.stats());
    let stats = hub.workers.stats();
    let help = "Regions with a peer on this store, by its role.";
    for (role, count) in
        [("leader", stats.leaders), ("follower", stats.regions.saturating_sub(stats.leaders))]
    {
        e.gauge("flotilla_store_regions", help, &[("role", role)], count as f64);
    }
    let help = "Regions whose peer here sleeps, for nobody wants anything of them; a fall without requests means that a store was lost.";
    e.gauge("flotilla_raft_hibernated_regions", help, &[], stats.hibernated as f64);
    let help = "Times that peers here fell asleep.";
    e.counter("flotilla_raft_sleeps_total", help, &[], stats.sleeps);
    let help = "Times that they woke because a store that they relied on was lost; a rise means lost stores or network.";
    e.counter("flotilla_raft_sleeps_lost_total", help, &[], stats.sleeps_lost);
    let help = "Regions whose peer here knows no leader; for longer than an election it means lost quorum or network.";
    e.gauge("flotilla_raft_leader_missing_regions", help, &[], stats.leaderless as f64);
    let help = "Defects of ours, groups whose state contradicts itself, copies given up for lost files; any needs a person.";
    for (kind, count) in [
        ("poisoned_region", stats.poisoned),
        ("lost_peer", stats.peers_lost),
        ("stray_answer", hub.answers.stray()),
    ] {
        e.counter("flotilla_critical_errors_total", help, &[("kind", kind)], count);
    }
    let help = "Messages to or from other stores that were dropped; said again by those who sent them.";
    for (reason, count) in [
        ("unreachable", hub.sender.counters.messages_dropped()),
        ("overloaded", get(&hub.counters.messages_refused)),
    ] {
        e.counter("flotilla_raft_messages_dropped_total", help, &[("reason", reason)], count);
    }
    let help = "Client writes in proposed entries; over the proposals: how well writes are merged.";
    e.counter("flotilla_raft_writes_total", help, &[], stats.writes);
    let help = "Commands on regions that were carried out.";
    let labels = [("command", "split"), ("result", "ok")];
    e.counter("flotilla_region_admin_total", help, &labels, stats.splits);
    let help = "Reads, by the way they were allowed.";
    e.counter("flotilla_reads_total", help, &[("path", "lease")], get(&hub.counters.reads_lease));
    e.counter("flotilla_reads_total", help, &[("path", "read_index")], stats.read_index);
    let help = "Region snapshots on their way now.";
    for (direction, count) in
        [("sending", &hub.counters.snapshots_sending), ("receiving", &hub.counters.snapshots_arriving)]
    {
        e.gauge("flotilla_snapshots_running", help, &[("direction", direction)], get(count) as f64);
    }
    let help = "Bytes of a region snapshot that was sent whole, or taken in whole.";
    for (direction, sizes) in
        [("sent", &hub.counters.snapshot_bytes_sent), ("received", &hub.counters.snapshot_bytes_received)]
    {
        e.sizes("flotilla_snapshot_bytes", help, &[("direction", direction)], sizes);
    }
    let help = "Region snapshots, by what became of them.";
    for (event, count) in [
        ("sent", get(&hub.counters.snapshots_sent)),
        ("failed", get(&hub.counters.snapshots_failed)),
        ("received", get(&hub.counters.snapshots_received)),
        ("installed", stats.snapshots_installed),
    ] {
        e.counter("flotilla_snapshots_total", help, &[("event", event)], count);
    }
    let help =
        "Work that waits for a thread; a number that stays high means that the thread does not keep up.";
    let workers = hub.workers.inboxes.iter().map(|inbox| inbox.len()).sum::<usize>();
    let appliers = hub.appliers.iter().map(|inbox| inbox.len()).sum::<usize>();
    for (worker, waiting) in [
        ("worker", workers),
        ("log", hub.log.len()),
        ("apply", appliers),
        ("slow", hub.slow.len()),
        ("quick", hub.quick.len()),
        ("snapshot", hub.arriving.len()),
        ("read", hub.reads.len()),
    ] {
        e.gauge("flotilla_worker_pending_tasks", help, &[("worker", worker)], waiting as f64);
    }
    let help = "Times that work was turned away because too much of its kind waited; a rise means that the store does not keep up.";
    for (kind, count) in
        [("messages", &hub.counters.messages_refused), ("snapshots", &hub.counters.snapshots_put_off)]
    {
        e.counter("flotilla_mailbox_full_total", help, &[("kind", kind)], get(count));
    }
    let help = "Entries of a leader's log that another peer is not known to have; looked at when the placement driver is told of the region.";
    e.sizes("flotilla_raft_log_lag_entries", help, &[], &hub.counters.log_lags);
    let help = "Bytes of regions led here; looked at likewise.";
    e.sizes("flotilla_region_size_bytes", help, &[], &hub.counters.region_sizes);
    let help = "Zero while the disk has space, one when it is low and client writes are refused, two when it is full.";
    let state = hub.disk.state() as u8;
    e.gauge("flotilla_store_disk_state", help, &[], f64::from(state));
    let help = "One while the log makes no progress: the store does not act as leader.";
    e.gauge("flotilla_store_stalled", help, &[], f64::from(u8::from(hub.workers.is_stalled())));
    let help = "Calls to the placement driver.";
    e.counter("flotilla_pd_client_calls_total", help, &[], get(&hub.counters.pd_calls));
    let help = "Calls to the placement driver that failed; a rise means it is away.";
    e.counter("flotilla_pd_client_failures_total", help, &[], get(&hub.counters.pd_failures));
}

fn request_metrics(e: &mut Exposition, hub: &Hub) {
    let counters = &hub.counters;
    let help = "From a request's arrival to its answer.";
    for method in Method::ALL {
        let durations = &counters.rpc[*method as usize];
        e.durations("flotilla_rpc_duration_seconds", help, &[("method", method.label())], durations);
    }
    let help = "Requests that were refused, or whose outcome is not known.";
    for method in Method::ALL {
        for code in Code::ALL {
            let count = get(&counters.rpc_errors[*method as usize][*code as usize]);
            let labels = [("method", method.label()), ("code", code.label())];
            e.counter("flotilla_rpc_errors_total", help, &labels, count);
        }
    }
    let help =
        "Requests refused because the store is busy; a rise means that it is asked for more than it can do.";
    for (reason, label) in BUSY {
        e.counter("flotilla_server_busy_total", help, &[("reason", label)], get(counters.busy(reason)));
    }
    let help =
        "Requests that took longer than requests.slow_request_threshold: the log says where their time went.";
    e.counter("flotilla_slow_requests_total", help, &[], get(&counters.slow_requests));
    let help = "Requests under way.";
    e.gauge("flotilla_requests_pending", help, &[], hub.answers.pending() as f64);
}

fn raft_metrics(e: &mut Exposition, counters: &Counters) {
    for (name, help, durations) in [
        (
            "flotilla_raft_propose_wait_seconds",
            "From an input's arrival to its worker's turn, the oldest of each turn; a rise means a worker is too busy.",
            &counters.propose_wait,
        ),
        (
            "flotilla_raft_append_duration_seconds",
            "From a turn's end until what it wrote was durable.",
            &counters.append,
        ),
        (
            "flotilla_raft_log_sync_duration_seconds",
            "One sync of the log; a rise means a slow disk.",
            &counters.log_sync,
        ),
        (
            "flotilla_raft_commit_duration_seconds",
            "From a write's arrival until it was committed, one write of each turn.",
            &counters.commit,
        ),
        (
            "flotilla_apply_wait_seconds",
            "From a commit to its applier, the oldest of each batch; a rise means an applier is too busy.",
            &counters.apply_wait,
        ),
        ("flotilla_apply_duration_seconds", "One batch of an applier.", &counters.apply),
        (
            "flotilla_lock_wait_seconds",
            "How long requests of pessimistic transactions waited for locks of others.",
            &counters.lock_wait,
        ),
        (
            "flotilla_latch_wait_seconds",
            "How long commands of transactions stood behind others of the same keys, of those that did; a rise means a key that \
             all want, or a slow log.",
            &counters.latch_wait,
        ),
    ] {
        e.durations(name, help, &[], durations);
    }
    for (name, help, count) in [
        ("flotilla_raft_turns_total", "Turns of the workers.", &counters.turns),
        ("flotilla_raft_log_syncs_total", "Syncs of the log.", &counters.log_syncs),
        ("flotilla_raft_log_writes_total", "Batches written to the log.", &counters.log_writes),
        (
            "flotilla_raft_log_appends_total",
            "Appends of single groups; over the syncs: how well syncs are shared.",
            &counters.log_appends,
        ),
        ("flotilla_raft_log_bytes_total", "Bytes of the batches written to the log.", &counters.log_bytes),
        ("flotilla_apply_entries_total", "Log entries applied.", &counters.applied_entries),
        ("flotilla_raft_messages_received_total", "Messages from other stores.", &counters.messages_received),
    ] {
        e.counter(name, help, &[], get(count));
    }
    let help = "Messages to other stores.";
    for said in Said::ALL {
        let count = get(&counters.messages_sent[*said as usize]);
        e.counter("flotilla_raft_messages_sent_total", help, &[("type", said.label())], count);
    }
}

/// What the Raft groups of a store did.
fn group_metrics(e: &mut Exposition, stats: &WorkerStats) {
    // Taken apart, so that nothing that is counted is left out here.
    let raft::Counters {
        pre_campaigns,
        campaigns,
        elections_won,
        leaders_stepped_down,
        votes_granted,
        votes_refused,
        proposals,
        proposals_dropped,
        appends_sent,
        entries_sent,
        appends_refused,
        heartbeats_sent,
        snapshots_asked,
        snapshots_sent,
        reads,
        read_rounds,
        messages_invalid,
    } = stats.raft;
    let help = "Campaigns of peers here; many that only ask, and few elections won, mean that stores do not reach each other.";
    for (kind, count) in [("pre", pre_campaigns), ("real", campaigns)] {
        e.counter("flotilla_raft_campaigns_total", help, &[("kind", kind)], count);
    }
    let help = "Elections won by peers of this store; they are few while nothing fails.";
    e.counter("flotilla_raft_elections_total", help, &[("result", "won")], elections_won);
    let help = "Votes and pre-votes that peers here gave or refused; one that stays silent does neither.";
    for (answer, count) in [("granted", votes_granted), ("refused", votes_refused)] {
        e.counter("flotilla_raft_votes_total", help, &[("answer", answer)], count);
    }
    let help =
        "Log entries proposed by leaders of this store: with writes of clients, or of the store's own.";
    let own = proposals.saturating_sub(stats.proposals);
    for (kind, count) in [("write", stats.proposals), ("own", own)] {
        e.counter("flotilla_raft_proposals_total", help, &[("kind", kind)], count);
    }
    for (name, help, count) in [
        (
            "flotilla_raft_leaders_stepped_down_total",
            "Leaders here that ceased to lead; a rise without transfers means lost quorums.",
            leaders_stepped_down,
        ),
        (
            "flotilla_raft_proposals_dropped_total",
            "Proposals that groups refused: no leader, a transfer, a stale quorum, or too much under way.",
            proposals_dropped,
        ),
        ("flotilla_raft_appends_sent_total", "Appends that leaders sent, empty ones included.", appends_sent),
        (
            "flotilla_raft_entries_sent_total",
            "Log entries in appends; over the appends: how well they are batched.",
            entries_sent,
        ),
        (
            "flotilla_raft_appends_refused_total",
            "Appends that followers refused; a rise means logs that differ or have fallen behind.",
            appends_refused,
        ),
        (
            "flotilla_raft_heartbeats_sent_total",
            "Heartbeats that leaders sent; what idle regions cost.",
            heartbeats_sent,
        ),
        (
            "flotilla_raft_snapshots_asked_total",
            "Times that a peer needed a region snapshot; a rise means peers fall behind their logs.",
            snapshots_asked,
        ),
        (
            "flotilla_raft_snapshots_offered_total",
            "Region snapshots that leaders handed over to be sent.",
            snapshots_sent,
        ),
        ("flotilla_raft_reads_total", "Reads that took a round with the quorum.", reads),
        (
            "flotilla_raft_read_rounds_total",
            "Rounds that reads waited for; fewer than reads, for they are batched.",
            read_rounds,
        ),
        (
            "flotilla_raft_messages_invalid_total",
            "Messages that break a rule of Raft; any at all means a defect or a foreign program.",
            messages_invalid,
        ),
    ] {
        e.counter(name, help, &[], count);
    }
}

fn engine_metrics(e: &mut Exposition, stats: &EngineStats) {
    const DB: (&str, &str) = ("db", "store");
    let families = || stats.families.iter().map(|family| ([DB, ("cf", family.cf.name())], family));
    let help = "Bytes that compaction is behind; a rise means writes come faster than they are put in order.";
    for (labels, family) in families() {
        let bytes = family.pending_compaction_bytes as f64;
        e.gauge("flotilla_rocksdb_pending_compaction_bytes", help, &labels, bytes);
    }
    let help = "Files of each level.";
    for (labels, family) in families() {
        for (level, files) in family.level_files.iter().enumerate() {
            let level = level.to_string();
            let labels = [labels[0], labels[1], ("level", level.as_str())];
            e.gauge("flotilla_rocksdb_level_files", help, &labels, *files as f64);
        }
    }
    let help = "Files of the newest version.";
    for (labels, family) in families() {
        e.gauge("flotilla_rocksdb_size_bytes", help, &labels, family.sst_bytes as f64);
    }
    let help = "Memtables, and what readers still hold of them.";
    for (labels, family) in families() {
        e.gauge("flotilla_rocksdb_memtable_bytes", help, &labels, family.memtable_bytes as f64);
    }
    let help = "Memtables that wait to be flushed.";
    for (labels, family) in families() {
        let count = family.immutable_memtables as f64;
        e.gauge("flotilla_rocksdb_immutable_memtables", help, &labels, count);
    }
    for (name, help, value) in [
        ("flotilla_rocksdb_block_cache_bytes", "What the block cache holds.", stats.block_cache_bytes),
        ("flotilla_rocksdb_wal_bytes", "Write-ahead log on disk.", stats.wal_bytes),
        ("flotilla_rocksdb_snapshots", "Views that are held.", stats.snapshots),
        ("flotilla_rocksdb_running_compactions", "Compactions running now.", stats.running_compactions),
        ("flotilla_rocksdb_running_flushes", "Flushes running now.", stats.running_flushes),
    ] {
        e.gauge(name, help, &[DB], value as f64);
    }
    let help = "One while RocksDB takes no writes until compaction has caught up.";
    let stopped = f64::from(u8::from(stats.is_write_stopped));
    e.gauge("flotilla_rocksdb_write_stopped", help, &[DB], stopped);
    let help = "Bytes a second to which RocksDB slows writes down until compaction has caught up; zero while it does not.";
    e.gauge("flotilla_rocksdb_delayed_write_bytes_per_second", help, &[DB], stats.delayed_write_rate as f64);
    let help = "Bytes of batches written.";
    e.counter("flotilla_rocksdb_bytes_total", help, &[DB, ("kind", "written")], stats.written_bytes);
    let help = "Looks into the block cache; misses are read from files.";
    for (result, count) in [("hit", stats.block_cache_hits), ("miss", stats.block_cache_misses)] {
        e.counter("flotilla_rocksdb_block_cache_requests_total", help, &[DB, ("result", result)], count);
    }
    let help = "Records that iterators gave, and those that they stepped over, old versions and removals; many of these make scans slow.";
    for (kind, count) in [("processed", stats.iterated_keys), ("skipped", stats.iterated_past)] {
        e.counter("flotilla_scan_keys_total", help, &[("kind", kind)], count);
    }
    let help =
        "Time for which RocksDB has slowed or stopped writes; any at all means that admission came too late.";
    e.seconds(
        "flotilla_rocksdb_stall_seconds_total",
        help,
        &[DB],
        Duration::from_micros(stats.stalled_micros),
    );
    e.counter("flotilla_rocksdb_syncs_total", "Syncs of the write-ahead log.", &[DB], stats.syncs);
}
