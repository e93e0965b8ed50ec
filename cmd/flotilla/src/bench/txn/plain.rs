//! Transactions that only read and write: one key, sixteen, a hundred by a scan, and YCSB's mixes.

use super::{Manner, PREFIX, filler};
use crate::bench::distribution::Zipfian;
use crate::bench::load::Load;
use crate::bench::workload::Workload;
use bytes::Bytes;
use client::{Error, KeyRange, ScanOptions, Snapshot, TxnClient};
use env::{Dice as _, SplitMix};
use types::Key;

/// Keys of a wide transaction.
const WIDE: u64 = 16;
/// Keys that all want in a storm.
const STORM_KEYS: u64 = 8;
/// Keys of one transaction that fills.
const FILL_BATCH: u64 = 500;
/// Reads that one client makes as of one moment, where it makes several.
const READS_AT_ONCE: u32 = 100;

/// The moment that a client looks at, and how often it has.
#[derive(Default)]
pub(super) struct Moment {
    snapshot: Option<Snapshot>,
    reads: u32,
}

impl Moment {
    /// As of now, or of the same moment as before.
    async fn look(&mut self, client: &TxnClient) -> Result<Snapshot, Error> {
        self.reads += 1;
        if self.reads > READS_AT_ONCE {
            *self = Self { snapshot: None, reads: 1 };
        }
        match &self.snapshot {
            Some(snapshot) => Ok(snapshot.clone()),
            None => Ok(self.snapshot.insert(client.latest().await?).clone()),
        }
    }
}

#[derive(Clone)]
pub(in crate::bench) struct Plain {
    workload: Workload,
    keys: u64,
    scan_pairs: u64,
    value: Bytes,
}

/// The name of a key.
pub(in crate::bench) fn key(number: u64) -> Key {
    format!("{PREFIX}{number:016x}").into()
}

impl Plain {
    pub(super) async fn open(client: &TxnClient, load: &Load) -> anyhow::Result<Self> {
        let mut dice = SplitMix::new(1).fork("fill");
        let mut first = 0;
        while first < load.keys {
            let end = load.keys.min(first + FILL_BATCH);
            let mut transaction = client.begin();
            for number in first..end {
                transaction.put(key(number), filler(load.value_size, &mut dice)).await?;
            }
            transaction.commit().await?;
            first = end;
        }
        Ok(Self::filled(load))
    }

    /// On keys that are there already.
    pub(super) fn filled(load: &Load) -> Self {
        let value = filler(load.value_size, &mut SplitMix::new(2)).into();
        Self { workload: load.workload, keys: load.keys, scan_pairs: load.scan_pairs, value }
    }

    pub(super) async fn once(
        &self,
        client: &TxnClient,
        manner: Manner,
        dice: &mut SplitMix,
        zipfian: &Zipfian,
        moment: &mut Moment,
    ) -> Result<(), Error> {
        let any = dice.below(self.keys);
        match self.workload {
            Workload::TxnPut => self.write(client, manner, &[any], false).await,
            Workload::TxnWide => {
                // Evenly over all keys, and so over all regions.
                let step = (self.keys / WIDE).max(1);
                let keys: Vec<u64> = (0..WIDE).map(|place| (any + place * step) % self.keys).collect();
                self.write(client, manner, &keys, false).await
            }
            Workload::TxnStorm => {
                let first = dice.below(STORM_KEYS);
                let second = (first + 1 + dice.below(STORM_KEYS - 1)) % STORM_KEYS;
                self.write(client, manner, &[first, second], true).await
            }
            Workload::TxnGet => client.latest().await?.get(key(any)).await.map(|_| ()),
            Workload::TxnGetAt => moment.look(client).await?.get(key(any)).await.map(|_| ()),
            Workload::TxnScan | Workload::TxnScanAt => {
                let options = ScanOptions { limit: Some(self.scan_pairs), ..ScanOptions::default() };
                let end = KeyRange::prefix(PREFIX).end;
                let snapshot = match self.workload {
                    Workload::TxnScanAt => moment.look(client).await?,
                    _ => client.latest().await?,
                };
                snapshot.scan(KeyRange::new(key(any), end), options)?.into_vec().await.map(|_| ())
            }
            workload => {
                let popular = zipfian.draw_scattered(dice);
                let percent = dice.below(100);
                let (writes, modifies) = match workload {
                    Workload::TxnYcsbA => (percent < 50, false),
                    Workload::TxnYcsbB => (percent < 5, false),
                    Workload::TxnYcsbF => (percent < 50, true),
                    _ => (false, false),
                };
                match writes {
                    true => self.write(client, manner, &[popular], modifies).await,
                    false => client.latest().await?.get(key(popular)).await.map(|_| ()),
                }
            }
        }
    }

    /// Writes keys in one transaction, perhaps having read them.
    async fn write(
        &self,
        client: &TxnClient,
        manner: Manner,
        numbers: &[u64],
        reads: bool,
    ) -> Result<(), Error> {
        let mut transaction = manner.begin(client);
        for number in numbers {
            if reads {
                manner.read(&mut transaction, key(*number)).await?;
            }
            transaction.put(key(*number), self.value.clone()).await?;
        }
        transaction.commit().await.map(|_| ())
    }
}
