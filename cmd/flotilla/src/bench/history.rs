//! What clients asked for and saw, one line each, for whoever wants to judge it: `docs/formats/history.md`.

use crate::clock;
use bytes::Bytes;
use client::Error;
use parking_lot::Mutex;
use serde::Serialize;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;
use types::{Key, escape_key};

/// A history on its way into a file.
pub(crate) struct History {
    /// All times count from here.
    origin: Instant,
    /// Tells the keys of this history from those of all others: it begins with nothing under them.
    name: u64,
    out: Mutex<Out>,
}

struct Out {
    file: BufWriter<File>,
    /// The first line that could not be written.
    failure: Option<io::Error>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    Get,
    Put(&'a Bytes),
    Delete,
    Swap { expect: Option<&'a Bytes>, new: Option<&'a Bytes> },
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Came<'a> {
    Found(Option<&'a Bytes>),
    Written,
    Swapped { succeeded: bool, found: Option<&'a Bytes> },
    Failed(&'a Error),
}

#[derive(Serialize)]
struct Line<'a> {
    process: u64,
    op: &'a str,
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swapped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Option<String>>,
    status: &'a str,
    start_ns: u64,
    end_ns: Option<u64>,
}

fn text(bytes: Option<&Bytes>) -> Option<String> {
    bytes.map(|bytes| escape_key(bytes))
}

impl History {
    /// One that goes into this file, in place of what is there.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let out = Mutex::new(Out { file, failure: None });
        // The keys of std's hasher are random.
        Ok(Self { origin: clock::now(), name: RandomState::new().hash_one(0_u8), out })
    }

    /// What stands before the keys of this history, behind the benchmark's own prefix.
    pub(super) fn prefix(&self) -> String {
        format!("{:016x}/", self.name)
    }

    /// Nanoseconds since the history began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// `process` has asked for something at the time `start_ns`, and this has come of it by now.
    pub(super) fn note(&self, process: u64, key: &Key, asked: Asked<'_>, start_ns: u64, came: Came<'_>) {
        let line = line(process, key, asked, start_ns, self.now(), came);
        let line = serde_json::to_string(&line).expect("a line is plain data");
        let mut out = self.out.lock();
        if out.failure.is_none()
            && let Err(error) = writeln!(out.file, "{line}")
        {
            out.failure = Some(error);
        }
    }

    /// All that was noted is in the file.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut out = self.out.lock();
        out.failure.take().map_or(Ok(()), Err)?;
        out.file.flush()
    }
}

fn line<'a>(
    process: u64,
    key: &Key,
    asked: Asked<'_>,
    start_ns: u64,
    end_ns: u64,
    came: Came<'_>,
) -> Line<'a> {
    let (op, written, expect) = match asked {
        Asked::Get => ("get", None, None),
        Asked::Put(value) => ("put", Some(value), None),
        Asked::Delete => ("delete", None, None),
        Asked::Swap { expect, new } => ("cas", new, Some(text(expect))),
    };
    let (value, swapped, found, status) = match came {
        Came::Found(value) => (value, None, None, "ok"),
        Came::Written => (written, None, None, "ok"),
        Came::Swapped { succeeded, found } => (written, Some(succeeded), Some(text(found)), "ok"),
        // A read that has failed has changed nothing, whatever it failed of.
        Came::Failed(Error::Undetermined { .. }) if !matches!(asked, Asked::Get) => {
            (written, None, None, "info")
        }
        Came::Failed(_) => (written, None, None, "fail"),
    };
    let end_ns = (status != "info").then_some(end_ns);
    Line {
        process,
        op,
        key: escape_key(key),
        value: text(value),
        expect,
        swapped,
        found,
        status,
        start_ns,
        end_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Cause;

    fn written(asked: Asked<'_>, came: Came<'_>) -> String {
        serde_json::to_string(&line(3, &Key::from_static(b"k"), asked, 5, 9, came)).expect("plain data")
    }

    #[test]
    fn a_line_says_what_is_known_and_nothing_else() {
        let (old, new) = (Bytes::from_static(b"\0"), Bytes::from_static(b"v"));
        let unknown = Error::Undetermined { cause: Cause::NoLeader { region_id: types::RegionId(1) } };
        let refused = Error::DiskFull;
        let swap = Asked::Swap { expect: None, new: Some(&new) };
        for (asked, came, rest) in [
            (
                Asked::Get,
                Came::Found(None),
                r#""op":"get","key":"k","value":null,"status":"ok","start_ns":5,"end_ns":9"#,
            ),
            (
                Asked::Put(&new),
                Came::Written,
                r#""op":"put","key":"k","value":"v","status":"ok","start_ns":5,"end_ns":9"#,
            ),
            (
                Asked::Delete,
                Came::Failed(&unknown),
                r#""op":"delete","key":"k","value":null,"status":"info","start_ns":5,"end_ns":null"#,
            ),
            (
                Asked::Get,
                Came::Failed(&unknown),
                r#""op":"get","key":"k","value":null,"status":"fail","start_ns":5,"end_ns":9"#,
            ),
            (
                swap,
                Came::Swapped { succeeded: false, found: Some(&old) },
                r#""op":"cas","key":"k","value":"v","expect":null,"swapped":false,"found":"\\x00","status":"ok","start_ns":5,"end_ns":9"#,
            ),
            (
                swap,
                Came::Failed(&refused),
                r#""op":"cas","key":"k","value":"v","expect":null,"status":"fail","start_ns":5,"end_ns":9"#,
            ),
        ] {
            assert_eq!(written(asked, came), format!(r#"{{"process":3,{rest}}}"#));
        }
    }
}
