//! All that decides a run, as a value: drawn from a seed, or read from a file that an earlier run has written.
//!
//! A seed alone means another run as soon as anything is drawn otherwise. A schedule keeps what was drawn: how the cluster
//! is set up, what its clients do, how network and disks behave, and each fault; the seed is kept for the rest. So a
//! schedule can be cut down ([`shrink`](crate::shrink())), and what is left stays a run of its own for as long as the
//! code that it tries does what it did.

use crate::bank::BankConfig;
use crate::disk::DiskConfig;
use crate::faults::{Action, Fault};
use crate::fields::{Fields, Unreadable, duration_text, parse_duration};
use crate::kernel::{CrashKind, NodeId};
use crate::lists::ListsConfig;
use crate::network::NetworkConfig;
use crate::nodes::SeededBug;
use crate::plan::{Plan, Targets};
use crate::points;
use crate::reference::Flaw;
use crate::run::{RunOptions, Scale, System};
use crate::setup::Setup;
use crate::short;
use crate::time::SimTime;
use crate::workload::WorkloadConfig;
use env::{Dice, SplitMix};
use std::fmt;
use std::time::Duration;

/// The version of the text. Grows when older text would be read as another run than the one that it was written for.
pub const SCHEDULE_VERSION: u32 = 1;

/// All that decides a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Draws all that is not said below.
    pub seed: u64,
    /// Which system is tried.
    pub system: System,
    /// How long faults may begin.
    pub safety: Duration,
    /// How long the cluster then has to serve every key to every client.
    pub liveness: Duration,
    /// The client nodes.
    pub clients: Vec<NodeId>,
    /// How the cluster is set up.
    pub setup: Setup,
    /// What clients do.
    pub workload: WorkloadConfig,
    /// How network and disks behave, and what happens when.
    pub plan: Plan,
    /// The checker that found something wrong, if this was written for that.
    pub fails: Option<String>,
}

/// Why a schedule was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleError {
    /// The line, from one; the one after the last, if something is missing.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ScheduleError {}

/// Stores are numbered from here.
const STORES: u32 = 1;
/// Members of the placement driver from here.
const MEMBERS: u32 = 51;
/// Clients from here.
const CLIENTS: u32 = 101;

fn nodes(first: u32, count: u32) -> Vec<NodeId> {
    (first..first + count).map(NodeId).collect()
}

/// Clients die and begin anew: what their transactions have locked is left to others.
fn deaths(dice: &mut SplitMix, clients: &[NodeId], until: SimTime) -> Vec<Action> {
    let interval = Duration::from_millis(1_000 << dice.below(4));
    let (mut at, mut actions) = (SimTime::ZERO, Vec::new());
    loop {
        at = at + dice.duration(interval / 2, interval * 2);
        if at >= until {
            return actions;
        }
        let node = clients[usize::try_from(dice.below(clients.len() as u64)).expect("an index")];
        let down = dice.duration(Duration::from_millis(1), Duration::from_secs(1));
        actions.push(Action {
            at,
            fault: Fault::Crash { node, kind: CrashKind::Process, in_sync: false, down },
        });
    }
}

