//! What was measured, as a table and as lines of JSON.

use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Whether more is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Better {
    More,
    Less,
}

/// One number: the median of the rounds on our side, how far they lie apart, and raft-rs's median in the same rounds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) row: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) peer: &'static str,
    pub(crate) peer_value: f64,
    /// `value / peer_value`: above one is better for a rate, below one for a cost.
    pub(crate) ratio: f64,
    #[serde(skip)]
    pub(crate) better: Better,
}

impl Row {
    pub(crate) fn new(
        row: &str,
        unit: &'static str,
        better: Better,
        mut ours: Vec<f64>,
        mut theirs: Vec<f64>,
    ) -> Self {
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        let value = ours[ours.len() / 2];
        let peer_value = theirs.get(theirs.len() / 2).copied().unwrap_or(f64::NAN);
        Self {
            row: row.to_owned(),
            value,
            unit,
            min: ours[0],
            max: ours[ours.len() - 1],
            peer: "raft-rs 0.7",
            peer_value,
            ratio: value / peer_value,
            better,
        }
    }

    /// How many times better we are.
    fn times(&self) -> f64 {
        match self.better {
            Better::More => self.value / self.peer_value,
            Better::Less => self.peer_value / self.value,
        }
    }
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 1_000_000.0 => format!("{:.2} M", value / 1e6),
        _ if value >= 10_000.0 => format!("{:.1} k", value / 1e3),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<34} {:>12} {:>23} {:>12} {:>8} {:>7}  {}\n",
        "row", "ours", "min .. max", "raft-rs", "ratio", "better", "unit"
    );
    for row in rows {
        let spread = format!("{} .. {}", number(row.min), number(row.max));
        let times = format!("{:.1}x", row.times());
        let (ours, theirs) = (number(row.value), number(row.peer_value));
        let _ = writeln!(
            out,
            "{:<34} {ours:>12} {spread:>23} {theirs:>12} {:>8.3} {times:>7}  {}",
            row.row, row.ratio, row.unit
        );
    }
    out
}

/// Appends the rows to `<directory>/raft.jsonl`.
pub(crate) fn write(rows: &[Row], directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = std::fs::File::options().create(true).append(true).open(directory.join("raft.jsonl"))?;
    for row in rows {
        writeln!(file, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}
