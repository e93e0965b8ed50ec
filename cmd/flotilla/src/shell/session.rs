//! One session: the transaction that is open, and what lines do.

use super::words::{COMMANDS, Said, read};
use crate::outcome::Usage;
use crate::text::show_key;
use bytes::Bytes;
use client::{
    Error, Isolation, KeyRange, KvPair, LockInfo, Savepoint, ScanOptions, SeenWait, Snapshot, Timestamp,
    Transaction, TxnClient, VersionKind, WaitEdge,
};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::process::Command;
use types::Key;

/// Locks that are printed at most.
const LOCKS_MAX: usize = 1_000;

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Done {
    Next,
    Quit,
}

pub(super) struct Session {
    client: TxnClient,
    transaction: Option<Transaction>,
    /// Of the transaction that is open, by what they were called.
    savepoints: BTreeMap<String, Savepoint>,
    /// As of when reads outside of a transaction are.
    at: Option<Timestamp>,
}

impl Session {
    pub(super) fn new(client: TxnClient) -> Self {
        Self { client, transaction: None, savepoints: BTreeMap::new(), at: None }
    }

    /// Says whether a transaction is open.
    pub(super) fn prompt(&self) -> &'static str {
        match (&self.transaction, self.at) {
            (Some(_), _) => "flotilla (in a transaction)> ",
            (None, Some(_)) => "flotilla (looking back)> ",
            (None, None) => "flotilla> ",
        }
    }

    /// Gives up what is open.
    pub(super) async fn end(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            println!("rolled back: it was not committed");
            // What it leaves behind runs out.
            let _ = transaction.rollback().await;
        }
    }

    /// Does what a line says, and prints what comes of it.
    pub(super) async fn obey(&mut self, line: &str) -> anyhow::Result<Done> {
        match read(line)? {
            Said::Nothing => {}
            Said::Get(key) => match self.get(key).await? {
                Some(value) => println!("{}", show_key(&value)),
                None => println!("no value"),
            },
            Said::Put(key, value) => self.write(Write::Put(key, value)).await?,
            Said::Insert(key, value) => self.write(Write::Insert(key, value)).await?,
            Said::Delete(key) => self.write(Write::Delete(key)).await?,
            Said::Scan(start, end) => self.scan(KeyRange::new(start, end)).await?,
            Said::Prefix(prefix) => self.scan(KeyRange::prefix(prefix)).await?,
            Said::Begin { is_pessimistic, is_serializable } => {
                self.begin(is_pessimistic, is_serializable).await?;
            }
            Said::Lock(key) => match self.open()?.get_for_update(key).await? {
                Some(value) => println!("{}", show_key(&value)),
                None => println!("no value"),
            },
            Said::Commit => {
                self.open()?;
                let transaction = self.transaction.take().expect("one is open");
                match transaction.commit().await? {
                    Some(at) => println!("committed at {}", at.0),
                    None => println!("committed; there was nothing to write"),
                }
            }
            Said::Rollback => {
                self.open()?;
                self.transaction.take().expect("one is open").rollback().await?;
                println!("rolled back");
            }
            Said::Savepoint(name) => {
                let savepoint = self.open()?.savepoint()?;
                println!("from here on `rollback {name}` takes back what is written");
                self.savepoints.insert(name, savepoint);
            }
            Said::RollbackTo(name) => {
                let known = self.savepoints.get(&name).copied();
                let transaction = self.open()?;
                let savepoint = known.ok_or_else(|| Usage(format!("there is no savepoint `{name}`")))?;
                transaction.rollback_to(savepoint)?;
                println!("what was written since is taken back; what was locked stays locked");
            }
            Said::At(at) => self.look_at(at)?,
            Said::Timestamp => println!("{}", self.client.timestamp().await?.0),
            Said::Locks(start, end) => self.locks(KeyRange::new(start, end)).await?,
            Said::Mvcc(key) => self.history(key).await?,
            Said::System(command) => system(&command)?,
            Said::Help => help(),
            Said::Quit => return Ok(Done::Quit),
        }
        Ok(Done::Next)
    }

    /// The transaction that is open.
    fn open(&mut self) -> Result<&mut Transaction, Usage> {
        let none = || Usage("no transaction is open: `begin` one".to_owned());
        self.transaction.as_mut().ok_or_else(none)
    }

    async fn begin(&mut self, is_pessimistic: bool, is_serializable: bool) -> anyhow::Result<()> {
        if self.transaction.is_some() {
            return Err(Usage("a transaction is open: `commit` it, or `rollback`".to_owned()).into());
        }
        let isolation = if is_serializable { Isolation::Serializable } else { Isolation::Snapshot };
        let client = self.client.with_isolation(isolation);
        let transaction = match is_pessimistic {
            true => client.begin_pessimistic(),
            false => client.begin(),
        };
        // Whoever types it means this moment, and not the one of the next line.
        let begun_at = transaction.begin_now().await?;
        self.savepoints.clear();
        println!("begun at {}", begun_at.0);
        self.transaction = Some(transaction);
        Ok(())
    }

    fn look_at(&mut self, at: Option<u64>) -> Result<(), Usage> {
        if self.transaction.is_some() {
            return Err(Usage("a transaction reads as of its beginning".to_owned()));
        }
        self.at = at.map(Timestamp);
        println!("reading as of {}", at.map_or_else(|| "now".to_owned(), |at| at.to_string()));
        Ok(())
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        match self.at {
            Some(at) => Ok(self.client.snapshot(at)),
            None => self.client.latest().await,
        }
    }

    async fn get(&self, key: Key) -> Result<Option<Bytes>, Error> {
        match &self.transaction {
            Some(transaction) => transaction.get(key).await,
            None => self.snapshot().await?.get(key).await,
        }
    }

    async fn scan(&self, range: KeyRange) -> anyhow::Result<()> {
        let options = ScanOptions::default();
        let mut scan = match &self.transaction {
            Some(transaction) => transaction.scan(range, options)?,
            None => self.snapshot().await?.scan(range, options)?,
        };
        while let Some(KvPair { key, value, .. }) = scan.next().await.transpose()? {
            println!("{}\t{}", show_key(&key), show_key(&value));
        }
        Ok(())
    }

    /// In the transaction that is open, or in one of its own.
    async fn write(&mut self, write: Write) -> anyhow::Result<()> {
        if let Some(transaction) = &mut self.transaction {
            write.make(transaction).await?;
            println!("written, and seen by others once it is committed");
            return Ok(());
        }
        if self.at.is_some() {
            return Err(Usage("nothing is written in the past: `at` first".to_owned()).into());
        }
        let client = self.client.clone();
        client
            .run(|mut attempt| {
                let write = write.clone();
                async move { write.make(&mut attempt).await }
            })
            .await?;
        println!("done");
        Ok(())
    }

    async fn locks(&self, range: KeyRange) -> Result<(), Error> {
        let locks = self.client.locks(range.clone(), LOCKS_MAX).await?;
        for lock in &locks {
            println!("{}\t{}", show_key(&lock.key), told(lock, &lock.primary));
        }
        println!("{} locks", locks.len());
        for SeenWait { store_id, edge, age_ms } in self.client.lock_waits(range).await? {
            let WaitEdge { waiter_ts, lock_ts, key } = edge;
            println!(
                "{}\tthe transaction begun at {} waits for that begun at {}, for {age_ms} ms, at store {store_id}",
                show_key(&key),
                waiter_ts.0,
                lock_ts.0
            );
        }
        Ok(())
    }

    async fn history(&self, key: Key) -> Result<(), Error> {
        let history = self.client.history(key).await?;
        if let Some(lock) = &history.lock {
            let primary = self.client.keyspace().decode(&lock.primary);
            println!("locked: {}", told(lock, primary.as_ref().unwrap_or(&lock.primary)));
        }
        for version in &history.versions {
            let what = match version.kind {
                VersionKind::Put => format!("put {}", show_key(version.value.as_deref().unwrap_or_default())),
                VersionKind::Delete => "delete".to_owned(),
                VersionKind::Lock => "locked, and not changed".to_owned(),
                VersionKind::Rollback => "rolled back".to_owned(),
            };
            println!("{}\t{what}\tbegun at {}", version.commit_ts.0, version.start_ts.0);
        }
        println!("{} versions", history.versions.len());
        Ok(())
    }
}

fn told(lock: &LockInfo, primary: &Key) -> String {
    let kind = format!("{:?}", lock.kind).to_lowercase();
    format!("{kind}, begun at {}, {} ms to live, primary {}", lock.start_ts.0, lock.ttl_ms, show_key(primary))
}

#[derive(Clone)]
enum Write {
    Put(Key, Bytes),
    Insert(Key, Bytes),
    Delete(Key),
}

impl Write {
    async fn make(self, transaction: &mut Transaction) -> Result<(), Error> {
        match self {
            Self::Put(key, value) => transaction.put(key, value).await,
            Self::Insert(key, value) => transaction.insert(key, value).await,
            Self::Delete(key) => transaction.delete(key).await,
        }
    }
}

fn system(command: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").arg("-c").arg(command).status()?;
    match status.success() {
        true => Ok(()),
        false => anyhow::bail!("`{command}` ended with {status}"),
    }
}

fn help() {
    for command in COMMANDS {
        println!("  {:<26} {}", format!("{} {}", command.name, command.takes), command.does);
    }
}
