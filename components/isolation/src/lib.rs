//! Whether what transactions have seen can have happened under snapshot isolation.
//!
//! Transactions append numbers to lists, each number once, and read lists. A list that was read tells in which order it
//! was written; so from what clients alone have seen follows which transaction must come before which other one, and
//! what cannot be brought in order is an anomaly that has a name (Adya, Liskov and O'Neil 2000; the way to find it out is
//! that of Kingsbury and Alvaro, "Elle", VLDB 2020).
//!
//! What is refused is what *strong* snapshot isolation refuses: a transaction that begins after another one has ended sees
//! it. Write skew (`G2-item`) is allowed there, and told apart.
//!
//! What it keeps true: what it finds is wrong, and it says by which transactions; it does not find what nobody has seen.
//! It knows no database and does no I/O. Start with [`judge`].

mod graph;
mod history;
mod judge;
#[cfg(test)]
mod judge_tests;
mod lists;

pub use history::{History, Outcome, Step, Transaction};
pub use judge::{Anomaly, Verdict, judge};
