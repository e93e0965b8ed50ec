//! The numbers of a suite: medians of rounds, as a table for people and as lines for programs.

use anyhow::Context as _;
use comfy_table::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

/// One number of a suite: the median of its rounds, and how far they lie apart.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Row {
    row: String,
    value: f64,
    unit: &'static str,
    min: f64,
    max: f64,
    /// The row that it stands beside, that row's value, and ours divided by it.
    peer: Option<String>,
    peer_value: Option<f64>,
    ratio: Option<f64>,
}

/// Rounds by row, in the order in which the rows came first.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    order: Vec<(String, &'static str)>,
    values: BTreeMap<String, Vec<f64>>,
    /// Rows that stand beside others.
    beside: BTreeMap<String, String>,
}

impl Rounds {
    /// Adds a round's number.
    pub(super) fn add(&mut self, row: String, unit: &'static str, value: f64) {
        let values = self.values.entry(row.clone()).or_default();
        if values.is_empty() {
            self.order.push((row, unit));
        }
        values.push(value);
    }

    /// Sets a row beside another one of the same rounds: the ratio of their medians is part of it.
    pub(super) fn compare(&mut self, row: String, with: String) {
        self.beside.insert(row, with);
    }

    /// All rows.
    pub(super) fn rows(self) -> Vec<Row> {
        let Self { order, mut values, beside } = self;
        let median = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let medians: BTreeMap<String, f64> =
            values.iter().map(|(row, values)| (row.clone(), median(values))).collect();
        let row = |(row, unit): (String, &'static str)| {
            let mut values = values.remove(&row).expect("a row is named when its first value comes");
            values.sort_by(f64::total_cmp);
            let value = values[values.len() / 2];
            let peer = beside.get(&row).filter(|peer| medians.contains_key(*peer));
            let peer_value = peer.map(|peer| medians[peer]);
            Row {
                value,
                min: values[0],
                max: values[values.len() - 1],
                unit,
                peer: peer.cloned(),
                peer_value,
                ratio: peer_value.filter(|other| *other != 0.0).map(|other| value / other),
                row,
            }
        };
        order.into_iter().map(row).collect()
    }
}

/// Appends the rows to `results/<name>.jsonl`, and prints them.
pub(super) fn report(rows: &[Row], name: &str, results: &Path, json: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(results).with_context(|| format!("making {}", results.display()))?;
    let path = results.join(format!("{name}.jsonl"));
    let mut lines = String::new();
    for row in rows {
        lines.push_str(&serde_json::to_string(row)?);
        lines.push('\n');
    }
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    file.write_all(lines.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    if json {
        print!("{lines}");
    } else {
        println!("{}", table(rows));
        println!("appended to {}", path.display());
    }
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    let compares = rows.iter().any(|row| row.ratio.is_some());
    let mut header = vec!["row", "median", "min", "max", "unit"];
    if compares {
        header.extend(["times", "that of"]);
    }
    table.set_header(header);
    for row in rows {
        let mut cells = vec![
            row.row.clone(),
            figures(row.value),
            figures(row.min),
            figures(row.max),
            row.unit.to_owned(),
        ];
        if compares {
            cells.push(row.ratio.map_or_else(String::new, figures));
            cells.push(row.peer.clone().unwrap_or_default());
        }
        table.add_row(cells);
    }
    table
}

/// About four figures.
fn figures(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_of_its_rounds() {
        let mut rounds = Rounds::default();
        for value in [3.0, 1.0, 2.0] {
            rounds.add("b".to_owned(), "us", value);
            rounds.add("a".to_owned(), "op/s", value * 10.0);
        }
        let rows = rounds.rows();
        assert_eq!(rows.iter().map(|row| row.row.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((rows[0].value, rows[0].min, rows[0].max), (2.0, 1.0, 3.0));
        let line = serde_json::to_string(&rows[1]).unwrap();
        let expected = "{\"row\":\"a\",\"value\":20.0,\"unit\":\"op/s\",\"min\":10.0,\"max\":30.0,\
                        \"peer\":null,\"peer_value\":null,\"ratio\":null}";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_row_may_stand_beside_another() {
        let mut rounds = Rounds::default();
        for (calm, busy) in [(10.0, 30.0), (20.0, 50.0), (30.0, 40.0)] {
            rounds.add("busy".to_owned(), "us", busy);
            rounds.add("calm".to_owned(), "us", calm);
            rounds.compare("busy".to_owned(), "calm".to_owned());
            rounds.compare("calm".to_owned(), "no such row".to_owned());
        }
        let rows = rounds.rows();
        assert_eq!(
            (rows[0].peer.as_deref(), rows[0].peer_value, rows[0].ratio),
            (Some("calm"), Some(20.0), Some(2.0))
        );
        assert_eq!((rows[1].peer.as_deref(), rows[1].ratio), (None, None));
        assert!(table(&rows).to_string().contains("that of"));
    }
}
