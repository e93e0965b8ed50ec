//! Real processes: the binary itself on loopback, with RocksDB and sockets, killed, cut off, fed with nonsense.
//!
//! Each test says what it did before it says whether that was right, and fails as void when a fault that it is about did not
//! happen. A seed draws who is hit and when; `FLOTILLA_SEED=…` runs that choice again (threads and sockets are not
//! replayed: for that there is the simulator). Children die with the test. Start with `support/cluster.rs`, then
//! `kill.rs`.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests drive processes in real time, and measure how long they take"
)]

mod bad_input;
mod bank;
mod demo;
mod judged;
mod keyspaces;
mod kill;
mod monitoring;
mod nemesis;
mod partition;
mod profile;
mod shell;
mod support;
mod tables;
mod tour;
