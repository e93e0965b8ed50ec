//! `flotilla playground`: a cluster to play with, in one command.

mod child;
mod cluster;

pub(crate) use cluster::{Cluster, ClusterOptions};

use crate::clock;
use crate::outcome::{Outcome, Usage};
use crate::process::{Stopping, write_atomically};
use crate::settings::Setting;
use anyhow::Context as _;
use child::shell;
use clap::Args;
use comfy_table::Table;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Command;

/// How often the processes are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a command may take to end after it was told to.
const COMMAND_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What differs from a cluster that works: so few regions can report often, and whoever kills a store wants to see it soon. `--set`
/// comes after these and wins.
const QUICK_STORE: [(&str, &str); 2] =
    [("region.heartbeat_interval", "1s"), ("region.store_heartbeat_interval", "1s")];
const QUICK_PD: [(&str, &str); 1] = [("schedule.disconnected_after", "5s")];

/// Starts a cluster on this machine: a placement driver and stores, each a process of its own that can be killed.
///
/// It listens on loopback alone, says when it is ready, and goes on until Ctrl-C or, with --exec, until the command has ended. A
/// process that dies is reported, and the rest goes on. All processes end with this one.
#[derive(Args, Debug)]
pub(crate) struct Playground {
    /// How many stores.
    #[arg(long, default_value_t = 3)]
    stores: usize,
    /// Keep everything there, and go on with what is there already.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "ephemeral")]
    data_dir: Option<PathBuf>,
    /// Keep nothing: a temporary directory, removed at the end. This is so unless --data-dir is given.
    #[arg(long)]
    ephemeral: bool,
    /// Split regions beyond this size, for instance 1MiB.
    #[arg(long, value_name = "SIZE")]
    region_split_size: Option<String>,
    /// One key of the configuration of all stores (`store.raft.tick=50ms`) or of the placement driver (`pd.schedule.replicas=1`); may be
    /// given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// When ready, write there where everything is, as JSON.
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// When ready, run this with `sh -c`, then stop the cluster and exit with its code. It finds the cluster by FLOTILLA_PD, and this
    /// binary first in its PATH.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Listen on this port, and the following: the placement driver on PORT and PORT+1, store N on PORT+10×N and the next.
    #[arg(long, value_name = "PORT")]
    fixed_ports: Option<u16>,
}

impl Playground {
    fn options(&self) -> anyhow::Result<ClusterOptions> {
        let mut options = ClusterOptions {
            stores: self.stores,
            data_dir: self.data_dir.clone(),
            ports: self.fixed_ports,
            ..ClusterOptions::default()
        };
        let quick =
            |(key, value): &(&str, &str)| Setting { key: (*key).to_owned(), value: (*value).to_owned() };
        options.store_settings.extend(QUICK_STORE.iter().map(quick));
        options.pd_settings.extend(QUICK_PD.iter().map(quick));
        for Setting { key, value } in &self.set {
            let (settings, key) = if let Some(key) = key.strip_prefix("store.") {
                (&mut options.store_settings, key)
            } else if let Some(key) = key.strip_prefix("pd.") {
                (&mut options.pd_settings, key)
            } else {
                let message = format!("--set {key}={value}: begin the key with `store.` or `pd.`");
                return Err(Usage(message).into());
            };
            settings.push(Setting { key: key.to_owned(), value: value.clone() });
        }
        if let Some(value) = self.region_split_size.clone() {
            options.store_settings.push(Setting { key: "region.split_size".to_owned(), value });
        }
        Ok(options)
    }
}

/// Runs it.
pub(crate) async fn run(playground: Playground) -> anyhow::Result<Outcome> {
    let options = playground.options()?;
    let mut stopping = Stopping::new()?;
    if playground.exec.is_none() {
        eprintln!("starting a placement driver and {} stores …", options.stores);
    }
    let mut cluster = tokio::select! {
        cluster = Cluster::start(&options) => cluster?,
        // Dropping the half-made cluster kills its processes; there is nothing in it that could be lost.
        () = stopping.next() => return Ok(Outcome::Done),
    };
    if let Some(path) = &playground.status_file {
        write_atomically(path, &cluster.status().to_string())?;
    }
    let result = match &playground.exec {
        Some(command) => execute(command, &mut cluster, &mut stopping).await,
        None => {
            show(&cluster);
            tokio::select! {
                () = watch(&mut cluster) => {}
                () = stopping.next() => {}
            }
            eprintln!("stopping …");
            Ok(Outcome::Done)
        }
    };
    tokio::select! {
        stopped = cluster.stop() => stopped?,
        // Whoever asks twice does not want to wait.
        () = stopping.next() => {}
    }
    result
}

/// Reports processes that die, for ever.
async fn watch(cluster: &mut Cluster) {
    loop {
        for process in cluster.processes_mut() {
            if let Some(status) = process.take_end() {
                eprintln!("\n{} (process {}) has ended: {status}", process.name(), process.pid());
                eprintln!("{}", process.tail());
                eprintln!("  start it again: {}", shell(&process.command()));
            }
        }
        clock::pause(WATCH_INTERVAL).await;
    }
}

/// Runs the user's command beside the cluster.
async fn execute(command: &str, cluster: &mut Cluster, stopping: &mut Stopping) -> anyhow::Result<Outcome> {
    let own = std::env::current_exe().context("finding this binary")?;
    let mut path = own.parent().expect("a binary lies in a directory").as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("PATH", path)
        .env("FLOTILLA_PD", &cluster.pd.ready().address)
        .kill_on_drop(true)
        .spawn()
        .context("starting the command by `sh -c`")?;
    let status = tokio::select! {
        status = child.wait() => status?,
        () = watch(cluster) => unreachable!("it watches for ever"),
        () = stopping.next() => {
            // At a terminal it was told as well; elsewhere it was not.
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            match tokio::time::timeout(COMMAND_STOP_TIMEOUT, child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    child.kill().await?;
                    child.wait().await?
                }
            }
        }
    };
    Ok(Outcome::Code(code(status)))
}

/// The exit code that a shell would give.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Says where everything is, and what to do with it.
fn show(cluster: &Cluster) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "address", "status page", "process", "log"]);
    for process in std::iter::once(&cluster.pd).chain(&cluster.stores) {
        let ready = process.ready();
        let id = if ready.id == 0 { String::new() } else { format!(" (id {})", ready.id) };
        table.add_row([
            format!("{}{id}", process.name()),
            ready.address.clone(),
            format!("http://{}", ready.status_address),
            process.pid().to_string(),
            process.log_file().display().to_string(),
        ]);
    }
    let pd = &cluster.pd.ready().address;
    let stays = if cluster.is_ephemeral() { "removed when it stops" } else { "kept" };
    println!("{table}");
    println!("Everything is in {} and will be {stays}.", cluster.directory().display());
    println!();
    println!("In another terminal:");
    println!();
    println!("  export FLOTILLA_PD={pd}");
    println!("  flotilla kv put greeting hello");
    println!("  flotilla kv get greeting");
    println!("  flotilla import dir . --prefix here/ --verify");
    println!("  flotilla ctl regions");
    println!("  flotilla ctl split here/m");
    println!("  flotilla bench --workload put --duration 5s");
    if let Some(store) = cluster.stores.last() {
        println!("  kill -9 {}        # reads and writes go on", store.pid());
    }
    println!();
    println!("Ctrl-C stops it.");
}
