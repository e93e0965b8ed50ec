//! A bank: money moves between accounts and is neither lost nor made.

use super::{Manner, PREFIX, Violations};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use client::{Error, Timestamp, TxnClient};
use env::{Dice as _, SplitMix};
use parking_lot::Mutex;
use types::Key;

const DEPOSIT: i64 = 1_000;
/// Of so many transactions, one counts all money.
const AUDITS_ONE_IN: u64 = 20;
/// Accounts that are counted at once at most.
const ACCOUNTS_MAX: u64 = 1_000;
/// Looking back, so many moments are counted.
const MOMENTS: usize = 100;

pub(in crate::bench) struct Bank {
    accounts: u64,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    audits: u64,
    wrong: u64,
    first: Option<String>,
    /// When transfers were committed, in the order in which that was told.
    moments: Vec<Timestamp>,
}

impl Bank {
    /// All accounts with their deposits, whatever was there before.
    pub(super) async fn open(client: &TxnClient, keys: u64) -> anyhow::Result<Self> {
        let accounts = keys.clamp(2, ACCOUNTS_MAX);
        let bank = Self { accounts, counted: Mutex::default() };
        let mut transaction = client.begin();
        for number in 0..accounts {
            transaction.put(bank.account(number), DEPOSIT.to_string()).await?;
        }
        transaction.commit().await.context("opening accounts")?;
        Ok(bank)
    }

    pub(super) fn account(&self, number: u64) -> Key {
        format!("{PREFIX}account/{:08}", number % self.accounts).into()
    }

    pub(super) const fn accounts(&self) -> u64 {
        self.accounts
    }

    pub(super) async fn once(
        &self,
        client: &TxnClient,
        manner: Manner,
        dice: &mut SplitMix,
    ) -> Result<(), Error> {
        if dice.chance(1, AUDITS_ONE_IN) {
            let now = client.timestamp().await?;
            return self.audit(client, now).await;
        }
        let from = dice.below(self.accounts);
        let to = (from + 1 + dice.below(self.accounts - 1)) % self.accounts;
        let amount = 1 + i64::try_from(dice.below(9)).unwrap_or_default();
        let (from, to) = (self.account(from), self.account(to));
        let mut transaction = manner.begin(client);
        let mut balances = [0, 0];
        for (key, balance) in [&from, &to].into_iter().zip(&mut balances) {
            let value = manner.read(&mut transaction, key.clone()).await?;
            *balance = self.balance_of(value.as_ref());
        }
        transaction.put(from, (balances[0] - amount).to_string()).await?;
        transaction.put(to, (balances[1] + amount).to_string()).await?;
        if let Some(at) = transaction.commit().await? {
            self.counted.lock().moments.push(at);
        }
        Ok(())
    }

    fn balance_of(&self, value: Option<&Bytes>) -> i64 {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        if let Some(balance) = text.and_then(|text| text.parse().ok()) {
            return balance;
        }
        self.is_wrong(format!("an account holds {value:?}"));
        0
    }

    fn is_wrong(&self, what: String) {
        let mut counted = self.counted.lock();
        counted.wrong += 1;
        counted.first.get_or_insert(what);
    }

    /// Counts all money as of a moment.
    async fn audit(&self, client: &TxnClient, at: Timestamp) -> Result<(), Error> {
        let accounts = (0..self.accounts).map(|number| self.account(number));
        let values = client.snapshot(at).batch_get(accounts).await?;
        let sum: i64 = values.iter().map(|value| self.balance_of(value.as_ref())).sum();
        let expected = DEPOSIT * i64::try_from(self.accounts).unwrap_or(i64::MAX);
        self.counted.lock().audits += 1;
        if sum != expected {
            self.is_wrong(format!("at {at:?} there are {sum}, not {expected}"));
        }
        Ok(())
    }

    /// Counts once more, now and looking back at many moments of the run.
    pub(super) async fn violations(&self, client: &TxnClient) -> anyhow::Result<Violations> {
        let mut moments = std::mem::take(&mut self.counted.lock().moments);
        ensure!(!moments.is_empty(), "no transfer was committed: nothing can be proved");
        moments.sort_unstable();
        let last = moments.len() - 1;
        for number in 0..MOMENTS {
            self.audit(client, moments[last * number / (MOMENTS - 1)]).await.context("looking back")?;
        }
        self.audit(client, client.timestamp().await?).await.context("counting at the end")?;
        let counted = self.counted.lock();
        let looked = format!(
            "{} transfers; all money counted {} times, {MOMENTS} of them looking back",
            moments.len(),
            counted.audits
        );
        Ok(Violations { count: counted.wrong, first: counted.first.clone(), looked })
    }
}
