//! Where stores are reached.

use env::sim_point;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use types::{MonoTime, StoreId};
use wire::pd::StoreStatus;

/// How long a list of stores is not asked for again, whatever is wrong with it: an address that fails is more often a
/// store that is down than one that has moved.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Addresses of stores, as the placement driver told them last.
#[derive(Default, Debug)]
pub(crate) struct StoreBook {
    addresses: BTreeMap<StoreId, Arc<str>>,
    doubted: BTreeSet<StoreId>,
    read_at: Option<MonoTime>,
}

/// What the book says of a store.
#[derive(Debug)]
pub(crate) enum Entry {
    /// This is its address.
    Known(Arc<str>),
    /// The list should be read again; the address so far, if there is one, serves if that fails.
    Ask(Option<Arc<str>>),
    /// Not on the list, and that was read just now.
    Missing,
}

impl StoreBook {
    pub(crate) fn entry(&self, store_id: StoreId, now: MonoTime) -> Entry {
        let is_fresh = self.read_at.is_some_and(|read_at| now.since(read_at) < REFRESH_INTERVAL);
        match self.addresses.get(&store_id) {
            Some(address)
                if (is_fresh || !self.doubted.contains(&store_id))
                    && !sim_point!("client_core.doubt_address") =>
            {
                Entry::Known(Arc::clone(address))
            }
            Some(address) => Entry::Ask(Some(Arc::clone(address))),
            None if is_fresh => Entry::Missing,
            None => Entry::Ask(None),
        }
    }

    /// The store could not be reached at its address.
    pub(crate) fn doubt(&mut self, store_id: StoreId) {
        if self.addresses.contains_key(&store_id) {
            self.doubted.insert(store_id);
        }
    }

    /// Where the store was last.
    pub(crate) fn address(&self, store_id: StoreId) -> Option<Arc<str>> {
        self.addresses.get(&store_id).cloned()
    }

    /// Replaces the list; gives the stores that are gone or elsewhere now.
    pub(crate) fn replace(&mut self, stores: &[StoreStatus], now: MonoTime) -> BTreeSet<StoreId> {
        let addresses =
            stores.iter().map(|store| (store.info.id, Arc::from(store.info.address.as_str()))).collect();
        let before = std::mem::replace(&mut self.addresses, addresses);
        self.doubted.clear();
        self.read_at = Some(now);
        let is_elsewhere =
            |(store_id, address): &(StoreId, Arc<str>)| self.addresses.get(store_id) != Some(address);
        before.into_iter().filter(is_elsewhere).map(|(store_id, _)| store_id).collect()
    }
}
