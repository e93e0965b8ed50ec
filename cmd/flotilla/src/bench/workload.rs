//! What clients do: one kind of operation, or YCSB's mixes.

use super::distribution::Zipfian;
use clap::ValueEnum;
use env::{Dice as _, SplitMix};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the clients do.
///
/// The mixes are YCSB's core workloads (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010, table 2): keys
/// are drawn by a Zipfian distribution. A record is one value here, not ten fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Workload {
    /// Set a key drawn at random.
    Put,
    /// Read a key drawn at random.
    Get,
    /// Read the pairs that follow a key drawn at random.
    Scan,
    /// All that can be done to single keys: 40 % reads, 30 % updates, 20 % compare-and-swap, 10 % deletes.
    Register,
    /// YCSB A: half reads, half updates; popular keys come more often.
    YcsbA,
    /// YCSB B: 95 % reads, 5 % updates.
    YcsbB,
    /// YCSB C: reads alone.
    YcsbC,
    /// YCSB D: 95 % reads, most often of what was inserted last; 5 % inserts.
    YcsbD,
    /// YCSB E: 95 % scans of up to --scan-pairs pairs, 5 % inserts.
    YcsbE,
    /// YCSB F: half reads, half reads that are followed by an update of what was read, by compare-and-swap until it holds.
    YcsbF,
    /// Set a key drawn at random, in a transaction of its own.
    TxnPut,
    /// Set sixteen keys, spread evenly, in one transaction.
    TxnWide,
    /// Read a key drawn at random, as of now.
    TxnGet,
    /// Read keys drawn at random, a hundred of them as of the same moment.
    TxnGetAt,
    /// Read --scan-pairs pairs, as of now.
    TxnScan,
    /// Read --scan-pairs pairs, a hundred times as of the same moment.
    TxnScanAt,
    /// All want the same eight keys, and read and write two of them in a transaction.
    TxnStorm,
    /// YCSB A in transactions of one key.
    TxnYcsbA,
    /// YCSB B in transactions of one key.
    TxnYcsbB,
    /// YCSB C as of timestamps.
    TxnYcsbC,
    /// YCSB F: half reads, half transactions that read a key and update it.
    TxnYcsbF,
    /// Money moves between accounts (as many as --keys, up to 1000), and all of it must be there whenever it is counted.
    Bank,
    /// New orders and payments after TPC-C; books must agree with each other.
    NewOrder,
    /// Lists (as many as --keys, up to 64) that many append to and read: what they see must be possible.
    ListAppend,
}

impl Workload {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Scan => "scan",
            Self::Register => "register",
            Self::YcsbA => "ycsb_a",
            Self::YcsbB => "ycsb_b",
            Self::YcsbC => "ycsb_c",
            Self::YcsbD => "ycsb_d",
            Self::YcsbE => "ycsb_e",
            Self::YcsbF => "ycsb_f",
            Self::TxnPut => "txn_put",
            Self::TxnWide => "txn_wide",
            Self::TxnGet => "txn_get",
            Self::TxnGetAt => "txn_get_at",
            Self::TxnScan => "txn_scan",
            Self::TxnScanAt => "txn_scan_at",
            Self::TxnStorm => "txn_storm",
            Self::TxnYcsbA => "txn_ycsb_a",
            Self::TxnYcsbB => "txn_ycsb_b",
            Self::TxnYcsbC => "txn_ycsb_c",
            Self::TxnYcsbF => "txn_ycsb_f",
            Self::Bank => "bank",
            Self::NewOrder => "new_order",
            Self::ListAppend => "list_append",
        }
    }

    /// Whether it is done in transactions.
    pub(crate) fn is_transactional(self) -> bool {
        match self {
            Self::Put | Self::Get | Self::Scan | Self::Register => false,
            Self::YcsbA | Self::YcsbB | Self::YcsbC | Self::YcsbD | Self::YcsbE | Self::YcsbF => false,
            Self::TxnPut | Self::TxnWide | Self::TxnStorm => true,
            Self::TxnGet | Self::TxnGetAt | Self::TxnScan | Self::TxnScanAt => true,
            Self::TxnYcsbA | Self::TxnYcsbB | Self::TxnYcsbC | Self::TxnYcsbF => true,
            Self::Bank | Self::NewOrder | Self::ListAppend => true,
        }
    }

    /// Whether it reads keys, which must be there then.
    pub(crate) fn reads(self) -> bool {
        self != Self::Put
    }
}

/// One operation, on the key of this number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Get {
        key: u64,
    },
    /// An update, or an insert of a key that was not there.
    Put {
        key: u64,
    },
    Delete {
        key: u64,
    },
    /// An update, if the key still holds what the client has seen last.
    Swap {
        key: u64,
    },
    Scan {
        first: u64,
        pairs: u64,
    },
    /// A read, then an update of what was read: if somebody else's came between, once more.
    Modify {
        key: u64,
    },
}

/// Draws one client's operations.
pub(super) struct Picker {
    workload: Workload,
    scan_pairs: u64,
    dice: SplitMix,
    zipfian: Zipfian,
    /// How many keys there are, those being inserted included; all clients' together.
    keys: Arc<AtomicU64>,
}

impl Picker {
    /// `keys` counts the keys that are there; it is shared with other clients and grows by what they insert. `zipfian` is
    /// made once for all of them, because that takes a while.
    pub(super) fn new(
        workload: Workload,
        scan_pairs: u64,
        dice: SplitMix,
        zipfian: Zipfian,
        keys: Arc<AtomicU64>,
    ) -> Self {
        Self { workload, scan_pairs, dice, zipfian, keys }
    }

