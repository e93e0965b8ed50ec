//! A placement driver and stores in one process, over loopback: the wiring, on real sockets and RocksDB.

use client::{Client, KeyRange, Options, ScanOptions, Stage, Trace};
use server::{ByteSize, Hooks, PdConfig, ReadyInfo, RegionConfig, ServerError, Shutdown, Span, StoreConfig};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A process of a cluster, in a thread.
struct Process {
    shutdown: Shutdown,
    thread: JoinHandle<Result<(), ServerError>>,
    ready: Receiver<ReadyInfo>,
}

#[expect(clippy::disallowed_methods, reason = "each process has a thread that drives it")]
fn process(run: impl FnOnce(Shutdown, Hooks) -> Result<(), ServerError> + Send + 'static) -> Process {
    let (tell, ready) = channel();
    let shutdown = Shutdown::new();
    let told = shutdown.clone();
    let hooks = Hooks::on_ready(move |info| tell.send(info).expect("the test waits for it"));
    let thread = std::thread::spawn(move || run(told, hooks));
    Process { shutdown, thread, ready }
}

impl Process {
    fn ready(&self) -> ReadyInfo {
        self.ready.recv_timeout(LONG).expect("it gets ready")
    }

    fn stop(self) -> Result<(), ServerError> {
        self.shutdown.trigger();
        self.thread.join().expect("it does not panic")
    }
}

fn pd(dir: &Path) -> Process {
    if std::env::var_os("FLOTILLA_TEST_LOG").is_some() {
        // Set up once, by whichever test is first.
        let _ = server::init_logging(&server::LogConfig::default());
    }
    let config = PdConfig {
        data_dir: dir.join("pd"),
        listen_addr: "127.0.0.1:0".to_owned(),
        status_addr: "127.0.0.1:0".to_owned(),
        ..PdConfig::default()
    };
    process(move |shutdown, hooks| server::pd::run(config, shutdown, hooks))
}

fn store_config(dir: &Path, name: &str, pd: &str) -> StoreConfig {
    StoreConfig {
        data_dir: dir.join(name),
        listen_addr: "127.0.0.1:0".to_owned(),
        status_addr: "127.0.0.1:0".to_owned(),
        pd_endpoints: vec![pd.to_owned()],
        reserve_space: ByteSize(0),
        // What the placement driver wants done is told in its answers to these.
        region: RegionConfig {
            heartbeat_interval: Span(Duration::from_millis(200)),
            ..RegionConfig::default()
        },
        ..StoreConfig::default()
    }
}

fn store(config: StoreConfig) -> Process {
    process(move |shutdown, hooks| server::store::run(config, shutdown, hooks))
}

fn runtime() -> tokio::runtime::Runtime {
    // With a thread of its own, so that the client hears what servers say while the test waits for something else.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn connect(pd: &str) -> Client {
    let mut options = Options::default();
    options.calls.deadline = LONG;
    Client::connect([pd.to_owned()], options).await.expect("connected")
}

