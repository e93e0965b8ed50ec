//! A cluster of real processes: one placement driver and some stores.

use super::http::{self, Metrics};
use super::network::{Comes, Network, Place};
use super::ports;
use super::process::Process;
use super::run::until;
use client::{Client, Options};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use wire::pd::{RegionRoute, StoreState};

/// How long a process may take to be ready, on a machine with much else to do.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// A temporary directory that stays when the test fails.
pub(crate) struct Directory(Option<TempDir>);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(Some(tempfile::tempdir().expect("there is room for a temporary directory")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("until dropped").path()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let directory = self.0.take().expect("dropped once");
        if std::thread::panicking() {
            eprintln!("what the processes left is kept in {}", directory.keep().display());
        }
    }
}

/// One process that can be started again and again on the same data.
pub(crate) struct Node {
    /// For people.
    pub(crate) name: String,
    kind: &'static str,
    /// Where it listens.
    pub(crate) address: String,
    /// Where its status page and metrics are.
    pub(crate) status_address: String,
    pub(crate) config: PathBuf,
    pub(crate) data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// A process of this kind (`pd`, `store`), which is not started yet. Settings are lines of its configuration file.
    pub(crate) fn new(kind: &'static str, name: &str, directory: &Path, settings: &[String]) -> Self {
        let (address, status_address) = (ports::address(), ports::address());
        let data = directory.join(name);
        let mut text = String::new();
        let line = |text: &mut String, key: &str, value: &str| {
            writeln!(text, "{key} = {value:?}").expect("a String takes what it is given");
        };
        line(&mut text, "data_dir", data.to_str().expect("our paths are text"));
        line(&mut text, "listen_addr", &address);
        line(&mut text, "status_addr", &status_address);
        for setting in settings {
            writeln!(text, "{setting}").expect("a String takes what it is given");
        }
        let config = directory.join(format!("{name}.toml"));
        std::fs::write(&config, text).expect("a configuration can be written");
        let log = directory.join(format!("{name}.log"));
        Self { name: name.to_owned(), kind, address, status_address, config, data, log, process: None }
    }