impl Schedule {
    /// What this seed means.
    #[must_use]
    pub fn draw(seed: u64, options: &RunOptions) -> Self {
        let root = SplitMix::new(seed);
        let mut setup = Setup::draw(&mut root.fork("setup"));
        if let System::Reference(_) = options.system {
            (setup.stores, setup.late_stores, setup.pd_members) = (1, 0, 1);
        }
        let clients = match options.scale {
            Scale::Large => 4,
            _ => {
                let few = 1 + u32::try_from(root.fork("topology").below(4)).expect("small");
                if root.fork("many clients").chance(1, 6) { few * 2 } else { few }
            }
        };
        let mut workload = WorkloadConfig::draw(&mut root.fork("workload"));
        match options.scale {
            Scale::Usual => {}
            Scale::Short => short::sharpen(seed, &root, &mut setup, &mut workload),
            Scale::Large => setup.enlarge(&mut workload),
        }
        if options.transactions {
            workload.bank = BankConfig::draw(&mut root.fork("bank"));
            let mut lists = root.fork("lists");
            if lists.chance(2, 3) {
                workload.lists = ListsConfig::draw(&mut lists);
            }
            // Whoever comes too late is refused before much else can go wrong with it: elsewhere versions outlive the run.
            let mut lives = root.fork("gc");
            if lives.chance(1, 2) {
                setup.shorten_lives(&mut lives);
            }
            // Versions make many pieces of a snapshot: some of them must arrive whole.
            setup.links.damage_one_in *= 200;
        }
        let mut schedule = Self {
            seed,
            system: options.system,
            safety: options.safety,
            liveness: options.liveness,
            clients: nodes(CLIENTS, clients),
            setup,
            workload,
            plan: Plan::calm(),
            fails: None,
        };
        let until = SimTime::ZERO + options.safety;
        let targets = schedule.targets();
        schedule.plan = if options.scale == Scale::Short {
            let regions = &schedule.setup.store.raftstore;
            short::plan(seed, &targets, until, regions.tick * regions.election_ticks)
        } else {
            Plan::draw(&root.fork("faults"), &targets, until)
        };
        if options.transactions {
            let mut dice = root.fork("deaths of clients");
            if dice.chance(1, 2) {
                schedule.plan.actions.extend(deaths(&mut dice, &schedule.clients, until));
                schedule.plan.actions.sort_by_key(|action| action.at);
            }
        }
        let loses_disk = |action: &Action| {
            matches!(action.fault, Fault::LoseDisk { .. } | Fault::OldDisk { .. } | Fault::RestoreDisk { .. })
        };
        // What is under way on a region may take a minute to be given up.
        let drains = |action: &Action| matches!(action.fault, Fault::Mode { .. });
        let needs_time = |action: &Action| loses_disk(action) || drains(action);
        if schedule.plan.actions.iter().any(needs_time) {
            schedule.liveness *= 3;
        }
        if schedule.plan.actions.iter().any(loses_disk) {
            // Whoever takes the place of a lost store has to wait until that is called silent, and is given what it
            // held when it is called down: within the run.
            let pd = &mut schedule.setup.pd;
            pd.disconnected_after = pd.disconnected_after.min(Duration::from_secs(5));
            pd.down_after = pd.down_after.min(Duration::from_secs(10));
            let regions = &mut schedule.setup.store.raftstore;
            regions.down_after = regions.down_after.min(Duration::from_secs(10));
        }
        schedule
    }

    /// The nodes that there are.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let stores = nodes(STORES, self.setup.stores);
        let late = stores[stores.len() - self.setup.late_stores as usize..].to_vec();
        Targets {
            stores,
            late,
            members: nodes(MEMBERS, self.setup.pd_members),
            clients: self.clients.clone(),
        }
    }

    /// Reads what `Display` has written.
    ///
    /// # Errors
    /// The first line that is not as it must be, and why.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let mut parts = Parts::default();
        let mut is_first = true;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at_line = |Unreadable(reason)| ScheduleError { line: number + 1, reason };
            if std::mem::take(&mut is_first) {
                check_version(line).map_err(at_line)?;
            } else {
                parts.read(line).map_err(at_line)?;
            }
        }
        let at_end = |Unreadable(reason)| ScheduleError { line: text.lines().count() + 1, reason };
        if is_first {
            return Err(at_end(Unreadable("there is nothing in it".to_owned())));
        }
        parts.put_together().map_err(at_end)
    }

    /// What an action names must be there.
    fn check(&self, action: &Action) -> Result<(), Unreadable> {
        let Targets { stores, members, clients, .. } = self.targets();
        let wrong = |node: &NodeId| Unreadable(format!("{action}: node {} cannot suffer that", node.0));
        let is_server = |node: &NodeId| stores.contains(node) || members.contains(node);
        let is_any = |node: &NodeId| is_server(node) || clients.contains(node);
        let unfit = match &action.fault {
            Fault::Crash { node, in_sync: true, .. }
            | Fault::SlowDisk { node, .. }
            | Fault::FailDisk { node, .. }
            | Fault::FullDisk { node, .. } => (!is_server(node)).then_some(node),
            Fault::Crash { node, .. }
            | Fault::Freeze { node, .. }
            | Fault::Reset { node }
            | Fault::WallJump { node, .. } => (!is_any(node)).then_some(node),
            Fault::Drift { node, drift_ppm } => {
                (!is_any(node) || drift_ppm.abs() > crate::plan::DRIFT_PPM_MAX).then_some(node)
            }
            Fault::LowDisk { node, .. }
            | Fault::LoseDisk { node, .. }
            | Fault::OldDisk { node, .. }
            | Fault::Lag { node, .. }
            | Fault::Image { node }
            | Fault::RestoreDisk { node, .. }
            | Fault::Start { node } => (!stores.contains(node)).then_some(node),
            Fault::Split { client: node, .. }
            | Fault::Transfer { client: node, .. }
            | Fault::Members { client: node, .. }
            | Fault::Cancel { client: node, .. }
            | Fault::Mode { client: node, .. }
            | Fault::CompactLog { client: node, .. } => (!clients.contains(node)).then_some(node),
            Fault::Cut { directions, .. } | Fault::Slow { directions, .. } => {
                directions.iter().flat_map(|(from, to)| [from, to]).find(|node| !is_any(node))
            }
        };
        unfit.map_or(Ok(()), |node| Err(wrong(node)))
    }

    /// The same without a client, and without what asked that one for something or befell it alone.
    #[must_use]
    pub(crate) fn without_client(&self, gone: NodeId) -> Self {
        let mut less = self.clone();
        less.clients.retain(|client| *client != gone);
        for action in &mut less.plan.actions {
            if let Fault::Cut { directions, .. } | Fault::Slow { directions, .. } = &mut action.fault {
                directions.retain(|(from, to)| *from != gone && *to != gone);
            }
        }
        let clients = less.clone();
        less.plan.actions.retain(|action| {
            let is_empty = matches!(&action.fault,
                Fault::Cut { directions, .. } | Fault::Slow { directions, .. } if directions.is_empty());
            !is_empty && clients.check(action).is_ok()
        });
        less
    }
}

