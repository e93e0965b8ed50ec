//! Reads under a lease, while the peer steps down, leads again, is cut, or loses its lease to time.

use crate::local_read::LocalReader;
use crate::meta::{Delegate, StoreMeta};
use crate::schedules::{caught, hold};
use crate::sync::{AtomicU64, Ordering};
use bytes::Bytes;
use engine::{Cf, Engine as _, MemEngine, Snapshot as _, WriteBatch};
use env::Clock;
use shuttle::thread;
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use store::{Query, ReadLimits};
use types::{Epoch, Key, KeyRange, MonoTime, Peer, Region, RegionId, Term};
use wire::kv::{KvCommand, KvReply};

const REGION: RegionId = RegionId(1);
/// When the second lease ends.
const LEASE_END: MonoTime = MonoTime(200);

fn limits() -> ReadLimits {
    ReadLimits { bytes_max: 1 << 20, pairs_max: 10, bugs: store::RecordBugs::default() }
}

/// What the readers and the peer have in common. `truth` is the largest value that was acknowledged anywhere: its steps
/// are no choice of the scheduler's.
struct World {
    meta: Arc<StoreMeta>,
    engine: MemEngine,
    truth: Mutex<u64>,
    now: Mutex<u64>,
    moments: AtomicU64,
}

impl Clock for World {
    fn now(&self) -> MonoTime {
        self.pause();
        MonoTime(*self.now.lock().unwrap())
    }
}

fn key() -> Key {
    Key::from_static(b"k")
}

fn region(version: u64) -> Region {
    let epoch = Epoch { version, ..Epoch::default() };
    Region { id: REGION, range: KeyRange::new("", ""), epoch, ..Region::default() }
}

impl World {
    fn new() -> Arc<Self> {
        let meta = Arc::new(StoreMeta::new());
        meta.replace(None, &[region(1)]);
        let (truth, now) = (Mutex::new(0), Mutex::new(10));
        let world = Self { meta, engine: MemEngine::new(), truth, now, moments: AtomicU64::new(0) };
        world.apply(1);
        world.acknowledge(1);
        world.lead(6, 1, MonoTime(100));
        Arc::new(world)
    }

    /// Others may run here.
    fn pause(&self) {
        self.moments.fetch_add(1, Ordering::Relaxed);
    }

    /// A write is in this store's engine.
    fn apply(&self, value: u64) {
        self.pause();
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, &key(), &value.to_be_bytes());
        self.engine.write(&batch).unwrap();
    }

    /// Its client knows of it.
    fn acknowledge(&self, value: u64) {
        self.pause();
        *self.truth.lock().unwrap() = value;
    }

    /// The peer's data is removed from this store.
    fn clear(&self) {
        self.pause();
        let mut batch = WriteBatch::new();
        batch.delete(Cf::Default, &key());
        self.engine.write(&batch).unwrap();
    }

    fn lead(&self, term: u64, version: u64, until: MonoTime) {
        let delegate = Arc::new(Delegate::new(region(version), Peer::default(), Term(term)));
        delegate.renew(until);
        self.meta.set_delegate(REGION, Some(delegate));
    }

    fn step_down(&self) {
        self.meta.set_delegate(REGION, None);
    }

    /// What happens to a peer: it steps down and another leads and writes, it leads again and writes itself, its lease
    /// runs out and another writes, and at last it is destroyed.
    fn live(&self, revokes_in_time: bool) {
        if revokes_in_time {
            self.step_down();
        }
        self.acknowledge(2);
        if !revokes_in_time {
            self.step_down();
        }
        self.apply(2);
        self.lead(7, 1, LEASE_END);
        self.apply(3);
        self.acknowledge(3);
        self.pause();
        // From here on nobody asks this peer before another leads.
        *self.now.lock().unwrap() = LEASE_END.0;
        self.acknowledge(4);
        self.meta.replace(Some(REGION), &[]);
        self.clear();
    }
}

/// How a reader reads.
trait Reader: Send + 'static {
    fn new(world: &World) -> Self;
    /// All that is read until this is called again arrived before.
    fn begin_batch(&mut self);
    /// The value; `None` if the leader's worker is to be asked.
    fn read(&mut self, world: &World) -> Option<u64>;
}

