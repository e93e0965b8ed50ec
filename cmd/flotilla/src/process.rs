//! `flotilla store` and `flotilla pd`: one process each, until it is told to stop.

use crate::outcome::Outcome;
use crate::settings::{Setting, Settings};
use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use server::{Hooks, LogConfig, PdConfig, ReadyInfo, ServerError, Shutdown, StoreConfig};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a store until it is told to stop (SIGINT or SIGTERM; a second one ends it at once).
#[derive(Args, Debug)]
pub(crate) struct Store {
    #[command(flatten)]
    common: Common,
    /// The members of the placement driver, divided by commas.
    #[arg(long, value_delimiter = ',', env = "FLOTILLA_PD")]
    pd: Vec<String>,
}

/// Runs a placement driver until it is told to stop (SIGINT or SIGTERM; a second one ends it at once).
#[derive(Args, Debug)]
pub(crate) struct Pd {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// A configuration file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong, and start nothing.
    #[arg(long)]
    config_check: bool,
    /// One key of the configuration; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Where the data lies.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// What others are told to connect to.
    #[arg(long, value_name = "HOST:PORT")]
    advertise_addr: Option<String>,
    /// Where to serve status and metrics over HTTP.
    #[arg(long, value_name = "HOST:PORT")]
    status_addr: Option<String>,
    /// Listen on addresses that other machines can reach, without encryption.
    #[arg(long)]
    insecure: bool,
    /// When ready, write the addresses there, as JSON.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// End when this process, which started us, has ended.
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<i32>,
}

/// What a process writes into its ready file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The store's id; zero for a placement driver.
    pub(crate) id: u64,
    /// The cluster's.
    pub(crate) cluster_id: u64,
    /// Where it listens.
    pub(crate) address: String,
    /// Where its status page is.
    pub(crate) status_address: String,
    /// The process.
    pub(crate) pid: u32,
}

impl Common {
    fn settings(&self, like: &impl Serialize) -> anyhow::Result<Settings> {
        let mut settings = match &self.config {
            Some(path) => Settings::from_file(path)?,
            None => Settings::default(),
        };
        for setting in &self.set {
            settings.set(setting, like)?;
        }
        let data_dir = self
            .data_dir
            .as_ref()
            .map(|path| path.to_str().map(str::to_owned).context("the data directory's path must be UTF-8"));
        settings.set_top("data_dir", data_dir.transpose()?);
        settings.set_top("listen_addr", self.addr.clone());
        settings.set_top("advertise_addr", self.advertise_addr.clone());
        settings.set_top("status_addr", self.status_addr.clone());
        settings.set_top("insecure", self.insecure.then_some(true));
        Ok(settings)
    }

    /// Checks, or runs `run` with everything around it that a process needs.
    fn run(
        &self,
        log: &LogConfig,
        run: impl FnOnce(Shutdown, Hooks) -> Result<(), ServerError>,
    ) -> anyhow::Result<Outcome> {
        if self.config_check {
            println!("the configuration is sound");
            return Ok(Outcome::Done);
        }
        if let Some(parent) = self.parent {
            die_with(parent)?;
        }
        server::init_logging(log)?;
        server::abort_on_panic();
        let shutdown = Shutdown::new();
        stop_on_signals(shutdown.clone())?;
        let ready_file = self.ready_file.clone();
        let hooks = Hooks::on_ready(move |ready| announce(&ready, ready_file.as_deref()));
        match run(shutdown, hooks) {
            // Told to stop, and stopped: that is no failure, however early it came.
            Ok(()) | Err(ServerError::Interrupted) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs a store.
pub(crate) fn store(store: &Store) -> anyhow::Result<Outcome> {
    let mut settings = store.common.settings(&StoreConfig::default())?;
    settings.set_top("pd_endpoints", (!store.pd.is_empty()).then(|| store.pd.clone()));
    let config: StoreConfig = settings.finish()?;
    config.validate()?;
    store.common.run(&config.log.clone(), |shutdown, hooks| server::store::run(config, shutdown, hooks))
}

/// Runs a placement driver.
pub(crate) fn pd(pd: &Pd) -> anyhow::Result<Outcome> {
    let config: PdConfig = pd.common.settings(&PdConfig::default())?.finish()?;
    config.validate()?;
    pd.common.run(&config.log.clone(), |shutdown, hooks| server::pd::run(config, shutdown, hooks))
}

/// Has the system kill us when the process that started us ends, however it ends.
fn die_with(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("asking to end with the parent process")?;
    // It may have ended before we asked.
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if now.is_none_or(|now| now.get() != parent) {
        anyhow::bail!("process {parent}, to which this one belongs, has ended");
    }
    Ok(())
}

/// From here on SIGINT and SIGTERM stop the process in good order; a second one ends it at once.
fn stop_on_signals(shutdown: Shutdown) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // Before the server starts, so that no signal falls between.
    let mut told = {
        let _guard = runtime.enter();
        Stopping::new()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            told.next().await;
            shutdown.trigger();
            told.next().await;
            // What a shell says of a process that SIGINT has ended.
            std::process::exit(130);
        });
    })?;
    Ok(())
}

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub(crate) struct Stopping {
    interrupt: Signal,
    terminate: Signal,
}

impl Stopping {
    /// Begins to listen; from here on the signals do not end the process.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn announce(info: &ReadyInfo, ready_file: Option<&Path>) {
    let ready = Ready {
        id: info.store_id.get(),
        cluster_id: info.cluster_id.get(),
        address: info.address.clone(),
        status_address: info.status_address.clone(),
        pid: std::process::id(),
    };
    let Some(path) = ready_file else { return };
    let text = serde_json::to_string(&ready).expect("numbers and texts are JSON");
    if let Err(error) = write_atomically(path, &text) {
        // Whoever waits for the file must not wait for ever.
        eprintln!("error: {error:#}");
        std::process::exit(6);
    }
}

/// Writes a file that others see whole or not at all.
pub(crate) fn write_atomically(path: &Path, text: &str) -> anyhow::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}