/// What a status page says.
fn http(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// The value of a sample in a scrape, which must have it.
fn value_of(metrics: &str, sample: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{sample} is missing")).parse().expect("a number")
}

fn status(info: &ReadyInfo) -> serde_json::Value {
    serde_json::from_str(&http(&info.status_address, "/status").1).expect("a document")
}

/// Waits until the only region has three voters and a leader.
async fn replicated(client: &Client) -> client::Region {
    let mut often = tokio::time::interval(Duration::from_millis(20));
    loop {
        often.tick().await;
        let route = client.admin().region_at("").await.expect("the placement driver answers");
        let Some(route) = route else { continue };
        if route.leader.is_some() && route.region.peers.len() == 3 && route.pending_peers.is_empty() {
            let voters = route.region.peers.iter().filter(|peer| peer.role == types::PeerRole::Voter);
            if voters.count() == 3 {
                return route.region;
            }
        }
    }
}

#[test]
fn three_stores_replicate_and_writes_go_on_while_each_is_restarted() {
    let dir = TempDir::new().expect("a directory");
    let driver = pd(dir.path());
    let pd_info = driver.ready();
    let configs = ["a", "b", "c"].map(|name| store_config(dir.path(), name, &pd_info.address));
    let mut stores: Vec<Process> = configs.iter().cloned().map(store).collect();
    let mut infos: Vec<ReadyInfo> = stores.iter().map(Process::ready).collect();
    let runtime = runtime();
    let client = runtime.block_on(connect(&pd_info.address));
    let raw = client.raw();
    runtime.block_on(async {
        // The second and third copy begin with a snapshot of this.
        let pairs: Vec<_> = (0..500).map(|i| (format!("key{i:03}"), format!("value{i}"))).collect();
        raw.batch_put(pairs).await.expect("written");
        let region = tokio::time::timeout(LONG, replicated(&client)).await.expect("in time");
        assert_eq!(region.peers.len(), 3);
    });
    for (index, config) in configs.iter().enumerate() {
        stores.remove(0).stop().expect("stopped in good order");
        // Two of three are a quorum.
        runtime.block_on(raw.put(format!("while-{index}"), "away")).expect("written");
        stores.push(store(config.clone()));
        infos[index] = stores[2].ready();
    }
    let sum = |counter: &str| -> u64 {
        let counts = infos.iter().map(|info| status(info)["counters"][counter].as_u64().expect("a count"));
        counts.sum()
    };
    assert_eq!(sum("stray_answers"), 0);
    assert!(sum("fsyncs") > 0 && sum("elections_won") > 0);
    for info in &infos {
        assert!(http(&info.status_address, "/ready?verbose").0.contains("200 OK"));
        let metrics = http(&info.status_address, "/metrics").1;
        for name in ["flotilla_build_info", "flotilla_rpc_duration_seconds_bucket", "process_open_fds"] {
            assert!(metrics.contains(name), "{name} is missing");
        }
    }
    // What groups do is counted where they do it, whichever store that is.
    let scraped: Vec<String> = infos.iter().map(|info| http(&info.status_address, "/metrics").1).collect();
    let sum = |sample: &str| -> f64 { scraped.iter().map(|metrics| value_of(metrics, sample)).sum() };
    for sample in [
        "flotilla_raft_campaigns_total{kind=\"real\"}",
        "flotilla_raft_elections_total{result=\"won\"}",
        "flotilla_raft_proposals_total{kind=\"write\"}",
        "flotilla_raft_appends_sent_total",
        "flotilla_raft_entries_sent_total",
        "flotilla_raft_heartbeats_sent_total",
    ] {
        assert!(sum(sample) > 0.0, "{sample}");
    }
    // Whoever granted a vote may have been restarted since, so of these it is only seen that they are there.
    assert!(sum("flotilla_raft_votes_total{answer=\"granted\"}") >= 0.0);
    assert!(sum("flotilla_raft_hibernated_regions") >= 0.0);
    assert_eq!(sum("flotilla_raft_messages_invalid_total"), 0.0);
    runtime.block_on(async {
        let scan = raw.scan(KeyRange::new("key", "kez"), ScanOptions::default()).expect("a range");
        assert_eq!(scan.into_vec().await.expect("read").len(), 500);
    });
    drop((raw, client));
    stores.into_iter().for_each(|store| store.stop().expect("stopped in good order"));
    driver.stop().expect("stopped in good order");
}

#[test]
fn what_keeps_a_store_from_starting_is_said_with_its_name() {
    let dir = TempDir::new().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let config =
        StoreConfig { listen_addr: address.clone(), ..store_config(dir.path(), "store", "127.0.0.1:1") };
    let said = store(config).thread.join().expect("no panic").expect_err("the port is in use").to_string();
    assert!(said.contains(&address) && said.contains("listen_addr"), "{said}");

    // Nobody is at the placement driver's address: a store waits for it as long as it must, and its directory is its own.
    let config = store_config(dir.path(), "store", "127.0.0.1:1");
    let (one, other) = (store(config.clone()), store(config));
    while !one.thread.is_finished() && !other.thread.is_finished() {
        std::thread::yield_now();
    }
    let (refused, waiting) = if one.thread.is_finished() { (one, other) } else { (other, one) };
    let said = refused.stop().expect_err("the other has the directory").to_string();
    assert!(said.contains("in use by another process"), "{said}");
    assert!(matches!(waiting.stop(), Err(ServerError::Interrupted)));
}

#[test]
fn what_one_store_was_given_it_still_has_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let driver = pd(dir.path());
    let pd_address = driver.ready().address;
    let config = store_config(dir.path(), "store", &pd_address);
    let first = store(config.clone());
    let before = first.ready();
    let runtime = runtime();
    runtime.block_on(async {
        let raw = connect(&pd_address).await.raw();
        raw.put("ship", "red").await.expect("written");
        assert_eq!(raw.get("ship").await.expect("read").as_deref(), Some(&b"red"[..]));
    });
    first.stop().expect("stopped in good order");

    let second = store(config);
    let after = second.ready();
    assert_eq!((after.store_id, after.cluster_id), (before.store_id, before.cluster_id));
    runtime.block_on(async {
        let raw = connect(&pd_address).await.raw();
        assert_eq!(raw.get("ship").await.expect("read").as_deref(), Some(&b"red"[..]));
        let pairs: Vec<_> = (0..300).map(|i| (format!("key{i:03}"), format!("value{i}"))).collect();
        raw.batch_put(pairs).await.expect("written");
        let scan = raw.scan(KeyRange::new("key", "kez"), ScanOptions::default()).expect("a range");
        let found = scan.into_vec().await.expect("read");
        assert_eq!(found.len(), 300);
        assert_eq!(&found[299].value[..], b"value299");
    });
    second.stop().expect("stopped in good order");
    driver.stop().expect("stopped in good order");
}

