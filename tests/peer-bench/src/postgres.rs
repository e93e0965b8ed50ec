//! PostgreSQL: a primary and two standbys, each commit waiting for one of them, driven by its own `pgbench` with prepared
//! statements over a Unix socket.
//!
//! `pgbench` says once a second how many transactions have ended; what was used is read at the same moments.

use crate::driver::{Driver, Measured, Timing, Usage};
use crate::processes::{Machine, Process, Used, as_user, used, used_with_children};
use crate::workload::{DataSet, Kind, Workload};
use crate::{clock, http};
use anyhow::{Context as _, bail, ensure};
use env::SplitMix;
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Whom the servers run as when we are root, whom they refuse.
const USER: &str = "postgres";
const ROLE: &str = "bench";
const STANDBYS: usize = 2;
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// `pgbench` logs the latency of one transaction among so many, with many clients.
const SAMPLED_AMONG: u32 = 10;

/// PostgreSQL's cluster.
pub(crate) struct Postgres {
    directory: PathBuf,
    user: Option<&'static str>,
    threads: usize,
    /// The primary's first. No TCP: the port names the socket.
    ports: Vec<u16>,
    servers: Vec<Process>,
}

impl Postgres {
    /// Makes it and starts it.
    pub(crate) fn start(directory: &Path, threads: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let user = if rustix::process::geteuid().is_root() {
            let (uid, gid) = ids_of(USER)?;
            chown(directory, Some(uid), Some(gid))?;
            Some(USER)
        } else {
            None
        };
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
        let ports = http::free_ports(1 + STANDBYS)?;
        let mut postgres =
            Self { directory: directory.to_owned(), user, threads, ports, servers: Vec::new() };
        postgres.make_primary()?;
        postgres.start_server(0)?;
        postgres.make_standbys()?;
        for number in 1..=STANDBYS {
            postgres.start_server(number)?;
        }
        postgres.wait_for_standbys()?;
        Ok(postgres)
    }

    fn make_primary(&self) -> anyhow::Result<()> {
        let data = self.data(0)?;
        self.run("initdb", &["-D", &data, "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C"])?;
        let settings = format!(
            "listen_addresses = ''\n\
             unix_socket_directories = '{}'\n\
             max_connections = 600\n\
             synchronous_standby_names = 'ANY 1 (*)'\n",
            self.directory.display()
        );
        let file = self.directory.join("server-0/postgresql.auto.conf");
        std::fs::write(&file, settings).context("writing PostgreSQL's settings")
    }

    fn make_standbys(&self) -> anyhow::Result<()> {
        for number in 1..=STANDBYS {
            let data = self.data(number)?;
            let remote = self.remote();
            let more = ["-D", &data, "-R", "-X", "stream", "-c", "fast"];
            let arguments: Vec<&str> = remote.iter().map(String::as_str).chain(more).collect();
            self.run("pg_basebackup", &arguments)?;
        }
        Ok(())
    }

    fn start_server(&mut self, number: usize) -> anyhow::Result<()> {
        let name = format!("server-{number}");
        let port = self.ports[number].to_string();
        let words = [
            &format!("{PROGRAMS}/postgres"),
            "-D",
            &self.data(number)?,
            "-p",
            &port,
            // So that standbys can be told apart, and `ANY 1 (*)` counts both.
            "-c",
            &format!("cluster_name=server_{number}"),
        ]
        .map(str::to_owned);
        let log = self.directory.join(format!("{name}.log"));
        // Fast shutdown: sessions are ended, the rest goes in order.
        let mut process = Process::start(&name, &words, self.user, Signal::INT, &log)?;
        process.wait_until("serving", READY_TIMEOUT, || self.query_at(number, "SELECT 1").ok())?;
        self.servers.push(process);
        Ok(())
    }

    /// Waits until both standbys are of the quorum.
    fn wait_for_standbys(&mut self) -> anyhow::Result<()> {
        let query =
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum' AND state = 'streaming'";
        let mut primary = self.servers.remove(0);
        let wanted = STANDBYS.to_string();
        let waited = primary.wait_until("the standbys' joining", READY_TIMEOUT, || {
            self.query_at(0, query).ok().filter(|answer| *answer == wanted)
        });
        self.servers.insert(0, primary);
        waited.map(|_| ())
    }

    fn data(&self, number: usize) -> anyhow::Result<String> {
        let path = self.directory.join(format!("server-{number}"));
        path.to_str().map(str::to_owned).context("a path is not UTF-8")
    }

