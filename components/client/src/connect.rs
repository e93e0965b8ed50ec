//! From addresses to a client.

use crate::pd::PdClient;
use crate::ports::{TokioRpc, TokioSpawn, TokioTimers};
use client_core::{
    Admin, ClientStats, Cluster, Collector, Core, Error, InvalidArgument, Keyspace, KeyspaceClient, Ports,
    RawClient, TxnClient,
};
use env::SplitMix;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use transport::{Counters, Identity, Settings};

/// How a client behaves.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Deadlines and bounds of calls.
    pub calls: client_core::Options,
    /// Bounds and times of connections.
    pub connections: Settings,
}

/// A client of one cluster. Cheap to clone; clones share their connections and what they know of the regions.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::{Bytes, Error, KeyRange, ScanOptions};
/// use std::time::Duration;
///
/// let raw = client.raw();
///
/// // One key.
/// raw.put("fruit/apple", "red").await?;
/// let value: Option<Bytes> = raw.get("fruit/apple").await?;
/// raw.delete("fruit/apple").await?;
///
/// // On condition, atomically.
/// let swap = raw.put_if_absent("fruit/pear", "green").await?;
/// if swap.succeeded {
///     raw.compare_and_swap("fruit/pear", Some("green".into()), Some("yellow".into())).await?;
/// }
///
/// // Several keys; not atomic.
/// raw.batch_put([("fruit/fig", "blue"), ("fruit/plum", "blue")]).await?;
/// let values: Vec<Option<Bytes>> = raw.batch_get(["fruit/fig", "fruit/kiwi"]).await?;
/// raw.batch_delete(["fruit/fig"]).await?;
///
/// // Ranges, pair by pair or all at once, forward or in reverse.
/// let mut scan = raw.scan_prefix("fruit/", ScanOptions::default())?;
/// while let Some(pair) = scan.next_pair().await? {
///     println!("{:?} = {:?}", pair.key, pair.value);
/// }
/// let last = ScanOptions { limit: Some(10), reverse: true, ..ScanOptions::default() };
/// let last_ten = raw.scan(KeyRange::new("fruit/", ""), last)?.into_vec().await?;
/// raw.delete_range(KeyRange::prefix("fruit/")).await?;
///
/// // A write whose outcome nobody knows was not repeated: that is for the caller to decide.
/// match raw.with_deadline(Duration::from_secs(1)).put("counter", "1").await {
///     Err(Error::Undetermined { cause }) => println!("written or not: {cause}"),
///     other => other?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    core: Core,
    cluster: Cluster,
}

impl Client {
    /// Connects to the cluster whose placement driver is at these addresses (`host:port`, one is enough), and learns
    /// its id. To be called within a tokio runtime, which must have its time and I/O drivers on.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), client::Error> {
    /// use client::{Client, Options};
    /// use std::time::Duration;
    ///
    /// let mut options = Options::default();
    /// options.calls.deadline = Duration::from_secs(3);
    /// let client = Client::connect(["127.0.0.1:2379".to_owned()], options).await?;
    /// println!("cluster {}", client.cluster().id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without an address or with contradictory settings; [`Error::Unavailable`] or
    /// [`Error::DeadlineExceeded`] when no member answers within the deadline.
    pub async fn connect(
        pd_addresses: impl IntoIterator<Item = String>,
        options: Options,
    ) -> Result<Self, Error> {
        let refused = |message: &str| Error::from(InvalidArgument::Refused { message: message.to_owned() });
        let addresses: Vec<String> = pd_addresses.into_iter().collect();
        if addresses.is_empty() {
            return Err(refused("no address of a placement driver is given"));
        }
        let Options { calls, connections } = options;
        connections.validate().map_err(refused)?;
        let counters = Arc::new(Counters::default());
        let stranger = Identity::default();
        let pd = PdClient::new(addresses, stranger, connections.clone(), Arc::clone(&counters));
        let core_as = |identity| {
            let rpc = TokioRpc {
                pd: pd.clone(),
                identity,
                settings: connections.clone(),
                counters: Arc::clone(&counters),
                stores: RwLock::new(BTreeMap::new()),
            };
            // The keys of std's hasher are random; that is all the chance that jitter needs.
            let dice = SplitMix::new(RandomState::new().hash_one(0_u8));
            let ports = Ports {
                rpc: Arc::new(rpc),
                timers: Arc::new(TokioTimers::new()),
                spawn: Arc::new(TokioSpawn(tokio::runtime::Handle::current())),
                dice: Box::new(dice),
            };
            Core::new(ports, calls.clone())
        };
        let cluster = core_as(stranger).admin().cluster().await?;
        // From here on a store of another cluster, at an address that was ours once, turns us down.
        let core = core_as(Identity { cluster_id: cluster.id, ..stranger });
        Ok(Self { core, cluster })
    }

