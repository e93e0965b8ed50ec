//! The verdict: everything that has a name.

use crate::graph::{Edge, Graph, Wanted};
use crate::history::{History, Outcome, Step};
use crate::lists::{Lists, all_seen};
use std::collections::BTreeMap;
use std::fmt;

/// Something that cannot have happened, or that serializable transactions would not do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anomaly {
    /// What it is called in the literature.
    pub name: &'static str,
    /// By which transactions it shows; `T5` is the sixth of the history.
    pub story: String,
}

impl Anomaly {
    pub(crate) fn new(name: &'static str, story: String) -> Self {
        Self { name, story }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.story)
    }
}

/// What a history shows.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// What strong snapshot isolation refuses. Empty if all is well.
    pub anomalies: Vec<Anomaly>,
    /// What it allows and serializable transactions would not do: write skew.
    pub write_skew: Option<Anomaly>,
}

/// The least that is enough to be refused, first.
const KINDS: &[(&str, &str, Wanted)] = &[
    ("G0", "G0-realtime", Wanted { edges: &[Edge::WriteWrite], adjacent: false }),
    ("G1c", "G1c-realtime", Wanted { edges: &[Edge::WriteWrite, Edge::WriteRead], adjacent: false }),
    (
        "G-single-item",
        "G-single-item-realtime",
        Wanted { edges: &[Edge::WriteWrite, Edge::WriteRead, Edge::ReadWrite], adjacent: false },
    ),
    ("G0", "G0-realtime", Wanted { edges: &[Edge::WriteWrite, Edge::Time], adjacent: false }),
    (
        "G1c",
        "G1c-realtime",
        Wanted { edges: &[Edge::WriteWrite, Edge::WriteRead, Edge::Time], adjacent: false },
    ),
    (
        "G-single-item",
        "G-single-item-realtime",
        Wanted { edges: &[Edge::WriteWrite, Edge::WriteRead, Edge::ReadWrite, Edge::Time], adjacent: false },
    ),
];

const SKEW: Wanted = Wanted { edges: &[Edge::WriteWrite, Edge::WriteRead, Edge::ReadWrite], adjacent: true };

/// Judges a history. Of circles the first kind is told that there is, for it brings others with it.
#[must_use]
pub fn judge(history: &History) -> Verdict {
    let mut anomalies = Vec::new();
    let lists = Lists::of(history, &mut anomalies);
    let graph = graph_of(history, &lists);
    let found = KINDS.iter().find_map(|(name, with_time, wanted)| {
        let circle = graph.circle(*wanted)?;
        let has_time = circle.iter().any(|(_, edge)| *edge == Edge::Time);
        let gaps = circle.iter().filter(|(_, edge)| *edge == Edge::ReadWrite).count();
        let name = match (has_time, gaps) {
            (false, 0 | 1) => name,
            (true, 0 | 1) => with_time,
            (false, _) => "G-nonadjacent-item",
            (true, _) => "G-nonadjacent-item-realtime",
        };
        Some(Anomaly::new(name, story(history, &circle)))
    });
    let is_clean = found.is_none();
    anomalies.extend(found);
    let write_skew = match is_clean {
        true => graph.circle(SKEW).map(|circle| Anomaly::new("G2-item", story(history, &circle))),
        false => None,
    };
    Verdict { anomalies, write_skew }
}

