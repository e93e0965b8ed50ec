//! The repository's own rules, as tests.
//!
//! Each file holds one family of rules: data at the top, a pure function from [`repository::Source`]s (or crates) to
//! violations, a test over this repository, and a negative case on made-up input that shows the rule can fail. A
//! violation says where, what, and what to do next. Start with `repository.rs`; the crates table that
//! `dependencies.rs` enforces is in `docs/ARCHITECTURE.md`.

mod dependencies;
mod documents;
mod doors;
mod features;
mod length;
mod points;
mod repository;
mod words;
