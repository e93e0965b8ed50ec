//! What all handles of one client share.

use crate::admin::Admin;
use crate::error::Cause;
use crate::health::Health;
use crate::keyspace::Keyspace;
use crate::options::Options;
use crate::oracle::Oracle;
use crate::port::{Ports, Rpc, Spawn, Timers};
use crate::raw::RawClient;
use crate::region_cache::RegionCache;
use crate::stats::{ClientStats, Counts};
use crate::store_book::StoreBook;
use crate::txn::{Collector, Decided, TxnClient};
use env::Dice;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use types::{Key, StoreId};

/// A question, mostly to the placement driver, that several calls wait for. Whoever waits drives it, so that it goes on when the
/// call that asked first is dropped or not polled.
pub(crate) type Lookup = Shared<BoxFuture<'static, Result<(), Cause>>>;

/// What a lookup is for, in the order in which lookups are joined.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wanted {
    Stores,
    RegionAt(Key),
    RegionBefore(Key),
    /// Whether this store answers.
    Probe(StoreId),
}

/// One client of one cluster: its region cache and its ports. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Core {
    pub(crate) shared: Arc<CoreState>,
}

/// None of the locks is held over an `await`, nor while another one is taken, but for `health` inside of `dice`.
pub(crate) struct CoreState {
    pub(crate) rpc: Arc<dyn Rpc>,
    pub(crate) timers: Arc<dyn Timers>,
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) dice: Mutex<Box<dyn Dice>>,
    pub(crate) options: Options,
    pub(crate) regions: Mutex<RegionCache>,
    pub(crate) stores: Mutex<StoreBook>,
    pub(crate) health: Mutex<Health>,
    pub(crate) lookups: Mutex<BTreeMap<Wanted, Lookup>>,
    pub(crate) oracle: Mutex<Oracle>,
    pub(crate) decided: Mutex<Decided>,
    /// How many removals of others' locks are under way for readers.
    pub(crate) removals: AtomicUsize,
    pub(crate) counts: Counts,
}

impl Core {
    /// A client on these ports. Nothing is sent before the first call.
    #[must_use]
    pub fn new(ports: Ports, options: Options) -> Self {
        let shared = CoreState {
            rpc: ports.rpc,
            timers: ports.timers,
            spawn: ports.spawn,
            dice: Mutex::new(ports.dice),
            regions: Mutex::new(RegionCache::new(options.regions_cached_max)),
            stores: Mutex::default(),
            health: Mutex::new(Health::new(options.silent_after)),
            lookups: Mutex::default(),
            oracle: Mutex::default(),
            decided: Mutex::default(),
            removals: AtomicUsize::new(0),
            counts: Counts::default(),
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Raw keys and values: the default key space.
    #[must_use]
    pub fn raw(&self) -> RawClient {
        RawClient::new(self.clone(), Keyspace::RAW)
    }

    /// Raw keys and values of another key space.
    #[must_use]
    pub fn raw_in(&self, keyspace: Keyspace) -> RawClient {
        RawClient::new(self.clone(), keyspace)
    }

    /// Transactions: the default key space.
    #[must_use]
    pub fn txn(&self) -> TxnClient {
        TxnClient::new(self.clone(), Keyspace::TXN)
    }

    /// Transactions in another key space; `None` if it is one of raw keys.
    #[must_use]
    pub fn txn_in(&self, keyspace: Keyspace) -> Option<TxnClient> {
        keyspace.is_transactional().then(|| TxnClient::new(self.clone(), keyspace))
    }

    /// What all handles together have counted.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.shared.counts.stats()
    }

    /// What removes old versions, wherever it runs.
    #[must_use]
    pub fn collector(&self) -> Collector {
        Collector::new(self.clone())
    }

    /// Regions, stores and what moves them.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
