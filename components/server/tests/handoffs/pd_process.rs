//! The product's file of the placement driver.

#[path = "../../src/pd/turns.rs"]
pub(crate) mod turns;
