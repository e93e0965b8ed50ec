//! A bank: transactions that move money between accounts while others count it.
//!
//! Tellers transfer, with and without reserving accounts first, and now and then walk away in the middle of a commit.
//! Auditors read all accounts, at once, one after another with long rests, or as they were some time ago; the sum must be
//! what was paid in. What each read saw is compared with what was committed by then when the run is over (INV-TXN-9), and
//! what tellers were told with what became of their transactions (INV-TXN-10).

use crate::check::{Broken, SnapshotRead, TxnOutcome};
use crate::executor::Handle;
use crate::fields::{Fields, Unreadable, duration_text};
use crate::workload::Session;
use bytes::Bytes;
use client_core::{
    Admin, CommitProtocol, Error, Keyspace, ScanOptions, Snapshot, Transaction, TxnClient, TxnError,
};
use env::{Dice, SplitMix};
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, KeyRange, Timestamp};

/// What is paid into each account.
const DEPOSIT: i64 = 100;
/// A teller who rests within a transaction does so up to this long.
const PAUSE_MAX: Duration = Duration::from_millis(300);
/// An auditor who reads one account after another rests up to this long in between.
const AUDITOR_REST_MAX: Duration = Duration::from_millis(500);
/// For so long an auditor has versions kept.
const HOLD: Duration = Duration::from_secs(5);
/// Reads that are kept for the end of the run.
const READS_MAX: usize = 50_000;

/// How large the bank is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BankConfig {
    /// Accounts; zero for no bank.
    pub accounts: u64,
    /// Tellers and auditors of each client node.
    pub tellers: u64,
    /// How long their transactions may go without a sign of life; zero for as long as usual.
    pub ttl: Duration,
}

impl BankConfig {
    /// A bank for one seed.
    #[must_use]
    pub fn draw(dice: &mut SplitMix) -> Self {
        let (accounts, tellers) = (2 + dice.below(8), 1 + dice.below(3));
        // Some are taken for abandoned while they are at work, many times in a run.
        let ttl = match dice.below(3) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(100 + dice.below(900)),
            _ => Duration::from_millis(1_000 + dice.below(4_000)),
        };
        Self { accounts, tellers, ttl }
    }

    pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            accounts: fields.added_number("accounts")?,
            tellers: fields.added_number("tellers")?,
            ttl: fields.added_duration("txn-ttl")?,
        })
    }

    /// The name of an account.
    #[must_use]
    pub fn account(&self, number: u64) -> Key {
        Key::from(format!("account-{:02}", number % self.accounts.max(1)))
    }

    fn accounts(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.accounts).map(|number| self.account(number))
    }
}

impl fmt::Display for BankConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accounts={} tellers={} txn-ttl={}", self.accounts, self.tellers, duration_text(self.ttl))
    }
}

/// What the bank's people have seen in a run.
#[derive(Default, Debug)]
pub struct Books {
    /// Reads at timestamps.
    pub reads: Vec<SnapshotRead>,
    /// Transactions that have written, by when they began.
    pub outcomes: Vec<(Timestamp, TxnOutcome)>,
    /// Counts of all accounts.
    pub audits: u64,
    /// Who came too late for what they wanted to see or write.
    pub too_late: u64,
}

/// A teller, who is an auditor too.
pub(crate) struct Teller {
    pub(crate) client: TxnClient,
    pub(crate) admin: Admin,
    pub(crate) session: Arc<Mutex<Session>>,
    pub(crate) handle: Handle,
    pub(crate) process: u64,
    pub(crate) dice: SplitMix,
}

impl Teller {
    /// Works until the session is over.
    pub(crate) async fn run(mut self) {
        let rest_max = self.session.lock().config.rest_max * 2;
        while !self.session.lock().is_over {
            let rest = self.dice.duration(Duration::ZERO, rest_max);
            self.handle.sleep(rest).await;
            // Whatever fails is tried by somebody again: what counts is what was seen.
            let done = match self.dice.below(20) {
                0..=8 => self.transfer(Way::Optimistic).await,
                9..=12 => self.transfer(Way::Pessimistic).await,
                13 => self.transfer(Way::WalksAway).await,
                14..=16 => self.audit().await,
                17 => self.audit_slowly().await,
                18 => self.audit_what_is_held().await,
                _ => self.audit_the_past().await,
            };
            if matches!(done, Err(Error::Txn(TxnError::BelowSafePoint { .. }))) {
                self.session.lock().books.too_late += 1;
            }
        }
    }

