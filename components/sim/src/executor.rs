//! Runs futures on one thread, in an order drawn from a seed, on a time that is handed in.
//!
//! The client's logic is written as `async fn`s over ports for time, tasks and requests; here is what those ports bind
//! to in a simulation. [`Executor::run`] polls until nothing can go on at the present time; [`Executor::next_timer`]
//! says when to run it again. Everything is dropped with the executor, as when a process dies.

use env::Dice;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use types::MonoTime;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What tasks and executor share.
#[derive(Default)]
struct Shared {
    now: MonoTime,
    /// Tasks that were woken; each at most once.
    ready: Vec<u64>,
    /// Tasks not taken over by the executor yet, by number.
    spawned: Vec<(u64, Task)>,
    tasks_made: u64,
    /// By time, then by number.
    timers: BTreeMap<(MonoTime, u64), Waker>,
    timers_made: u64,
}

/// Runs tasks on virtual time, in an order that the seed decides.
#[derive(Default)]
pub struct Executor {
    shared: Arc<Mutex<Shared>>,
    tasks: BTreeMap<u64, (Task, Waker)>,
}

/// Time and tasks, for code that runs on an [`Executor`]. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Mutex<Shared>>,
}

struct TaskWaker {
    task: u64,
    shared: Arc<Mutex<Shared>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut shared = self.shared.lock();
        if !shared.ready.contains(&self.task) {
            shared.ready.push(self.task);
        }
    }
}

impl Executor {
    /// An executor without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for the tasks.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Polls tasks at the time `now`, in an order drawn from `dice`, until none can go on or `polls_max` is reached.
    /// Returns how many polls there were; less than `polls_max` means that all wait for something.
    ///
    /// # Panics
    /// When `now` is earlier than before.
    pub fn run(&mut self, now: MonoTime, dice: &mut dyn Dice, polls_max: usize) -> usize {
        for waker in self.advance(now) {
            waker.wake();
        }
        for polls in 0..polls_max {
            self.adopt();
            let task = {
                let mut shared = self.shared.lock();
                if shared.ready.is_empty() {
                    return polls;
                }
                let index = usize::try_from(dice.below(shared.ready.len() as u64)).expect("an index");
                shared.ready.swap_remove(index)
            };
            // A task that has ended may still be woken.
            let Some((future, waker)) = self.tasks.get_mut(&task) else { continue };
            if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
                self.tasks.remove(&task);
            }
        }
        polls_max
    }

    fn advance(&mut self, now: MonoTime) -> Vec<Waker> {
        let mut shared = self.shared.lock();
        assert!(now >= shared.now, "time goes back from {:?} to {now:?}", shared.now);
        shared.now = now;
        let later = shared.timers.split_off(&(MonoTime(now.0.saturating_add(1)), 0));
        std::mem::replace(&mut shared.timers, later).into_values().collect()
    }

    /// Takes over what was spawned.
    fn adopt(&mut self) {
        let spawned = std::mem::take(&mut self.shared.lock().spawned);
        for (task, future) in spawned {
            let waker = Waker::from(Arc::new(TaskWaker { task, shared: Arc::clone(&self.shared) }));
            waker.wake_by_ref();
            self.tasks.insert(task, (future, waker));
        }
    }

    /// True if a task can go on now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let shared = self.shared.lock();
        !shared.ready.is_empty() || !shared.spawned.is_empty()
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_timer(&self) -> Option<MonoTime> {
        self.shared.lock().timers.keys().next().map(|(at, _)| *at)
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len() + self.shared.lock().spawned.len()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks hold handles, and what waits in the shared state holds tasks: the circle has to be cut. Each round may
        // spawn from the destructors of what it drops, so it goes on until there is nothing left.
        loop {
            let tasks = std::mem::take(&mut self.tasks);
            let (spawned, timers) = {
                let mut shared = self.shared.lock();
                (std::mem::take(&mut shared.spawned), std::mem::take(&mut shared.timers))
            };
            if tasks.is_empty() && spawned.is_empty() && timers.is_empty() {
                break;
            }
        }
    }
}

impl Handle {
    /// The present time: that of the last [`Executor::run`].
    #[must_use]
    pub fn now(&self) -> MonoTime {
        self.shared.lock().now
    }

    /// Ends after this long.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Ends at this time.
    pub fn sleep_until(&self, at: MonoTime) -> Sleep {
        Sleep { at, number: None, shared: Arc::clone(&self.shared) }
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut shared = self.shared.lock();
        shared.tasks_made += 1;
        let number = shared.tasks_made;
        shared.spawned.push((number, Box::pin(task)));
    }
}

