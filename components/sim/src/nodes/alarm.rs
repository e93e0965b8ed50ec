//! Wake-ups that are not asked for twice.

use crate::cluster::World;
use std::time::Duration;
use types::MonoTime;

/// A wake-up at the earliest of the moments that somebody waits for.
#[derive(Default, Debug)]
pub(super) struct Alarm(Option<MonoTime>);

impl Alarm {
    /// Asks to be woken with `token` at `at`, unless a wake-up comes no later.
    pub(super) fn set(&mut self, world: &mut World<'_>, at: MonoTime, token: u64) {
        if at < MonoTime::MAX && self.0.is_none_or(|set| at < set) {
            self.0 = Some(at);
            world.wake_after(at.since(world.mono()), token);
        }
    }

    /// Asks to be woken after a moment of up to `most`, as long as another thread would take to notice; unless that is
    /// on its way.
    pub(super) fn soon(&mut self, world: &mut World<'_>, most: Duration, token: u64) {
        let latest = world.mono() + most;
        if self.0.is_none_or(|set| set > latest) {
            let delay = world.delay(most);
            self.set(world, world.mono() + delay, token);
        }
    }

    /// A wake-up has come. Returns whether it is the one that is waited for: one that was asked for earlier, for a later
    /// moment, comes nevertheless.
    pub(super) fn rings(&mut self, now: MonoTime) -> bool {
        let is_due = self.0.is_some_and(|set| set <= now);
        if is_due {
            self.0 = None;
        }
        is_due
    }
}
