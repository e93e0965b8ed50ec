//! `--trace`: where the time of a request went, as a table for people.

use client::{CallTrace, Span, Stage};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a stage is, in a few words.
const fn meaning(stage: Stage) -> &'static str {
    match stage {
        Stage::Queue => "waits for its turn",
        Stage::Propose => "becomes a log entry, and leaves for the other stores",
        Stage::LogWait => "  beside it: waits for the log writer",
        Stage::LogSync => "  beside it: written to this store's log, and synced",
        Stage::Replicate => "until a quorum has it on disk, and this store too",
        Stage::Commit => "waits for the applier",
        Stage::Apply => "written to the engine",
        Stage::Reply => "the answer is made",
        Stage::Confirm => "a quorum confirms that this store leads",
        Stage::Read => "reads",
    }
}

/// The table.
pub(crate) fn text(trace: &CallTrace) -> String {
    let took = trace.took.as_micros();
    let mut out = String::new();
    let mut line = |name: &str, micros: u128, what: &str| {
        writeln!(out, "{name:<12}{micros:>9} µs  {what}").expect("a string takes all");
    };
    match &trace.store {
        None => line("total", took, "the store does not tell where the time went"),
        Some(store) => {
            line("total", took, "as the client saw it, from the call to its result");
            let outside = took.saturating_sub(u128::from(store.took_us));
            let again = match trace.requests {
                0 | 1 => String::new(),
                more => format!(", {} attempts before this one", more - 1),
            };
            let what = format!("finding the region, connections, the network{again}");
            line("outside", outside, &what);
            let what = format!("store {}, region {}", store.store_id, store.region_id);
            line("store", u128::from(store.took_us), &what);
            for Span { stage, took_us, .. } in &store.spans {
                line(&format!("  {}", stage.name()), u128::from(*took_us), meaning(*stage));
            }
        }
    }
    out
}

/// The same, for programs.
pub(crate) fn json(trace: &CallTrace) -> Value {
    let spans = |spans: &[Span]| -> Vec<Value> {
        let span = |Span { stage, begin_us, took_us }: &Span| json!({"stage": stage.name().replace(' ', "_"), "begin_us": begin_us, "took_us": took_us});
        spans.iter().map(span).collect()
    };
    json!({
        "took_us": u64::try_from(trace.took.as_micros()).unwrap_or(u64::MAX),
        "requests": trace.requests,
        "store": trace.store.as_ref().map(|store| json!({
            "store_id": store.store_id.get(),
            "region_id": store.region_id.get(),
            "took_us": store.took_us,
            "spans": spans(&store.spans),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{RegionId, StoreId, Trace};
    use std::time::Duration;

    fn trace(store: Option<Trace>) -> CallTrace {
        CallTrace { took: Duration::from_micros(1500), requests: 2, store }
    }

    /// A person sees at a glance which stage is the long one.
    #[test]
    fn every_stage_has_a_line_with_its_microseconds() {
        let span = |stage, begin_us, took_us| Span { stage, begin_us, took_us };
        let spans = vec![span(Stage::Queue, 0, 12), span(Stage::LogSync, 30, 900)];
        let store = Trace { store_id: StoreId(3), region_id: RegionId(7), took_us: 1000, spans };
        let told = trace(Some(store));
        let expected = "\
            total            1500 µs  as the client saw it, from the call to its result\n\
            outside           500 µs  finding the region, connections, the network, 1 attempts before this one\n\
            store            1000 µs  store 3, region 7\n  \
              queue            12 µs  waits for its turn\n  \
              log fsync       900 µs    beside it: written to this store's log, and synced\n";
        assert_eq!(text(&told), expected);
        assert_eq!(json(&told)["store"]["spans"][1]["stage"], "log_fsync");
    }

    #[test]
    fn a_store_that_does_not_tell_is_no_failure() {
        assert_eq!(
            text(&trace(None)),
            "total            1500 µs  the store does not tell where the time went\n"
        );
        assert!(json(&trace(None))["store"].is_null());
    }
}