    /// What tells a client where the primary is.
    fn remote(&self) -> [String; 6] {
        let directory = self.directory.display().to_string();
        ["-h", &directory, "-p", &self.ports[0].to_string(), "-U", ROLE].map(str::to_owned)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = as_user(self.user, &[])
            .arg(format!("{PROGRAMS}/{program}"))
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {program}"))?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    fn query_at(&self, number: usize, query: &str) -> anyhow::Result<String> {
        let (directory, port) = (self.directory.display().to_string(), self.ports[number].to_string());
        let arguments =
            ["-h", &directory, "-p", &port, "-U", ROLE, "-d", "postgres", "-X", "-A", "-t", "-c", query];
        let output = self.run("psql", &arguments)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn usage(&self, generator: u32) -> anyhow::Result<Usage> {
        let mut servers = Used::default();
        for server in &self.servers {
            servers = servers + used_with_children(server.pid())?;
        }
        Ok(Usage { servers, generator: used(generator)?.cpu, syncs: None, machine: Machine::now()? })
    }

    fn scripts(&self, workload: &Workload) -> anyhow::Result<Vec<String>> {
        let directory = &self.directory;
        scripts(workload)
            .into_iter()
            .enumerate()
            .map(|(number, (weight, script))| {
                let path = directory.join(format!("script-{number}.sql"));
                std::fs::write(&path, script)?;
                Ok(format!("{}@{weight}", path.to_str().context("a path is not UTF-8")?))
            })
            .collect()
    }

    /// Starts `pgbench` for as long as it is needed and some seconds more, so that it works while a late report is read.
    fn pgbench(&self, workload: &Workload, seconds: u64) -> anyhow::Result<Command> {
        let scripts = self.scripts(workload)?;
        let mut command = as_user(self.user, &["--pdeathsig", "TERM"]);
        command.arg(format!("{PROGRAMS}/pgbench")).args(self.remote());
        command.args(["-n", "-M", "prepared", "-P", "1", "-l"]);
        command.args(["-T", &(seconds + 2).to_string(), "-c", &workload.clients.to_string()]);
        command.args(["-j", &self.threads.min(workload.clients).to_string()]);
        if workload.clients > 1 {
            command.arg(format!("--sampling-rate={}", 1.0 / f64::from(SAMPLED_AMONG)));
        }
        let value = workload.data.value(&mut SplitMix::new(1).fork("pgbench"));
        command.args(["-D", &format!("v={value}"), "--log-prefix=latency"]);
        for script in &scripts {
            command.args(["-f", script]);
        }
        command.arg("postgres");
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Reads and removes the latencies that `pgbench` has logged.
    fn take_latencies(&self) -> anyhow::Result<Vec<u32>> {
        let mut latencies = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("latency.")) {
                let text = std::fs::read_to_string(&path)?;
                latencies.extend(
                    text.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u32>().ok()),
                );
                std::fs::remove_file(&path)?;
            }
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

impl Driver for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn describe(&self) -> String {
        let version = self.query_at(0, "SHOW server_version").unwrap_or_default();
        format!(
            "PostgreSQL {version}: a primary and two standbys, `synchronous_standby_names = 'ANY 1 (*)'`, otherwise its \
             defaults; `pgbench -M prepared` over a Unix socket, a connection and a process for each client"
        )
    }

    fn load(&mut self, data: DataSet) -> anyhow::Result<()> {
        let table = table(data);
        // Digests of the key, of 32 letters each: like the others' values, these do not compress well.
        let pieces = data.value_size() / 32;
        let value = (0..pieces).map(|piece| format!("md5('{piece}.' || k)")).collect::<Vec<_>>().join(" || ");
        for query in [
            format!("CREATE TABLE {table} (k bigint PRIMARY KEY, v text NOT NULL)"),
            format!(
                "INSERT INTO {table} SELECT k, {value} FROM generate_series(0, {}) AS k",
                data.keys() - 1
            ),
            format!("VACUUM ANALYZE {table}"),
        ] {
            self.query_at(0, &query)?;
        }
        Ok(())
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        for number in 0..=STANDBYS {
            self.start_server(number)?;
        }
        self.wait_for_standbys()
    }

    fn measure(&mut self, workload: &Workload, timing: Timing) -> anyhow::Result<Option<Measured>> {
        if scripts(workload).is_empty() {
            return Ok(None);
        }
        self.take_latencies()?;
        let (begin, end) = (timing.warm_up.as_secs().max(1), timing.counted.as_secs().max(1));
        let end = begin + end;
        let mut command = self.pgbench(workload, end)?;
        let mut child = command.spawn().context("starting pgbench")?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut measured = Measured::default();
        let (mut count, mut text) = (0, String::new());
        let (mut last, mut before, mut after) = (0.0, None::<(Instant, Usage)>, None::<(Instant, Usage)>);
        let mut line = String::new();
        while count < end && lines.read_line(&mut line)? > 0 {
            if let Some(progress) = Progress::of(&line) {
                count += 1;
                if count > begin {
                    measured.operations += progress.per_second * (progress.at_seconds - last);
                    measured.seconds += progress.at_seconds - last;
                }
                last = progress.at_seconds;
                // A busy machine may swallow a report, so that the last one we want never comes: the last before it does.
                let usage = (clock::now(), self.usage(child.id())?);
                if count == begin {
                    before = Some(usage);
                } else if count > begin {
                    after = Some(usage);
                }
            } else {
                text.push_str(&line);
            }
            line.clear();
        }
        lines.read_to_string(&mut text)?;
        let status = child.wait()?;
        let (Some(before), Some(after)) = (before, after) else {
            bail!("pgbench ended ({status}) before it was asked to: {text}")
        };
        ensure!(status.success(), "pgbench: {status}: {text}");
        measured.latencies = self.take_latencies()?;
        ensure!(measured.operations > 0.0, "{}: pgbench made no progress: {text}", workload.name);
        // A report may come late, and then more was used than in the seconds that it tells of: what counts is the share of
        // the time between the two looks, which the work did not change in.
        let looked = after.0.saturating_duration_since(before.0).as_secs_f64();
        let measured = measured.with_usage(before.1, after.1);
        ensure!(looked > 0.0, "{}: pgbench's reports came all at once", workload.name);
        let factor = measured.seconds / looked;
        Ok(Some(measured.with_costs_times(factor)))
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        // The primary first: it sends what standbys lack.
        for mut server in self.servers.drain(..) {
            server.stop()?;
        }
        Ok(())
    }
}

/// One line of `pgbench -P`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Progress {
    at_seconds: f64,
    per_second: f64,
}