    /// The next operation.
    pub(super) fn next(&mut self) -> Operation {
        let percent = self.dice.below(100);
        match self.workload {
            Workload::Put => Operation::Put { key: self.any() },
            Workload::Get => Operation::Get { key: self.any() },
            Workload::Scan => Operation::Scan { first: self.any(), pairs: self.scan_pairs },
            Workload::Register if percent < 40 => Operation::Get { key: self.any() },
            Workload::Register if percent < 70 => Operation::Put { key: self.any() },
            Workload::Register if percent < 90 => Operation::Swap { key: self.any() },
            Workload::Register => Operation::Delete { key: self.any() },
            Workload::YcsbA if percent < 50 => Operation::Put { key: self.popular() },
            Workload::YcsbB if percent < 5 => Operation::Put { key: self.popular() },
            Workload::YcsbD | Workload::YcsbE if percent < 5 => Operation::Put { key: self.insert() },
            Workload::YcsbF if percent < 50 => Operation::Modify { key: self.popular() },
            Workload::YcsbD => {
                self.zipfian.grow(self.keys.load(Ordering::Relaxed));
                Operation::Get { key: self.zipfian.draw_latest(&mut self.dice) }
            }
            Workload::YcsbE => {
                let first = self.popular();
                Operation::Scan { first, pairs: 1 + self.dice.below(self.scan_pairs) }
            }
            // What is done in transactions picks for itself.
            _ => Operation::Get { key: self.popular() },
        }
    }

    /// A key drawn evenly.
    fn any(&mut self) -> u64 {
        self.dice.below(self.keys.load(Ordering::Relaxed))
    }

    fn popular(&mut self) -> u64 {
        self.zipfian.draw_scattered(&mut self.dice)
    }

    /// A key that nobody has inserted yet.
    fn insert(&self) -> u64 {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const KEYS: u64 = 1000;
    const DRAWS: usize = 10_000;

    fn draw(workload: Workload) -> Vec<Operation> {
        let keys = Arc::new(AtomicU64::new(KEYS));
        let mut picker = Picker::new(workload, 100, SplitMix::new(1), Zipfian::new(KEYS), keys);
        (0..DRAWS).map(|_| picker.next()).collect()
    }

    /// Percent of gets, puts, scans, reads with an update of what was read, swaps, and deletes.
    fn mix(workload: Workload) -> [u64; 6] {
        let mut counts = [0_u64; 6];
        for operation in draw(workload) {
            let kind = match operation {
                Operation::Get { .. } => 0,
                Operation::Put { .. } => 1,
                Operation::Scan { .. } => 2,
                Operation::Modify { .. } => 3,
                Operation::Swap { .. } => 4,
                Operation::Delete { .. } => 5,
            };
            counts[kind] += 1;
        }
        // To the nearest five percent: the dice are fair but not exact.
        counts.map(|count| (count * 20 + DRAWS as u64 / 2) / DRAWS as u64 * 5)
    }

    #[test]
    fn every_workload_mixes_as_its_name_says() {
        assert_eq!(mix(Workload::Put), [0, 100, 0, 0, 0, 0]);
        assert_eq!(mix(Workload::Get), [100, 0, 0, 0, 0, 0]);
        assert_eq!(mix(Workload::Scan), [0, 0, 100, 0, 0, 0]);
        assert_eq!(mix(Workload::Register), [40, 30, 0, 0, 20, 10]);
        assert_eq!(mix(Workload::YcsbA), [50, 50, 0, 0, 0, 0]);
        assert_eq!(mix(Workload::YcsbB), [95, 5, 0, 0, 0, 0]);
        assert_eq!(mix(Workload::YcsbC), [100, 0, 0, 0, 0, 0]);
        assert_eq!(mix(Workload::YcsbD), [95, 5, 0, 0, 0, 0]);
        assert_eq!(mix(Workload::YcsbE), [0, 5, 95, 0, 0, 0]);
        assert_eq!(mix(Workload::YcsbF), [50, 0, 0, 50, 0, 0]);
    }

    #[test]
    fn inserts_are_of_new_keys_and_reads_follow_them() {
        let operations = draw(Workload::YcsbD);
        let inserted: Vec<u64> = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Put { key } => Some(*key),
                _ => None,
            })
            .collect();
        let expected: Vec<u64> = (KEYS..KEYS + inserted.len() as u64).collect();
        assert_eq!(inserted, expected);
        let new = |operation: &&Operation| matches!(operation, Operation::Get { key } if *key >= KEYS);
        // In the end a third of all keys is new, and these are the ones that are asked for most.
        let late = &operations[DRAWS / 2..];
        assert!(late.iter().filter(new).count() > late.len() / 2);
    }

    #[test]
    fn scans_are_of_every_length_up_to_the_longest() {
        let lengths: BTreeSet<u64> = draw(Workload::YcsbE)
            .into_iter()
            .filter_map(|operation| match operation {
                Operation::Scan { pairs, .. } => Some(pairs),
                _ => None,
            })
            .collect();
        assert_eq!(lengths, (1..=100).collect());
    }

    #[test]
    fn updates_and_reads_stay_among_the_keys_that_are_there() {
        for workload in [Workload::YcsbA, Workload::YcsbB, Workload::YcsbC, Workload::YcsbF] {
            for operation in draw(workload) {
                let (Operation::Get { key } | Operation::Put { key } | Operation::Modify { key }) = operation
                else {
                    panic!("{workload:?} has no {operation:?}")
                };
                assert!(key < KEYS);
            }
        }
    }
}
