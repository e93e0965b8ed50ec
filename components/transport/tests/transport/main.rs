//! Connections over real sockets, and over pipes in virtual time. No test sleeps: each waits for what must come.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod bad_frames;
mod calls;
mod closing;
mod common;
mod links;
mod snapshots;
