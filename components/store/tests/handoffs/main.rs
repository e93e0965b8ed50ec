//! What threads share without waiting for one another: who may read alone, and credit for writes. The files of the
//! product are compiled here a second time, over types whose every step a scheduler decides, and run in many orders.
//!
//! Each test says what must hold in every order; beside it stand mistakes on purpose that some order must show.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

// The files below name the facts of a store as those of the crate `raftstore`; here that is us.
extern crate self as raftstore;

mod commit_at_once;
mod credit;
mod facts;
mod reads;
mod schedules;
mod sync;

#[path = "../../src/concurrency.rs"]
#[expect(unreachable_pub, reason = "the product shows it to others")]
mod concurrency;
#[path = "../../src/inflight.rs"]
#[expect(unreachable_pub, reason = "the product shows it to others")]
mod inflight;
#[path = "../../src/local_read.rs"]
#[expect(dead_code, unreachable_pub, reason = "the product shows it to others, who break rules with it")]
mod local_read;
#[path = "../../../raftstore/src/meta.rs"]
#[expect(dead_code, reason = "the rest of the store's facts is handed over under one lock")]
mod meta;

pub use meta::{Delegate, StoreMeta};

/// What reads are made of, which shares nothing.
mod execute {
    pub(crate) use store::{Query, ReadLimits, execute};
}

/// What time it is where values end; none does here.
mod oracle {
    pub(crate) use store::Oracle;
}

/// No rule is broken but by the tests themselves.
mod seeded_bug {
    pub(crate) use store::{Bugs, SeededBug};
}
