//! The placement driver from outside: its windows over crashes, its requests, its group, and the cluster that it keeps.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod driver;
mod group;
mod model;
mod placement;
mod requests;
mod windows;
