//! What garbage collection decides and what it finds when that comes through the log, told by scripts.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use bytes::Bytes;
use client_core::{Collected, CommitProtocol, Core, Error, Keyspace};
use sim::nodes::{SeededBug, Thread};
use sim::script::{Reply, Script, ScriptConfig, Topic};
use sim::{Handle, NodeId};
use std::time::Duration;
use store::Actor;

const WRITER: NodeId = NodeId(101);
const COLLECTOR: NodeId = NodeId(102);
/// Of a store: what is in the log waits for it.
const APPLIER: Thread = Thread::Runs(Actor::Applier(0));
/// How long old versions stay.
const LIFE: Duration = Duration::from_secs(2);
/// How far a safe point rises at once: longer than a cluster takes to begin and a story to delete.
const RISE: Duration = Duration::from_secs(60);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn write(core: &Core, value: Option<&'static str>) -> Result<(), Error> {
    let mut txn = core.txn().with_protocol(CommitProtocol::TwoPhase).begin();
    match value {
        Some(value) => txn.put("k", value).await?,
        None => txn.delete("k").await?,
    }
    txn.commit().await.map(|_| ())
}

/// Waits until there is a round of garbage collection, and resolves the locks that are too old for it.
async fn resolve(core: &Core, handle: &Handle) -> Result<(), Error> {
    while !matches!(core.collector().work().await?, Collected::Resolved { .. }) {
        handle.sleep(ms(200)).await;
    }
    Ok(())
}

/// Nothing was left of a key but that it was deleted, so a collection takes that away too; but the key was written between
/// its look and the entry by which it removes. Gives back what a transaction reads after that.
fn written_before_its_removal(bug: Option<raftstore::SeededBug>) -> Option<Bytes> {
    let pd = pd::Config { gc_life_time: LIFE, gc_interval: RISE, ..pd::Config::default() };
    let mut config = ScriptConfig { seed: 11, clients: 2, pd, ..ScriptConfig::default() };
    config.bugs.extend(bug.map(SeededBug::Regions));
    let mut script = Script::new(&config);
    script.boot();
    let deleted = script.work(COLLECTOR, |core, handle| async move {
        // The first round is of times before there was anything.
        resolve(&core, &handle).await?;
        core.collector().work().await?;
        write(&core, Some("old")).await?;
        write(&core, None).await.map(|()| Reply::Done)
    });
    script.wait(deleted).unwrap();
    script.run_for(LIFE + RISE);
    let resolved = script
        .work(COLLECTOR, |core, handle| async move { resolve(&core, &handle).await.map(|()| Reply::Done) });
    script.wait(resolved).unwrap();
    let known = script.work(WRITER, |core, _| async move {
        assert_eq!(core.txn().latest().await?.get("k").await?, None);
        Ok(Reply::Done)
    });
    script.wait(known).unwrap();

    let (leader, _) = script.leader_at(&Keyspace::TXN.encode(b"k")).unwrap();
    let commits = script.hold_one(Some(WRITER), Some(leader), &[Topic::Write], 1);
    let written =
        script.work(WRITER, |core, _| async move { write(&core, Some("new")).await.map(|()| Reply::Done) });
    script.wait_for("the key is locked", |script| script.held_at(commits) == 1);
    // The first step says that versions may be gone from now on, the second looks for them.
    let looks = script.hold_one(Some(COLLECTOR), Some(leader), &[Topic::Write], 1);
    let removed = script.work(COLLECTOR, |core, _| async move {
        let removed = core.collector().work().await?;
        assert_eq!(removed, Collected::Removed { versions: 2 });
        Ok(Reply::Done)
    });
    script.wait_for("the collection is about to look", |script| script.held_at(looks) == 1);
    script.hold(leader, APPLIER);
    script.open(commits);
    script.run_for(ms(20));
    script.open(looks);
    script.run_for(ms(20));
    script.go_on(leader, APPLIER);
    script.wait(written).unwrap();
    script.wait(removed).unwrap();
    let read = script
        .work(WRITER, |core, _| async move { core.txn().latest().await?.get("k").await.map(Reply::Value) });
    let Reply::Value(value) = script.wait(read).unwrap() else { panic!("a read brings a value") };
    value
}

#[test]
fn what_was_written_since_a_collection_looked_stays() {
    assert_eq!(written_before_its_removal(None), Some("new".into()));
}

#[test]
fn a_removal_of_what_is_new_is_noticed() {
    let bug = raftstore::SeededBug::RemovesWhatIsNew;
    assert_eq!(written_before_its_removal(Some(bug)), None, "the story shows it");
}
