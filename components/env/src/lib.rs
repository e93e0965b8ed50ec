//! The outside world as small ports: clocks, dice, and the points at which a simulation may interfere.
//!
//! Logic takes `now: MonoTime` as an argument and draws from a [`Dice`] that it was given; only drivers own a [`Clock`].
//! This crate reads no clock itself and holds no thread or socket. [`sim_point!`] is nothing in the product.

mod bugs;
mod dice;
#[cfg(feature = "sim_points")]
pub mod points;

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

/// True where a simulation takes a branch that is allowed at any time and seldom met: `if sim_point!("room.name") { … }`.
///
/// Without the feature `sim_points`, which no product is built with, this is the constant `false`, so nothing is left of
/// the branch; with it, [`points`] tells whether the point fires. Names are told once, in the simulator's list.
#[cfg(feature = "sim_points")]
#[macro_export]
macro_rules! sim_point {
    ($name:literal) => {
        $crate::points::fires($name)
    };
}

/// True where a simulation takes a branch that is allowed at any time and seldom met: `if sim_point!("room.name") { … }`.
///
/// This is the constant `false`, so nothing is left of the branch: no product is built with the feature `sim_points`.
#[cfg(not(feature = "sim_points"))]
#[macro_export]
macro_rules! sim_point {
    ($name:literal) => {
        false
    };
}

// Known while the product is compiled, so the compiler drops what is behind it.
#[cfg(not(feature = "sim_points"))]
const _: () = assert!(!sim_point!("env.never"));
