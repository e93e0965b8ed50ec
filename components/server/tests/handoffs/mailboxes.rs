//! The mailbox: nothing is lost, nothing comes twice, whoever sleeps is woken, and after the end nothing comes.

use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::sync::{Condvar, Mutex};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One item at a time.
const ONE: usize = 1;
const SENDERS: u32 = 2;
const ITEMS: u32 = 2;

/// What hands numbers over.
trait Hand: Default + Send + Sync + 'static {
    fn push(&self, item: u32);
    fn push_all(&self, items: Vec<u32>);
    /// Up to one; `None` after the end.
    fn take(&self) -> Option<Vec<u32>>;
    fn close(&self);
}

impl Hand for Mailbox<u32> {
    fn push(&self, item: u32) {
        Self::push(self, item);
    }

    fn push_all(&self, mut items: Vec<u32>) {
        Self::push_all(self, &mut items);
    }

    fn take(&self) -> Option<Vec<u32>> {
        let mut taken = Vec::new();
        let drained = self.drain(&mut taken, ONE, None);
        (drained != Drained::Closed).then_some(taken)
    }

    fn close(&self) {
        Self::close(self);
    }
}

/// What a mailbox of our own mistakes is made of.
#[derive(Default)]
struct Parts {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    items: Vec<u32>,
    sleeping: usize,
    closed: bool,
}

impl Parts {
    fn fill(&self, items: Vec<u32>) {
        let mut state = self.state.lock().unwrap();
        if state.closed {
            return;
        }
        state.items.extend(items);
        let wake = state.sleeping > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    fn take(&self, passes_on: bool) -> Option<Vec<u32>> {
        let mut state = self.state.lock().unwrap();
        if state.items.is_empty() && !state.closed {
            state.sleeping += 1;
            state = self.filled.wait_while(state, |state| state.items.is_empty() && !state.closed).unwrap();
            state.sleeping -= 1;
        }
        if state.items.is_empty() {
            return None;
        }
        let first = state.items.remove(0);
        if passes_on && !state.items.is_empty() && state.sleeping > 0 {
            self.filled.notify_one();
        }
        Some(vec![first])
    }

    fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.filled.notify_all();
    }
}

/// Looks whether there is something, lets the lock go, and then sleeps without looking again.
#[derive(Default)]
struct LooksAndSleeps(Parts);

impl Hand for LooksAndSleeps {
    fn push(&self, item: u32) {
        self.0.fill(vec![item]);
    }

    fn push_all(&self, items: Vec<u32>) {
        self.0.fill(items);
    }

