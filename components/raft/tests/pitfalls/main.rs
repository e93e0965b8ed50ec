//! Mistakes that others have made, each as a test that tells its story. Numbers name the public report that it comes
//! from; thesis: D. Ongaro, "Consensus: Bridging Theory and Practice", 2014.

mod classic;
mod counting;
mod elections;
#[path = "../group/mod.rs"]
mod group;
mod groups;
mod kit;
mod members;
mod persistence;
mod random;
mod reads;
mod replication;
mod sleep;
mod snapshots;
mod story;
mod table;
