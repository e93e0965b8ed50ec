//! What changes although nothing has happened is seen when everything is looked at.

use crate::cluster::Cluster;
use crate::kernel::{Kernel, MachineConfig, NodeId};
use crate::network::{Lane, NetworkConfig};
use crate::nodes::{AddressBook, PdNode, StoreLinks, StoreNode};
use crate::trace::{Trace, TraceMode};
use engine::{Cf, Engine, MemEngine, WriteBatch};
use raft_log::keys;
use raftstore::{PeerState, RegionRecord, all_regions, put_region};
use std::time::Duration;
use types::LogIndex;

/// One store that leads the one region there is, and its disk.
fn cluster() -> (Cluster, MemEngine) {
    let trace = Trace::new(TraceMode::Off, None);
    let mut cluster = Cluster::new(Kernel::new(1, NetworkConfig::default(), trace));
    let links = StoreLinks {
        one_by_one: true,
        hand_over_max: Duration::from_micros(50),
        pause_one_in: 2,
        ..StoreLinks::calm(Lane::Datagram)
    };
    let (member, machine) = (NodeId(51), MachineConfig::default());
    let pd = PdNode::new(member, vec![member], pd::Config::default(), links, None);
    cluster.add(member, &machine, Box::new(pd));
    let config = ::store::Config::default();
    let store = StoreNode::new(config, links, AddressBook::default(), vec![member], None);
    let engine = store.engine().clone();
    cluster.add(NodeId(1), &machine, Box::new(store));
    while cluster.regions().iter().all(|region| region.leads_in.is_none()) {
        cluster.step().unwrap();
    }
    cluster.check_all().unwrap();
    (cluster, engine)
}

/// What is found after this was written by nobody.
fn found(write: impl FnOnce(&mut WriteBatch, &MemEngine)) -> &'static str {
    let (mut cluster, engine) = cluster();
    let mut batch = WriteBatch::new();
    write(&mut batch, &engine);
    engine.write(&batch).unwrap();
    cluster.check_all().expect_err("nobody has written that").invariant
}

#[test]
fn data_that_no_entry_has_put_there_is_seen() {
    let invariant = found(|batch, _| batch.put(Cf::Default, b"rkey", b"value"));
    assert!(invariant.starts_with("INV-STORE-13"), "{invariant}");
}

#[test]
fn data_without_a_region_is_seen() {
    let invariant = found(|batch, engine| {
        let (record, _) = all_regions(engine).unwrap().remove(0);
        put_region(batch, &RegionRecord { state: PeerState::Tombstone, ..record });
        batch.put(Cf::Default, b"rkey", b"value");
    });
    assert!(invariant.starts_with("INV-STORE-4"), "{invariant}");
}

#[test]
fn a_log_record_that_the_log_writer_has_not_written_is_seen() {
    let invariant = found(|batch, engine| {
        let region = all_regions(engine).unwrap()[0].0.region.id;
        batch.put(Cf::Raft, &keys::entry(region, LogIndex(1 << 20)), b"an entry");
    });
    assert!(invariant.starts_with("INV-LOG-3"), "{invariant}");
}
