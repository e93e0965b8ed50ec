//! A placement driver and stores in one process, over loopback: the wiring, on real sockets and RocksDB.

use client::{Client, KeyRange, Options, ScanOptions};
use server::{ByteSize, Hooks, PdConfig, ReadyInfo, ServerError, Shutdown, StoreConfig};
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
        ..StoreConfig::default()
    }
}

fn store(config: StoreConfig) -> Process {
    process(move |shutdown, hooks| server::store::run(config, shutdown, hooks))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(pd: &str) -> Client {
    let mut options = Options::default();
    options.calls.deadline = LONG;
    Client::connect([pd.to_owned()], options).await.expect("connected")
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
