//! Processes that we start, what they use, and what the machine does meanwhile.

use crate::clock;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a server may take to end after it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Looks at children that end meanwhile.
const ENDED_MEANWHILE_MAX: usize = 5;

/// A server that was started; dropped, it is told to stop, and killed if it does not.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stop: Signal,
    log: PathBuf,
}

impl Process {
    /// Starts a command, its output going to a log. It is asked to stop by `stop`, also by the system if we die.
    ///
    /// As another user (a name) if given: some servers refuse to run as root.
    pub(crate) fn start(
        name: &str,
        words: &[String],
        user: Option<&str>,
        stop: Signal,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening the log of {name}"))?;
        let mut command = as_user(user, &["--pdeathsig", "TERM"]);
        let child = command
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {name} (by setpriv, of util-linux)"))?;
        Ok(Self { name: name.to_owned(), child, stop, log: log.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready` says so.
    pub(crate) fn wait_until<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut is_ready: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let begin = clock::now();
        loop {
            if let Some(ready) = is_ready() {
                return Ok(ready);
            }
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail = log.lines().rev().take(8).collect::<Vec<_>>();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before {what}\n  {tail}", self.name);
            }
            if begin.elapsed() > timeout {
                bail!("{}: {what} did not come within {} s\n  {tail}", self.name, timeout.as_secs());
            }
            clock::pause(LOOK_INTERVAL);
        }
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended this moment; as our child its id is not another's yet.
            let _ = kill_process(pid, self.stop);
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.ask_to_stop();
        let begin = clock::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > STOP_TIMEOUT {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not stop within {} s and was killed", self.name, STOP_TIMEOUT.as_secs());
            }
            clock::pause(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.stop()
        {
            eprintln!("{error:#}");
        }
    }
}

/// What runs a command as a user (a name), or as ourselves; setpriv leaves the process id to the command.
pub(crate) fn as_user(user: Option<&str>, more: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.args(more).arg("--");
    command
}

/// What a process has used so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    /// What it has given to the block layer, by proc(5)'s `write_bytes`.
    pub(crate) written_bytes: u64,
}

impl std::ops::Add for Used {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, written_bytes: self.written_bytes + other.written_bytes }
    }
}

/// What a process has used.
pub(crate) fn used(pid: u32) -> anyhow::Result<Used> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let ticks = Stat::of(&stat).with_context(|| format!("/proc/{pid}/stat is not as expected"))?.ticks;
    // Another user's process shows this to root alone, and some systems to nobody.
    let written_bytes = std::fs::read_to_string(format!("/proc/{pid}/io"))
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()))
        .unwrap_or(0);
    Ok(Used { cpu: time_of_ticks(ticks), written_bytes })
}

/// What a process and its children have used, those that have ended and been waited for included (of these the
/// processor time alone is known).
pub(crate) fn used_with_children(parent: u32) -> anyhow::Result<Used> {
    let ended = || -> anyhow::Result<u64> {
        let stat = read(&format!("/proc/{parent}/stat"))?;
        Ok(Stat::of(&stat).with_context(|| format!("/proc/{parent}/stat is not as expected"))?.children_ticks)
    };
    let mut before = ended()?;
    for _ in 0..ENDED_MEANWHILE_MAX {
        let sum = used_now(parent, before)?;
        let after = ended()?;
        if after == before {
            return Ok(sum);
        }
        // One of them ended while we looked, and was perhaps counted in neither place.
        before = after;
    }
    used_now(parent, before)
}

fn used_now(parent: u32, children_ticks: u64) -> anyhow::Result<Used> {
    let mut sum = used(parent)? + Used { cpu: time_of_ticks(children_ticks), written_bytes: 0 };
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Any of them may end while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if Stat::of(&stat).is_some_and(|stat| stat.parent == parent)
            && let Ok(child) = used(pid)
        {
            // Ticks are of ten milliseconds, and one of some hundred children may use less than that in a whole round.
            let cpu = lone_thread_cpu(pid).unwrap_or(child.cpu);
            sum = sum + Used { cpu, ..child };
        }
    }
    Ok(sum)
}

/// Processor time of a process of one thread, to the nanosecond where the system counts so.
fn lone_thread_cpu(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanos: u64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

fn time_of_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The fields of `/proc/<pid>/stat` (proc(5)) that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    parent: u32,
    /// User and system time.
    ticks: u64,
    /// The same, of children waited for.
    children_ticks: u64,
}

impl Stat {
    fn of(text: &str) -> Option<Self> {
        // The second field is the name, in parentheses, and may hold anything.
        let rest = &text[text.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            ticks: number(11)? + number(12)?,
            children_ticks: number(13)? + number(14)?,
        })
    }
}

/// Processor time of the whole machine.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Machine {
    /// Ticks of all processors, whatever they did.
    total: u64,
    busy: u64,
    /// Taken by the host from a guest.
    stolen: u64,
}

impl Machine {
    /// Now.
    pub(crate) fn now() -> anyhow::Result<Self> {
        Self::of(&read("/proc/stat")?).context("/proc/stat is not as expected")
    }

    fn of(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests are counted in user already.
        let [user, nice, system, idle, iowait, irq, softirq, steal] = *ticks.first_chunk::<8>()?;
        let busy = user + nice + system + irq + softirq;
        Some(Self { total: busy + idle + iowait + steal, busy, stolen: steal })
    }

    /// The shares of all processors' time since `earlier`: busy, and stolen.
    pub(crate) fn shares_since(self, earlier: Self) -> (f64, f64) {
        let total = self.total.saturating_sub(earlier.total).max(1) as f64;
        (
            self.busy.saturating_sub(earlier.busy) as f64 / total,
            self.stolen.saturating_sub(earlier.stolen) as f64 / total,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 30 20 20 0 9 0 1 2 3";
        assert_eq!(Stat::of(stat), Some(Stat { parent: 1, ticks: 300, children_ticks: 50 }));
        assert_eq!(Stat::of("7 (a"), None);
    }

    #[test]
    fn the_machine_is_what_its_processors_did() {
        let at = |text| Machine::of(text).unwrap();
        let later = at("cpu  60 0 20 100 20 0 0 0 5 0\n");
        let earlier = at("cpu  10 0 20 50 20 0 0 0 0 0\n");
        assert_eq!(later.shares_since(earlier), (0.5, 0.0));
        assert_eq!(Machine::of("cpu 1 2"), None);
    }

    #[test]
    fn our_own_process_can_be_measured() {
        assert!(lone_thread_cpu(std::process::id()).is_none_or(|cpu| cpu > Duration::ZERO));
        assert!(used_with_children(std::process::id()).is_ok());
    }
}
