//! Credit for writes: taken before a write is handed on, given back with its answer.

use crate::inflight::Inflight;
use crate::schedules::{caught, hold};
use crate::sync::{AtomicUsize, Ordering};
use shuttle::thread;
use std::sync::Arc;

/// One write at a time.
const ROOM: usize = 1;
const THREADS: usize = 3;

trait Credit: Clone + Send + 'static {
    fn take(&self, bytes: usize, max: usize) -> bool;
    fn release(&self, bytes: usize);
    fn bytes(&self) -> usize;
}

impl Credit for Inflight {
    fn take(&self, bytes: usize, max: usize) -> bool {
        Self::take(self, bytes, max)
    }

    fn release(&self, bytes: usize) {
        Self::release(self, bytes);
    }

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

/// Looks whether there is room, and takes it afterwards.
#[derive(Clone, Default)]
struct LooksAndTakes(Arc<AtomicUsize>);

impl Credit for LooksAndTakes {
    fn take(&self, bytes: usize, max: usize) -> bool {
        let now = self.bytes();
        let free = now == 0 || now + bytes <= max;
        if free {
            self.0.fetch_add(bytes, Ordering::AcqRel);
        }
        free
    }

    fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Gives back what it reads and writes in two steps.
#[derive(Clone, Default)]
struct GivesBackInTwoSteps(LooksAndTakes);

impl Credit for GivesBackInTwoSteps {
    fn take(&self, bytes: usize, max: usize) -> bool {
        let taken = self.0.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now == 0 || now + bytes <= max).then_some(now + bytes)
        });
        taken.is_ok()
    }

    fn release(&self, bytes: usize) {
        let now = self.bytes();
        self.0.0.store(now - bytes, Ordering::Release);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// Threads that write as soon as they have credit.
fn writers<C: Credit>(credit: &C, room: usize, sizes: [usize; THREADS]) {
    // Who holds credit, by a count whose steps are no choice of the scheduler's.
    let held = Arc::new(std::sync::Mutex::new(0_usize));
    let threads: Vec<_> = sizes
        .map(|bytes| {
            let (credit, held) = (credit.clone(), held.clone());
            thread::spawn(move || {
                while !credit.take(bytes, room) {
                    thread::yield_now();
                }
                let together = {
                    let mut held = held.lock().unwrap();
                    *held += bytes;
                    *held
                };
                assert!(together <= room.max(bytes), "{together} bytes are under way where {room} may be");
                thread::yield_now();
                *held.lock().unwrap() -= bytes;
                credit.release(bytes);
            })
        })
        .into();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(credit.bytes(), 0, "credit was lost");
}

#[test]
fn credit_never_exceeds_its_bound_and_all_of_it_comes_back() {
    hold(|| writers(&Inflight::default(), ROOM, [1; THREADS]));
    hold(|| writers(&Inflight::default(), 2, [1, 1, 2]));
    // Larger than the bound, but alone.
    hold(|| writers(&Inflight::default(), ROOM, [3; THREADS]));
}

#[test]
fn credit_that_is_looked_at_and_then_taken_is_caught() {
    let said = caught(|| writers(&LooksAndTakes::default(), ROOM, [1; THREADS]));
    assert!(said.contains("are under way where"), "{said}");
}

#[test]
fn credit_that_is_given_back_in_two_steps_is_caught() {
    caught(|| writers(&GivesBackInTwoSteps::default(), 2, [1; THREADS]));
}