/// Who asks is told each stage of a write and of a read, by the store that served it; and what takes longer than is
/// configured is counted as slow.
#[test]
fn a_request_tells_where_its_time_went() {
    let dir = TempDir::new().expect("a directory");
    let driver = pd(dir.path());
    let pd_address = driver.ready().address;
    let mut config = store_config(dir.path(), "store", &pd_address);
    config.requests.slow_request_threshold = Span(Duration::from_millis(1));
    let store = store(config);
    let info = store.ready();
    let runtime = runtime();
    let raw = runtime.block_on(connect(&pd_address)).raw();
    let stages = |told: &Trace| -> Vec<Stage> { told.spans.iter().map(|span| span.stage).collect() };
    // Copied, logged, synced and applied, four MiB take more than a millisecond on any machine.
    let put = runtime.block_on(raw.put_traced("ship", vec![7; 4 << 20])).expect("written");
    let told = put.store.expect("the store tells");
    assert_eq!((told.store_id, told.region_id.get() > 0), (info.store_id, true));
    let beside = [Stage::LogWait, Stage::LogSync];
    let after = [Stage::Replicate, Stage::Commit, Stage::Apply, Stage::Reply];
    assert_eq!(stages(&told), [&[Stage::Queue, Stage::Propose], &beside[..], &after].concat());
    let spans = told.spans.iter().filter(|span| !beside.contains(&span.stage));
    let sum: u64 = spans.map(|span| span.took_us).sum();
    // Each was cut to a whole microsecond.
    assert!(sum <= told.took_us && sum + 8 > told.took_us, "{told:?}");
    assert!(u128::from(told.took_us) <= put.took.as_micros(), "{put:?}", put = put.took);

    let (value, get) = runtime.block_on(raw.get_traced("ship")).expect("read");
    assert_eq!(value.map(|value| value.len()), Some(4 << 20));
    let told = get.store.expect("the store tells");
    assert!([Stage::Queue, Stage::Confirm].contains(&stages(&told)[0]), "{told:?}");
    assert_eq!(stages(&told)[1..], [Stage::Read]);

    let metrics = http(&info.status_address, "/metrics").1;
    assert!(value_of(&metrics, "flotilla_slow_requests_total") >= 1.0);
    drop(raw);
    store.stop().expect("stopped in good order");
}

/// Copies a data directory, as a backup would.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("known").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

