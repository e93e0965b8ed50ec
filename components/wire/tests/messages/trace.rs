//! Where the time went: what was written once is read for ever, and what cannot be read is refused.

use bytes::Bytes;
use codec::{Decode, Encode};
use types::{RegionId, StoreId};
use wire::trace::{Span, Stage, Trace};

fn trace() -> Trace {
    let span = |(number, stage): (usize, Stage)| Span { stage, begin_us: number as u64 * 100, took_us: 300 };
    let spans = Stage::ALL.into_iter().enumerate().map(span).collect();
    Trace { store_id: StoreId(3), region_id: RegionId(7), took_us: 70_000, spans }
}

#[test]
fn a_trace_is_read_as_it_was_written_once() {
    let bytes = trace().to_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = "4a0307f0a2040a05010000ac0205020064ac02060300c801ac02060400ac02ac020605009003ac02\
                  060600f403ac02060700d804ac02060800bc05ac02060900a006ac02060a008407ac02";
    assert_eq!(hex, golden);
    assert_eq!(Trace::from_bytes(&bytes), Ok(trace()));
}

/// A store that is newer may know stages that we do not: then nothing is told, and nothing breaks.
#[test]
fn damaged_traces_and_unknown_stages_are_refused() {
    let whole = trace().to_bytes();
    for length in 0..whole.len() {
        assert!(Trace::from_bytes(&whole.slice(..length)).is_err(), "cut to {length} bytes");
    }
    let bytes = trace().to_bytes().to_vec();
    // The tag of the first stage.
    let at = bytes.windows(2).position(|pair| pair == [1, 0]).expect("a stage without fields");
    let mut newer = bytes.clone();
    newer[at] = 99;
    assert!(Trace::from_bytes(&Bytes::from(newer)).is_err());
}
