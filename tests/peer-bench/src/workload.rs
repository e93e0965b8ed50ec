//! What is asked of everybody: one description, whoever answers.

use env::{Dice as _, SplitMix};

/// The keys of one size of value, loaded before anything is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DataSet {
    /// 100,000 values of 128 bytes.
    Small,
    /// 20,000 values of 1 KiB.
    Large,
}

impl DataSet {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Large];

    pub(crate) const fn value_size(self) -> usize {
        match self {
            Self::Small => 128,
            Self::Large => 1024,
        }
    }

    pub(crate) const fn keys(self) -> u64 {
        match self {
            Self::Small => 100_000,
            Self::Large => 20_000,
        }
    }

    /// A key of sixteen bytes. Keys sort as their numbers do.
    pub(crate) fn key(self, number: u64) -> String {
        let set = match self {
            Self::Small => 's',
            Self::Large => 'l',
        };
        format!("{set}{number:015}")
    }

    /// A value that does not compress well, of letters, so that every peer's tools can carry it.
    pub(crate) fn value(self, dice: &mut SplitMix) -> String {
        let mut value = String::with_capacity(self.value_size() + 16);
        while value.len() < self.value_size() {
            value.push_str(&format!("{:016x}", dice.next_u64()));
        }
        value.truncate(self.value_size());
        value
    }
}

/// What one client asks, again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Set one key drawn at random.
    Put,
    /// Set so many distinct keys drawn at random, in one call.
    PutBatch(u64),
    /// Read one key drawn at random, linearizably where the peer can.
    Get,
    /// Read so many neighbouring keys from one drawn at random, the exact end given.
    Range(u64),
    /// Five puts among a hundred operations, the others gets.
    Mixed,
}

impl Kind {
    /// As how many operations a call counts: a batch as its keys.
    pub(crate) const fn weight(self) -> u64 {
        match self {
            Self::PutBatch(keys) => keys,
            _ => 1,
        }
    }
}

/// One row of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) data: DataSet,
    /// How many ask at the same time, each again as soon as it has its answer.
    pub(crate) clients: usize,
}

const fn row(name: &'static str, kind: Kind, data: DataSet, clients: usize) -> Workload {
    Workload { name, kind, data, clients }
}

/// All rows: the reads first, on servers that were started anew after the load, then the writes.
pub(crate) const WORKLOADS: [Workload; 16] = [
    row("get_128_c1", Kind::Get, DataSet::Small, 1),
    row("get_128_c64", Kind::Get, DataSet::Small, 64),
    row("get_128_c256", Kind::Get, DataSet::Small, 256),
    row("range_100_c64", Kind::Range(100), DataSet::Small, 64),
    row("put_128_c1", Kind::Put, DataSet::Small, 1),
    row("put_128_c16", Kind::Put, DataSet::Small, 16),
    row("put_128_c64", Kind::Put, DataSet::Small, 64),
    row("put_128_c256", Kind::Put, DataSet::Small, 256),
    row("put_128_c512", Kind::Put, DataSet::Small, 512),
    row("put_1k_c1", Kind::Put, DataSet::Large, 1),
    row("put_1k_c16", Kind::Put, DataSet::Large, 16),
    row("put_1k_c64", Kind::Put, DataSet::Large, 64),
    row("put_1k_c256", Kind::Put, DataSet::Large, 256),
    row("put_1k_c512", Kind::Put, DataSet::Large, 512),
    row("put_batch100", Kind::PutBatch(100), DataSet::Small, 16),
    row("mixed_95_5_c64", Kind::Mixed, DataSet::Small, 64),
];

/// One call of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Put { key: String },
    PutBatch { keys: Vec<String> },
    Get { key: String },
    Range { start: String, end: String, pairs: u64 },
}

impl Workload {
    /// Draws the next call.
    pub(crate) fn next(&self, dice: &mut SplitMix) -> Operation {
        let (data, keys) = (self.data, self.data.keys());
        match self.kind {
            Kind::Put => Operation::Put { key: data.key(dice.below(keys)) },
            Kind::Get => Operation::Get { key: data.key(dice.below(keys)) },
            Kind::Mixed if dice.below(100) < 5 => Operation::Put { key: data.key(dice.below(keys)) },
            Kind::Mixed => Operation::Get { key: data.key(dice.below(keys)) },
            Kind::Range(pairs) => {
                let first = dice.below(keys - pairs + 1);
                Operation::Range { start: data.key(first), end: data.key(first + pairs), pairs }
            }
            Kind::PutBatch(count) => {
                // One of each stretch of keys: drawn at random, and yet distinct.
                let stretch = keys / count;
                let keys = (0..count).map(|part| data.key(part * stretch + dice.below(stretch))).collect();
                Operation::PutBatch { keys }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_of_sixteen_bytes_and_sort_as_numbers_do() {
        for data in DataSet::ALL {
            assert!(data.key(9) < data.key(10));
            assert_eq!(data.key(data.keys()).len(), 16);
            assert_eq!(data.value(&mut SplitMix::new(1)).len(), data.value_size());
        }
    }

    #[test]
    fn rows_have_names_of_their_own_and_reads_come_first() {
        let names: BTreeSet<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        let writes = |workload: &Workload| !matches!(workload.kind, Kind::Get | Kind::Range(_));
        assert!(WORKLOADS.is_sorted_by_key(writes));
    }

    #[test]
    fn a_batch_holds_distinct_keys() {
        let workload = row("x", Kind::PutBatch(100), DataSet::Small, 1);
        let Operation::PutBatch { keys } = workload.next(&mut SplitMix::new(7)) else {
            panic!("not a batch")
        };
        assert_eq!(keys.into_iter().collect::<BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn five_of_a_hundred_mixed_operations_are_puts() {
        let workload = row("x", Kind::Mixed, DataSet::Small, 1);
        let mut dice = SplitMix::new(3);
        let puts = (0..10_000).filter(|_| matches!(workload.next(&mut dice), Operation::Put { .. })).count();
        assert!((400..600).contains(&puts), "{puts} of 10,000");
    }

    #[test]
    fn a_range_ends_within_the_data() {
        let workload = row("x", Kind::Range(100), DataSet::Small, 1);
        let mut dice = SplitMix::new(3);
        for _ in 0..1000 {
            let Operation::Range { start, end, pairs } = workload.next(&mut dice) else { panic!("no range") };
            let number = |key: &str| key[1..].parse::<u64>().unwrap();
            assert_eq!(number(&end) - number(&start), pairs);
            assert!(number(&end) <= DataSet::Small.keys());
        }
    }
}
