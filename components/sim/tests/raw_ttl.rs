//! Raw values that end: the product's clients, stores and placement driver, with clocks that drift.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use bytes::Bytes;
use client_core::{Core, Error, ScanOptions, Swap, TimeToLive};
use env::{Dice as _, SplitMix};
use parking_lot::Mutex;
use sim::nodes::{SeededBug, Thread};
use sim::script::{Reply, Script, ScriptConfig};
use sim::{CrashKind, Handle, NodeId};
use std::sync::Arc;
use std::time::Duration;
use store::Actor;
use types::{KeyRange, MonoTime};

/// All hands belong to one machine, whose clock is exact: so their times can be compared.
const CLIENT: NodeId = NodeId(101);
const OTHER: NodeId = NodeId(102);
const KEYS: u64 = 4;
/// By how much stores may know the time wrongly: what their clocks drift between two words from the placement driver, and
/// the time that such a word takes.
const SKEW: Duration = ms(400);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn key(number: u64) -> String {
    format!("k{number}")
}

/// What a hand did, or saw, between two moments.
#[derive(Clone, Debug)]
struct Deed {
    key: u64,
    from: MonoTime,
    /// The end of time for a write of which nobody knows whether it was made.
    to: MonoTime,
    what: What,
}

#[derive(Clone, PartialEq, Debug)]
enum What {
    /// Each value is written once.
    Wrote {
        value: Bytes,
        ttl: Option<Duration>,
    },
    Removed,
    Saw(Option<Bytes>),
}

type History = Arc<Mutex<Vec<Deed>>>;

/// What cannot be: a value that is seen too late or not at all, whatever the order of deeds that overlap.
fn judge(history: &[Deed]) -> Result<u64, String> {
    let writes =
        |key: u64| history.iter().filter(move |deed| deed.key == key && !matches!(deed.what, What::Saw(_)));
    let mut ended = 0;
    for read in history {
        let What::Saw(seen) = &read.what else { continue };
        match seen {
            Some(seen) => {
                let is_it = |deed: &&Deed| matches!(&deed.what, What::Wrote { value, .. } if value == seen);
                let Some(write) = writes(read.key).find(is_it) else {
                    return Err(format!("nobody wrote what {read:?} has seen"));
                };
                if let What::Wrote { ttl: Some(ttl), .. } = write.what
                    && write.to < MonoTime::MAX
                    && read.from >= write.to + ttl + SKEW
                {
                    return Err(format!("seen after its end: {write:?}, {read:?}"));
                }
                let over = |deed: &&Deed| deed.from >= write.to && deed.to <= read.from;
                if let Some(over) = writes(read.key).find(over) {
                    return Err(format!("seen after it was replaced: {write:?}, {over:?}, {read:?}"));
                }
            }
            None => {
                let is_there = |write: &&Deed| {
                    let What::Wrote { ttl, .. } = write.what else { return false };
                    let lives = ttl.is_none_or(|ttl| read.to + SKEW < write.from + ttl);
                    let others = writes(read.key).filter(|deed| deed.what != write.what);
                    write.to <= read.from
                        && lives
                        && others.into_iter().all(|deed| deed.to <= write.from || deed.from >= read.to)
                };
                if let Some(write) = writes(read.key).find(is_there) {
                    return Err(format!("gone before its end: {write:?}, {read:?}"));
                }
                ended += 1;
            }
        }
    }
    Ok(ended)
}

/// One who writes and reads, for as long as `until`.
struct Hand {
    core: Core,
    handle: Handle,
    history: History,
    dice: SplitMix,
    number: u64,
    made: u64,
}

impl Hand {
    fn note(&self, key: u64, from: MonoTime, to: MonoTime, what: What) {
        self.history.lock().push(Deed { key, from, to, what });
    }

    /// Notes a write; of one that was surely not made there is nothing to note.
    fn wrote(&self, key: u64, from: MonoTime, what: What, result: &Result<(), Error>) {
        match result {
            Ok(()) => self.note(key, from, self.handle.now(), what),
            Err(Error::Undetermined { .. }) => self.note(key, from, MonoTime::MAX, what),
            Err(_) => {}
        }
    }

    async fn works(mut self, until: MonoTime) {
        while self.handle.now() < until {
            self.one().await;
            self.handle.sleep(ms(self.dice.below(60))).await;
        }
    }