impl Progress {
    /// Of `progress: 1.0 s, 6100.0 tps, lat …`.
    fn of(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix("progress: ")?.split(", ");
        let at_seconds = parts.next()?.strip_suffix(" s")?.parse().ok()?;
        let per_second = parts.next()?.strip_suffix(" tps")?.parse().ok()?;
        Some(Self { at_seconds, per_second })
    }
}

const fn table(data: DataSet) -> &'static str {
    match data {
        DataSet::Small => "small",
        DataSet::Large => "large",
    }
}

/// What `pgbench` runs, with weights; nothing if it has no such work.
fn scripts(workload: &Workload) -> Vec<(u32, String)> {
    let (table, last) = (table(workload.data), workload.data.keys() - 1);
    let draw = |last| format!("\\set k random(0, {last})\n");
    let get = format!("{}SELECT v FROM {table} WHERE k = :k;\n", draw(last));
    let put = format!(
        "{}INSERT INTO {table} VALUES (:k, :v) ON CONFLICT (k) DO UPDATE SET v = excluded.v;\n",
        draw(last)
    );
    match workload.kind {
        Kind::Get => vec![(1, get)],
        Kind::Put => vec![(1, put)],
        Kind::Mixed => vec![(95, get), (5, put)],
        Kind::Range(pairs) => vec![(
            1,
            format!(
                "{}\\set e :k + {pairs}\nSELECT k, v FROM {table} WHERE k >= :k AND k < :e ORDER BY k;\n",
                draw(last + 1 - pairs)
            ),
        )],
        // A script has no way to draw and send a hundred keys and values as others do.
        Kind::PutBatch(_) => Vec::new(),
    }
}

/// A user's ids, of the file that lists them.
fn ids_of(user: &str) -> anyhow::Result<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let ids = text.lines().find_map(|line| {
        let mut fields = line.strip_prefix(user)?.strip_prefix(':')?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.with_context(|| format!("there is no user {user}, whom PostgreSQL would run as"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn progress_is_read() {
        let line = "progress: 2.0 s, 6100.5 tps, lat 2.612 ms stddev 1.016, 0 failed\n";
        assert_eq!(Progress::of(line), Some(Progress { at_seconds: 2.0, per_second: 6100.5 }));
        assert_eq!(Progress::of("pgbench (15.13)\n"), None);
    }

    #[test]
    fn scripts_ask_for_what_the_rows_say() {
        let scripts_of = |name| {
            let workload = WORKLOADS.iter().find(|workload| workload.name == name).unwrap();
            scripts(workload)
                .into_iter()
                .map(|(weight, script)| format!("{weight}: {script}"))
                .collect::<String>()
        };
        assert_eq!(
            scripts_of("range_100_c64"),
            "1: \\set k random(0, 99900)\n\\set e :k + 100\n\
             SELECT k, v FROM small WHERE k >= :k AND k < :e ORDER BY k;\n"
        );
        assert!(scripts_of("mixed_95_5_c64").starts_with("95: \\set k random(0, 99999)\nSELECT v"));
        assert_eq!(scripts_of("put_batch100"), "");
    }
}