/// Ends at its time. See [`Handle::sleep`].
#[must_use = "a sleep that nobody awaits does nothing"]
pub struct Sleep {
    at: MonoTime,
    /// Set while it is among the timers.
    number: Option<u64>,
    shared: Arc<Mutex<Shared>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut shared = shared.lock();
        if shared.now >= self.at {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            shared.timers_made += 1;
            shared.timers_made
        });
        shared.timers.insert((self.at, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // Dropped after the lock is free: a waker may hold the last handle of its task.
            let _waker = self.shared.lock().timers.remove(&(self.at, number));
        }
    }
}

/// One value on its way from whoever completes to whoever waits.
pub fn promise<T>() -> (Completer<T>, Completion<T>) {
    let slot = Arc::new(Mutex::new(Slot { state: SlotState::Empty, waker: None }));
    (Completer { slot: Arc::clone(&slot) }, Completion { slot })
}

enum SlotState<T> {
    Empty,
    Full(T),
    /// The completer was dropped, or the value was taken.
    Gone,
}

struct Slot<T> {
    state: SlotState<T>,
    waker: Option<Waker>,
}

/// The side that has the value. Dropped without it, the other side learns that none will come.
pub struct Completer<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Completer<T> {
    /// Hands the value over. Lost if nobody waits any more.
    pub fn complete(self, value: T) {
        self.slot.lock().state = SlotState::Full(value);
        // Dropping `self` wakes the other side.
    }

    /// True if nobody waits any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.slot) == 1
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.slot.lock();
            if matches!(slot.state, SlotState::Empty) {
                slot.state = SlotState::Gone;
            }
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The side that waits: ends with the value, or with `None` if the completer was dropped without one.
#[must_use = "nothing comes of a completion that nobody awaits"]
pub struct Completion<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Future for Completion<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, SlotState::Gone) {
            SlotState::Full(value) => Poll::Ready(Some(value)),
            SlotState::Gone => Poll::Ready(None),
            SlotState::Empty => {
                slot.state = SlotState::Empty;
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::SplitMix;

    /// Runs until no task is left; returns when that was.
    fn finish(executor: &mut Executor, dice: &mut SplitMix) -> MonoTime {
        let mut now = executor.handle().now();
        loop {
            executor.run(now, dice, usize::MAX);
            match executor.next_timer() {
                Some(at) => now = at,
                None => return now,
            }
        }
    }

    fn order_of(seed: u64) -> Vec<u32> {
        let mut executor = Executor::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..10 {
            let order = Arc::clone(&order);
            executor.handle().spawn(async move { order.lock().push(number) });
        }
        finish(&mut executor, &mut SplitMix::new(seed));
        order.lock().clone()
    }

    #[test]
    fn the_order_is_the_seeds() {
        assert_eq!(order_of(1), order_of(1));
        assert_ne!(order_of(1), order_of(2));
        let mut sorted = order_of(3);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..10));
    }

    #[test]
    fn sleeps_end_at_their_time_and_a_dropped_one_wakes_nobody() {
        let mut executor = Executor::new();
        let handle = executor.handle();
        let log = Arc::new(Mutex::new(Vec::new()));
        let inner = Arc::clone(&log);
        executor.handle().spawn(async move {
            drop(handle.sleep(Duration::from_secs(9)));
            handle.sleep(Duration::from_secs(2)).await;
            inner.lock().push(handle.now());
            let child = handle.clone();
            let log = Arc::clone(&inner);
            handle.spawn(async move {
                child.sleep(Duration::from_secs(3)).await;
                log.lock().push(child.now());
            });
        });
        let end = finish(&mut executor, &mut SplitMix::new(1));
        let second = |seconds: u64| MonoTime::ZERO + Duration::from_secs(seconds);
        assert_eq!(*log.lock(), [second(2), second(5)]);
        assert_eq!((end, executor.tasks()), (second(5), 0));
    }

    #[test]
    fn a_promise_is_kept_or_seen_to_be_broken() {
        let mut executor = Executor::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (kept, first) = promise::<u32>();
        let (broken, second) = promise::<u32>();
        for completion in [first, second] {
            let log = Arc::clone(&log);
            executor.handle().spawn(async move {
                let value = completion.await;
                log.lock().push(value);
            });
        }
        let mut dice = SplitMix::new(1);
        executor.run(MonoTime::ZERO, &mut dice, usize::MAX);
        assert!(log.lock().is_empty());
        kept.complete(7);
        executor.run(MonoTime::ZERO, &mut dice, usize::MAX);
        assert_eq!(*log.lock(), [Some(7)]);
        assert!(!broken.is_abandoned());
        drop(broken);
        executor.run(MonoTime::ZERO, &mut dice, usize::MAX);
        assert_eq!(*log.lock(), [Some(7), None]);
    }

    #[test]
    fn an_executor_that_dies_drops_its_tasks() {
        let executor = Executor::new();
        let handle = executor.handle();
        let (completer, completion) = promise::<()>();
        executor.handle().spawn(async move {
            handle.sleep(Duration::from_secs(1)).await;
            completion.await;
        });
        assert!(!completer.is_abandoned());
        drop(executor);
        assert!(completer.is_abandoned());
    }
}