    /// After the faults have ended: money can be moved, and all of it is there.
    pub(crate) async fn probe(mut self) {
        loop {
            let moved = self.transfer(Way::Optimistic).await;
            let counted = match moved {
                Ok(()) => self.audit().await,
                Err(error) => Err(error),
            };
            match counted {
                Ok(()) => break,
                Err(error) => self.session.lock().probe_failure = Some(error.to_string()),
            }
            self.handle.sleep(Duration::from_millis(100)).await;
        }
    }

    fn bank(&self) -> BankConfig {
        self.session.lock().config.bank
    }

    fn saw(&self, key: &Key, at: Timestamp, value: Option<&Bytes>) {
        let reads = &mut self.session.lock().books.reads;
        if reads.len() < READS_MAX {
            let key = Keyspace::TXN.encode(key);
            reads.push(SnapshotRead { process: self.process, key, at, value: value.cloned() });
        }
    }

    fn ended(&self, start_ts: Timestamp, result: &Result<Option<Timestamp>, Error>) {
        let outcome = match result {
            Ok(None) => return,
            Ok(Some(commit_ts)) => TxnOutcome::Committed(*commit_ts),
            Err(Error::Undetermined { .. }) => TxnOutcome::Unknown,
            Err(_) => TxnOutcome::NotDone,
        };
        self.session.lock().books.outcomes.push((start_ts, outcome));
    }

    /// Moves money from one account to another, and opens them all first if nobody has.
    async fn transfer(&mut self, way: Way) -> Result<(), Error> {
        let bank = self.bank();
        let from = self.dice.below(bank.accounts);
        let to = (from + 1 + self.dice.below(bank.accounts - 1)) % bank.accounts;
        let (from, to) = (bank.account(from), bank.account(to));
        // All ways are met by each other.
        let protocol = match self.dice.below(4) {
            0 => CommitProtocol::TwoPhase,
            1 => CommitProtocol::AsyncCommit,
            _ => CommitProtocol::OnePhase,
        };
        self.client = self.client.with_protocol(protocol);
        let mut transaction = match way {
            Way::Pessimistic => self.client.begin_pessimistic(),
            Way::Optimistic | Way::WalksAway => self.client.begin(),
        };
        let balances = self.balances(&mut transaction, &from, &to, way).await;
        let balances = match balances {
            Ok(balances) => balances,
            Err(error) => return self.give_up(transaction, error).await,
        };
        let start_ts = begun(&transaction);
        let mut wrote = match balances {
            (Some(from_has), Some(to_has)) => {
                let amount = 1 + i64::try_from(self.dice.below(9)).expect("small");
                let mut wrote = self.put(&mut transaction, &from, from_has - amount).await;
                if wrote.is_ok() {
                    self.pause().await;
                    wrote = self.put(&mut transaction, &to, to_has + amount).await;
                }
                wrote
            }
            _ => self.open(&mut transaction, bank).await,
        };
        if wrote.is_ok() {
            wrote = self.sees_own_writes(&transaction, &from, &to).await;
        }
        if let Err(error) = wrote {
            return self.give_up(transaction, error).await;
        }
        self.pause().await;
        let result = match way {
            Way::WalksAway => {
                let patience = self.dice.duration(Duration::ZERO, PAUSE_MAX);
                let (commit, patience) = (pin!(transaction.commit()), pin!(self.handle.sleep(patience)));
                match select(commit, patience).await {
                    Either::Left((result, _)) => result,
                    // Nobody will ever say what became of it.
                    Either::Right(_) => {
                        self.session.lock().books.outcomes.push((start_ts, TxnOutcome::Unknown));
                        return Ok(());
                    }
                }
            }
            Way::Optimistic | Way::Pessimistic => transaction.commit().await,
        };
        self.ended(start_ts, &result);
        result.map(|_| ())
    }

