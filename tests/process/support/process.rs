//! One child process, and what it says.

use super::binary;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running process of the binary; killed when dropped, and with the test's thread.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// A command of the binary, tied to the calling thread.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::path());
    command.args(arguments).stdin(Stdio::null());
    tie(&mut command);
    command
}

/// Has the system kill the child when the calling thread ends, however it ends.
pub(crate) fn tie(command: &mut Command) {
    let die_with_parent = || {
        let signal = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal).map_err(std::io::Error::from)
    };
    #[expect(unsafe_code, reason = "a single system call, without memory or locks, between fork and exec")]
    // SAFETY: the closure allocates nothing, takes no lock and calls nothing but prctl, which is allowed after a fork.
    unsafe {
        command.pre_exec(die_with_parent);
    }
}

impl Process {
    /// Starts the binary with these arguments; what it says is appended to `log`.
    pub(crate) fn start(name: &str, arguments: &[&str], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log can be written");
        let mut command = command(arguments);
        command.env("RUST_BACKTRACE", "1");
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Fails with the end of its log if it has ended by itself.
    #[track_caller]
    pub(crate) fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our child") {
            panic!("{} ended by itself ({status}); its log ends so:\n{}", self.name, self.log_end());
        }
    }

    /// `kill -9`, and waits for it to be gone.
    pub(crate) fn kill(&mut self) {
        self.expect_alive();
        self.child.kill().expect("our child");
        let status = self.child.wait().expect("our child");
        assert_eq!(status.signal(), Some(9), "{} ended before it was killed", self.name);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("ids are positive"), signal).expect("our child");
    }

    /// Asks it to stop, and waits for that.
    #[track_caller]
    pub(crate) fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait(limit)
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {limit:?}; its log ends so:\n{}",
                self.name,
                self.log_end()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All that it has said so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("its log")).into_owned()
    }

    /// The end of what it has said.
    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} said last:\n{}\n----", self.name, self.log_end());
        }
    }
}

/// Runs a command to its end, which must come within `limit`.
#[track_caller]
pub(crate) fn output(mut command: Command, limit: Duration) -> Ended {
    let directory = tempfile::tempdir().expect("a place for its output");
    let open = |name: &str| File::create(directory.path().join(name)).expect("a file for its output");
    let mut child =
        command.stdout(open("stdout")).stderr(open("stderr")).spawn().expect("the command can be started");
    let read = |name: &str| {
        String::from_utf8_lossy(&std::fs::read(directory.path().join(name)).expect("just made")).into_owned()
    };
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} still ran after {limit:?}; it said:\n{}\n{}", read("stdout"), read("stderr"));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Ended { code: status.code(), stdout: read("stdout"), stderr: read("stderr") }
}

/// Runs the binary with these arguments to its end.
#[track_caller]
pub(crate) fn run(arguments: &[&str]) -> Ended {
    output(command(arguments), Duration::from_secs(30))
}