    async fn one(&mut self) {
        let (number, raw) = (self.dice.below(KEYS), self.core.raw());
        self.made += 1;
        let value = Bytes::from(format!("{} of {}", self.made, self.number));
        let ttl = self.dice.duration(ms(300), ms(2_500));
        let from = self.handle.now();
        match self.dice.below(10) {
            0 => {
                let result = raw.put(key(number), value.clone()).await;
                self.wrote(number, from, What::Wrote { value, ttl: None }, &result);
            }
            1 => {
                let result = raw.delete(key(number)).await;
                self.wrote(number, from, What::Removed, &result);
            }
            2 => {
                let result = raw.put_with_ttl(key(number), value.clone(), ttl).await;
                self.wrote(number, from, What::Wrote { value, ttl: Some(ttl) }, &result);
            }
            3..=5 => {
                let result = raw.put_if_absent_with_ttl(key(number), value.clone(), ttl).await;
                self.swapped(number, from, value, ttl, result);
            }
            6 => {
                let Ok(found) = raw.get(key(number)).await else { return };
                self.note(number, from, self.handle.now(), What::Saw(found.clone()));
                let from = self.handle.now();
                let result = raw.compare_and_swap_with_ttl(key(number), found, value.clone(), ttl).await;
                self.swapped(number, from, value, ttl, result);
            }
            7 => {
                let options = ScanOptions { reverse: self.dice.chance(1, 2), ..ScanOptions::default() };
                let scan = raw.scan(KeyRange::prefix("k"), options).unwrap();
                let Ok(pairs) = scan.into_vec().await else { return };
                for number in 0..KEYS {
                    let found = pairs.iter().find(|pair| pair.key == key(number));
                    let found = found.map(|pair| pair.value.clone());
                    self.note(number, from, self.handle.now(), What::Saw(found));
                }
            }
            _ => {
                let Ok(found) = raw.get(key(number)).await else { return };
                self.note(number, from, self.handle.now(), What::Saw(found));
            }
        }
    }

    fn swapped(&self, key: u64, from: MonoTime, value: Bytes, ttl: Duration, result: Result<Swap, Error>) {
        let write = What::Wrote { value, ttl: Some(ttl) };
        let to = self.handle.now();
        match result {
            Ok(Swap { succeeded, previous }) => {
                self.note(key, from, to, What::Saw(previous));
                if succeeded {
                    self.note(key, from, to, write);
                }
            }
            Err(error) => self.wrote(key, from, write, &Err(error)),
        }
    }
}

fn cluster(seed: u64, bug: Option<raftstore::SeededBug>) -> Script {
    let mut config = ScriptConfig { seed, clients: 2, ..ScriptConfig::default() };
    config.bugs.extend(bug.map(SeededBug::Regions));
    let mut script = Script::new(&config);
    script.boot();
    script
}

/// Hands at work while leaders move, stores crash and clocks drift, and while what is over is removed now and then.
fn play(seed: u64, bug: Option<raftstore::SeededBug>) -> Result<u64, String> {
    let mut script = cluster(seed, bug);
    let mut dice = SplitMix::new(seed).fork("ttl");
    let history = History::default();
    for (place, node) in script.stores().to_vec().into_iter().enumerate() {
        script.set_drift(node, [-20_000, 0, 20_000][place % 3]);
    }
    let split = script.split(CLIENT, "k2");
    script.wait(split).unwrap();
    let length = ms(12_000);
    let (noted, drawn) = (history.clone(), dice.fork("hands"));
    let working = script.work(CLIENT, move |core, handle| async move {
        let until = handle.now() + length;
        for number in 0..5 {
            let (core, history) = (core.clone(), noted.clone());
            let dice = drawn.fork(&format!("{number}"));
            let hand = Hand { core, handle: handle.clone(), history, dice, number, made: 0 };
            handle.spawn(hand.works(until));
        }
        handle.sleep(length + ms(2_000)).await;
        Ok(Reply::Done)
    });
    script.work(OTHER, move |core, handle| async move {
        let until = handle.now() + length;
        while handle.now() < until {
            // Where it is refused, it goes on later.
            let _ = core.collector().expire().await;
            handle.sleep(ms(1_500)).await;
        }
        Ok(Reply::Done)
    });
    while script.answer(working).is_none() {
        script.run_for(dice.duration(ms(300), ms(1_500)));
        let stores = script.stores().to_vec();
        let node = stores[dice.below(stores.len() as u64) as usize];
        match (dice.below(3), script.leader_of("k1")) {
            (0, Some((leader, region))) if leader != node => {
                let _begun = script.transfer(OTHER, region.region.id, node);
            }
            (1, _) => {
                script.crash(node, CrashKind::Process);
                script.run_for(dice.duration(ms(50), ms(400)));
                script.restart(node);
            }
            _ => {}
        }
    }
    assert!(script.broken().is_empty(), "{:?}", script.broken());
    judge(&history.lock())
}

/// Values are there until their end and not longer, but for the moments by which stores know the time differently: for
/// gets, scans and conditions, over moves of leaders and crashes, and whatever is removed meanwhile.
#[test]
fn a_value_is_there_until_its_end_and_not_longer() {
    for seed in 0..4 {
        let ended = play(seed, None).unwrap_or_else(|found| panic!("seed {seed}: {found}"));
        assert!(ended > 100, "seed {seed}: only {ended} reads found nothing");
    }
}

