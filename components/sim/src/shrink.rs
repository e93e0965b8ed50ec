//! Makes a schedule that fails smaller, as long as the same checker finds something.
//!
//! Delta debugging: first actions go, in halves, quarters and so on, then points, then clients, then requests, then what is left is made
//! shorter, then the network is made better. Every draw of a run comes from a stream that is named by what it is for, so a
//! smaller schedule is nearly the same run. What is kept after one round may allow for more in the next.

use crate::disk::DiskConfig;
use crate::network::NetworkConfig;
use crate::run::run_schedule;
use crate::schedule::Schedule;
use crate::trace::{Trace, TraceMode};
use std::time::Duration;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest schedule that was found.
    pub schedule: Schedule,
    /// How many were tried.
    pub tried: u64,
}

/// Makes a schedule smaller that fails, as the checker named in it says, with `tries_max` runs at most. `on_step` is told
/// of each smaller one. `None`: it does not fail like that, so there is nothing to keep.
pub fn shrink(schedule: &Schedule, tries_max: u64, on_step: &mut dyn FnMut(&Schedule)) -> Option<Shrunk> {
    let fails = |candidate: &Schedule| {
        let failure = run_schedule(candidate, Trace::new(TraceMode::Off, None)).err()?;
        Some(failure.fail.checker())
    };
    let mut best = schedule.clone();
    let found = fails(&best)?;
    if best.fails.get_or_insert_with(|| found.clone()) != &found {
        return None;
    }
    let is_alike = |candidate: &Schedule| fails(candidate).as_ref() == Some(&found);
    Some(shrink_while(best, tries_max, &is_alike, on_step))
}

/// The same for any property that a run can have.
fn shrink_while(
    best: Schedule,
    tries_max: u64,
    keeps: &dyn Fn(&Schedule) -> bool,
    on_step: &mut dyn FnMut(&Schedule),
) -> Shrunk {
    let mut shrinker = Shrinker { best, tried: 0, tries_max, keeps, on_step };
    loop {
        let before = shrinker.best.clone();
        shrinker.actions();
        shrinker.points();
        shrinker.clients();
        shrinker.requests();
        shrinker.durations();
        shrinker.network();
        if shrinker.best == before || shrinker.is_tired() {
            return Shrunk { schedule: shrinker.best, tried: shrinker.tried };
        }
    }
}

struct Shrinker<'a> {
    best: Schedule,
    tried: u64,
    tries_max: u64,
    keeps: &'a dyn Fn(&Schedule) -> bool,
    on_step: &'a mut dyn FnMut(&Schedule),
}

