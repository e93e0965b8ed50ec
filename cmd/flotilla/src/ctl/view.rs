//! Stores, regions and operators as JSON for programs and as tables for people.

use super::state_name;
use crate::text::{show_bytes, show_key, to_hex};
use client::Keyspace;
use comfy_table::Table;
use serde_json::{Value, json};
use types::{KeyRange, Peer, PeerRole};
use wire::pd::{OperatorStatus, RegionRoute, SeenWait, StoreMode, StoreStatus};
use wire::store::DiskState;

/// A region's bounds for people: raw keys without what stands before them in the region layer. What holds no raw key
/// is described as the region layer sees it.
fn bounds(range: &KeyRange) -> (String, String) {
    match Keyspace::RAW.decode_range(range) {
        Some(keys) => (show_key(&keys.start), show_key(&keys.end)),
        None => (Keyspace::describe(&range.start), Keyspace::describe(&range.end)),
    }
}

const fn role_name(role: PeerRole) -> &'static str {
    match role {
        PeerRole::Voter => "voter",
        PeerRole::Learner => "learner",
        PeerRole::IncomingVoter => "incoming-voter",
        PeerRole::DemotingVoter => "demoting-voter",
    }
}

pub(super) fn region_json(route: &RegionRoute) -> Value {
    let region = &route.region;
    let (start, end) = bounds(&region.range);
    let peer = |peer: &Peer| json!({"id": peer.id.get(), "store_id": peer.store_id.get(), "role": role_name(peer.role)});
    json!({
        "id": region.id.get(),
        "start": start,
        "end": end,
        "start_hex": to_hex(&region.range.start),
        "end_hex": to_hex(&region.range.end),
        "epoch": {"conf_ver": region.epoch.conf_ver, "version": region.epoch.version},
        "leader": route.leader.map(|leader| json!({
            "store_id": leader.store_id.get(),
            "peer_id": leader.id.get(),
        })),
        "peers": region.peers.iter().map(peer).collect::<Vec<_>>(),
        "pending_peers": route.pending_peers.iter().map(|id| id.get()).collect::<Vec<_>>(),
        "down_peers": route.down_peers.iter().map(|id| id.get()).collect::<Vec<_>>(),
        "size_bytes": route.size_bytes,
    })
}

pub(super) fn regions_json(routes: &[RegionRoute]) -> Value {
    routes.iter().map(region_json).collect()
}

pub(super) fn regions_table(routes: &[RegionRoute]) -> String {
    let mut table = table(&["region", "start", "end", "leader on", "peers on", "epoch", "size"]);
    for route in routes {
        let region = &route.region;
        let (start, end) = bounds(&region.range);
        let peers = region.peers.iter().map(|peer| {
            let mut shown = peer.store_id.to_string();
            if peer.role != PeerRole::Voter {
                shown = format!("{shown} ({})", role_name(peer.role));
            }
            if route.down_peers.contains(&peer.id) {
                shown.push_str(" (down)");
            } else if route.pending_peers.contains(&peer.id) {
                shown.push_str(" (behind)");
            }
            shown
        });
        table.add_row([
            region.id.to_string(),
            short(&start),
            if region.range.end.is_empty() || end.is_empty() { "∞".to_owned() } else { short(&end) },
            route.leader.map_or("nobody".to_owned(), |leader| leader.store_id.to_string()),
            peers.collect::<Vec<_>>().join(", "),
            format!("{}.{}", region.epoch.conf_ver, region.epoch.version),
            show_bytes(route.size_bytes),
        ]);
    }
    table.to_string()
}

/// A long key is shown by its beginning: a table is for looking, `--json` has all of it.
fn short(key: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    // Escaped keys are ASCII, so any place is a boundary.
    if key.len() > CHARACTERS_MAX { format!("{}…", &key[..CHARACTERS_MAX]) } else { key.to_owned() }
}

const fn disk_name(disk: DiskState) -> &'static str {
    match disk {
        DiskState::Ok => "ok",
        DiskState::Low => "low",
        DiskState::Full => "full",
    }
}

pub(super) fn stores_json(stores: &[StoreStatus]) -> Value {
    let store = |store: &StoreStatus| {
        json!({
            "id": store.info.id.get(),
            "address": store.info.address,
            "status_address": store.info.status_address,
            "version": store.info.version,
            "state": state_name(store.state),
            "mode": store.mode.name(),
            "silent_ms": store.silent_ms,
            "regions": store.stats.region_count,
            "leaders": store.stats.leader_count,
            "capacity_bytes": store.stats.capacity_bytes,
            "available_bytes": store.stats.available_bytes,
            "used_bytes": store.stats.used_bytes,
            "disk": disk_name(store.stats.disk),
            "is_slow": store.stats.is_slow,
            "snapshots_receiving": store.stats.snapshots_receiving,
            "snapshots_sending": store.stats.snapshots_sending,
        })
    };
    stores.iter().map(store).collect()
}

