//! Mistakes that others have made, each as a test that tells its story. Numbers name the public report that it comes
//! from; thesis: D. Ongaro, "Consensus: Bridging Theory and Practice", 2014.

mod elections;
mod kit;
mod members;
mod persistence;
mod reads;
mod replication;
mod snapshots;
