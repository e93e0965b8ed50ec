//! The types that the product's files hand over with, each step of them a choice of the scheduler.

use crate::clock::pass;
use shuttle::rand::Rng as _;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::sync::TryLockError;

/// A lock that knows itself from its guard, so that a wait can let it go.
#[derive(Default, Debug)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: shuttle::sync::MutexGuard<'a, T>,
}

type Locked<T> = Result<T, PoisonError<T>>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Locked<MutexGuard<'_, T>> {
        Ok(MutexGuard { mutex: self, held: self.0.lock().expect("no thread dies in it") })
    }

    pub(crate) fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        match self.0.try_lock() {
            Ok(held) => Ok(MutexGuard { mutex: self, held }),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(_)) => unreachable!("no thread dies in it"),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

/// A condition of which a waiter is told, and which may also find that its time is over.
#[derive(Default, Debug)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        mut is_idle: impl FnMut(&mut T) -> bool,
    ) -> Locked<MutexGuard<'a, T>> {
        let MutexGuard { mutex, held } = guard;
        let held = self.0.wait_while(held, |value| is_idle(value)).expect("no thread dies in it");
        Ok(MutexGuard { mutex, held })
    }

    /// Waits as long as others have something to do meanwhile, or until the time is over: the scheduler decides which.
    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        time: Duration,
        mut is_idle: impl FnMut(&mut T) -> bool,
    ) -> Locked<(MutexGuard<'a, T>, bool)> {
        let mutex = guard.mutex;
        loop {
            if !is_idle(&mut guard) {
                return Ok((guard, false));
            }
            drop(guard);
            shuttle::thread::yield_now();
            let is_over = shuttle::rand::thread_rng().gen_bool(0.5);
            guard = mutex.lock().expect("no thread dies in it");
            if is_over {
                pass(time);
                return Ok((guard, true));
            }
        }
    }
}

/// Lets a moment pass.
pub(crate) fn pause(moment: Duration) {
    pass(moment);
    shuttle::thread::yield_now();
}

/// A thread of which one can see whether it has ended.
pub(crate) struct JoinHandle<T> {
    thread: shuttle::thread::JoinHandle<T>,
    has_ended: Arc<AtomicBool>,
}

/// Begins a thread.
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let has_ended = Arc::new(AtomicBool::new(false));
    let told = has_ended.clone();
    let thread = shuttle::thread::spawn(move || {
        body();
        told.store(true, Ordering::SeqCst);
    });
    JoinHandle { thread, has_ended }
}

impl<T: 'static> JoinHandle<T> {
    pub(crate) fn is_finished(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    pub(crate) fn join(self) -> std::thread::Result<T> {
        self.thread.join()
    }
}