impl Shrinker<'_> {
    const fn is_tired(&self) -> bool {
        self.tried >= self.tries_max
    }

    /// Keeps the candidate if it still fails alike.
    fn try_one(&mut self, candidate: Schedule) -> bool {
        if candidate == self.best || self.is_tired() {
            return false;
        }
        self.tried += 1;
        let is_kept = (self.keeps)(&candidate);
        if is_kept {
            self.best = candidate;
            (self.on_step)(&self.best);
        }
        is_kept
    }

    /// Tries without a half of the actions, then without a quarter, and so on.
    fn actions(&mut self) {
        let mut size = self.best.plan.actions.len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < self.best.plan.actions.len() {
                let end = (start + size).min(self.best.plan.actions.len());
                let mut candidate = self.best.clone();
                candidate.plan.actions.drain(start..end);
                if !self.try_one(candidate) {
                    start = end;
                }
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
    }

    /// Tries without any point, then without each of them.
    fn points(&mut self) {
        let mut candidate = self.best.clone();
        candidate.plan.points.clear();
        self.try_one(candidate);
        for point in self.best.plan.points.clone() {
            let mut candidate = self.best.clone();
            candidate.plan.points.retain(|other| *other != point);
            self.try_one(candidate);
        }
    }

    fn clients(&mut self) {
        for client in self.best.clients.clone().into_iter().rev() {
            if self.best.clients.len() > 1 {
                let candidate = self.best.without_client(client);
                self.try_one(candidate);
            }
        }
    }

    fn requests(&mut self) {
        for share in [2, 1] {
            while self.best.workload.processes > 1 {
                let mut candidate = self.best.clone();
                candidate.workload.processes =
                    (candidate.workload.processes / share).max(1).min(candidate.workload.processes - 1);
                if !self.try_one(candidate) {
                    break;
                }
            }
        }
        // More than most processes ever make.
        let mut most = self.best.workload.requests_max.min(2_048);
        while most > 1 {
            most /= 2;
            let mut candidate = self.best.clone();
            candidate.workload.requests_max = most;
            if !self.try_one(candidate) {
                break;
            }
        }
    }

    fn durations(&mut self) {
        // All at once first: mostly none of them matters to the last second.
        loop {
            let mut candidate = self.best.clone();
            for action in &mut candidate.plan.actions {
                if let Some(duration) = action.fault.duration_mut() {
                    *duration = (*duration / 2).max(Duration::from_millis(1)).min(*duration);
                }
            }
            if !self.try_one(candidate) {
                break;
            }
        }
        for index in 0..self.best.plan.actions.len() {
            loop {
                let mut candidate = self.best.clone();
                match candidate.plan.actions[index].fault.duration_mut() {
                    Some(duration) if *duration > Duration::from_millis(1) => *duration /= 2,
                    _ => break,
                }
                if !self.try_one(candidate) {
                    break;
                }
            }
        }
    }

    fn network(&mut self) {
        let better: [fn(&mut NetworkConfig); 6] = [
            |network| network.loss_per_mille = 0,
            |network| network.duplicate_per_mille = 0,
            |network| network.late_per_mille = 0,
            |network| network.break_per_100k = 0,
            |network| network.straggle_per_mille = 0,
            |network| network.garble_per_100k = 0,
        ];
        for change in better {
            let mut candidate = self.best.clone();
            change(&mut candidate.plan.network);
            self.try_one(candidate);
        }
        let mut candidate = self.best.clone();
        candidate.plan.disk = DiskConfig::default();
        self.try_one(candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;
    use crate::reference::Flaw;
    use crate::run::{RunOptions, System, run};

    #[test]
    fn only_what_matters_is_left() {
        // A made-up failure: a power loss of node 1 and a freeze of node 2, with a lossy network.
        let keeps = |schedule: &Schedule| {
            let actions = &schedule.plan.actions;
            let has_loss = actions.iter().any(|action| action.fault.name() == "power-loss");
            let has_freeze = actions.iter().any(|action| matches!(action.fault, Fault::Freeze { .. }));
            has_loss && has_freeze && schedule.plan.network.loss_per_mille > 0
        };
        let drawn = (0..).map(|seed| Schedule::draw(seed, &RunOptions::default()));
        let schedule = drawn.into_iter().find(|schedule| keeps(schedule) && schedule.clients.len() > 1);
        let schedule = schedule.expect("seeds are many");
        assert!(schedule.plan.actions.len() > 10);
        let mut steps = 0;
        let shrunk = shrink_while(schedule, 10_000, &keeps, &mut |_| steps += 1);
        let small = shrunk.schedule;
        assert!(keeps(&small) && steps > 5 && shrunk.tried > steps);
        assert_eq!(
            (small.plan.actions.len(), small.clients.len(), small.workload.processes),
            (2, 1, 1),
            "{small}"
        );
        assert_eq!((small.workload.requests_max, small.plan.network.garble_per_100k), (1, 0), "{small}");
        let mut actions = small.plan.actions;
        for action in &mut actions {
            assert!(action.fault.duration_mut().unwrap() <= &mut Duration::from_millis(1), "{action}");
        }
    }

    #[test]
    fn a_real_failure_gets_small_and_stays_the_same_failure() {
        let flaw = System::Reference(Some(Flaw::AnswerBeforeSync));
        let options = RunOptions { system: flaw, safety: Duration::from_secs(10), ..RunOptions::default() };
        let failure = (0..).find_map(|seed| run(seed, &options).err()).expect("seeds are many");
        let shrunk = shrink(&failure.schedule, 2_000, &mut |_| ()).expect("it fails again");
        let small = Schedule::parse(&shrunk.schedule.to_string()).expect("what was written can be read");
        assert!(small.plan.actions.len() < 10, "{small}");
        let again = run_schedule(&small, Trace::new(TraceMode::Off, None)).expect_err("it fails again");
        assert_eq!(Some(again.fail.checker()), small.fails);
    }

    #[test]
    fn what_does_not_fail_cannot_be_made_smaller() {
        let options = RunOptions { system: System::Reference(None), ..RunOptions::default() };
        assert!(shrink(&Schedule::draw(1, &options), 10, &mut |_| ()).is_none());
    }
}