    /// Starts it.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let config = self.config.to_str().expect("our paths are text");
        self.process = Some(Process::start(&self.name, &[self.kind, "--config", config], &self.log));
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("only a running process is killed").kill();
    }

    /// Stops it in good order.
    pub(crate) fn stop(&mut self) {
        let stopped = self.process().stop(Duration::from_secs(30));
        let process = self.process.take().expect("it ran until now");
        assert!(stopped.success(), "{} stopped with {stopped}: {}", self.name, process.log_end());
    }

    /// `pd` or `store`.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The running process.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let (name, status) = (self.name.clone(), self.status_address.clone());
        let process = self.process();
        until(&format!("{name} is ready"), START_LIMIT, async || {
            process.expect_alive();
            http::page(&status, "/ready").await
        })
        .await;
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::read(&self.status_address).await.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Its status page.
    pub(crate) async fn status(&self) -> serde_json::Value {
        http::json(&self.status_address, "/status")
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// A placement driver and stores.
pub(crate) struct Cluster {
    pub(crate) pd: Node,
    pub(crate) stores: Vec<Node>,
    // Behind the nodes, so that it is dropped after them.
    pub(crate) directory: Directory,
}

/// Settings of every store in these tests: a short memory, little room, quick reports.
fn store_settings() -> Vec<String> {
    [
        // A quarter of the reserve is a file in each data directory.
        "reserve_space = \"4MiB\"",
        "raft.log_gc_interval = \"200ms\"",
        "raft.log_gc_entries_min = 16",
        "region.heartbeat_interval = \"1s\"",
        "region.store_heartbeat_interval = \"1s\"",
        "engine.block_cache_size = \"8MiB\"",
        "engine.write_buffer_size = \"4MiB\"",
        "engine.wal_size_max = \"32MiB\"",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What a store is to listen to and to say.
pub(crate) fn store_node(
    name: &str,
    directory: &Path,
    pd_address: &str,
    advertise: Option<&str>,
    more: &[&str],
) -> Node {
    let mut settings = store_settings();
    // What is given replaces what every store has.
    let key = |line: &str| line.split('=').next().expect("a key").trim().to_owned();
    settings.retain(|line| !more.iter().any(|other| key(other) == key(line)));
    settings.push(format!("pd_endpoints = [{pd_address:?}]"));
    settings.extend(advertise.map(|address| format!("advertise_addr = {address:?}")));
    settings.extend(more.iter().map(|line| (*line).to_owned()));
    Node::new("store", name, directory, &settings)
}

impl Cluster {
    /// Starts a placement driver and `count` stores; returns when all are ready.
    pub(crate) async fn start(count: usize, store_settings: &[&str]) -> Self {
        let directory = Directory::new();
        let pd = Node::new("pd", "pd", directory.path(), &[]);
        let stores = (1..=count)
            .map(|number| {
                store_node(&format!("store-{number}"), directory.path(), &pd.address, None, store_settings)
            })
            .collect();
        let mut cluster = Self { pd, stores, directory };
        cluster.start_all().await;
        cluster
    }

    /// The same, with a network in between that can be cut: stores reach each other and the placement driver through it.
    pub(crate) async fn start_apart(count: usize, store_settings: &[&str], network: &Network) -> Self {
        let directory = Directory::new();
        let pd = Node::new("pd", "pd", directory.path(), &[]);
        let mut stores = Vec::new();
        for number in 0..count {
            let place = Place::Store(number);
            let to_pd = network.door(Comes::One(place), Place::Pd, &pd.address).await;
            let name = format!("store-{}", number + 1);
            // The door's address must be in its configuration before it is known where it listens: made twice.
            let draft = store_node(&name, directory.path(), &to_pd, None, store_settings);
            let door = network.door(Comes::AsTheySay, place, &draft.address).await;
            let config = std::fs::read_to_string(&draft.config).expect("just written");
            std::fs::write(&draft.config, format!("advertise_addr = {door:?}\n{config}"))
                .expect("just written");
            stores.push(draft);
        }
        let mut cluster = Self { pd, stores, directory };
        cluster.start_all().await;
        for number in 0..count {
            network.name_store(cluster.store_id(number).await, number);
        }
        cluster
    }

    async fn start_all(&mut self) {
        self.pd.start();
        self.pd.ready().await;
        for store in &mut self.stores {
            store.start();
        }
        for store in &mut self.stores {
            store.ready().await;
        }
    }

    /// The id of a store, by its number.
    pub(crate) async fn store_id(&self, number: usize) -> u64 {
        let status = self.stores[number].status().await;
        status["store_id"].as_u64().unwrap_or_else(|| panic!("no store_id in {status}"))
    }

    /// A client whose calls end within `deadline`.
    pub(crate) async fn client(&self, deadline: Duration) -> Client {
        let mut options = Options::default();
        options.calls.deadline = deadline;
        Client::connect([self.pd.address.clone()], options).await.expect("the placement driver answers")
    }

    /// Every running process must still run.
    pub(crate) fn expect_alive(&mut self) {
        for node in self.stores.iter_mut().chain([&mut self.pd]) {
            if let Some(process) = &mut node.process {
                process.expect_alive();
            }
        }
    }
}

/// Waits until every region has `replicas` voters that are all well, and a leader.
pub(crate) async fn replicated(client: &Client, replicas: usize, limit: Duration) -> Vec<RegionRoute> {
    let admin = client.admin().with_deadline(Duration::from_secs(2));
    until("every region is replicated", limit, async || {
        let stores = admin.stores().await.map_err(|error| error.to_string())?;
        if let Some(store) = stores.iter().find(|store| store.state != StoreState::Up) {
            return Err(format!("store {} is {:?}", store.info.id, store.state));
        }
        let regions =
            admin.regions(types::KeyRange::full(), usize::MAX).await.map_err(|error| error.to_string())?;
        if regions.is_empty() {
            return Err("no region is known".to_owned());
        }
        let well = |route: &RegionRoute| {
            route.leader.is_some()
                && route.region.peers.len() == replicas
                && route.pending_peers.is_empty()
                && route.down_peers.is_empty()
                && !route.region.is_joint()
        };
        match regions.iter().find(|route| !well(route)) {
            None => Ok(regions),
            Some(route) => Err(format!("{route:?}")),
        }
    })
    .await
}
