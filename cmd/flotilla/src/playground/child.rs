//! One process of the cluster: started, waited for, watched, stopped.

use crate::clock;
use crate::process::Ready;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a process may take until it serves. A store replays its log first.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at a file or a process.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How much of a log is shown when its process has ended.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8 << 10;

/// What is to be started.
#[derive(Debug)]
pub(super) struct Plan {
    /// `pd` or `store`.
    pub(super) role: &'static str,
    /// How people call it.
    pub(super) name: String,
    /// Its configuration; there already.
    pub(super) config_file: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) log_file: PathBuf,
    /// Where it will say that it is ready.
    pub(super) ready_file: PathBuf,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Process {
    plan: Plan,
    child: Child,
    pid: u32,
    ready: Option<Ready>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it, its output going to its log.
    pub(super) fn start(plan: Plan) -> anyhow::Result<Self> {
        // What an earlier run has left says nothing of this one.
        match std::fs::remove_file(&plan.ready_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", plan.ready_file.display()));
            }
            _ => {}
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&plan.log_file)
            .with_context(|| format!("opening the log {}", plan.log_file.display()))?;
        let own = std::env::current_exe().context("finding this binary")?;
        let mut command = Command::new(own);
        command
            .arg(plan.role)
            .arg("--config")
            .arg(&plan.config_file)
            .arg("--ready-file")
            .arg(&plan.ready_file)
            .arg("--parent")
            .arg(std::process::id().to_string())
            // It belongs to this cluster, not to the one that the user works with.
            .env_remove("FLOTILLA_PD")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is for us: we stop the others in order.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {}", plan.name))?;
        let pid = child.id().context("the process ended at once")?;
        Ok(Self { plan, child, pid, ready: None, ended: None })
    }

    /// Waits until it says that it is ready.
    pub(super) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let begin = clock::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.plan.ready_file) {
                let ready = serde_json::from_str(&text)
                    .with_context(|| format!("reading {}", self.plan.ready_file.display()))?;
                self.ready = Some(ready);
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                self.ended = Some(status);
                bail!("{} ended before it was ready: {status}\n{}", self.plan.name, self.tail());
            }
            if begin.elapsed() > READY_TIMEOUT {
                let seconds = READY_TIMEOUT.as_secs();
                bail!("{} was not ready after {seconds} s\n{}", self.plan.name, self.tail());
            }
            clock::pause(LOOK_INTERVAL).await;
        }
    }

    /// How it has ended, the first time that this is seen.
    pub(super) fn take_end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return None;
        }
        // Nobody else awaits our children, so asking cannot fail but by our mistake; then it counts as running.
        self.ended = self.child.try_wait().ok().flatten();
        self.ended
    }

    /// Asks it to stop.
    pub(super) fn ask_to_stop(&mut self) {
        if self.ended.is_none()
            && self.take_end().is_none()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            // It may have ended this moment.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended, and kills it if it takes longer than `patience`.
    pub(super) async fn wait_stopped(&mut self, patience: Duration) {
        if self.ended.is_some() {
            return;
        }
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => self.ended = status.ok(),
            Err(_) => {
                eprintln!("{} did not stop within {} s and is killed", self.plan.name, patience.as_secs());
                // An error means that it is gone.
                let _ = self.child.kill().await;
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.plan.data_dir
    }

    pub(crate) fn log_file(&self) -> &Path {
        &self.plan.log_file
    }

    /// What it said when it was ready.
    pub(crate) fn ready(&self) -> &Ready {
        self.ready.as_ref().expect("the cluster is handed out when all are ready")
    }

    /// What starts it again, at the same addresses: the others know it there.
    pub(crate) fn command(&self) -> Vec<OsString> {
        let own = std::env::current_exe().map_or_else(|_| "flotilla".into(), PathBuf::into_os_string);
        let ready = self.ready();
        let words = [
            own,
            self.plan.role.into(),
            "--config".into(),
            self.plan.config_file.clone().into_os_string(),
            "--addr".into(),
            ready.address.clone().into(),
            "--status-addr".into(),
            ready.status_address.clone().into(),
        ];
        words.into()
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.plan.log_file)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if last.is_empty() {
            return format!("  its log {} is empty", self.plan.log_file.display());
        }
        format!("  the end of {}:\n    {}", self.plan.log_file.display(), last.join("\n    "))
    }
}

/// A command as a shell takes it.
pub(crate) fn shell(words: &[OsString]) -> String {
    let is_plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-:=,".contains(&byte))
    };
    let quoted = words.iter().map(|word| {
        let text = word.to_string_lossy();
        if is_plain(&text) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        let words = ["flotilla", "store", "--config", "a b/it's", ""].map(OsString::from);
        assert_eq!(shell(&words), r"flotilla store --config 'a b/it'\''s' ''");
    }
}
