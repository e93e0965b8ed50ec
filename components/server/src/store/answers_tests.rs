//! What the answers promise to one thread at a time.

use super::answers::{Answers, Waiting};
use super::counters::{Counters, Method};
use std::sync::Arc;
use store::Inflight;
use transport::Responder;
use types::MonoTime;
use wire::kv::KvReply;

fn waiting(bytes: usize) -> Waiting<Responder> {
    Waiting { responder: None, method: Method::Write, bytes, since: MonoTime(7) }
}

#[test]
fn a_token_is_good_for_one_answer_and_its_slot_for_the_next_request() {
    let counters = Arc::new(Counters::default());
    let answers = Answers::new(2, Inflight::default(), counters);
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