    fn take(&self) -> Option<Vec<u32>> {
        let idle = {
            let mut state = self.0.state.lock().unwrap();
            let idle = state.items.is_empty() && !state.closed;
            state.sleeping += usize::from(idle);
            idle
        };
        if idle {
            let state = self.0.state.lock().unwrap();
            let mut asleep = true;
            let woken = self.0.filled.wait_while(state, |_| std::mem::take(&mut asleep));
            woken.unwrap().sleeping -= 1;
        }
        self.0.take(true)
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Wakes first, and puts the item in afterwards.
#[derive(Default)]
struct WakesFirst(Parts);

impl Hand for WakesFirst {
    fn push(&self, item: u32) {
        self.push_all(vec![item]);
    }

    fn push_all(&self, items: Vec<u32>) {
        if self.0.state.lock().unwrap().sleeping > 0 {
            self.0.filled.notify_one();
        }
        let mut state = self.0.state.lock().unwrap();
        if !state.closed {
            state.items.extend(items);
        }
    }

    fn take(&self) -> Option<Vec<u32>> {
        self.0.take(true)
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Wakes one receiver for a whole batch, and that one tells no other.
#[derive(Default)]
struct WakesOneForAll(Parts);

impl Hand for WakesOneForAll {
    fn push(&self, item: u32) {
        self.0.fill(vec![item]);
    }

    fn push_all(&self, items: Vec<u32>) {
        self.0.fill(items);
    }

    fn take(&self) -> Option<Vec<u32>> {
        self.0.take(false)
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Ends whatever is still there.
#[derive(Default)]
struct DropsTheRest(Parts);

impl Hand for DropsTheRest {
    fn push(&self, item: u32) {
        self.0.fill(vec![item]);
    }

    fn push_all(&self, items: Vec<u32>) {
        self.0.fill(items);
    }

    fn take(&self) -> Option<Vec<u32>> {
        let taken = self.0.take(true);
        (!self.0.state.lock().unwrap().closed).then_some(taken?)
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Takes items after the end as well.
#[derive(Default)]
struct TakesAfterTheEnd(Parts);

impl Hand for TakesAfterTheEnd {
    fn push(&self, item: u32) {
        self.push_all(vec![item]);
    }

    fn push_all(&self, items: Vec<u32>) {
        self.0.state.lock().unwrap().items.extend(items);
        self.0.filled.notify_one();
    }

    fn take(&self) -> Option<Vec<u32>> {
        self.0.take(true)
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Senders and receivers until the end: each item comes once, those of a sender in order to each receiver.
fn pass_on<H: Hand>(receivers: usize) {
    let hand = Arc::new(H::default());
    let senders = (0..SENDERS).map(|sender| {
        let hand = hand.clone();
        thread::spawn(move || (0..ITEMS).for_each(|item| hand.push(sender * 10 + item)))
    });
    let senders: Vec<_> = senders.collect();
    let takers = (0..receivers).map(|_| {
        let hand = hand.clone();
        thread::spawn(move || std::iter::from_fn(|| hand.take()).flatten().collect::<Vec<u32>>())
    });
    let takers: Vec<_> = takers.collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    hand.close();
    let mut all = Vec::new();
    for taker in takers {
        let taken = taker.join().unwrap();
        for sender in 0..SENDERS {
            let own: Vec<u32> = taken.iter().copied().filter(|item| item / 10 == sender).collect();
            assert!(own.is_sorted(), "{own:?} came out of order");
        }
        all.extend(taken);
    }
    all.sort_unstable();
    let sent: Vec<u32> =
        (0..SENDERS).flat_map(|sender| (0..ITEMS).map(move |item| sender * 10 + item)).collect();
    assert_eq!(all, sent, "what was taken is not what was sent");
}

/// A batch for as many receivers, each of which takes one and no more.
fn share<H: Hand>() {
    let hand = Arc::new(H::default());
    let takers = [(); 2].map(|()| {
        let hand = hand.clone();
        thread::spawn(move || assert_eq!(hand.take().map(|taken| taken.len()), Some(ONE)))
    });
    hand.push_all(vec![1, 2]);
    for taker in takers {
        taker.join().unwrap();
    }
}

/// Whoever puts something in after the end is not heard, however the end and the sender meet.
fn end<H: Hand>() {
    let hand = Arc::new(H::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let sender = {
        let (hand, is_over) = (hand.clone(), is_over.clone());
        thread::spawn(move || {
            for item in 0..ITEMS {
                // Above 100: it is sent after the end was told.
                let late = if is_over.load(Ordering::SeqCst) { 100 } else { 0 };
                hand.push(late + item);
            }
        })
    };
    let taker = {
        let hand = hand.clone();
        thread::spawn(move || {
            while let Some(taken) = hand.take() {
                assert!(taken.iter().all(|item| *item < 100), "{taken:?} was sent after the end");
            }
        })
    };
    hand.close();
    is_over.store(true, Ordering::SeqCst);
    sender.join().unwrap();
    taker.join().unwrap();
    assert_eq!(hand.take(), None, "something is left after the end");
}

#[test]
fn every_item_comes_once_and_in_order() {
    hold(|| pass_on::<Mailbox<u32>>(1));
    hold(|| pass_on::<Mailbox<u32>>(2));
}

#[test]
fn a_batch_wakes_as_many_receivers_as_it_has_items() {
    hold(share::<Mailbox<u32>>);
}

#[test]
fn nothing_that_is_put_in_after_the_end_comes_out() {
    hold(end::<Mailbox<u32>>);
}

#[test]
fn a_look_before_sleep_without_the_lock_is_caught() {
    let said = caught(|| pass_on::<LooksAndSleeps>(1));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn a_wake_before_the_item_is_there_is_caught() {
    let said = caught(share::<WakesFirst>);
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn one_wake_for_a_whole_batch_is_caught() {
    let said = caught(share::<WakesOneForAll>);
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn an_end_that_drops_what_is_left_is_caught() {
    let said = caught(|| pass_on::<DropsTheRest>(1));
    assert!(said.contains("not what was sent"), "{said}");
}

#[test]
fn items_that_are_taken_after_the_end_are_caught() {
    let said = caught(end::<TakesAfterTheEnd>);
    assert!(said.contains("after the end"), "{said}");
}
