//! Points in the logic at which a simulation takes a branch that is allowed at any time and seldom met.
//!
//! A site asks `sim_point!("room.name")` and gets `true` where that branch is to be taken. What decides is lent to the
//! thread by [`arm`] for as long as one run lasts, so a site needs no argument, and runs on other threads, or one after
//! another on this one, know nothing of each other. The dice of each point are a stream of their own: that one fires, or
//! is asked once more, moves none of the others.

use crate::{Dice, SplitMix};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

/// Of so many times that an armed point is met, it fires once.
const FIRES_ONE_IN: u64 = 4;

struct Point {
    name: &'static str,
    dice: SplitMix,
}

#[derive(Default)]
struct Points {
    armed: Vec<Point>,
    /// Those that have fired and were not told yet, in order.
    fired: Vec<&'static str>,
}

thread_local! {
    /// `None`: no simulation runs on this thread.
    static POINTS: RefCell<Option<Points>> = const { RefCell::new(None) };
}

/// Points that are armed on this thread, until this is dropped.
#[must_use = "what is armed is disarmed when this is dropped"]
pub struct Armed {
    /// What was lent to one thread stays there.
    not_send: PhantomData<Rc<()>>,
}

/// Arms these points on this thread, each with a stream of `dice` that is named as it is.
///
/// # Panics
/// When points are armed on this thread already: it runs one simulation at a time.
pub fn arm(names: &[&'static str], dice: &SplitMix) -> Armed {
    let armed = names.iter().map(|name| Point { name, dice: dice.fork(name) }).collect();
    POINTS.with_borrow_mut(|points| {
        assert!(points.is_none(), "a simulation runs on this thread already");
        *points = Some(Points { armed, fired: Vec::new() });
    });
    Armed { not_send: PhantomData }
}

impl Armed {
    /// The points that have fired since this was asked last, in order.
    #[must_use]
    pub fn take_fired(&self) -> Vec<&'static str> {
        POINTS
            .with_borrow_mut(|points| points.as_mut().map(|points| std::mem::take(&mut points.fired)))
            .unwrap_or_default()
    }

    /// None fires from here on.
    pub fn disarm(&self) {
        POINTS.with_borrow_mut(|points| {
            if let Some(points) = points {
                points.armed.clear();
            }
        });
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        POINTS.set(None);
    }
}

/// Whether the point fires now; what [`sim_point!`](crate::sim_point) asks.
#[must_use]
pub fn fires(name: &'static str) -> bool {
    POINTS.with_borrow_mut(|points| {
        let Some(Points { armed, fired }) = points else { return false };
        let Some(point) = armed.iter_mut().find(|point| point.name == name) else { return false };
        let fires = point.dice.chance(1, FIRES_ONE_IN);
        if fires {
            fired.push(name);
        }
        fires
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met() -> Vec<bool> {
        (0..64).map(|_| crate::sim_point!("env.one")).collect()
    }

    #[test]
    fn an_armed_point_fires_now_and_then_and_the_same_way_again() {
        let run = || {
            let armed = arm(&["env.one", "env.other"], &SplitMix::new(7));
            let met = met();
            assert_eq!(armed.take_fired().len(), met.iter().filter(|fired| **fired).count());
            assert!(armed.take_fired().is_empty(), "each is told once");
            met
        };
        let first = run();
        assert!(first.contains(&true) && first.contains(&false));
        assert_eq!(run(), first);
    }

    #[test]
    fn what_is_not_armed_or_is_met_on_another_thread_does_not_fire() {
        assert!(!met().contains(&true), "no simulation runs");
        let armed = arm(&["env.other"], &SplitMix::new(7));
        assert!(!met().contains(&true), "it is not among those that are armed");
        armed.disarm();
        assert!((0..64).all(|_| !fires("env.other")));
        drop(armed);
        let armed = arm(&["env.one"], &SplitMix::new(7));
        let elsewhere = std::thread::scope(|threads| threads.spawn(met).join().unwrap());
        assert!(!elsewhere.contains(&true));
        assert!(armed.take_fired().is_empty());
    }

    #[test]
    fn one_point_moves_no_other() {
        let run = |asks_other: bool| {
            let _armed = arm(&["env.one", "env.other"], &SplitMix::new(7));
            let ask = |_| {
                let _moved = asks_other && fires("env.other");
                fires("env.one")
            };
            (0..64).map(ask).collect::<Vec<_>>()
        };
        assert_eq!(run(false), run(true));
    }
}
