//! What all handles of one client share.

use crate::admin::Admin;
use crate::error::{Cause, Error};
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

    /// The key space of this name, for raw keys and for transactions. The one that is always there is called `default`.
    ///
    /// # Errors
    /// [`InvalidArgument::UnknownKeyspace`](crate::InvalidArgument::UnknownKeyspace); those of reads.
    pub async fn keyspace(&self, name: impl Into<String>) -> Result<KeyspaceClient, Error> {
        let info = self.admin().keyspace(name).await?;
        let spaces = Keyspace::raw(info.id).zip(Keyspace::txn(info.id));
        let message = || format!("the placement driver gave a key space the id {}", info.id);
        let (raw, txn) = spaces.ok_or_else(|| Error::UnexpectedAnswer { message: message() })?;
        Ok(KeyspaceClient { core: self.clone(), raw, txn })
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

/// A key space: its raw keys and its keys of transactions lie side by side, apart from those of all others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyspaceClient {
    core: Core,
    raw: Keyspace,
    txn: Keyspace,
}

impl KeyspaceClient {
    /// Its id, which stands in every key.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.raw.id()
    }

    /// Its raw keys and values.
    #[must_use]
    pub fn raw(&self) -> RawClient {
        RawClient::new(self.core.clone(), self.raw)
    }

    /// Its keys and values with transactions.
    #[must_use]
    pub fn txn(&self) -> TxnClient {
        TxnClient::new(self.core.clone(), self.txn)
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
