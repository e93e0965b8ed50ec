//! All that a store has and holds, looked at whatever has happened: what the look after each event takes for unchanged.
//!
//! [`Sight`] sees what an event may have changed. Something that changed although nothing should have changed it shows here.

use crate::check::{Broken, DurableLogs, leader_is_complete, ranges_are_disjoint, require};
use crate::nodes::sight::{Sight, applied_state};
use crate::observer::Observer;
use ::store::Store;
use engine::{Cf, Engine, MemEngine, Snapshot};
use raft::{Role, Status};
use raftstore::{ApplyRecord, PeerState, RegionRecord, all_regions};
use std::collections::BTreeMap;
use types::{KeyRange, Region, RegionId, StoreId, escape_key};

/// Looks at a store that runs, and that was shown to the observers since anything last happened to it.
pub(super) fn audit(
    sight: &Sight,
    store: &Store<MemEngine>,
    engine: &MemEngine,
    observer: &mut Observer,
) -> Result<(), Broken> {
    let store_id = store.store_id();
    let records = all_regions(engine).expect("no fault was injected");
    logs_are_as_written(sight, store_id, engine, observer)?;
    ranges_are_disjoint(store_id, &owned(&records))?;
    all_data_is_owned(store_id, engine, &owned(&records))?;
    let mut groups = BTreeMap::new();
    for worker in store.workers() {
        worker.visit(&mut |region, status, _| {
            groups.insert(region.id, (region.clone(), status));
        });
    }
    for (record, apply) in &records {
        let Some(apply) = apply.filter(|_| record.state == PeerState::Normal) else { continue };
        audit_region(store_id, (record, &apply), engine, observer)?;
    }
    groups.values().try_for_each(|(region, status)| audit_group(region, status, store_id, observer))
}

/// The ranges that are a peer's of this store, be it that its data is still coming.
fn owned(records: &[(RegionRecord, Option<ApplyRecord>)]) -> Vec<(RegionId, KeyRange)> {
    let here = records.iter().filter(|(record, _)| record.state != PeerState::Tombstone);
    here.map(|(record, _)| (record.region.id, record.region.range.clone())).collect()
}

/// Log records are what the log writer has written, and nothing else.
fn logs_are_as_written(
    sight: &Sight,
    store_id: StoreId,
    engine: &MemEngine,
    observer: &Observer,
) -> Result<(), Broken> {
    let Some(durable) = observer.disks.get(&store_id) else { return Ok(()) };
    let mut written = durable.clone();
    for batch in sight.unsynced() {
        written.write(batch);
    }
    require(written == DurableLogs::scan(engine), "INV-LOG-3 (one writer of the log)", || {
        format!("the log records of store {store_id} are not what its log writer has written")
    })
}

/// What no region here owns was cleared away with the region that owned it.
fn all_data_is_owned(
    store_id: StoreId,
    engine: &MemEngine,
    owned: &[(RegionId, KeyRange)],
) -> Result<(), Broken> {
    let snapshot = engine.snapshot();
    for cf in Cf::DATA {
        let mut iterator = snapshot.iter(cf, &KeyRange::full());
        let mut found = iterator.seek_to_first();
        while found {
            let key = iterator.key();
            require(
                owned.iter().any(|(_, range)| range.contains(key)),
                "INV-STORE-4 (data is owned)",
                || format!("store {store_id} has {} in {cf:?}, which no region here owns", escape_key(key)),
            )?;
            found = iterator.next();
        }
        iterator.status().expect("no fault was injected");
    }
    Ok(())
}

/// A region as it lies on the disk: its data is what its log says, as far as that is durable.
fn audit_region(
    store_id: StoreId,
    (record, apply): (&RegionRecord, &ApplyRecord),
    engine: &MemEngine,
    observer: &mut Observer,
) -> Result<(), Broken> {
    let region = &record.region;
    let state = applied_state(engine, region, apply);
    observer.states.state(region.id, record.peer_id, apply.applied.index, state)?;
    let log = observer.disks.get(&store_id).and_then(|logs| logs.last(region.id));
    // What a snapshot brought is in one batch with the log that begins after it, whether or not that is durable yet.
    let is_new = apply.applied == apply.truncated;
    let is_persisted = is_new || log.is_none_or(|last| apply.applied.index <= last);
    require(is_persisted, "INV-RAFT-7 (applied is persisted)", || {
        format!("peer {} has applied {apply:?}, its durable log ends at {log:?}", record.peer_id)
    })
}

/// A group as its peer here sees it.
fn audit_group(
    region: &Region,
    status: &Status,
    store_id: StoreId,
    observer: &mut Observer,
) -> Result<(), Broken> {
    let Some(logs) = observer.disks.get(&store_id) else { return Ok(()) };
    if let Some((term, vote)) = logs.vote(region.id) {
        require(term <= status.term, "INV-RAFT-10 (terms grow)", || {
            format!("peer {} is in term {}, its disk in term {term}", status.id, status.term)
        })?;
        observer.hard_states.durable(status.id, term, vote)?;
    }
    if status.role != Role::Leader {
        return Ok(());
    }
    observer.elections.leader(region.id, status.term, status.id)?;
    let Some(wanted) = observer.committed.before(region.id, status.term) else { return Ok(()) };
    let log = observer.disks[&store_id].log(region.id, status.id, wanted.index);
    // What is not durable yet is looked at when it is.
    let is_durable = log.term.is_some() || log.applied >= wanted.index;
    if is_durable { leader_is_complete(region.id, status.term, wanted, log) } else { Ok(()) }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
