//! A whole cluster on this machine, as processes of their own.

use super::child::{LOOK_INTERVAL, Plan, Process};
use crate::clock;
use crate::connect::Remote;
use crate::outcome::Usage;
use crate::process::write_atomically;
use crate::settings::{Setting, Settings};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use server::{PdConfig, StoreConfig};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::pd::StoreState;

/// How long it may take from the start of the last process until the cluster serves.
const FORMED_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process may take to stop: a little more than it takes itself by its configuration's default.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);
/// What lies between the ports of one store and those of the next.
const PORTS_PER_PROCESS: u16 = 10;

/// What kind of cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterOptions {
    pub(crate) stores: usize,
    /// Where to keep everything; `None`: nowhere for longer than it runs.
    pub(crate) data_dir: Option<PathBuf>,
    /// Keys of the stores' configuration.
    pub(crate) store_settings: Vec<Setting>,
    /// Keys of the placement driver's.
    pub(crate) pd_settings: Vec<Setting>,
    /// The first port; `None`: free ones.
    pub(crate) ports: Option<u16>,
}

/// A cluster that runs. Its processes are killed when it is dropped; [`Cluster::stop`] is kinder.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) pd: Process,
    pub(crate) stores: Vec<Process>,
    directory: PathBuf,
    /// Removes the directory when it is dropped, which must come after the processes.
    temporary: Option<tempfile::TempDir>,
}

impl Cluster {
    /// Starts it, and waits until it serves and all stores are up.
    pub(crate) async fn start(options: &ClusterOptions) -> anyhow::Result<Self> {
        if options.stores == 0 {
            return Err(Usage("a cluster needs at least one store".to_owned()).into());
        }
        let (directory, temporary) = match &options.data_dir {
            Some(directory) => {
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("making the directory {}", directory.display()))?;
                (directory.canonicalize()?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("flotilla-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let mut pd_settings = Settings::default();
        for setting in &options.pd_settings {
            pd_settings.set(setting, &PdConfig::default())?;
        }
        // Checked before anything starts, so that a mistake is told once and not by each child's log.
        pd_settings.clone().finish::<PdConfig>()?;
        let mut store_settings = Settings::default();
        for setting in &options.store_settings {
            store_settings.set(setting, &StoreConfig::default())?;
        }
        store_settings.clone().finish::<StoreConfig>()?;

        let mut pd = start(&directory, "pd", "pd", pd_settings, options.ports)?;
        pd.wait_ready().await?;
        let mut stores = Vec::new();
        for number in 1..=options.stores {
            let mut settings = store_settings.clone();
            settings.set_top("pd_endpoints", Some(vec![pd.ready().address.clone()]));
            let ports = options.ports.map(|first| {
                let number = u16::try_from(number).unwrap_or(u16::MAX);
                first.saturating_add(number.saturating_mul(PORTS_PER_PROCESS))
            });
            let mut store = start(&directory, "store", &format!("store-{number}"), settings, ports)?;
            // One after another, so that their ids come in the order of their names.
            store.wait_ready().await?;
            stores.push(store);
        }
        let mut cluster = Self { pd, stores, directory, temporary };
        cluster.wait_formed().await?;
        Ok(cluster)
    }

    /// Waits until the placement driver counts all stores as up and the cluster has its first region.
    async fn wait_formed(&mut self) -> anyhow::Result<()> {
        let client = self.remote().connect().await?;
        let admin = client.admin();
        let begin = clock::now();
        let mut lack = String::new();
        while begin.elapsed() < FORMED_TIMEOUT {
            for process in self.processes_mut() {
                if let Some(status) = process.take_end() {
                    bail!("{} ended: {status}\n{}", process.name(), process.tail());
                }
            }
            match (admin.cluster().await, admin.stores().await) {
                (Ok(cluster), Ok(stores)) => {
                    let up = stores.iter().filter(|store| store.state == StoreState::Up).count();
                    if cluster.bootstrapped && up >= self.stores.len() {
                        return Ok(());
                    }
                    lack = if cluster.bootstrapped {
                        format!("{up} of {} stores are up", self.stores.len())
                    } else {
                        "it is not bootstrapped".to_owned()
                    };
                }
                (Err(error), _) | (_, Err(error)) => lack = error.to_string(),
            }
            clock::pause(LOOK_INTERVAL).await;
        }
        bail!(
            "the cluster was not there after {} s: {lack}; its logs are in {}",
            FORMED_TIMEOUT.as_secs(),
            self.directory.display()
        )
    }

    /// What connects to it.
    pub(crate) fn remote(&self) -> Remote {
        Remote { pd: vec![self.pd.ready().address.clone()], deadline: Duration::from_secs(10) }
    }

    /// Where everything is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether nothing will be left of it.
    pub(crate) const fn is_ephemeral(&self) -> bool {
        self.temporary.is_some()
    }

    pub(crate) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.pd).chain(&mut self.stores)
    }

    /// Stops the stores, then the placement driver; then an ephemeral cluster is gone.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for store in &mut self.stores {
            store.ask_to_stop();
        }
        for store in &mut self.stores {
            store.wait_stopped(STOP_TIMEOUT).await;
        }
        self.pd.ask_to_stop();
        self.pd.wait_stopped(STOP_TIMEOUT).await;
        if let Some(temporary) = self.temporary.take() {
            temporary.close().with_context(|| format!("removing {}", self.directory.display()))?;
        }
        Ok(())
    }

    /// What a program needs to know of it.
    pub(crate) fn status(&self) -> Value {
        let process = |process: &Process| {
            let ready = process.ready();
            json!({
                "id": ready.id,
                "address": ready.address,
                "status_address": ready.status_address,
                "pid": process.pid(),
                "data_dir": process.data_dir(),
                "log_file": process.log_file(),
                "command": process.command().iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
            })
        };
        json!({
            "pid": std::process::id(),
            "directory": self.directory,
            "pd": process(&self.pd),
            "stores": self.stores.iter().map(process).collect::<Vec<_>>(),
        })
    }
}

/// Writes the configuration of one process and starts it.
fn start(
    directory: &Path,
    role: &'static str,
    name: &str,
    mut settings: Settings,
    ports: Option<u16>,
) -> anyhow::Result<Process> {
    let data_dir = directory.join(name);
    let address =
        |offset: u16| format!("127.0.0.1:{}", ports.map_or(0, |first| first.saturating_add(offset)));
    settings.set_top("data_dir", Some(data_dir.to_str().context("the data directory's path must be UTF-8")?));
    settings.set_top("listen_addr", Some(address(0)));
    settings.set_top("status_addr", Some(address(1)));
    let file = |ending: &str| directory.join(format!("{name}.{ending}"));
    let config_file = file("toml");
    write_atomically(&config_file, &settings.to_toml())?;
    Process::start(Plan {
        role,
        name: name.to_owned(),
        config_file,
        data_dir,
        log_file: file("log"),
        ready_file: file("ready"),
    })
}
