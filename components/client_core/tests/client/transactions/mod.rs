//! Transactions against stores that do the real commands, while everything around them goes wrong.

#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod anomalies;
mod at_once;
mod bank;
mod beginning;
mod commits;
mod crashes;
mod locks;
mod reads;
mod reserved;
mod retries;
mod savepoints;
mod serializable;
mod timestamps;

use crate::cluster::{Cluster, Fate};
use crate::process::Process;
use crate::world::World;
use bytes::Bytes;
use client_core::{CommitProtocol, Options, Transaction, TxnClient};
use std::time::Duration;
use wire::kv::{KvCommand, KvRequest};
use wire::txn::TxnCommand;

/// Keys of three regions.
const KEYS: [&str; 3] = ["a", "b", "c"];

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn options() -> Options {
    Options { read_attempt_timeout: crate::ms(200), pd_attempt_timeout: crate::ms(200), ..Options::default() }
}

/// Three regions, with a key in each.
fn three_regions(world: &World) -> Cluster {
    let cluster = Cluster::new(world, &[]);
    cluster.cut_txn(&["b", "c"]);
    cluster
}

/// A client whose transactions commit in two phases.
fn client(cluster: &Cluster) -> TxnClient {
    cluster.core(options()).txn().with_protocol(CommitProtocol::TwoPhase)
}

/// In every way, by turns.
fn protocol(number: u64) -> CommitProtocol {
    match number % 3 {
        0 => CommitProtocol::OnePhase,
        1 => CommitProtocol::AsyncCommit,
        _ => CommitProtocol::TwoPhase,
    }
}

/// A client whose process can be ended.
fn mortal(cluster: &Cluster) -> (Process, TxnClient) {
    let process = Process::new(cluster);
    let txn = process.core(options()).txn().with_protocol(CommitProtocol::TwoPhase);
    (process, txn)
}

/// The same transaction, begun now rather than when it first has to.
async fn begun(transaction: Transaction) -> Transaction {
    transaction.begin_now().await.unwrap();
    transaction
}

/// Sets keys in one transaction.
async fn set(txn: &TxnClient, pairs: &[(&'static str, &'static str)]) {
    let mut transaction = txn.begin();
    for (key, value) in pairs {
        transaction.put(*key, *value).await.unwrap();
    }
    transaction.commit().await.unwrap().unwrap();
}

/// What the three keys hold now.
async fn now(txn: &TxnClient) -> Vec<Option<Bytes>> {
    txn.latest().await.unwrap().batch_get(KEYS).await.unwrap()
}

fn all(value: &'static str) -> Vec<Option<Bytes>> {
    vec![Some(Bytes::from(value)); 3]
}

/// Decides by command what becomes of requests.
fn script(cluster: &Cluster, mut decide: impl FnMut(&TxnCommand) -> Option<Fate> + Send + 'static) {
    let script = move |request: &KvRequest| match &request.command {
        KvCommand::Txn(command) => decide(command),
        _ => None,
    };
    cluster.state.lock().script = Some(Box::new(script));
}

/// What requests of transactions were sent, by name.
fn sent(cluster: &Cluster) -> Vec<&'static str> {
    let name = |(_, request): &(_, KvRequest)| match &request.command {
        KvCommand::Txn(command) => Some(match **command {
            TxnCommand::Prewrite(_) => "prewrite",
            TxnCommand::Commit { .. } => "commit",
            TxnCommand::Rollback { .. } => "rollback",
            TxnCommand::CleanUp { .. } => "clean-up",
            TxnCommand::CheckStatus(_) => "status",
            TxnCommand::CheckSecondaries { .. } => "secondaries",
            TxnCommand::Resolve { .. } => "resolve",
            TxnCommand::Heartbeat { .. } => "heartbeat",
            TxnCommand::Acquire(_) => "acquire",
            TxnCommand::Release { .. } => "release",
            TxnCommand::Guard { .. } => "guard",
            TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. } => "collect",
        }),
        _ => None,
    };
    cluster.state.lock().kv_sent.iter().filter_map(name).collect()
}

fn count(cluster: &Cluster, name: &str) -> usize {
    sent(cluster).into_iter().filter(|sent| *sent == name).count()
}
