//! The seat beside a mailbox: whoever brings something may do the work, one at a time, in order, and nothing stays behind
//! because each believed that another would look.

use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::seat::{Next, Seat};
use crate::sync::{Mutex, TryLockError};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;

const BRINGERS: u32 = 2;
const ITEMS: u32 = 3;

/// What was done, in order.
type Done = Vec<u32>;

/// How a mailbox is worked off, one item a round.
trait Work: Default + Send + Sync + 'static {
    fn attend(&self, mailbox: &Mailbox<u32>);
    fn bring(&self, mailbox: &Mailbox<u32>, item: u32);
    fn done(&self) -> Done;
}

/// One item, unless there is none.
fn one(mailbox: &Mailbox<u32>, done: &mut Done) -> Next {
    let mut taken = Vec::new();
    if mailbox.drain(&mut taken, 1, Some(Duration::ZERO)) == Drained::Closed {
        return Next::End;
    }
    done.append(&mut taken);
    Next::Rest(None)
}

struct Product(Seat<Done>);

impl Default for Product {
    fn default() -> Self {
        Self(Seat::new(Done::new()))
    }
}

impl Work for Product {
    fn attend(&self, mailbox: &Mailbox<u32>) {
        self.0.attend(mailbox, |done| one(mailbox, done));
    }

    fn bring(&self, mailbox: &Mailbox<u32>, item: u32) {
        mailbox.put_all(&mut vec![item]);
        self.0.help(mailbox, |done| one(mailbox, done));
    }

    fn done(&self) -> Done {
        let mut all = Done::new();
        let closed = Mailbox::<u32>::default();
        closed.close();
        self.0.attend(&closed, |done| {
            all.clone_from(done);
            Next::End
        });
        all
    }
}

/// Goes away with the seat free, and does not look whether somebody came meanwhile who found it taken.
#[derive(Default)]
struct LooksNoMore(Mutex<Done>);

impl Work for LooksNoMore {
    fn attend(&self, mailbox: &Mailbox<u32>) {
        loop {
            mailbox.wait(None);
            if one(mailbox, &mut self.0.lock().unwrap()) == Next::End {
                return;
            }
        }
    }

    fn bring(&self, mailbox: &Mailbox<u32>, item: u32) {
        mailbox.put_all(&mut vec![item]);
        let mut done = match self.0.try_lock() {
            Ok(done) => done,
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(_)) => unreachable!("nobody dies"),
        };
        while !mailbox.is_empty() {
            one(mailbox, &mut done);
        }
    }

    fn done(&self) -> Done {
        self.0.lock().unwrap().clone()
    }
}

/// Takes from the mailbox before it has the seat.
#[derive(Default)]
struct TakesBeforeItSits(Mutex<Done>);

impl TakesBeforeItSits {
    fn round(&self, mailbox: &Mailbox<u32>, wait: Option<Duration>) -> bool {
        let mut taken = Vec::new();
        if mailbox.drain(&mut taken, 1, wait) == Drained::Closed {
            return false;
        }
        self.0.lock().unwrap().append(&mut taken);
        true
    }
}

impl Work for TakesBeforeItSits {
    fn attend(&self, mailbox: &Mailbox<u32>) {
        while self.round(mailbox, None) {}
    }

    fn bring(&self, mailbox: &Mailbox<u32>, item: u32) {
        mailbox.put_all(&mut vec![item]);
        self.round(mailbox, Some(Duration::ZERO));
    }

    fn done(&self) -> Done {
        self.0.lock().unwrap().clone()
    }
}

/// Leaves the rest to the mailbox's thread after one round, and does not tell it.
#[derive(Default)]
struct LeavesTheRest(Mutex<Done>);

impl Work for LeavesTheRest {
    fn attend(&self, mailbox: &Mailbox<u32>) {
        loop {
            mailbox.wait(None);
            if one(mailbox, &mut self.0.lock().unwrap()) == Next::End {
                return;
            }
        }
    }

    fn bring(&self, mailbox: &Mailbox<u32>, item: u32) {
        mailbox.put_all(&mut vec![item]);
        if let Ok(mut done) = self.0.try_lock() {
            one(mailbox, &mut done);
        }
    }

    fn done(&self) -> Done {
        self.0.lock().unwrap().clone()
    }
}

