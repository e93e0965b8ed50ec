//! What follows from the lists alone: in which order each was written, and by whom.

use crate::history::{History, Outcome, Step};
use crate::judge::Anomaly;
use std::collections::BTreeMap;

/// A place in the history's transactions.
pub(crate) type Place = usize;

/// What is known of the lists.
#[derive(Default)]
pub(crate) struct Lists {
    /// Who appended an element.
    pub(crate) writers: BTreeMap<(u64, u64), Place>,
    /// The longest that anybody has seen of each list: the order of what was appended.
    pub(crate) orders: BTreeMap<u64, Vec<u64>>,
}

/// What a committed transaction has read of others: a list before its own appends to it.
pub(crate) struct Seen<'a> {
    pub(crate) reader: Place,
    pub(crate) list: u64,
    pub(crate) elements: &'a [u64],
}

impl Lists {
    /// Finds out, and what is wrong already.
    pub(crate) fn of(history: &History, anomalies: &mut Vec<Anomaly>) -> Self {
        let mut lists = Self::default();
        for (place, transaction) in history.transactions.iter().enumerate() {
            for step in &transaction.steps {
                if let Step::Append { list, element } = step
                    && lists.writers.insert((*list, *element), place).is_some()
                {
                    let story = format!("{element} is appended to list {list} by two transactions");
                    anomalies.push(Anomaly::new("invalid history", story));
                }
            }
        }
        for seen in all_seen(history, anomalies) {
            let order = lists.orders.entry(seen.list).or_default();
            let shorter = order.len().min(seen.elements.len());
            if order[..shorter] != seen.elements[..shorter] {
                let story = format!("list {} was seen as {order:?} and as {:?}", seen.list, seen.elements);
                anomalies.push(Anomaly::new("incompatible-order", story));
            } else if seen.elements.len() > order.len() {
                *order = seen.elements.to_vec();
            }
        }
        lists.aborted_and_intermediate(history, anomalies);
        lists.lost(history, anomalies);
        lists
    }

    /// G1a and G1b: what was never committed, or not all that its transaction appended there, is seen.
    fn aborted_and_intermediate(&self, history: &History, anomalies: &mut Vec<Anomaly>) {
        for seen in all_seen(history, &mut Vec::new()) {
            let Seen { reader, list, elements } = seen;
            for (index, element) in elements.iter().enumerate() {
                let is_twice = elements[..index].contains(element);
                let Some(writer) = self.writers.get(&(list, *element)).copied().filter(|_| !is_twice) else {
                    let story = format!(
                        "T{reader} saw {element} in list {list}, {}",
                        if is_twice { "twice" } else { "which nobody appended" }
                    );
                    let name = if is_twice { "duplicate-elements" } else { "garbage" };
                    anomalies.push(Anomaly::new(name, story));
                    continue;
                };
                if history.transactions[writer].outcome == Outcome::NotDone {
                    let story = format!("T{reader} saw {element} in list {list}, of T{writer}, which failed");
                    anomalies.push(Anomaly::new("G1a", story));
                }
            }
            if let Some(last) = elements.last()
                && let Some(writer) = self.writers.get(&(list, *last)).copied()
                && writer != reader
                && let Some(later) = last_append(history, writer, list).filter(|later| later != last)
            {
                let story = format!(
                    "T{reader} saw list {list} up to {last}, to which T{writer} also appended {later}"
                );
                anomalies.push(Anomaly::new("G1b", story));
            }
        }
    }

    /// What was committed before a reader began, and is not there.
    fn lost(&self, history: &History, anomalies: &mut Vec<Anomaly>) {
        let mut ends: BTreeMap<u64, Vec<(u64, u64, Place)>> = BTreeMap::new();
        for ((list, element), writer) in &self.writers {
            let transaction = &history.transactions[*writer];
            if transaction.outcome == Outcome::Done {
                ends.entry(*list).or_default().push((transaction.ended_ns, *element, *writer));
            }
        }
        for seen in all_seen(history, &mut Vec::new()) {
            let begun_ns = history.transactions[seen.reader].begun_ns;
            let written = ends.get(&seen.list).into_iter().flatten();
            let missing = written
                .filter(|(ended_ns, ..)| *ended_ns < begun_ns)
                .find(|(_, element, _)| !seen.elements.contains(element));
            if let Some((_, element, writer)) = missing {
                let (reader, list) = (seen.reader, seen.list);
                let story = format!(
                    "T{writer} had appended {element} to list {list} when T{reader} began, which does not see it"
                );
                anomalies.push(Anomaly::new("lost-append", story));
            }
        }
    }
}

fn last_append(history: &History, writer: Place, of_list: u64) -> Option<u64> {
    let steps = &history.transactions[writer].steps;
    steps.iter().rev().find_map(|step| match step {
        Step::Append { list, element } if *list == of_list => Some(*element),
        _ => None,
    })
}

/// What committed transactions have seen of others; and whether each sees itself.
pub(crate) fn all_seen<'a>(history: &'a History, anomalies: &mut Vec<Anomaly>) -> Vec<Seen<'a>> {
    let mut all = Vec::new();
    for (reader, transaction) in history.transactions.iter().enumerate() {
        if transaction.outcome != Outcome::Done {
            continue;
        }
        let mut own: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut first: BTreeMap<u64, &[u64]> = BTreeMap::new();
        for step in &transaction.steps {
            match step {
                Step::Append { list, element } => own.entry(*list).or_default().push(*element),
                Step::Read { list, elements: Some(elements) } => {
                    let own = own.get(list).map_or(&[][..], Vec::as_slice);
                    let others = elements.strip_suffix(own);
                    let is_same = |others: &&[u64]| first.get(list).is_none_or(|first| first == others);
                    let Some(others) = others.filter(is_same) else {
                        let story = format!(
                            "T{reader} sees list {list} as {elements:?}, having seen {:?} and appended {own:?}",
                            first.get(list).copied().unwrap_or_default()
                        );
                        anomalies.push(Anomaly::new("internal", story));
                        continue;
                    };
                    if first.insert(*list, others).is_none() {
                        all.push(Seen { reader, list: *list, elements: others });
                    }
                }
                Step::Read { elements: None, .. } => {}
            }
        }
    }
    all
}
