//! Scans cross regions in both directions, whatever happens to the regions meanwhile, and end.

use crate::cluster::{Cluster, Fate};
use crate::world::World;
use crate::{ms, pair};
use client_core::{Error, KvPair, Options, ScanOptions};
use env::Dice;
use types::KeyRange;
use wire::kv::{KvCommand, KvReply};

fn filled(world: &World, count: usize) -> (Cluster, client_core::RawClient) {
    let cluster = Cluster::new(world, &["025", "050", "075"]);
    let raw = cluster.core(Options { read_attempt_timeout: ms(100), ..Options::default() }).raw();
    let mut state = cluster.state.lock();
    for n in 0..count {
        let key = client_core::Keyspace::RAW.encode(format!("{n:03}").as_bytes());
        state.data.insert(key, format!("v{n}").into());
    }
    // Neighbours that must not be seen: what lies right below and right above the key space.
    state.data.insert("q".into(), "below".into());
    state.data.insert(client_core::Keyspace::raw(1).expect("a small id").encode(b""), "above".into());
    drop(state);
    (cluster, raw)
}

fn expected(range: std::ops::Range<usize>) -> Vec<KvPair> {
    range.map(|n| pair(&format!("{n:03}"), &format!("v{n}"))).collect()
}

#[test]
fn a_scan_yields_every_pair_once_in_order_while_regions_change() {
    for seed in 0..30 {
        let world = World::new(seed);
        let (cluster, raw) = filled(&world, 100);
        let mut dice = world.dice("disturbance");
        let disturbed = cluster.clone();
        world.spawn(async move {
            loop {
                disturbed.world.sleep(dice.duration(ms(1), ms(15))).await;
                disturbed.disturb(&mut dice);
            }
        });
        world.run(async move {
            let options = ScanOptions { page_pairs: 6, ..ScanOptions::default() };
            let forward = raw.scan(KeyRange::full(), options.clone()).unwrap().into_vec().await.unwrap();
            assert_eq!(forward, expected(0..100), "seed {seed}");
            let reverse = ScanOptions { reverse: true, ..options };
            let mut backward =
                raw.scan(KeyRange::new("010", "090"), reverse).unwrap().into_vec().await.unwrap();
            backward.reverse();
            assert_eq!(backward, expected(10..90), "seed {seed}, in reverse");
        });
    }
}

#[test]
fn limits_prefixes_and_keys_only() {
    let world = World::new(1);
    let (_, raw) = filled(&world, 100);
    world.run(async move {
        assert_eq!(raw.scan_page(KeyRange::new("045", ""), 10).await.unwrap(), expected(45..55));
        assert_eq!(raw.scan_page(KeyRange::new("045", ""), 0).await.unwrap(), []);
        assert_eq!(raw.scan_page(KeyRange::new("045", "045"), 10).await.unwrap(), []);
        let last = ScanOptions { limit: Some(3), reverse: true, ..ScanOptions::default() };
        let mut last = raw.scan(KeyRange::full(), last).unwrap().into_vec().await.unwrap();
        last.reverse();
        assert_eq!(last, expected(97..100));
        let keys = ScanOptions { keys_only: true, ..ScanOptions::default() };
        let keys = raw.scan_prefix("05", keys).unwrap().into_vec().await.unwrap();
        assert_eq!(keys.len(), 10);
        assert!(keys.iter().all(|pair| pair.key.starts_with(b"05") && pair.value.is_empty()));
    });
}

#[test]
fn a_scan_reads_no_more_than_one_page_ahead_of_its_reader() {
    let world = World::new(2);
    let (cluster, raw) = filled(&world, 100);
    cluster.state.lock().scans_page_max = 1000;
    world.run({
        let cluster = cluster.clone();
        let clock = world.clone();
        async move {
            let options = ScanOptions { page_pairs: 10, ..ScanOptions::default() };
            let mut scan = raw.scan(KeyRange::full(), options).unwrap();
            let requested = || cluster.state.lock().kv_sent.len();
            clock.sleep(ms(100)).await;
            assert_eq!(requested(), 0, "nothing is read before somebody wants it");
            let (mut yielded, mut fetched_before) = (0, 0);
            while scan.next_pair().await.unwrap().is_some() {
                clock.sleep(ms(10)).await;
                yielded += 1;
                let fetched: usize = cluster.state.lock().kv_sent.len();
                assert!(fetched >= fetched_before);
                fetched_before = fetched;
                // Pages may be short, so pages are counted, in what they may hold at most.
                assert!(fetched <= yielded + 2, "{fetched} pages for {yielded} pairs");
                assert!(cluster.state.lock().in_flight <= 1);
            }
            assert_eq!(yielded, 100);
            assert_eq!(scan.remaining(), None);
        }
    });
}