fn graph_of(history: &History, lists: &Lists) -> Graph {
    let mut graph = Graph::default();
    let writer = |list, element: u64| lists.writers.get(&(list, element)).copied();
    for (list, order) in &lists.orders {
        for pair in order.windows(2) {
            if let (Some(first), Some(second)) = (writer(*list, pair[0]), writer(*list, pair[1])) {
                graph.add(first, second, Edge::WriteWrite);
            }
        }
    }
    let unread = unread(history, lists);
    for (list, writers) in &unread {
        let last = lists.orders.get(list).and_then(|order| order.last());
        if let Some(last) = last.and_then(|last| writer(*list, *last)) {
            writers.iter().for_each(|unread| graph.add(last, *unread, Edge::WriteWrite));
        }
    }
    for seen in all_seen(history, &mut Vec::new()) {
        if let Some(writer) = seen.elements.last().and_then(|last| writer(seen.list, *last)) {
            graph.add(writer, seen.reader, Edge::WriteRead);
        }
        let order = lists.orders.get(&seen.list).map_or(&[][..], Vec::as_slice);
        // What it appended itself it has not missed; what others appended after that, neither.
        match order.get(seen.elements.len()) {
            Some(next) => {
                if let Some(missed) = writer(seen.list, *next) {
                    graph.add(seen.reader, missed, Edge::ReadWrite);
                }
            }
            None => {
                let missed = unread.get(&seen.list).into_iter().flatten();
                missed.for_each(|missed| graph.add(seen.reader, *missed, Edge::ReadWrite));
            }
        }
    }
    add_time(&mut graph, history);
    graph
}

/// Who has appended to a list what nobody has read: it stands behind all that was read, in an order that is not known.
fn unread(history: &History, lists: &Lists) -> BTreeMap<u64, Vec<usize>> {
    let mut unread: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (place, transaction) in history.transactions.iter().enumerate() {
        for step in transaction.steps.iter().filter(|_| transaction.outcome == Outcome::Done) {
            if let Step::Append { list, element } = step
                && lists.orders.get(list).is_none_or(|order| !order.contains(element))
            {
                unread.entry(*list).or_default().push(place);
            }
        }
    }
    unread
}

/// Who had ended when another one began comes before it. Not each before each: behind the transactions stand moments, one
/// for each end, and each leads to the next.
fn add_time(graph: &mut Graph, history: &History) {
    let known = |place: &usize| history.transactions[*place].outcome == Outcome::Done;
    let count = history.transactions.len();
    let mut ends: Vec<(u64, usize)> =
        (0..count).filter(known).map(|place| (history.transactions[place].ended_ns, place)).collect();
    ends.sort_unstable();
    for (number, (_, place)) in ends.iter().enumerate() {
        graph.add(*place, count + number, Edge::Time);
        if number > 0 {
            graph.add(count + number - 1, count + number, Edge::Time);
        }
    }
    for (place, transaction) in history.transactions.iter().enumerate() {
        let before = ends.partition_point(|(ended_ns, _)| *ended_ns < transaction.begun_ns);
        if before > 0 && transaction.outcome != Outcome::NotDone {
            graph.add(count + before - 1, place, Edge::Time);
        }
    }
}

fn story(history: &History, circle: &[(usize, Edge)]) -> String {
    let is_transaction = |node: usize| node < history.transactions.len();
    let mut words = Vec::new();
    for (node, edge) in circle.iter().filter(|(node, _)| is_transaction(*node)) {
        let relation = match edge {
            Edge::WriteWrite => "is appended over by",
            Edge::WriteRead => "is seen by",
            Edge::ReadWrite => "does not see",
            Edge::Time => "ends before",
        };
        words.push(format!("T{node} {relation}"));
    }
    let first = circle.iter().map(|(node, _)| *node).find(|node| is_transaction(*node)).unwrap_or_default();
    let mut told = format!("{} T{first}", words.join(" "));
    for (node, _) in circle.iter().filter(|(node, _)| is_transaction(*node)) {
        told.push_str(&format!("; T{node} = {}", steps_text(&history.transactions[*node].steps)));
    }
    told
}

fn steps_text(steps: &[Step]) -> String {
    let text = |step: &Step| match step {
        Step::Append { list, element } => format!("appends {element} to {list}"),
        Step::Read { list, elements } => format!("reads {list}: {:?}", elements.as_deref().unwrap_or(&[])),
    };
    steps.iter().map(text).collect::<Vec<_>>().join(", ")
}
