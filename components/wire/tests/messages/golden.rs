//! Bytes that were written once and are read for ever: `tests/golden/*.txt`, one file per kind of frame.
//!
//! A sample is three lines: its name, its bytes in hex, and what they mean. A message that changes appends to its file
//! (`REWRITE=1 cargo test -p flotilla-wire` does, for samples that the file does not have); lines that are there stay.

use crate::samples::{Family, families};
use bytes::Bytes;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

struct Golden {
    name: String,
    hex: String,
    debug: String,
}

fn path(family: &Family) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{:?}.txt", family.kind))
}

fn load(family: &Family) -> Vec<Golden> {
    let text = fs::read_to_string(path(family)).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len() % 3, 0, "{}: three lines for each sample", path(family).display());
    let golden = |three: &[&str]| {
        let name = three[0].strip_prefix("# ").unwrap().to_owned();
        Golden { name, hex: three[1].to_owned(), debug: three[2].to_owned() }
    };
    lines.chunks(3).map(golden).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn from_hex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Appends what the file does not have yet.
fn rewrite(family: &Family) {
    let known = load(family);
    let mut text = fs::read_to_string(path(family)).unwrap_or_default();
    for sample in &family.samples {
        let hex = to_hex(&sample.bytes);
        if known.iter().any(|golden| golden.hex == hex) {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        writeln!(text, "# {}\n{hex}\n{}", sample.name, sample.debug).unwrap();
    }
    fs::create_dir_all(path(family).parent().unwrap()).unwrap();
    fs::write(path(family), text).unwrap();
}

#[test]
fn what_was_written_once_is_read_and_written_as_it_was() {
    let rewriting = std::env::var_os("REWRITE").is_some();
    for family in families() {
        if rewriting {
            rewrite(&family);
        }
        let goldens = load(&family);
        for golden in &goldens {
            let bytes = from_hex(&golden.hex);
            let (debug, written) = (family.read)(&bytes)
                .unwrap_or_else(|error| panic!("{:?} {}: {error}", family.kind, golden.name));
            assert_eq!(debug, golden.debug, "{:?} {}", family.kind, golden.name);
            assert_eq!(written, bytes, "{:?} {} is written otherwise", family.kind, golden.name);
        }
        for sample in &family.samples {
            let known = goldens.iter().any(|golden| golden.hex == to_hex(&sample.bytes));
            assert!(known, "{:?} {}: not among the golden ones; REWRITE=1 adds it", family.kind, sample.name);
        }
    }
}