/// Bringers beside the thread, which is told of nothing; all that they brought is done before it is told of the end.
fn work_off<W: Work>() {
    let (work, mailbox) = (Arc::new(W::default()), Arc::new(Mailbox::default()));
    let thread = {
        let (work, mailbox) = (work.clone(), mailbox.clone());
        thread::spawn(move || work.attend(&mailbox))
    };
    let bringers: Vec<_> = (0..BRINGERS)
        .map(|bringer| {
            let (work, mailbox) = (work.clone(), mailbox.clone());
            thread::spawn(move || (0..ITEMS).for_each(|item| work.bring(&mailbox, bringer * 10 + item)))
        })
        .collect();
    bringers.into_iter().for_each(|bringer| bringer.join().unwrap());
    // Nobody brings anything more, and no time passes: whatever is to be done is done without that.
    while !mailbox.is_empty() {
        thread::yield_now();
    }
    mailbox.close();
    thread.join().unwrap();
    let done = work.done();
    for bringer in 0..BRINGERS {
        let own: Vec<u32> = done.iter().copied().filter(|item| item / 10 == bringer).collect();
        let sent: Vec<u32> = (0..ITEMS).map(|item| bringer * 10 + item).collect();
        assert_eq!(own, sent, "each item is done once, and those of a bringer in order");
    }
}

/// The end comes while somebody brings something: what is left is done by the thread, and nothing after it.
fn end<W: Work>() {
    let (work, mailbox) = (Arc::new(W::default()), Arc::new(Mailbox::default()));
    let thread = {
        let (work, mailbox) = (work.clone(), mailbox.clone());
        thread::spawn(move || work.attend(&mailbox))
    };
    let bringer = {
        let (work, mailbox) = (work.clone(), mailbox.clone());
        thread::spawn(move || (0..ITEMS).for_each(|item| work.bring(&mailbox, item)))
    };
    mailbox.close();
    thread.join().unwrap();
    assert!(mailbox.is_empty(), "the thread has ended and something is left");
    bringer.join().unwrap();
    let done = work.done();
    assert_eq!(
        done,
        (0..done.len() as u32).collect::<Vec<_>>(),
        "what came before the end is done, in order"
    );
}

/// Work is left to a thread that has something else to do first, and is told of that alone: afterwards it looks whether
/// anything was left. `leaves_first`: before it is told.
fn leave(leaves_first: bool) {
    let (left, other) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
    let seat = Arc::new(Seat::new(Done::new()));
    let thread = {
        let (left, seat) = (left.clone(), seat.clone());
        thread::spawn(move || seat.attend(&left, |done| one(&left, done)))
    };
    let busy = {
        let (left, other, seat) = (left.clone(), other.clone(), seat.clone());
        thread::spawn(move || {
            let mut taken = Vec::new();
            while other.drain(&mut taken, 1, None) != Drained::Closed {
                taken.clear();
                seat.help(&left, |done| one(&left, done));
            }
        })
    };
    for item in 0..ITEMS {
        if leaves_first {
            left.put_all(&mut vec![item]);
            other.push(());
        } else {
            other.push(());
            left.put_all(&mut vec![item]);
        }
    }
    while !left.is_empty() {
        thread::yield_now();
    }
    other.close();
    left.close();
    busy.join().unwrap();
    thread.join().unwrap();
}

#[test]
fn what_is_left_to_a_busy_thread_is_done() {
    hold(|| leave(true));
}

#[test]
fn work_that_is_left_after_the_busy_thread_was_told_is_caught() {
    caught(|| leave(false));
}

#[test]
fn whatever_is_brought_is_done_once_and_in_order_without_waiting_for_time() {
    hold(work_off::<Product>);
}

#[test]
fn the_end_leaves_nothing_behind() {
    hold(end::<Product>);
}

#[test]
fn a_seat_that_is_let_go_without_another_look_is_caught() {
    caught(work_off::<LooksNoMore>);
}

#[test]
fn taking_before_sitting_down_is_caught() {
    let said = caught(work_off::<TakesBeforeItSits>);
    assert!(said.contains("in order"), "{said}");
}

#[test]
fn a_rest_that_nobody_is_told_of_is_caught() {
    caught(work_off::<LeavesTheRest>);
}