#[test]
fn a_store_with_an_older_copy_of_its_directory_is_refused_and_told_what_to_do() {
    let dir = TempDir::new().expect("a directory");
    let driver = pd(dir.path());
    let pd_address = driver.ready().address;
    let config = store_config(dir.path(), "store", &pd_address);
    let (data, backup) = (config.data_dir.clone(), dir.path().join("backup"));
    let first = store(config.clone());
    first.ready();
    let runtime = runtime();
    runtime.block_on(async {
        connect(&pd_address).await.raw().put("ship", "red").await.expect("written");
    });
    first.stop().expect("stopped in good order");
    copy(&data, &backup);
    let second = store(config.clone());
    second.ready();
    runtime.block_on(async {
        let client = connect(&pd_address).await;
        client.raw().put("ship", "blue").await.expect("written");
        // What the store has not told yet, nobody can miss.
        let mut often = tokio::time::interval(Duration::from_millis(100));
        let mut told = 0;
        loop {
            often.tick().await;
            let stores = client.admin().stores().await.expect("listed");
            let (stats, known) = (stores[0].stats.log_mark, stores[0].info.log_mark);
            // Once it was told after the write, it is in the placement driver's log.
            if told > 0 && known >= told {
                break;
            }
            if stats > known {
                told = stats;
            }
        }
    });
    second.stop().expect("stopped in good order");

    std::fs::rename(&data, dir.path().join("lost")).expect("moved");
    std::fs::rename(&backup, &data).expect("moved");
    let said = store(config.clone()).thread.join().expect("no panic").expect_err("it is older").to_string();
    assert!(said.contains("is older than") && said.contains("joins under a new id"), "{said}");
    // The directory that was there last is taken, as ever.
    std::fs::rename(&data, &backup).expect("moved");
    std::fs::rename(dir.path().join("lost"), &data).expect("moved");
    let third = store(config);
    third.ready();
    runtime.block_on(async {
        let raw = connect(&pd_address).await.raw();
        assert_eq!(raw.get("ship").await.expect("read").as_deref(), Some(&b"blue"[..]));
    });
    third.stop().expect("stopped in good order");
    driver.stop().expect("stopped in good order");
}

#[test]
fn a_store_is_drained_and_its_id_ends() {
    let dir = TempDir::new().expect("a directory");
    let driver = pd(dir.path());
    let pd_address = driver.ready().address;
    let configs = ["a", "b", "c", "d"].map(|name| store_config(dir.path(), name, &pd_address));
    let mut stores: Vec<Process> = configs[..3].iter().cloned().map(store).collect();
    let infos: Vec<ReadyInfo> = stores.iter().map(Process::ready).collect();
    let runtime = runtime();
    let client = runtime.block_on(connect(&pd_address));
    let leaves = infos[0].store_id;
    let admin = client.admin();
    runtime.block_on(async {
        client.raw().put("ship", "red").await.expect("written");
        tokio::time::timeout(LONG, replicated(&client)).await.expect("in time");
        let refused = admin.set_store_mode(leaves, wire::pd::StoreMode::Draining).await;
        let said = refused.expect_err("two would be left").to_string();
        assert!(said.contains("3 are needed"), "{said}");
    });
    stores.push(store(configs[3].clone()));
    stores[3].ready();
    runtime.block_on(async {
        let mut often = tokio::time::interval(Duration::from_millis(100));
        // The newcomer has to say how it is first.
        while admin.set_store_mode(leaves, wire::pd::StoreMode::Draining).await.is_err() {
            often.tick().await;
        }
        while admin.stores().await.expect("listed").iter().any(|store| store.info.id == leaves) {
            often.tick().await;
        }
        let region = replicated(&client).await;
        assert!(region.peer_on(leaves).is_none(), "{region:?}");
        assert_eq!(client.raw().get("ship").await.expect("read").as_deref(), Some(&b"red"[..]));
        let compacted = admin.compact_log(region.id).await.expect("compacted");
        assert!(compacted.get() > 5, "{compacted}");
    });
    stores.remove(0).stop().expect("stopped in good order");
    let said = store(configs[0].clone()).thread.join().expect("no panic").expect_err("its id has ended");
    assert!(said.to_string().contains("is retired: it was drained"), "{said}");
    drop(client);
    stores.into_iter().for_each(|store| store.stop().expect("stopped in good order"));
    driver.stop().expect("stopped in good order");
}
