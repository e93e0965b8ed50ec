//! Schedules that failed once, each for a bug that is mended since: none fails again.
//!
//! A file is what `flotilla-sim shrink` has left, under the name of what was wrong. It says what found it (`fails`), and a
//! comment says what it was.

use sim::{Schedule, Trace, TraceMode, run_schedule};
use std::path::Path;

#[test]
fn what_was_mended_stays_so() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedules");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds schedules", directory.display());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let schedule = Schedule::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(schedule.fails.is_some(), "{} says what found it", path.display());
        let run = || run_schedule(&schedule, Trace::new(TraceMode::Off, None));
        let report = run().unwrap_or_else(|failure| panic!("{}: {failure}", path.display()));
        assert_eq!(run().ok(), Some(report), "{} is one run", path.display());
    }
}
