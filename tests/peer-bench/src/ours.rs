//! Ours: three stores and a placement driver, as the released binary's playground starts them, and our client.

use crate::driver::{Driver, Measured, Timing, Usage};
use crate::generator::{self, Connection};
use crate::processes::{Machine, Process, Used, used};
use crate::workload::{DataSet, Operation, Workload};
use crate::{clock, http};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use client::{Client, KeyRange, Options, RawClient, ScanOptions};
use env::SplitMix;
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Keys of one call while loading.
const LOAD_BATCH: usize = 1000;
pub(crate) const STORES: usize = 3;

/// Our cluster.
pub(crate) struct Ours {
    binary: PathBuf,
    directory: PathBuf,
    settings: Vec<String>,
    runtime: Runtime,
    running: Option<Running>,
}

struct Running {
    /// Dropped before the playground ends.
    client: Client,
    playground: Process,
    /// The placement driver's and the stores'.
    pids: Vec<u32>,
    status_addresses: Vec<String>,
}

impl Ours {
    /// Starts it. `settings` go to the playground, as `store.…=…` or `pd.…=…`.
    pub(crate) fn start(
        binary: &Path,
        directory: &Path,
        settings: &[String],
        threads: usize,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut ours = Self {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            settings: settings.to_vec(),
            runtime: generator::runtime(threads)?,
            running: None,
        };
        ours.start_servers()?;
        Ok(ours)
    }

    fn start_servers(&mut self) -> anyhow::Result<()> {
        let status_file = self.directory.join("status.json");
        // What an earlier start has left says nothing of this one.
        if status_file.exists() {
            std::fs::remove_file(&status_file)?;
        }
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let mut words = vec![text(&self.binary)?, "playground".to_owned(), "--data-dir".to_owned()];
        words.extend([text(&self.directory.join("data"))?, "--status-file".to_owned(), text(&status_file)?]);
        for setting in &self.settings {
            words.extend(["--set".to_owned(), setting.clone()]);
        }
        let log = self.directory.join("log");
        let mut playground = Process::start("our playground", &words, None, Signal::TERM, &log)?;
        let status: Value = playground.wait_until("being ready", READY_TIMEOUT, || {
            serde_json::from_str(&std::fs::read_to_string(&status_file).ok()?).ok()
        })?;
        let stores = status["stores"].as_array().context("the status names no stores")?;
        let pid = |process: &Value| {
            process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("no process id")
        };
        let mut pids = vec![pid(&status["pd"])?];
        let mut status_addresses = Vec::new();
        for store in stores {
            pids.push(pid(store)?);
            status_addresses.push(store["status_address"].as_str().context("no status address")?.to_owned());
        }
        let pd = status["pd"]["address"].as_str().context("no address of the placement driver")?.to_owned();
        let client = self.runtime.block_on(Client::connect([pd], Options::default()))?;
        // It serves when a write and a read pass, and every region has its replicas.
        let runtime = &self.runtime;
        playground.wait_until("being replicated", READY_TIMEOUT, || {
            let look = async {
                client.raw().put("ready", "yes").await.ok()?;
                let regions = client.admin().regions(KeyRange::full(), 1000).await.ok()?;
                let mut are_whole = regions.iter().map(|route| route.region.peers.len() == STORES);
                (!regions.is_empty() && are_whole.all(|is_whole| is_whole)).then_some(())
            };
            runtime.block_on(look)
        })?;
        self.running = Some(Running { client, playground, pids, status_addresses });
        Ok(())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the servers run between start and stop")
    }
}

impl Running {
    fn usage(&self) -> anyhow::Result<Usage> {
        let mut servers = Used::default();
        for pid in &self.pids {
            servers = servers + used(*pid)?;
        }
        let mut syncs = 0;
        for address in &self.status_addresses {
            let status: Value = serde_json::from_str(&http::get(address, "/status")?)?;
            syncs += status["counters"]["fsyncs"].as_u64().context("the status counts no fsyncs")?;
        }
        Ok(Usage { servers, generator: clock::own_cpu(), syncs: Some(syncs), machine: Machine::now()? })
    }
}

impl Driver for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn describe(&self) -> String {
        let version = Command::new(&self.binary).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        format!(
            "{}: three stores and a placement driver, as `flotilla playground` starts them; our client, one connection to \
             each store",
            version.unwrap_or_else(|_| "flotilla".to_owned())
        )
    }

    fn load(&mut self, data: DataSet) -> anyhow::Result<()> {
        let mut dice = SplitMix::new(1).fork("load");
        let raw = self.running().client.raw();
        let numbers: Vec<u64> = (0..data.keys()).collect();
        for chunk in numbers.chunks(LOAD_BATCH) {
            let pairs: Vec<(String, String)> =
                chunk.iter().map(|number| (data.key(*number), data.value(&mut dice))).collect();
            self.runtime.block_on(raw.batch_put(pairs))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.start_servers()
    }

    fn measure(&mut self, workload: &Workload, timing: Timing) -> anyhow::Result<Option<Measured>> {
        let running = self.running();
        let connections = [Ask(running.client.raw())];
        generator::run(&self.runtime, &connections, workload, timing, || running.usage()).map(Some)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let Some(Running { client, mut playground, .. }) = self.running.take() else { return Ok(()) };
        drop(client);
        playground.stop()
    }
}

#[derive(Clone)]
struct Ask(RawClient);

impl Connection for Ask {
    async fn perform(&mut self, operation: Operation, value: &Bytes) -> anyhow::Result<()> {
        match operation {
            Operation::Put { key } => self.0.put(key, value.clone()).await?,
            Operation::PutBatch { keys } => {
                self.0.batch_put(keys.into_iter().map(|key| (key, value.clone()))).await?;
            }
            Operation::Get { key } => {
                let found = self.0.get(key).await?.context("a key that was loaded is missing")?;
                ensure!(found.len() == value.len(), "a value of {} bytes", found.len());
            }
            Operation::Range { start, end, pairs } => {
                let scan = self.0.scan(KeyRange::new(start, end), ScanOptions::default())?;
                let found = scan.into_vec().await?.len();
                ensure!(found as u64 == pairs, "a range of {found} pairs instead of {pairs}");
            }
        }
        Ok(())
    }
}
