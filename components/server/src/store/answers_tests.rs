//! What the answers promise to one thread at a time.

use super::answers::{Answers, Waiting};
use super::counters::{Counters, Method};
use super::stages::{Asked, Stopwatch};
use std::sync::Arc;
use std::time::Duration;
use store::Inflight;
use transport::Responder;
use types::{MonoTime, RegionId, StoreId};
use wire::kv::KvReply;

fn waiting(bytes: usize) -> Waiting<Responder> {
    let asked = Asked { region_id: RegionId(2), method: Method::Write, bytes, since: MonoTime(7) };
    Waiting { responder: None, asked, timed: false }
}

#[test]
fn a_token_is_good_for_one_answer_and_its_slot_for_the_next_request() {
    let counters = Arc::new(Counters::default());
    let answers = Answers::new(2, Inflight::default(), counters, Stopwatch::new(StoreId(1), Duration::ZERO));
    let first = answers.insert(3, waiting(0));
    assert_eq!(answers.since(first), Some(MonoTime(7)));
    answers.answer_all([(first, Ok(KvReply::Written))]);
    assert_eq!((answers.pending(), answers.stray()), (0, 0));
    let second = answers.insert(3, waiting(0));
    assert_ne!(first, second);
    answers.answer_all([(first, Ok(KvReply::Written))]);
    assert_eq!((answers.pending(), answers.stray(), answers.since(first)), (1, 1, None));
    let third = answers.insert(4, waiting(0));
    assert!(answers.is_full());
    answers.answer_all([(second, Ok(KvReply::Written)), (third, Ok(KvReply::Written))]);
    assert_eq!((answers.pending(), answers.stray()), (0, 1));
    answers.insert(5, waiting(0));
    assert_eq!((answers.abandon(), answers.pending()), (1, 0));
}