    /// What two accounts hold; `None` for one that is not open.
    async fn balances(
        &mut self,
        transaction: &mut Transaction,
        from: &Key,
        to: &Key,
        way: Way,
    ) -> Result<(Option<i64>, Option<i64>), Error> {
        let mut found = [None, None];
        for (key, found) in [from, to].into_iter().zip(&mut found) {
            *found = match way {
                // Those see what was committed later too.
                Way::Pessimistic => transaction.get_for_update(key.clone()).await?,
                Way::Optimistic | Way::WalksAway => {
                    let value = transaction.get(key.clone()).await?;
                    self.saw(key, begun(transaction), value.as_ref());
                    value
                }
            };
            self.pause().await;
        }
        let [from, to] = found.map(|value| value.as_ref().map(balance_of));
        Ok((from, to))
    }

    /// Now and then looks at what it has written, before anybody else can.
    async fn sees_own_writes(
        &mut self,
        transaction: &Transaction,
        from: &Key,
        to: &Key,
    ) -> Result<(), Error> {
        if !self.dice.chance(1, 4) {
            return Ok(());
        }
        let one_by_one = self.dice.chance(1, 2);
        let mut seen = Vec::new();
        if one_by_one {
            for key in [from, to] {
                seen.extend(transaction.get(key.clone()).await?);
            }
        } else {
            let options = ScanOptions { reverse: self.dice.chance(1, 2), ..ScanOptions::default() };
            let pairs = transaction.scan(KeyRange::new("account-", "account-~"), options)?.into_vec().await?;
            let is_written = |pair: &client_core::KvPair| pair.key == *from || pair.key == *to;
            seen.extend(pairs.into_iter().filter(is_written).map(|pair| pair.value));
        }
        let own = format!(" {}-", self.process);
        let is_own = |value: &Bytes| std::str::from_utf8(value).is_ok_and(|text| text.contains(&own));
        if seen.len() != 2 || !seen.iter().all(is_own) {
            let at = begun(transaction);
            let facts =
                format!("process {} has written two accounts since {at:?} and sees {seen:?}", self.process);
            let broken = Broken { invariant: "INV-TXN-11 (own writes)", facts };
            self.session.lock().broken.get_or_insert(broken);
        }
        Ok(())
    }

    async fn open(&mut self, transaction: &mut Transaction, bank: BankConfig) -> Result<(), Error> {
        for account in bank.accounts() {
            transaction.insert(account, self.value(DEPOSIT)).await?;
        }
        Ok(())
    }

    async fn put(&mut self, transaction: &mut Transaction, key: &Key, balance: i64) -> Result<(), Error> {
        let value = self.value(balance);
        transaction.put(key.clone(), value).await
    }

    /// A balance, told apart from others of the same size; now and then too long to stand in its record.
    fn value(&mut self, balance: i64) -> Bytes {
        let filler = if self.dice.chance(1, 8) { ".".repeat(300) } else { String::new() };
        Bytes::from(format!("{balance} {}-{:x}{filler}", self.process, self.dice.next_u64() >> 32))
    }

    async fn give_up(&mut self, transaction: Transaction, error: Error) -> Result<(), Error> {
        let start_ts = transaction.start_timestamp();
        // What it leaves behind runs out.
        let _ = transaction.rollback().await;
        if let Some(start_ts) = start_ts {
            self.session.lock().books.outcomes.push((start_ts, TxnOutcome::NotDone));
        }
        Err(error)
    }

    async fn pause(&mut self) {
        if self.dice.chance(1, 4) {
            let rest = self.dice.duration(Duration::ZERO, PAUSE_MAX);
            self.handle.sleep(rest).await;
        }
    }

    /// Counts all accounts, by a scan or by their keys.
    async fn audit(&mut self) -> Result<(), Error> {
        let snapshot = self.client.latest().await?;
        self.count_at_once(snapshot).await
    }

    /// Counts what there was some time ago.
    async fn audit_the_past(&mut self) -> Result<(), Error> {
        let now = self.client.timestamp().await?;
        let ago = 1 + self.dice.below(3_000);
        let at = Timestamp::compose(now.physical_ms().saturating_sub(ago).max(1), now.logical());
        self.count_at_once(self.client.snapshot(at)).await
    }