fn number(value: Option<Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

impl Reader for LocalReader<MemEngine> {
    fn new(world: &World) -> Self {
        let oracle = std::sync::Arc::new(store::Oracle::new(std::sync::Arc::default(), || {}));
        Self::new(world.engine.clone(), world.meta.clone(), Arc::default(), oracle, limits())
    }

    fn begin_batch(&mut self) {
        Self::begin_batch(self);
    }

    fn read(&mut self, world: &World) -> Option<u64> {
        let epoch = region(1).epoch;
        let get = KvCommand::Get { key: key() };
        let query = Query { command: &get, refusal: None, held: None };
        let answer = Self::read(self, world, REGION, epoch, query).unwrap()?;
        let Ok(KvReply::Value(value)) = answer else { panic!("a get is answered by {answer:?}") };
        Some(number(value))
    }
}

/// Never begins a batch.
struct KeepsItsView(LocalReader<MemEngine>);

impl Reader for KeepsItsView {
    fn new(world: &World) -> Self {
        Self(Reader::new(world))
    }

    fn begin_batch(&mut self) {}

    fn read(&mut self, world: &World) -> Option<u64> {
        Reader::read(&mut self.0, world)
    }
}

/// Asks for the lease first, and takes its view of the engine afterwards.
struct LooksTooEarly;

impl Reader for LooksTooEarly {
    fn new(_: &World) -> Self {
        Self
    }

    fn begin_batch(&mut self) {}

    fn read(&mut self, world: &World) -> Option<u64> {
        let delegate = world.meta.delegate(REGION)?;
        if !delegate.covers(world.now()) {
            return None;
        }
        world.pause();
        Some(number(world.engine.snapshot().get(Cf::Default, &key()).unwrap()))
    }
}

/// Keeps the end of the lease beside the delegate, and does not look whether it was revoked.
#[derive(Default)]
struct KeepsTheLease {
    until: Option<MonoTime>,
}

impl Reader for KeepsTheLease {
    fn new(_: &World) -> Self {
        Self::default()
    }

    fn begin_batch(&mut self) {}

    fn read(&mut self, world: &World) -> Option<u64> {
        let until = match self.until {
            Some(until) => until,
            None => *self.until.insert(world.meta.delegate(REGION)?.lease_until()),
        };
        let snapshot = world.engine.snapshot();
        (world.now() < until).then(|| number(snapshot.get(Cf::Default, &key()).unwrap()))
    }
}

/// Reads the clock when the batch begins.
struct KeepsTheTime {
    began: Cell<MonoTime>,
}

impl Reader for KeepsTheTime {
    fn new(world: &World) -> Self {
        Self { began: Cell::new(world.now()) }
    }

    fn begin_batch(&mut self) {}

    fn read(&mut self, world: &World) -> Option<u64> {
        let delegate = world.meta.delegate(REGION)?;
        let snapshot = world.engine.snapshot();
        delegate.covers(self.began.get()).then(|| number(snapshot.get(Cf::Default, &key()).unwrap()))
    }
}

/// Readers beside a peer's life. What was acknowledged before a batch began must be seen by its reads.
fn read_beside<R: Reader>(revokes_in_time: bool) {
    let world = World::new();
    let readers = [(); 2].map(|()| {
        let world = world.clone();
        thread::spawn(move || {
            let mut reader = R::new(&world);
            for _ in 0..3 {
                let acknowledged = *world.truth.lock().unwrap();
                reader.begin_batch();
                for _ in 0..2 {
                    if let Some(value) = reader.read(&world) {
                        assert!(value >= acknowledged, "read {value} after {acknowledged} was acknowledged");
                    }
                }
            }
        })
    });
    world.live(revokes_in_time);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_read_under_a_lease_sees_all_that_was_acknowledged_before_it() {
    hold(|| read_beside::<LocalReader<MemEngine>>(true));
}

#[test]
fn a_lease_that_is_revoked_after_another_has_written_is_caught() {
    let said = caught(|| read_beside::<LocalReader<MemEngine>>(false));
    assert!(said.contains("was acknowledged"), "{said}");
}

#[test]
fn a_view_that_outlives_its_batch_is_caught() {
    let said = caught(|| read_beside::<KeepsItsView>(true));
    assert!(said.contains("was acknowledged"), "{said}");
}

#[test]
fn a_lease_that_is_looked_at_before_the_view_is_taken_is_caught() {
    let said = caught(|| read_beside::<LooksTooEarly>(true));
    assert!(said.contains("read 0 after"), "{said}");
}

#[test]
fn a_lease_that_is_kept_beside_the_delegate_is_caught() {
    let said = caught(|| read_beside::<KeepsTheLease>(true));
    assert!(said.contains("was acknowledged"), "{said}");
}

#[test]
fn a_clock_that_is_read_before_the_batch_is_caught() {
    let said = caught(|| read_beside::<KeepsTheTime>(true));
    assert!(said.contains("was acknowledged"), "{said}");
}
