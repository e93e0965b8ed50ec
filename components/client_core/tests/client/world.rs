//! Virtual time and an executor of one thread whose order is drawn from a seed.

use env::{Dice, SplitMix};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use types::MonoTime;

/// The world of one test. Clones share it.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    root: SplitMix,
}

struct State {
    now: MonoTime,
    timers: BTreeMap<(MonoTime, u64), Waker>,
    tasks: BTreeMap<u64, BoxFuture<'static, ()>>,
    ready: BTreeSet<u64>,
    next_id: u64,
    dice: SplitMix,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let root = SplitMix::new(seed);
        let state = State {
            now: MonoTime(1),
            timers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ready: BTreeSet::new(),
            next_id: 0,
            dice: root.fork("executor"),
        };
        Self { state: Arc::new(Mutex::new(state)), root }
    }

    pub(crate) fn dice(&self, label: &str) -> SplitMix {
        self.root.fork(label)
    }

    pub(crate) fn now(&self) -> MonoTime {
        self.state.lock().now
    }

    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        let mut state = self.state.lock();
        state.next_id += 1;
        let at = (state.now + duration, state.next_id);
        Sleep { world: self.clone(), at }
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.tasks.insert(id, Box::pin(future));
        state.ready.insert(id);
    }

    /// Runs everything until `main` is done.
    pub(crate) fn run<T: Send + 'static>(&self, main: impl Future<Output = T> + Send + 'static) -> T {
        let output = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&output);
        self.spawn(async move {
            let value = main.await;
            *slot.lock() = Some(value);
        });
        loop {
            if let Some(value) = output.lock().take() {
                return value;
            }
            let next = {
                let mut state = self.state.lock();
                let ready: Vec<u64> = state.ready.iter().copied().collect();
                if ready.is_empty() {
                    let ((at, _), waker) = state.timers.pop_first().expect("everybody waits for nothing");
                    state.now = state.now.max(at);
                    drop(state);
                    waker.wake();
                    continue;
                }
                let id = ready[state.dice.below(ready.len() as u64) as usize];
                state.ready.remove(&id);
                state.tasks.remove(&id).map(|task| (id, task))
            };
            let Some((id, mut task)) = next else { continue };
            let waker = Waker::from(Arc::new(TaskWaker { id, world: self.clone() }));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.state.lock().tasks.insert(id, task);
            }
        }
    }
}

struct TaskWaker {
    id: u64,
    world: World,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.world.state.lock().ready.insert(self.id);
    }
}

pub(crate) struct Sleep {
    world: World,
    at: (MonoTime, u64),
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.state.lock();
        if state.now >= self.at.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.at, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.world.state.lock().timers.remove(&self.at);
    }
}

impl client_core::Timers for World {
    fn now(&self) -> MonoTime {
        Self::now(self)
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Self::sleep(self, duration))
    }
}

impl client_core::Spawn for World {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        Self::spawn(self, task);
    }
    fn let_others_go(&self) -> BoxFuture<'static, ()> {
        let mut is_later = false;
        Box::pin(std::future::poll_fn(move |context| {
            if std::mem::replace(&mut is_later, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}

/// A value that one task leaves for another.
pub(crate) struct Slot<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new((None, None))))
    }

    pub(crate) fn set(&self, value: T) {
        let waker = {
            let mut inner = self.0.lock();
            inner.0 = Some(value);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut inner = self.0.lock();
        match inner.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                inner.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
