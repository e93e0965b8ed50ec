//! etcd: three members on loopback with their defaults, and the crate `etcd-client`.

use crate::driver::{Driver, Measured, Timing, Usage};
use crate::generator::{self, Connection};
use crate::processes::{Machine, Process, Used, used};
use crate::workload::{DataSet, Operation, Workload};
use crate::{clock, http};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use env::SplitMix;
use etcd_client::{Client, GetOptions, KvClient, Txn, TxnOp};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

const MEMBERS: usize = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Keys of one transaction while loading: etcd's default allows 128.
const LOAD_BATCH: usize = 100;

/// etcd's cluster.
pub(crate) struct Etcd {
    directory: PathBuf,
    /// For clients, and for other members.
    ports: Vec<(u16, u16)>,
    /// How many connections to each member the clients share.
    connections: usize,
    runtime: Runtime,
    running: Option<Running>,
}

struct Running {
    /// The leader's first, so that a lone client asks it and pays for no hop.
    clients: Vec<KvClient>,
    members: Vec<Process>,
}

impl Etcd {
    /// Starts it.
    pub(crate) fn start(directory: &Path, threads: usize, connections: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let ports = http::free_ports(2 * MEMBERS)?;
        let ports = ports.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let runtime = generator::runtime(threads)?;
        let mut etcd = Self { directory: directory.to_owned(), ports, connections, runtime, running: None };
        etcd.start_servers()?;
        Ok(etcd)
    }

    fn start_servers(&mut self) -> anyhow::Result<()> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            (0..MEMBERS).map(|member| format!("member-{member}={}", url(self.ports[member].1))).collect();
        let mut members = Vec::new();
        for (member, (client, peer)) in self.ports.iter().enumerate() {
            let name = format!("member-{member}");
            let data = self.directory.join(&name);
            let words = [
                "etcd",
                "--name",
                &name,
                "--data-dir",
                data.to_str().context("a path is not UTF-8")?,
                "--listen-client-urls",
                &url(*client),
                "--advertise-client-urls",
                &url(*client),
                "--listen-peer-urls",
                &url(*peer),
                "--initial-advertise-peer-urls",
                &url(*peer),
                "--initial-cluster",
                &cluster.join(","),
                "--log-level",
                "error",
            ]
            .map(str::to_owned);
            let log = self.directory.join(format!("{name}.log"));
            members.push(Process::start(&name, &words, None, Signal::TERM, &log)?);
        }
        let mut clients = Vec::new();
        for (member, process) in members.iter_mut().enumerate() {
            let address = url(self.ports[member].0);
            let runtime = &self.runtime;
            let connections = self.connections;
            let (is_leader, shared) = process.wait_until("serving", READY_TIMEOUT, || {
                let connect = async {
                    let mut client = Client::connect([&address], None).await.ok()?;
                    client.put("ready", "yes", None).await.ok()?;
                    let status = client.status().await.ok()?;
                    let is_leader = status.header()?.member_id() == status.leader();
                    let mut shared = vec![client.kv_client()];
                    for _ in 1..connections {
                        shared.push(Client::connect([&address], None).await.ok()?.kv_client());
                    }
                    Some((is_leader, shared))
                };
                runtime.block_on(connect)
            })?;
            clients.push((!is_leader, shared));
        }
        clients.sort_by_key(|(is_follower, _)| *is_follower);
        // A connection to each member before the second to any.
        let order = (0..self.connections)
            .flat_map(|round| clients.iter().map(move |(_, shared)| shared[round].clone()))
            .collect();
        self.running = Some(Running { clients: order, members });
        Ok(())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the servers run between start and stop")
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        let mut servers = Used::default();
        for member in &self.running().members {
            servers = servers + used(member.pid())?;
        }
        let mut syncs = 0;
        for (client, _) in &self.ports {
            let page = http::get(&format!("127.0.0.1:{client}"), "/metrics")?;
            for name in ["etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds"]
            {
                let name = format!("{name}_count");
                syncs += http::metric(&page, &name).with_context(|| format!("etcd shows no {name}"))?;
            }
        }
        Ok(Usage { servers, generator: clock::own_cpu(), syncs: Some(syncs), machine: Machine::now()? })
    }
}

impl Driver for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn describe(&self) -> String {
        let version = Command::new("etcd").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let version = version.unwrap_or_default();
        let number = version.lines().next().and_then(|line| line.split_once(": "));
        format!(
            "etcd {}: three members with their defaults; crate `etcd-client`, {} to each member, the leader's first",
            number.map_or("of unknown version", |(_, number)| number),
            if self.connections == 1 {
                "one connection".to_owned()
            } else {
                format!("{} connections", self.connections)
            },
        )
    }

    fn load(&mut self, data: DataSet) -> anyhow::Result<()> {
        let mut dice = SplitMix::new(1).fork("load");
        let mut client = self.running().clients[0].clone();
        let numbers: Vec<u64> = (0..data.keys()).collect();
        for chunk in numbers.chunks(LOAD_BATCH) {
            let puts: Vec<TxnOp> = chunk
                .iter()
                .map(|number| TxnOp::put(data.key(*number), data.value(&mut dice), None))
                .collect();
            self.runtime.block_on(client.txn(Txn::new().and_then(puts)))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.start_servers()
    }

    fn measure(&mut self, workload: &Workload, timing: Timing) -> anyhow::Result<Option<Measured>> {
        let connections: Vec<Ask> = self.running().clients.iter().cloned().map(Ask).collect();
        generator::run(&self.runtime, &connections, workload, timing, || self.usage()).map(Some)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let Some(Running { clients, mut members }) = self.running.take() else { return Ok(()) };
        drop(clients);
        // All at once: the last would otherwise wait in vain for somebody to take over.
        for member in &members {
            member.ask_to_stop();
        }
        for member in &mut members {
            member.stop()?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Ask(KvClient);

impl Connection for Ask {
    async fn perform(&mut self, operation: Operation, value: &Bytes) -> anyhow::Result<()> {
        match operation {
            Operation::Put { key } => {
                self.0.put(key, &**value, None).await?;
            }
            Operation::PutBatch { keys } => {
                let puts: Vec<TxnOp> = keys.into_iter().map(|key| TxnOp::put(key, &**value, None)).collect();
                self.0.txn(Txn::new().and_then(puts)).await?;
            }
            Operation::Get { key } => {
                let answer = self.0.get(key, None).await?;
                let [found] = answer.kvs() else { anyhow::bail!("a key that was loaded is missing") };
                ensure!(found.value().len() == value.len(), "a value of {} bytes", found.value().len());
            }
            Operation::Range { start, end, pairs } => {
                let answer = self.0.get(start, Some(GetOptions::new().with_range(end))).await?;
                let found = answer.kvs().len();
                ensure!(found as u64 == pairs, "a range of {found} pairs instead of {pairs}");
            }
        }
        Ok(())
    }
}
