//! What a mailbox promises to one thread at a time.

use crate::mailbox::{Drained, Mailbox};
use std::time::Duration;

#[test]
fn a_receiver_gets_batches_in_order_and_then_the_end() {
    let mailbox = Mailbox::default();
    mailbox.push(1);
    mailbox.push_all(&mut vec![2, 3]);
    mailbox.close();
    mailbox.push(4);
    let mut taken = Vec::new();
    assert!(matches!(mailbox.drain(&mut taken, 2, None), Drained::Open { since: Some(_) }));
    assert_eq!(std::mem::take(&mut taken), [1, 2]);
    assert!(matches!(mailbox.drain(&mut taken, 2, None), Drained::Open { .. }));
    assert_eq!(std::mem::take(&mut taken), [3]);
    assert_eq!(mailbox.drain(&mut taken, 2, None), Drained::Closed);
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let mailbox = Mailbox::<u8>::default();
    let drained = mailbox.drain(&mut Vec::new(), 1, Some(Duration::from_nanos(1)));
    assert_eq!(drained, Drained::Open { since: None });
}

#[test]
fn a_nudge_ends_one_wait_and_takes_nothing() {
    let mailbox = Mailbox::default();
    mailbox.nudge();
    mailbox.wait(None);
    mailbox.put_all(&mut vec![1]);
    mailbox.wait(None);
    assert_eq!((mailbox.len(), mailbox.is_empty()), (1, false));
    let mut taken = Vec::new();
    mailbox.nudge();
    assert!(matches!(mailbox.drain(&mut taken, 1, Some(Duration::ZERO)), Drained::Open { .. }));
    assert_eq!(taken, [1]);
}