fn check_version(line: &str) -> Result<(), Unreadable> {
    let rest = line.strip_prefix("flotilla-sim schedule ");
    let rest = rest.ok_or_else(|| Unreadable("this is no schedule of flotilla-sim".to_owned()))?;
    let mut fields = Fields::parse(rest.split_whitespace())?;
    let version: u32 = fields.number("version")?;
    fields.end()?;
    if version != SCHEDULE_VERSION {
        return Err(Unreadable(format!(
            "it was written by a version {version} of the simulator, this is version {SCHEDULE_VERSION}: run it with \
             the commit that it names"
        )));
    }
    Ok(())
}

/// What has been read so far.
#[derive(Default)]
struct Parts {
    run: Option<(u64, System, Duration, Duration, Vec<NodeId>)>,
    setup: Option<Setup>,
    workload: Option<WorkloadConfig>,
    network: Option<NetworkConfig>,
    disk: Option<DiskConfig>,
    points: Option<Vec<&'static str>>,
    fails: Option<String>,
    actions: Vec<Action>,
}

impl Parts {
    fn read(&mut self, line: &str) -> Result<(), Unreadable> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if first == "fails" {
            return put(&mut self.fails, first, rest.to_owned());
        }
        let mut words = rest.split_whitespace();
        if first == "points" {
            let known =
                |name| points::named(name).ok_or_else(|| Unreadable(format!("no point is called {name:?}")));
            return put(&mut self.points, first, words.map(known).collect::<Result<_, _>>()?);
        }
        if let Some(at) = first.strip_prefix("at=") {
            let at = parse_duration(at).ok_or_else(|| Unreadable(format!("{at:?} is no time")))?;
            let at = SimTime::ZERO + at;
            let name = words.next().ok_or_else(|| Unreadable("no fault is named".to_owned()))?;
            let mut fields = Fields::parse(words)?;
            let fault = Fault::parse(name, &mut fields)?;
            fields.end()?;
            let is_in_order = self.actions.last().is_none_or(|last| last.at <= at);
            if !is_in_order {
                return Err(Unreadable("it begins before the one above".to_owned()));
            }
            self.actions.push(Action { at, fault });
            return Ok(());
        }
        let mut fields = Fields::parse(words)?;
        match first {
            "run" => {
                let system = fields.text("system")?;
                let system = system_named(system)
                    .ok_or_else(|| Unreadable(format!("no system here is called {system:?}")))?;
                let (safety, liveness) = (fields.duration("safety")?, fields.duration("liveness")?);
                let text = fields.text("clients")?;
                let clients: Option<Vec<u32>> = text.split(',').map(|client| client.parse().ok()).collect();
                let clients = clients.filter(|clients| {
                    clients.is_sorted_by(|a, b| a < b)
                        && clients.iter().all(|id| (CLIENTS..CLIENTS + 100).contains(id))
                });
                let clients = clients.ok_or_else(|| Unreadable(format!("{text:?} does not name clients")))?;
                let clients = clients.into_iter().map(NodeId).collect();
                put(&mut self.run, first, (fields.number("seed")?, system, safety, liveness, clients))?;
            }
            "setup" => put(&mut self.setup, first, Setup::parse(&mut fields)?)?,
            "workload" => put(&mut self.workload, first, WorkloadConfig::parse(&mut fields)?)?,
            "network" => put(&mut self.network, first, NetworkConfig::parse(&mut fields)?)?,
            "disk" => put(&mut self.disk, first, DiskConfig::parse(&mut fields)?)?,
            _ => return Err(Unreadable(format!("{first:?} begins no line of a schedule"))),
        }
        fields.end()
    }

    fn put_together(self) -> Result<Schedule, Unreadable> {
        fn there<T>(part: Option<T>, name: &str) -> Result<T, Unreadable> {
            part.ok_or_else(|| Unreadable(format!("the line {name:?} is missing")))
        }
        let (seed, system, safety, liveness, clients) = there(self.run, "run")?;
        let plan = Plan {
            network: there(self.network, "network")?,
            disk: there(self.disk, "disk")?,
            points: self.points.unwrap_or_default(),
            actions: self.actions,
        };
        let schedule = Schedule {
            seed,
            system,
            safety,
            liveness,
            clients,
            setup: there(self.setup, "setup")?,
            workload: there(self.workload, "workload")?,
            plan,
            fails: self.fails,
        };
        schedule.plan.actions.iter().try_for_each(|action| schedule.check(action))?;
        Ok(schedule)
    }
}

