//! The client against a cluster that changes under it, in virtual time: every run is drawn from a seed.

mod admin;
mod cluster;
mod deadlines;
mod model;
mod process;
mod routing;
mod scans;
mod silence;
mod transactions;
mod txn_store;
mod world;
mod writes;

use client_core::KvPair;
use std::time::Duration;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn pair(key: &str, value: &str) -> KvPair {
    KvPair { key: key.to_owned().into(), value: value.to_owned().into(), ttl_ms: 0 }
}
