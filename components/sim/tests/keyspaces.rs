//! Stores know which key spaces there are, and ask before they refuse one.

use client_core::{Error, InvalidArgument, Keyspace};
use sim::NodeId;
use sim::script::{Reply, Script, ScriptConfig};
use std::time::Duration;

const OPERATOR: NodeId = NodeId(101);
const CLIENT: NodeId = NodeId(102);

fn cluster(seed: u64) -> Script {
    let mut script = Script::new(&ScriptConfig { seed, ..ScriptConfig::default() });
    script.boot();
    script
}

/// A key space can be used the moment it is made, long before stores would have heard of it by themselves.
#[test]
fn a_key_space_that_was_just_made_is_used_at_once() {
    let mut script = cluster(1);
    let done = script.work(CLIENT, |core, handle| async move {
        for number in 0..20 {
            let made = core.admin().create_keyspace(format!("space-{number}"), None).await?;
            let begun = handle.now();
            let space = core.keyspace(made.name).await?;
            space.raw().put("k", "v").await?;
            let mut txn = space.txn().begin();
            txn.put("k", "w").await?;
            txn.commit().await?;
            assert!(handle.now().since(begun) < Duration::from_secs(2), "key space {number}");
        }
        Ok(Reply::Done)
    });
    script.wait(done).unwrap();
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}

/// Whoever makes an id up is told so by its number, for reads and writes, raw or in transactions; nothing of it is there when
/// a key space gets that id.
#[test]
fn an_id_that_nobody_was_given_is_refused_and_nothing_is_written() {
    let mut script = cluster(2);
    let done = script.work(CLIENT, |core, _| async move {
        let unknown: Error = InvalidArgument::UnknownKeyspaceId { id: 3 }.into();
        let raw = core.raw_in(Keyspace::raw(3).unwrap());
        let txn = core.txn_in(Keyspace::txn(3).unwrap()).unwrap();
        assert_eq!(raw.put("k", "v").await, Err(unknown.clone()));
        assert_eq!(raw.compare_and_swap("k", None, Some("v".into())).await, Err(unknown.clone()));
        assert_eq!(raw.get("k").await, Err(unknown.clone()));
        let mut transaction = txn.begin();
        transaction.put("k", "v").await?;
        assert_eq!(transaction.commit().await, Err(unknown));
        Ok(Reply::Done)
    });
    script.wait(done).unwrap();
    let made = script.work(OPERATOR, |core, _| async move {
        for name in ["one", "two", "three"] {
            core.admin().create_keyspace(name, None).await?;
        }
        let space = core.keyspace("three").await?;
        assert_eq!((space.id(), space.raw().get("k").await?), (3, None));
        assert_eq!(space.txn().latest().await?.get("k").await?, None);
        Ok(Reply::Done)
    });
    script.wait(made).unwrap();
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}
