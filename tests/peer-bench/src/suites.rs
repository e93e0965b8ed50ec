//! Our own suites, for what peers have no row for: YCSB's mixes, the slowest puts while something happens to the cluster, and the
//! same data in ever more regions. `flotilla bench` runs them; here they are started, and their rows are read.

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// A suite of `flotilla bench`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Suite {
    Ycsb,
    Tails,
    Regions,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Ycsb => "ycsb",
            Self::Tails => "tails",
            Self::Regions => "regions",
        }
    }

    /// What the page says of it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Ycsb => {
                "YCSB: 100,000 records of 1,000 bytes, 64 clients; then mix A in an open loop, at half of what the closed one came to"
            }
            Self::Tails => {
                "Tails: 2,000 puts a second in an open loop, on four stores, while something happens to the cluster four times a second"
            }
            Self::Regions => {
                "Regions: puts of 128 bytes by 512 clients into the same data, in ever more regions"
            }
        }
    }
}

/// A row of a suite: the median of its rounds.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) row: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The row that it stands beside.
    pub(crate) peer: Option<String>,
    /// Its value divided by that row's.
    pub(crate) ratio: Option<f64>,
}

/// How the suites are run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Into how many regions, ascending.
    pub(crate) regions: Vec<u64>,
}

/// Runs a suite with our binary, which appends its rows to `results` itself.
pub(crate) fn run(suite: Suite, plan: &Plan, binary: &Path, results: &Path) -> anyhow::Result<Vec<Row>> {
    eprintln!("suite {} …", suite.name());
    let regions: Vec<String> = plan.regions.iter().map(u64::to_string).collect();
    let output = Command::new(binary)
        .args(["bench", "--json", "--suite", suite.name(), "--rounds", &plan.rounds.to_string()])
        .args(["--regions", &regions.join(",")])
        .arg("--results")
        .arg(results)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", binary.display()))?;
    ensure!(output.status.success(), "the suite {} has failed ({})", suite.name(), output.status);
    let rows = rows(&String::from_utf8(output.stdout).context("rows that are not text")?)?;
    ensure!(!rows.is_empty(), "the suite {} has no rows", suite.name());
    Ok(rows)
}

fn rows(text: &str) -> anyhow::Result<Vec<Row>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("reading {line:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines are those that a test of `flotilla bench` expects.
    #[test]
    fn rows_are_read_as_they_are_written() {
        let line = "{\"row\":\"a\",\"value\":20.0,\"unit\":\"op/s\",\"min\":10.0,\"max\":30.0,\
                    \"peer\":null,\"peer_value\":null,\"ratio\":null}\n";
        let read = rows(line).unwrap();
        assert_eq!((read[0].row.as_str(), read[0].value, read[0].unit.as_str()), ("a", 20.0, "op/s"));
        assert!(rows("{}").is_err());
    }
}