#[test]
fn a_scan_that_failed_can_be_taken_up_where_it_stands() {
    for reverse in [false, true] {
        let world = World::new(3);
        let (cluster, raw) = filled(&world, 100);
        let mut pairs = world.run({
            let cluster = cluster.clone();
            async move {
                let options = ScanOptions { page_pairs: 10, reverse, ..ScanOptions::default() };
                let mut scan = raw.scan(KeyRange::new("005", ""), options.clone()).unwrap();
                let mut pairs = Vec::new();
                for _ in 0..37 {
                    pairs.push(scan.next_pair().await.unwrap().unwrap());
                }
                let disk = wire::kv::KvError::InvalidRequest { message: "no more".to_owned() };
                cluster.state.lock().fates.extend(vec![Fate::Refused(disk); 3]);
                let error = loop {
                    match scan.next_pair().await {
                        Ok(pair) => pairs.push(pair.unwrap()),
                        Err(error) => break error,
                    }
                };
                assert!(matches!(error, Error::InvalidArgument(_)));
                assert_eq!(scan.next_pair().await, Ok(None), "nothing follows an error");
                cluster.state.lock().fates.clear();
                let rest = raw.scan(scan.remaining().unwrap(), options).unwrap();
                pairs.extend(rest.into_vec().await.unwrap());
                pairs
            }
        });
        if reverse {
            pairs.reverse();
        }
        assert_eq!(pairs, expected(5..100));
    }
}

#[test]
fn pages_that_break_their_promises_end_the_scan_with_an_error() {
    let raw_key = |key: &str| client_core::Keyspace::RAW.encode(key.as_bytes());
    let found = |keys: &[&str]| {
        keys.iter().map(|key| KvPair { key: raw_key(key), value: "v".into(), ttl_ms: 0 }).collect::<Vec<_>>()
    };
    let page = |keys: &[&str], resume: Option<&str>| KvReply::Page {
        pairs: found(keys),
        resume: resume.map(raw_key),
    };
    let cases = [
        (false, page(&["000"], None), "a key before the range"),
        (false, page(&["030"], None), "a key of another region"),
        (false, page(&["012", "011"], None), "out of order"),
        (false, page(&["011", "011"], None), "twice the same"),
        (false, page(&["011", "012", "013"], None), "more than asked for"),
        (false, page(&[], Some("010")), "no progress"),
        (false, page(&["012"], Some("012")), "the same key again"),
        (false, page(&[], Some("030")), "past the region"),
        (true, page(&["012", "013"], None), "out of order in reverse"),
        (true, page(&[], Some("020")), "no progress in reverse"),
        (true, page(&["012"], Some("013")), "the same key again in reverse"),
        (true, page(&[], Some("000")), "before the range"),
        (false, KvReply::Written, "not a page"),
    ];
    for (reverse, reply, what) in cases {
        let world = World::new(4);
        let (cluster, raw) = filled(&world, 100);
        let result = world.run({
            let cluster = cluster.clone();
            async move {
                // Its region is known, so that the very next request is the scan's.
                raw.get("010").await.unwrap();
                cluster.state.lock().fates.push_back(Fate::Answered(reply));
                let options = ScanOptions { reverse, page_pairs: 2, ..ScanOptions::default() };
                raw.scan(KeyRange::new("010", "020"), options).unwrap().into_vec().await
            }
        });
        assert!(matches!(result, Err(Error::UnexpectedAnswer { .. })), "{what} gave {result:?}");
    }
}

#[test]
fn a_scan_asks_each_region_only_for_its_own_part() {
    let world = World::new(5);
    let (cluster, raw) = filled(&world, 100);
    world.run(async move {
        raw.scan(KeyRange::full(), ScanOptions::default()).unwrap().into_vec().await.unwrap()
    });
    let state = cluster.state.lock();
    for (_, request) in &state.kv_sent {
        let KvCommand::Scan(scan) = &request.command else { panic!("only a scan was made") };
        let lead = state.regions.values().find(|lead| lead.region.id == request.region_id).unwrap();
        assert!(lead.region.range.covers(&scan.range));
        assert!(scan.limit > 0 && scan.bytes_max > 0, "the work of a request is bounded");
    }
}
