//! Who must come before whom, and what goes round in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why one comes before another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Edge {
    /// It appended to a list before the other one did.
    WriteWrite,
    /// The other one saw what it appended.
    WriteRead,
    /// It did not see what the other one appended.
    ReadWrite,
    /// It had ended when the other one began.
    Time,
}

/// A node, and whether one has come there by an edge that the next one must not be of.
type State = (usize, bool);

/// Nodes are numbers; between two there may be several edges.
#[derive(Default)]
pub(crate) struct Graph {
    edges: Vec<Vec<(usize, Edge)>>,
}

/// Which circles are looked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Edges that are followed.
    pub(crate) edges: &'static [Edge],
    /// Two of `ReadWrite` may follow one another.
    pub(crate) adjacent: bool,
}

impl Graph {
    pub(crate) fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            let size = self.edges.len().max(from + 1).max(to + 1);
            self.edges.resize(size, Vec::new());
            self.edges[from].push((to, edge));
        }
    }

    /// Where one can be: at a node, having come by `ReadWrite` or not. So that two of these never follow one another, one
    /// is not followed by the next; where they may, it does not matter how one has come.
    fn next(&self, state: State, wanted: Wanted) -> impl Iterator<Item = (State, Edge)> + '_ {
        let (node, by_read_write) = state;
        let out = self.edges.get(node).map_or(&[][..], Vec::as_slice);
        out.iter().filter_map(move |(to, edge)| {
            let is_read_write = *edge == Edge::ReadWrite;
            let may = wanted.edges.contains(edge) && !(is_read_write && by_read_write && !wanted.adjacent);
            may.then_some(((*to, is_read_write && !wanted.adjacent), *edge))
        })
    }

    /// One of the shortest circles of this kind, as its edges; `None` if there is none.
    pub(crate) fn circle(&self, wanted: Wanted) -> Option<Vec<(usize, Edge)>> {
        let component = self.smallest_component(wanted)?;
        // Of a large one some are tried: any circle will do.
        const STARTS_MAX: usize = 64;
        let starts = component.iter().take(STARTS_MAX);
        starts.filter_map(|start| self.shortest_back(*start, &component, wanted)).min_by_key(Vec::len)
    }

    fn shortest_back(
        &self,
        start: State,
        within: &BTreeSet<State>,
        wanted: Wanted,
    ) -> Option<Vec<(usize, Edge)>> {
        let mut came: BTreeMap<State, (State, Edge)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            for (next, edge) in self.next(state, wanted) {
                if !within.contains(&next) || came.contains_key(&next) {
                    continue;
                }
                came.insert(next, (state, edge));
                if next == start {
                    let mut circle = Vec::new();
                    let mut at = start;
                    loop {
                        let (from, edge) = came[&at];
                        circle.push((from.0, edge));
                        at = from;
                        if at == start {
                            break;
                        }
                    }
                    circle.reverse();
                    return Some(circle);
                }
                queue.push_back(next);
            }
        }
        None
    }

    /// The smallest set of states, of more than one, in which each leads to each (Tarjan 1972, without recursion).
    fn smallest_component(&self, wanted: Wanted) -> Option<BTreeSet<State>> {
        #[derive(Clone, Copy)]
        struct Mark {
            index: usize,
            low: usize,
            on_stack: bool,
        }
        let mut marks: BTreeMap<State, Mark> = BTreeMap::new();
        let mut stack: Vec<State> = Vec::new();
        let mut best: Option<Vec<State>> = None;
        for root in (0..self.edges.len()).map(|node| (node, false)) {
            if marks.contains_key(&root) {
                continue;
            }
            let successors = |state| self.next(state, wanted).map(|(next, _)| next).collect::<Vec<_>>();
            let mut path = vec![(root, successors(root), 0)];
            marks.insert(root, Mark { index: marks.len(), low: marks.len(), on_stack: true });
            stack.push(root);
            while let Some((state, next, place)) = path.last_mut() {
                let state = *state;
                if let Some(child) = next.get(*place).copied() {
                    *place += 1;
                    match marks.get(&child).copied() {
                        None => {
                            let index = marks.len();
                            marks.insert(child, Mark { index, low: index, on_stack: true });
                            stack.push(child);
                            path.push((child, successors(child), 0));
                        }
                        Some(mark) if mark.on_stack => {
                            let ours = marks.get_mut(&state).expect("it was marked when it was met");
                            ours.low = ours.low.min(mark.index);
                        }
                        Some(_) => {}
                    }
                    continue;
                }
                path.pop();
                let mark = marks[&state];
                if let Some((parent, ..)) = path.last() {
                    let above = marks.get_mut(parent).expect("it was marked when it was met");
                    above.low = above.low.min(mark.low);
                }
                if mark.low == mark.index {
                    let first = stack.iter().rposition(|other| *other == state).expect("it is on the stack");
                    let component = stack.split_off(first);
                    for member in &component {
                        marks.get_mut(member).expect("it was marked").on_stack = false;
                    }
                    let is_better = |best: &Vec<_>| component.len() < best.len();
                    if component.len() > 1 && best.as_ref().is_none_or(is_better) {
                        best = Some(component);
                    }
                }
            }
        }
        best.map(|component| component.into_iter().collect())
    }
}