fn put<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), Unreadable> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unreadable(format!("there is a second line {name:?}"))),
    }
}

/// Rules that this build can break.
fn seeded_bugs() -> Vec<SeededBug> {
    #[cfg(feature = "seeded_bugs")]
    return SeededBug::all();
    #[cfg(not(feature = "seeded_bugs"))]
    vec![SeededBug::StoreReleasesEarly, SeededBug::PdReleasesEarly, SeededBug::ClockBeforeDrain]
}

fn system_text(system: System) -> String {
    match system {
        System::Reference(None) => "reference".to_owned(),
        System::Reference(Some(flaw)) => format!("reference:{flaw:?}"),
        System::Cluster(None) => "cluster".to_owned(),
        // One word, even of several bugs at once.
        System::Cluster(Some(bug)) => format!("cluster:{bug:?}").replace(' ', ""),
    }
}

fn system_named(text: &str) -> Option<System> {
    let flaws = Flaw::ALL.iter().map(|flaw| System::Reference(Some(*flaw)));
    let bugs = seeded_bugs().into_iter().map(|bug| System::Cluster(Some(bug)));
    let whole = [System::Reference(None), System::Cluster(None)];
    whole.into_iter().chain(flaws).chain(bugs).find(|system| system_text(*system) == text)
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, system, safety, liveness, clients, setup, workload, plan, fails } = self;
        writeln!(f, "flotilla-sim schedule version={SCHEDULE_VERSION}")?;
        let clients: Vec<String> = clients.iter().map(|client| client.0.to_string()).collect();
        let (safety, liveness, clients) =
            (duration_text(*safety), duration_text(*liveness), clients.join(","));
        let system = system_text(*system);
        writeln!(f, "run seed={seed} system={system} safety={safety} liveness={liveness} clients={clients}")?;
        writeln!(f, "setup {setup}")?;
        writeln!(f, "workload {workload}")?;
        writeln!(f, "network {}", plan.network)?;
        writeln!(f, "disk {}", plan.disk)?;
        if !plan.points.is_empty() {
            writeln!(f, "points {}", plan.points.join(" "))?;
        }
        if let Some(fails) = fails {
            writeln!(f, "fails {fails}")?;
        }
        plan.actions.iter().try_for_each(|action| writeln!(f, "{action}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_as_it_was_written() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let mut schedule = Schedule::draw(seed, &RunOptions::default());
            schedule.fails = (seed % 2 == 0).then(|| "INV-RAFT-1 (election safety)".to_owned());
            kinds.extend(schedule.plan.actions.iter().map(|action| action.fault.name()));
            assert_eq!(Schedule::parse(&schedule.to_string()), Ok(schedule));
        }
        assert_eq!(kinds.len(), 35, "every kind of fault was written: {kinds:?}");
    }

    #[test]
    fn what_is_not_a_schedule_is_refused_with_its_line_and_the_reason() {
        let schedule =
            Schedule::draw(3, &RunOptions { safety: Duration::from_secs(5), ..RunOptions::default() });
        let text = schedule.to_string();
        let line_of = |start: &str| text.lines().position(|line| line.starts_with(start)).unwrap() + 1;
        let last = text.lines().count();
        let with = |more: &str| format!("{text}{more}\n");
        let cases = [
            (String::new(), 1, "there is nothing in it"),
            ("hello\n".to_owned(), 1, "this is no schedule"),
            (
                text.replace("version=1", "version=2"),
                1,
                "written by a version 2 of the simulator, this is version 1",
            ),
            (
                text.replace("system=cluster", "system=castle"),
                line_of("run"),
                "no system here is called \"castle\"",
            ),
            (text.replace("seed=3", "seed=three"), line_of("run"), "seed: \"three\" is not a number"),
            (text.replace("clients=101", "clients=7"), line_of("run"), "does not name clients"),
            (text.replace(" replicas=", " copies="), line_of("setup"), "replicas is missing"),
            (
                text.replace("election-ticks=", "more=1 election-ticks="),
                line_of("setup"),
                "nothing here is called \"more\"",
            ),
            (text.replace("weights=", "weights=0,"), line_of("workload"), "is not eight numbers"),
            (text.replace("\ndisk ", "\n# disk "), last + 1, "the line \"disk\" is missing"),
            (with("at=9999 melt node=1"), last + 1, "no fault is called \"melt\""),
            (with("at=9999 freeze node=1 for=soon"), last + 1, "for: \"soon\" is not seconds"),
            (with("at=9999 freeze node=1"), last + 1, "for is missing"),
            (with("at=9999 freeze node=99 for=1.0"), last + 2, "node 99 cannot suffer that"),
            (with("at=9999 lost-disk node=51 for=1.0"), last + 2, "node 51 cannot suffer that"),
            (with("at=0.1 reset node=1"), last + 1, "it begins before the one above"),
            (with("network"), last + 1, "latency-min is missing"),
            (
                with("disk sync-min=1 sync-spread=1 stall-per-mille=0 stall-max=0"),
                last + 1,
                "a second line \"disk\"",
            ),
            (with("something=1"), last + 1, "begins no line of a schedule"),
            (
                with("points store.refuse_write store.explode"),
                last + 1,
                "no point is called \"store.explode\"",
            ),
        ];
        for (text, line, reason) in cases {
            let error = Schedule::parse(&text).expect_err(reason);
            assert!(
                error.line == line && error.reason.contains(reason),
                "{error}, not line {line}: {reason}"
            );
        }
    }

    #[test]
    fn every_system_has_a_name_of_its_own_that_is_read_back() {
        let flaws = Flaw::ALL.iter().map(|flaw| System::Reference(Some(*flaw)));
        for system in flaws.chain(seeded_bugs().into_iter().map(|bug| System::Cluster(Some(bug)))) {
            let options = RunOptions { system, ..RunOptions::default() };
            let schedule = Schedule::draw(1, &options);
            assert_eq!(Schedule::parse(&schedule.to_string()).map(|read| read.system), Ok(system));
        }
    }

    #[test]
    fn without_a_client_nobody_speaks_of_it() {
        for seed in 0..60 {
            let schedule = Schedule::draw(seed, &RunOptions::default());
            let Some(gone) = schedule.clients.last().copied() else { continue };
            let less = schedule.without_client(gone);
            assert!(less.clients.len() < schedule.clients.len());
            // What is read is checked for naming nobody who is not there.
            assert!(
                less.clients.is_empty() || Schedule::parse(&less.to_string()) == Ok(less.clone()),
                "{less}"
            );
        }
    }
}
