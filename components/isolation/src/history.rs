//! What clients did, and how it is written down.

use std::fmt::Write as _;

/// One thing that a transaction does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It puts a number at the end of a list. No number comes twice in a history's appends to one list.
    Append {
        /// The list.
        list: u64,
        /// The number.
        element: u64,
    },
    /// It reads a list.
    Read {
        /// The list.
        list: u64,
        /// What it saw; `None` if nobody was told.
        elements: Option<Vec<u64>>,
    },
}

/// How a transaction ended, as far as its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It committed.
    Done,
    /// It did not, and never will.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// One transaction of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The client. Its transactions follow one another, unless one is of unknown outcome.
    pub process: u64,
    /// Before it began, in nanoseconds of a clock that all clients share.
    pub begun_ns: u64,
    /// After it had ended, by the same clock.
    pub ended_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What it did, in order.
    pub steps: Vec<Step>,
}

/// Transactions in any order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct History {
    /// All that were begun.
    pub transactions: Vec<Transaction>,
}

impl History {
    /// One line of JSON for the beginning of each transaction and one for its end, in order of time, as checkers of
    /// lists take them: `{"index":0,"type":"invoke","process":0,"time":5,"value":[["append",1,1],["r",2,null]]}`, and then
    /// `ok`, `fail` or `info` with what was read. A process whose transaction is of unknown outcome goes on under
    /// another number.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (place, transaction) in self.transactions.iter().enumerate() {
            moments.push((transaction.begun_ns, false, place));
            moments.push((transaction.ended_ns, true, place));
        }
        // What ends when another one begins may have met it: it ends later.
        moments.sort();
        let processes = self.processes();
        let mut lines = String::new();
        for (index, (at_ns, is_end, place)) in moments.into_iter().enumerate() {
            let transaction = &self.transactions[place];
            let kind = match (is_end, transaction.outcome) {
                (false, _) => "invoke",
                (true, Outcome::Done) => "ok",
                (true, Outcome::NotDone) => "fail",
                (true, Outcome::Unknown) => "info",
            };
            let process = processes[place];
            let steps: Vec<String> =
                transaction.steps.iter().map(|step| step_text(step, kind == "ok")).collect();
            let value = steps.join(",");
            writeln!(
                lines,
                r#"{{"index":{index},"type":"{kind}","process":{process},"time":{at_ns},"value":[{value}]}}"#
            )
            .expect("a string takes everything");
        }
        lines
    }

    /// Reads a history in short: one transaction a line, each of a process of its own, as `begun-ended outcome steps`;
    /// `ok`, `fail` and `info` are outcomes, `+1:5` appends 5 to list 1, `1=5,6` reads it so.
    ///
    /// # Errors
    /// The line that says something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let transactions = (0..).zip(lines).map(|(process, line)| {
            parse_transaction(process, line).ok_or_else(|| format!("{line:?} is no transaction"))
        });
        Ok(Self { transactions: transactions.collect::<Result<_, _>>()? })
    }

    /// Under which number each transaction's process is written down: one that has not heard of its transaction's end
    /// is never heard of again.
    fn processes(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.transactions.len()).collect();
        order.sort_by_key(|place| self.transactions[*place].begun_ns);
        let mut current = std::collections::BTreeMap::new();
        let (mut numbers, mut next) = (vec![0; order.len()], 0);
        for place in order {
            let transaction = &self.transactions[place];
            let number = *current.entry(transaction.process).or_insert_with(|| {
                next += 1;
                next - 1
            });
            numbers[place] = number;
            if transaction.outcome == Outcome::Unknown {
                current.remove(&transaction.process);
            }
        }
        numbers
    }
}

fn parse_transaction(process: u64, line: &str) -> Option<Transaction> {
    let mut words = line.split_whitespace();
    let (begun, ended) = words.next()?.split_once('-')?;
    let outcome = match words.next()? {
        "ok" => Outcome::Done,
        "fail" => Outcome::NotDone,
        "info" => Outcome::Unknown,
        _ => return None,
    };
    let steps = words.map(|word| {
        if let Some(word) = word.strip_prefix('+') {
            let (list, element) = word.split_once(':')?;
            return Some(Step::Append { list: list.parse().ok()?, element: element.parse().ok()? });
        }
        let (list, elements) = word.split_once('=')?;
        let elements = elements.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().ok());
        Some(Step::Read { list: list.parse().ok()?, elements: Some(elements.collect::<Option<_>>()?) })
    });
    let (begun_ns, ended_ns) = (begun.parse().ok()?, ended.parse().ok()?);
    Some(Transaction { process, begun_ns, ended_ns, outcome, steps: steps.collect::<Option<_>>()? })
}

fn step_text(step: &Step, with_values: bool) -> String {
    match step {
        Step::Append { list, element } => format!(r#"["append",{list},{element}]"#),
        Step::Read { list, elements: Some(elements) } if with_values => {
            let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
            format!(r#"["r",{list},[{}]]"#, elements.join(","))
        }
        Step::Read { list, .. } => format!(r#"["r",{list},null]"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_written_in_order_of_time_and_lost_processes_have_new_numbers() {
        let transaction = |begun_ns, outcome, steps| Transaction {
            process: 7,
            begun_ns,
            ended_ns: begun_ns + 5,
            outcome,
            steps,
        };
        let history = History {
            transactions: vec![
                transaction(10, Outcome::Done, vec![Step::Read { list: 1, elements: Some(vec![3, 4]) }]),
                transaction(0, Outcome::Unknown, vec![Step::Append { list: 1, element: 3 }]),
            ],
        };
        let expected = [
            r#"{"index":0,"type":"invoke","process":0,"time":0,"value":[["append",1,3]]}"#,
            r#"{"index":1,"type":"info","process":0,"time":5,"value":[["append",1,3]]}"#,
            r#"{"index":2,"type":"invoke","process":1,"time":10,"value":[["r",1,null]]}"#,
            r#"{"index":3,"type":"ok","process":1,"time":15,"value":[["r",1,[3,4]]]}"#,
        ];
        assert_eq!(history.to_lines().lines().collect::<Vec<_>>(), expected);
    }
}