    /// Raw keys and values of the default key space.
    #[must_use]
    pub fn raw(&self) -> RawClient {
        self.core.raw()
    }

    /// Raw keys and values of another key space.
    #[must_use]
    pub fn raw_in(&self, keyspace: Keyspace) -> RawClient {
        self.core.raw_in(keyspace)
    }

    /// Keys and values with transactions, in the default key space.
    ///
    /// ```no_run
    /// # async fn example(client: client::Client) -> Result<(), client::Error> {
    /// let txn = client.txn();
    /// let left = txn
    ///     .run(|mut txn| async move {
    ///         let crew = txn.get_for_update("crew").await?.map_or(0, |names| names.len());
    ///         txn.put("crew", vec![b'|'; crew + 1]).await?;
    ///         txn.delete("quay").await?;
    ///         Ok::<_, client::Error>(crew)
    ///     })
    ///     .await?;
    /// println!("{left} went aboard before");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn txn(&self) -> TxnClient {
        self.core.txn()
    }

    /// The same in another key space; `None` if it is one of raw keys.
    #[must_use]
    pub fn txn_in(&self, keyspace: Keyspace) -> Option<TxnClient> {
        self.core.txn_in(keyspace)
    }

    /// Regions and stores.
    ///
    /// ```no_run
    /// # async fn example(client: client::Client) -> Result<(), client::Error> {
    /// use client::{KeyRange, Keyspace};
    ///
    /// let admin = client.admin();
    /// admin.split_region([Keyspace::RAW.encode(b"m")]).await?;
    /// for route in admin.regions(KeyRange::full(), 100).await? {
    ///     let start = Keyspace::describe(&route.region.range.start);
    ///     println!("region {} from {start}, led by {:?}", route.region.id, route.leader);
    /// }
    /// for store in admin.stores().await? {
    ///     println!("store {} at {}", store.info.id, store.info.address);
    /// }
    /// let (route, store) = (admin.region_at("r").await?, admin.stores().await?);
    /// if let (Some(route), Some(store)) = (route, store.first()) {
    ///     admin.transfer_leader(route.region.id, store.info.id).await?;
    ///     let later = admin.region(route.region.id).await?;
    /// }
    /// println!("{:?}, {:?}, {:?}", admin.cluster().await?, admin.operators().await?, admin.timestamp().await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn admin(&self) -> Admin {
        self.core.admin()
    }

    /// What this client and its clones have counted: waits by their reason, and looks into the region cache. A program that
    /// has metrics of its own appends it as text.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.core.stats()
    }

    /// The key space of this name, for raw keys and for transactions. The one that is always there is called `default`.
    ///
    /// ```no_run
    /// # async fn example(client: client::Client) -> Result<(), client::Error> {
    /// client.admin().create_keyspace("shop", None).await?;
    /// let shop = client.keyspace("shop").await?;
    /// shop.raw().put("greeting", "welcome").await?;
    /// assert_eq!(shop.txn().latest().await?.get("greeting").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument::UnknownKeyspace`]; those of reads.
    pub async fn keyspace(&self, name: impl Into<String>) -> Result<KeyspaceClient, Error> {
        self.core.keyspace(name).await
    }

    /// What removes old versions; the placement driver's process runs one.
    #[must_use]
    pub fn collector(&self) -> Collector {
        self.core.collector()
    }

    /// The cluster, as it was when we connected.
    #[must_use]
    pub const fn cluster(&self) -> Cluster {
        self.cluster
    }
}
