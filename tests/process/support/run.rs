//! One run of a test: its seed, its turn on the machine, its limit in time.

use super::binary;
use env::SplitMix;
use parking_lot::{Mutex, MutexGuard};
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clusters run one after another: two at once on a small machine would measure each other.
static TURN: Mutex<()> = Mutex::new(());

/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// One run of a test.
pub(crate) struct Run {
    name: &'static str,
    seed: u64,
    began: Instant,
    /// Work in the background: clients and proxies. The test's own future runs on the test's thread, to which its
    /// children are tied.
    runtime: tokio::runtime::Runtime,
    _turn: MutexGuard<'static, ()>,
}

impl Run {
    /// Waits for its turn and for the binary, which may have to be compiled first, and says its seed.
    pub(crate) fn begin(name: &'static str) -> Self {
        let turn = TURN.lock();
        // Here, so that no test's limit in time includes it: on a busy machine the first test once ran out of it.
        binary::path();
        let seed = match std::env::var("FLOTILLA_SEED") {
            Ok(text) => text.parse().expect("FLOTILLA_SEED is a number"),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
                u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
            }
        };
        println!(
            "{name}: the same choices again: FLOTILLA_SEED={seed} cargo test -p flotilla-tests --test process {name}"
        );
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads can be made");
        Self { name, seed, began: Instant::now(), runtime, _turn: turn }
    }

    /// A die for this purpose.
    pub(crate) fn dice(&self, label: &str) -> SplitMix {
        SplitMix::new(self.seed).fork(label)
    }

    /// Runs the test's story, which must end within `limit`.
    pub(crate) fn play<T>(&self, limit: Duration, story: impl Future<Output = T>) -> T {
        let name = self.name;
        let end = self.runtime.block_on(async { tokio::time::timeout(limit, story).await });
        end.unwrap_or_else(|_| {
            panic!("{name}: not at its end within {limit:?}; the lines above say how far it came")
        })
    }

    /// Says what happens, with the time since the beginning.
    pub(crate) fn say(&self, what: impl AsRef<str>) {
        println!("{}: {:7.3} s  {}", self.name, self.began.elapsed().as_secs_f64(), what.as_ref());
    }
}

/// Asks again and again until there is an answer; panics after `limit` with what was lacking last.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let lacking = match ask().await {
            Ok(answer) => return answer,
            Err(lacking) => lacking,
        };
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}: {lacking}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
