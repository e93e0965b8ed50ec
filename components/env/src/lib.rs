//! The outside world as small ports: clocks and dice.
//!
//! Logic takes `now: MonoTime` as an argument and draws from a [`Dice`] that it was given; only drivers own a [`Clock`].
//! This crate reads no clock itself and holds no thread or socket.

mod bugs;
mod dice;

pub use dice::{Dice, SplitMix};

use types::MonoTime;

/// A monotonic clock that also counts the time in which the machine was suspended.
///
/// A leader's lease is compared with it, so it must never run slower than true time by more than the drift that the
/// lease allows for.
pub trait Clock: Send + Sync {
    /// A reading, never earlier than one returned before.
    fn now(&self) -> MonoTime;
}

/// Marks a place where the simulator may look or interfere. Compiles to nothing in the product.
#[macro_export]
macro_rules! sim_point {
    ($name:literal) => {};
}
