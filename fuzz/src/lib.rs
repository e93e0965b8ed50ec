//! What is tried with bytes from anyone: every decoder, and a group that is told whatever the bytes make up.
//!
//! `make fuzz` lets libFuzzer draw the bytes; what it found worth keeping (`corpus/`) goes through the same functions in
//! every test run. They panic when something is wrong, and know nothing of who calls them. Start with [`targets`].

mod made;
pub mod targets;