    /// Counts what there was when it asked for that to be kept, some time later.
    async fn audit_what_is_held(&mut self) -> Result<(), Error> {
        let at = self.client.timestamp().await?;
        let name = format!("auditor-{}", self.process);
        self.admin.hold_safe_point(name.clone(), at, HOLD).await?;
        let rest = self.dice.duration(Duration::ZERO, HOLD);
        self.handle.sleep(rest).await;
        let counted = self.count_at_once(self.client.snapshot(at)).await;
        if let Err(Error::Txn(TxnError::BelowSafePoint { safe_point, .. })) = &counted {
            let now = self.client.timestamp().await?;
            let held_ms = u64::try_from(HOLD.as_millis()).expect("short");
            if now.physical_ms() < at.physical_ms() + held_ms {
                let facts =
                    format!("{at:?} was held, and is refused by {now:?}: the safe point is {safe_point:?}");
                let broken = Broken { invariant: "INV-PD-SAFEPOINT (what is held stays)", facts };
                self.session.lock().broken.get_or_insert(broken);
            }
        }
        // Otherwise its time runs out.
        let _ = self.admin.release_safe_point(name).await;
        counted
    }

    async fn count_at_once(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        let bank = self.bank();
        let accounts: Vec<Key> = bank.accounts().collect();
        let values: Vec<Option<Bytes>> = match self.dice.below(3) {
            0 => snapshot.batch_get(accounts.clone()).await?,
            kind => {
                let options = ScanOptions { reverse: kind == 1, ..ScanOptions::default() };
                let scan = snapshot.scan(KeyRange::new("account-", "account-~"), options)?;
                let mut pairs = scan.into_vec().await?;
                let found = |key: &Key, pairs: &mut Vec<client_core::KvPair>| {
                    let place = pairs.iter().position(|pair| pair.key == *key)?;
                    Some(pairs.swap_remove(place).value)
                };
                let values = accounts.iter().map(|key| found(key, &mut pairs)).collect();
                assert!(pairs.is_empty(), "a scan yields keys twice, or keys that nobody wrote: {pairs:?}");
                values
            }
        };
        self.counted(&snapshot, &accounts, &values);
        Ok(())
    }

    /// Counts one account after another, and takes the time for it.
    async fn audit_slowly(&mut self) -> Result<(), Error> {
        let snapshot = self.client.latest().await?;
        let accounts: Vec<Key> = self.bank().accounts().collect();
        let mut values = Vec::new();
        for account in &accounts {
            values.push(snapshot.get(account.clone()).await?);
            let rest = self.dice.duration(Duration::ZERO, AUDITOR_REST_MAX);
            self.handle.sleep(rest).await;
        }
        self.counted(&snapshot, &accounts, &values);
        Ok(())
    }

    fn counted(&self, snapshot: &Snapshot, accounts: &[Key], values: &[Option<Bytes>]) {
        let at = snapshot.timestamp();
        for (account, value) in accounts.iter().zip(values) {
            self.saw(account, at, value.as_ref());
        }
        let open: Vec<i64> = values.iter().flatten().map(balance_of).collect();
        let sum: i64 = open.iter().sum();
        let mut session = self.session.lock();
        session.books.audits += 1;
        let is_right = open.is_empty()
            || open.len() == accounts.len()
                && sum == DEPOSIT * i64::try_from(accounts.len()).expect("few accounts");
        if !is_right {
            let facts = format!("process {} counts {sum} in {open:?} at {at:?}", self.process);
            session.broken.get_or_insert(Broken { invariant: "INV-TXN-9 (the bank's sum)", facts });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Optimistic,
    /// Accounts are reserved as they are read.
    Pessimistic,
    /// The teller does not wait for the end of the commit.
    WalksAway,
}

/// When a transaction began that has read.
fn begun(transaction: &Transaction) -> Timestamp {
    transaction.start_timestamp().expect("who has read has begun")
}

fn balance_of(value: &Bytes) -> i64 {
    let text = std::str::from_utf8(value).expect("tellers write text");
    text.split(' ').next().and_then(|balance| balance.parse().ok()).expect("tellers write balances")
}
