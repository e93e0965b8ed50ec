//! How far a long job is: a bar on a terminal, a line now and then elsewhere.

use crate::clock;
use crate::text::show_bytes;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Between two lines, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of one job, on the standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    begin: Instant,
    shown: Instant,
    files: u64,
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A job that begins now, of so many bytes if that is known.
    pub(crate) fn new(what: &'static str, bytes_total: Option<u64>) -> Self {
        let begin = clock::now();
        let bar = is_shown_as_bar().then(|| {
            let (bar, template) = match bytes_total {
                Some(total) => (
                    ProgressBar::new(total),
                    "{prefix} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}",
                ),
                None => (ProgressBar::no_length(), "{prefix} {spinner} {bytes} {binary_bytes_per_sec} {msg}"),
            };
            bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
            bar.with_prefix(what)
        });
        Self { what, begin, shown: begin, files: 0, bytes: 0, bar }
    }

    /// So much more is done.
    pub(crate) fn advance(&mut self, files: u64, bytes: u64) {
        self.files += files;
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            bar.set_message(format!("{} files", self.files));
        } else if self.shown.elapsed() >= LINE_INTERVAL {
            self.shown = clock::now();
            eprintln!("{} {}", self.what, self.summary());
        }
    }

    /// Ends it, and says how it went.
    pub(crate) fn finish(self) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.summary()
    }

    fn summary(&self) -> String {
        let seconds = self.begin.elapsed().as_secs_f64();
        // A rate over less than a millisecond says nothing.
        let rate = self.bytes as f64 / seconds.max(0.001);
        format!(
            "{} files, {} in {seconds:.1} s ({}/s)",
            self.files,
            show_bytes(self.bytes),
            show_bytes(rate as u64)
        )
    }
}

/// Whether somebody watches.
pub(crate) fn is_shown_as_bar() -> bool {
    std::io::stderr().is_terminal()
}