#[test]
fn a_condition_that_holds_of_what_is_over_is_noticed() {
    let found = (0..4).find_map(|seed| play(seed, Some(raftstore::SeededBug::EndedValueCompared)).err());
    let found = found.expect("it is noticed");
    assert!(found.starts_with("seen after its end"), "{found}");
}

/// What a key held was over when somebody looked for such values, and was replaced before the removal came through the log.
fn replaced_before_its_removal(bug: Option<raftstore::SeededBug>) -> Option<Bytes> {
    let mut script = cluster(7, bug);
    let done = script.work(CLIENT, |core, handle| async move {
        core.raw().put_with_ttl("k", "old", ms(200)).await?;
        assert!(matches!(core.raw().get_ttl("k").await?, Some(TimeToLive::Left(left)) if left <= ms(200)));
        handle.sleep(ms(300)).await;
        assert_eq!(core.raw().get_ttl("k").await?, None);
        assert_eq!(core.raw().get("k").await?, None);
        // Everybody has found its region.
        Ok(Reply::Done)
    });
    script.wait(done).unwrap();
    let (leader, _) = script.leader_of("k").unwrap();
    script.hold(leader, Thread::Runs(Actor::Worker(0)));
    let put = script.put(CLIENT, "k", "new");
    script.run_for(ms(20));
    let removed =
        script.work(OTHER, |core, _| async move { core.collector().expire().await.map(|_| Reply::Done) });
    script.run_for(ms(60));
    script.go_on(leader, Thread::Runs(Actor::Worker(0)));
    script.wait(put).unwrap();
    script.wait(removed).unwrap();
    let get = script.get(CLIENT, "k");
    let Reply::Value(value) = script.wait(get).unwrap() else { panic!("a get brings a value") };
    value
}

#[test]
fn what_has_replaced_a_value_that_is_over_stays() {
    assert_eq!(replaced_before_its_removal(None), Some("new".into()));
}

#[test]
fn a_removal_of_whatever_is_there_is_noticed() {
    let bug = raftstore::SeededBug::RemovesWhatIsThere;
    assert_eq!(replaced_before_its_removal(Some(bug)), None, "the story shows it");
}

/// A value set without a time stays, also where one with a time was before; what is over is removed from the engine, not only
/// hidden.
#[test]
fn what_is_over_makes_room() {
    let mut script = cluster(9, None);
    let done = script.work(CLIENT, |core, handle| async move {
        let raw = core.raw();
        raw.batch_put_with_ttl([("a", "1"), ("b", "2"), ("c", "3")], ms(100)).await?;
        raw.put("b", "4").await?;
        assert_eq!(raw.get_ttl("b").await?, Some(TimeToLive::Unlimited));
        handle.sleep(ms(200)).await;
        let pairs = raw.scan_page(KeyRange::full(), 10).await?;
        assert_eq!(pairs.iter().map(|pair| &pair.key[..]).collect::<Vec<_>>(), [b"b"]);
        assert_eq!(core.collector().expire().await?, 2);
        assert_eq!(core.collector().expire().await?, 0, "they are gone");
        let swap = raw.compare_and_swap_with_ttl("b", Some("4".into()), "5", ms(50)).await?;
        assert!(swap.succeeded);
        handle.sleep(ms(100)).await;
        let swap = raw.compare_and_swap("b", Some("5".into()), Some("6".into())).await?;
        assert_eq!(swap, Swap { succeeded: false, previous: None }, "it is over");
        Ok(Reply::Done)
    });
    script.wait(done).unwrap();
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}

/// How long it takes until four thousand values that are over are removed, at so many bytes a second.
fn removal_takes(bytes_per_second: u64) -> Duration {
    let mut config = ScriptConfig { seed: 11, ..ScriptConfig::default() };
    config.store.gc_bytes_per_second = bytes_per_second;
    let mut script = Script::new(&config);
    script.boot();
    let took = Arc::new(Mutex::new(Duration::ZERO));
    let noted = Arc::clone(&took);
    let done = script.work(CLIENT, move |core, handle| async move {
        let pairs = (0..4_000).map(|number| (format!("key {number:060}"), "v"));
        core.raw().batch_put_with_ttl(pairs, ms(1)).await?;
        handle.sleep(ms(200)).await;
        let begun = handle.now();
        assert_eq!(core.collector().expire().await?, 4_000);
        *noted.lock() = handle.now().since(begun);
        Ok(Reply::Done)
    });
    script.wait(done).unwrap();
    assert!(script.broken().is_empty(), "{:?}", script.broken());
    *took.lock()
}

/// What is over is removed no faster than a store may write for it, which is told to whoever asks, and goes on.
#[test]
fn the_removal_keeps_to_its_rate() {
    // Some 80 bytes for each key, of which a second's worth is free.
    let (unbounded, bounded) = (removal_takes(0), removal_takes(64 << 10));
    assert!(unbounded < ms(1_000), "{unbounded:?}");
    assert!(bounded > ms(2_500) && bounded < ms(10_000), "{bounded:?}");
}
