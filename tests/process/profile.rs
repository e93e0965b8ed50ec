//! What a process says about itself when it is asked where its processor time and its memory go.

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::run::Run;
use std::time::Duration;

/// Names are looked up in a large binary, on a machine that may be busy.
const LIMIT: Duration = Duration::from_secs(120);

/// A store that works for a second says in which of our functions it did: as a picture for people, and in the form that
/// tools read. Only one profile is taken at a time, and what makes no sense is refused. Likewise what its memory is in use for.
#[test]
fn a_store_at_work_can_be_profiled() {
    let run = Run::begin("a_store_at_work_can_be_profiled");
    run.play(Duration::from_secs(300), async {
        let cluster = Cluster::start(1, &[]).await;
        let raw = cluster.client(Duration::from_secs(30)).await.raw();
        let address = cluster.stores[0].status_address.clone();
        let work = tokio::spawn(async move {
            for number in 0_u64.. {
                let pairs = (0..100).map(|key| (format!("{key}-{number}"), "value"));
                raw.batch_put(pairs).await.expect("a cluster that is well takes a write");
            }
        });
        let ask = |query: &str| {
            let (address, path) = (address.clone(), format!("/debug/pprof/profile?{query}"));
            async move { http::page_within(&address, &path, LIMIT).await }
        };
        // The first to come is served; the other is told to come again.
        let (one, other) = tokio::join!(
            ask("seconds=1&frequency=500&format=svg"),
            ask("seconds=1&frequency=500&format=svg")
        );
        let (picture, refused) = if one.is_ok() { (one, other) } else { (other, one) };
        let (picture, refused) = (picture.expect("a picture"), refused.expect_err("one at a time"));
        assert!(refused.contains("409"), "{refused}");
        // Whoever brings something takes the turn, so the threads of the sockets are sure to be seen, and others need not be.
        for name in ["<svg", "store-io", "raftstore::", "server::store::", "engine_rocks::"] {
            assert!(picture.contains(name), "{name} is not in the picture:\n{picture}");
        }
        run.say(format!("a picture of {} bars", picture.matches("class=\"f\"").count()));

        let proto = ask("seconds=1&frequency=500").await.expect("a profile for tools");
        for name in ["nanoseconds", "store-io", "raftstore::"] {
            assert!(proto.contains(name), "{name} is not in the profile");
        }
        // What its memory is in use for it tells at once.
        let heap = |query: &str| {
            let (address, path) = (address.clone(), format!("/debug/pprof/heap{query}"));
            async move { http::page_within(&address, &path, LIMIT).await }
        };
        let picture = heap("?format=svg").await.expect("a picture");
        for name in ["<svg", "Memory in use", "rocksdb::"] {
            assert!(picture.contains(name), "{name} is not in the picture:\n{picture}");
        }
        let proto = heap("").await.expect("a profile for tools");
        for name in ["inuse_space", "bytes", "rocksdb::"] {
            assert!(proto.contains(name), "{name} is not in the profile");
        }
        let refused = heap("?format=png").await.expect_err("no such form");
        assert!(refused.contains("400") && refused.contains("format=svg"), "{refused}");
        let refused = ask("seconds=never").await.expect_err("no number");
        assert!(refused.contains("400") && refused.contains("from 1 to 300"), "{refused}");
        work.abort();
    });
}