pub(super) fn stores_table(stores: &[StoreStatus]) -> String {
    let mut table =
        table(&["store", "state", "address", "status page", "regions", "leaders", "used", "available"]);
    for store in stores {
        let mut state = state_name(store.state).to_owned();
        if store.mode != StoreMode::Serving {
            state = format!("{state}, {}", store.mode.name());
        }
        if store.stats.is_slow {
            state.push_str(", slow");
        }
        if store.stats.disk != DiskState::Ok {
            state = format!("{state}, disk {}", disk_name(store.stats.disk));
        }
        table.add_row([
            store.info.id.to_string(),
            state,
            store.info.address.clone(),
            store.info.status_address.clone(),
            store.stats.region_count.to_string(),
            store.stats.leader_count.to_string(),
            show_bytes(store.stats.used_bytes),
            show_bytes(store.stats.available_bytes),
        ]);
    }
    table.to_string()
}

pub(super) fn operators_json(operators: &[OperatorStatus]) -> Value {
    let operator = |operator: &OperatorStatus| {
        json!({
            "region_id": operator.region_id.get(),
            "kind": operator.kind,
            "steps": operator.steps,
            "steps_done": operator.steps_done,
            "why": operator.why,
            "state": operator.state,
            "age_ms": operator.age_ms,
        })
    };
    operators.iter().map(operator).collect()
}

pub(super) fn operators_table(operators: &[OperatorStatus]) -> String {
    let mut table = table(&["region", "operator", "state", "steps", "age", "why"]);
    for operator in operators {
        let steps = operator.steps.iter().enumerate().map(|(number, step)| {
            let mark = if number < operator.steps_done as usize { "✓" } else { "·" };
            format!("{mark} {step}")
        });
        table.add_row([
            operator.region_id.to_string(),
            operator.kind.clone(),
            operator.state.clone(),
            steps.collect::<Vec<_>>().join("\n"),
            format!("{:.1} s", operator.age_ms as f64 / 1000.0),
            operator.why.clone(),
        ]);
    }
    table.to_string()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(header.to_vec());
    table
}

pub(super) fn waits_json(waits: &[SeenWait]) -> Value {
    let wait = |wait: &SeenWait| {
        let edge = &wait.edge;
        json!({
            "store_id": wait.store_id.get(),
            "waiter_ts": edge.waiter_ts.0,
            "lock_ts": edge.lock_ts.0,
            "key": Keyspace::describe(&edge.key),
            "key_hex": to_hex(&edge.key),
            "age_ms": wait.age_ms,
        })
    };
    waits.iter().map(wait).collect()
}

/// Transactions are named by when they began, as everywhere.
pub(super) fn waits_table(waits: &[SeenWait]) -> String {
    if waits.is_empty() {
        return "nobody waits".to_owned();
    }
    let mut table = table(&["begun at", "waits for that begun at", "key", "for", "at store"]);
    for SeenWait { store_id, edge, age_ms } in waits {
        table.add_row([
            edge.waiter_ts.0.to_string(),
            edge.lock_ts.0.to_string(),
            short(&Keyspace::describe(&edge.key)),
            format!("{age_ms} ms"),
            store_id.to_string(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, PeerId, Region, RegionId, StoreId};

    fn route(range: KeyRange) -> RegionRoute {
        let peers = vec![Peer::voter(PeerId(11), StoreId(1)), Peer::learner(PeerId(12), StoreId(2))];
        let region = Region { id: RegionId(7), range, epoch: Epoch { conf_ver: 3, version: 4 }, peers };
        RegionRoute {
            leader: Some(region.peers[0]),
            region,
            size_bytes: 99,
            pending_peers: vec![PeerId(12)],
            down_peers: Vec::new(),
        }
    }

    /// What scripts read: names and shapes are a promise.
    #[test]
    fn a_region_in_json_has_raw_keys_and_the_whole_keys_in_hexadecimal() {
        let range = KeyRange::new(Keyspace::RAW.encode(b"a\x00"), Keyspace::RAW.encode(b"m"));
        let expected = json!({
            "id": 7, "start": "a\\x00", "end": "m", "start_hex": "720000006100", "end_hex": "720000006d",
            "epoch": {"conf_ver": 3, "version": 4},
            "leader": {"store_id": 1, "peer_id": 11},
            "peers": [
                {"id": 11, "store_id": 1, "role": "voter"}, {"id": 12, "store_id": 2, "role": "learner"},
            ],
            "pending_peers": [12], "down_peers": [], "size_bytes": 99,
        });
        assert_eq!(region_json(&route(range)), expected);
        let whole = region_json(&route(KeyRange::full()));
        assert_eq!((&whole["start"], &whole["end"]), (&json!(""), &json!("")));
        let elsewhere = region_json(&route(KeyRange::new(Keyspace::TXN.encode(b"k"), "")));
        assert_eq!(elsewhere["start"], json!("txn/0/k"));
    }

    #[test]
    fn a_table_names_what_is_not_well() {
        let shown = regions_table(&[route(KeyRange::full())]);
        assert!(shown.contains("2 (learner) (behind)"), "{shown}");
        assert!(shown.contains('∞'), "{shown}");
    }
}
