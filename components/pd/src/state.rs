//! What the group replicates: the commands of its log, the state they lead to, and how that is kept on disk.
//!
//! Apply depends on the state and the command alone. Whatever a leader judges by soft state (is a store alive?) it puts
//! into the command.
//!
//! ```text
//! family default   "pd/meta"              Meta, with the position of the last command applied
//!                  "pd/store/" id u64 BE  StoreRecord
//!                  "pd/keyspace/" id u32 BE  KeyspaceInfo
//! ```

use crate::gc::{GcState, Lives, Service};
use crate::seeded_bug::SeededBug;
use crate::{Bugs, Error};
use bytes::Bytes;
use codec::{Decode as _, Encode as _, codec_enum, codec_struct};
use engine::{Cf, Engine, Snapshot as _, WriteBatch};
use raft::{ConfState, EntryId};
use std::collections::BTreeMap;
use types::{ClusterId, KeyRange, PeerRole, Region, StoreId, Timestamp};
use wire::pd::{KeyspaceInfo, PdError, StoreInfo, StoreMode};

/// One entry of the group's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// This is the cluster's id, unless it has one.
    Init { cluster_id: ClusterId },
    /// First store and first region, unless there are some.
    Bootstrap { store: StoreInfo, region: Region },
    /// A store introduces itself. `takes_over` gives up its address for it, being silent; `retires` says that it holds
    /// no copy either, so that its id ends.
    PutStore { store: StoreInfo, takes_over: Option<StoreId>, retires: bool },
    /// The proposer wants so many ids.
    ReserveIds { count: u64 },
    /// The proposer wants to hand out timestamps up to this bound.
    ExtendTso { upper_ms: u64 },
    /// People decide what a store is to do. Unless it is to serve, so many others must be there that do.
    SetMode { store_id: StoreId, mode: StoreMode, others_min: u64 },
    /// A store that drains holds nothing any more: its id ends, if it still drains.
    Retire { store_id: StoreId },
    /// The disks of stores have come so far.
    Marks { marks: Vec<LogMark> },
    /// The safe point may rise: it is this time, and versions are to live so long.
    AdvanceGc { now_ms: u64, life_ms: u64 },
    /// Old locks are resolved in all regions.
    GcResolved { round: u64 },
    /// Old versions are removed from all regions.
    GcCollected { round: u64 },
    /// A service needs versions from `at` on, until it is that time.
    HoldSafePoint { name: String, at: Timestamp, expires_ms: u64 },
    /// A service needs nothing any more.
    ReleaseSafePoint { name: String },
    /// There is a key space of this name.
    CreateKeyspace { name: String, gc_life_ms: u64 },
    /// Versions live so long in a key space.
    SetKeyspaceLife { name: String, gc_life_ms: u64 },
}
codec_enum!(Command {
    1 = Init { cluster_id },
    2 = Bootstrap { store, region },
    3 = PutStore { store, takes_over, retires },
    4 = ReserveIds { count },
    5 = ExtendTso { upper_ms },
    6 = SetMode { store_id, mode, others_min },
    7 = Retire { store_id },
    8 = Marks { marks },
    9 = AdvanceGc { now_ms, life_ms },
    10 = GcResolved { round },
    11 = GcCollected { round },
    12 = HoldSafePoint { name, at, expires_ms },
    13 = ReleaseSafePoint { name },
    14 = CreateKeyspace { name, gc_life_ms },
    15 = SetKeyspaceLife { name, gc_life_ms },
});

/// How often a store has written to its logs, durably.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct LogMark {
    pub(crate) store_id: StoreId,
    pub(crate) log_mark: u64,
}
codec_struct!(LogMark { store_id, log_mark });

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Done,
    Refused(PdError),
    /// The ids `first..end` are the proposer's.
    Ids {
        first: u64,
        end: u64,
    },
    /// The bound was `before_ms` and is `upper_ms`.
    Tso {
        before_ms: u64,
        upper_ms: u64,
    },
    /// This is the key space.
    Keyspace(KeyspaceInfo),
}

/// A store as the cluster remembers it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct StoreRecord {
    /// How it introduced itself. The address is empty when another store has taken it over.
    pub(crate) info: StoreInfo,
    /// Its id is not accepted any more.
    pub(crate) retired: bool,
    /// What it is to do, until its id ends.
    pub(crate) mode: StoreMode,
}
codec_struct!(StoreRecord { info, retired, mode });

impl StoreRecord {
    /// True if it takes part: its id has not ended, and nobody has its address.
    pub(crate) fn takes_part(&self) -> bool {
        !self.retired && !self.info.address.is_empty()
    }
}

/// Everything but the stores.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Meta {
    /// The last entry applied.
    applied: EntryId,
    /// The last entry that was compacted away. Invariant: `truncated <= applied`.
    truncated: EntryId,
    /// The members of the group.
    conf_state: ConfState,
    cluster_id: ClusterId,
    /// The first region, as the winner of the bootstrap described it.
    bootstrap: Option<Region>,
    bootstrap_store: StoreId,
    /// Ids below this one are handed out or reserved.
    id_bound: u64,
    /// Timestamps up to this physical part are handed out or reserved.
    tso_upper_ms: u64,
    /// `None` before the first command that concerns it.
    gc: Option<GcState>,
}
codec_struct!(Meta {
    applied,
    truncated,
    conf_state,
    cluster_id,
    bootstrap,
    bootstrap_store,
    id_bound,
    tso_upper_ms,
    gc,
});

/// The whole state as a snapshot carries it to another member.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Image {
    meta: Meta,
    stores: Vec<StoreRecord>,
    keyspaces: Vec<KeyspaceInfo>,
}
codec_struct!(Image { meta, stores, keyspaces });

const META_KEY: &[u8] = b"pd/meta";
const STORE_PREFIX: &[u8] = b"pd/store/";
const KEYSPACE_PREFIX: &[u8] = b"pd/keyspace/";
/// The key space that is always there.
const DEFAULT_KEYSPACE: &str = "default";
/// Ids are three bytes long.
const KEYSPACE_ID_MAX: u32 = 0x00ff_ffff;
/// Key spaces with a life time of their own, at most: each has a safe point of its own, of which regions are told.
const OWN_LIVES_MAX: usize = 256;
/// The longest name of a key space, in bytes.
const KEYSPACE_NAME_MAX: usize = 64;

/// The replicated state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    meta: Meta,
    stores: BTreeMap<StoreId, StoreRecord>,
    /// Who holds which address. Invariant: exactly the non-empty addresses of `stores`.
    addresses: BTreeMap<String, StoreId>,
    /// By id, the default one always; no two of one name.
    keyspaces: BTreeMap<u32, KeyspaceInfo>,
    /// Rules that are broken on purpose.
    pub(crate) bugs: Bugs,
}

impl State {
    /// The state found on disk; that of a new cluster on an empty one.
    pub(crate) fn load<E: Engine>(engine: &E) -> Result<Self, Error> {
        let snapshot = engine.snapshot();
        let meta = match snapshot.get(Cf::Default, META_KEY)? {
            Some(value) => Meta::from_bytes(&value)?,
            // Zero stands for "none" among ids, so the first is one.
            None => Meta { id_bound: 1, ..Meta::default() },
        };
        let default = KeyspaceInfo { name: DEFAULT_KEYSPACE.to_owned(), ..KeyspaceInfo::default() };
        let mut state = Self {
            meta,
            stores: BTreeMap::new(),
            addresses: BTreeMap::new(),
            keyspaces: BTreeMap::from([(0, default)]),
            bugs: Bugs::default(),
        };
        let mut iterator = snapshot.iter(Cf::Default, &KeyRange::prefix(STORE_PREFIX));
        let mut valid = iterator.seek_to_first();
        while valid {
            let record = StoreRecord::from_bytes(&Bytes::copy_from_slice(iterator.value()))?;
            if iterator.key() != store_key(record.info.id) {
                return Err(Error::Corrupt(format!(
                    "the record of store {} is under another key",
                    record.info.id
                )));
            }
            state.insert(record);
            valid = iterator.next();
        }
        iterator.status()?;
        let mut iterator = snapshot.iter(Cf::Default, &KeyRange::prefix(KEYSPACE_PREFIX));
        let mut valid = iterator.seek_to_first();
        while valid {
            let keyspace = KeyspaceInfo::from_bytes(&Bytes::copy_from_slice(iterator.value()))?;
            state.keyspaces.insert(keyspace.id, keyspace);
            valid = iterator.next();
        }
        iterator.status()?;
        Ok(state)
    }

    /// True before anything was ever written.
    pub(crate) fn is_new(&self) -> bool {
        self.meta.applied.index.is_zero() && self.meta.conf_state == ConfState::default()
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> EntryId {
        self.meta.applied
    }

    /// The last entry compacted away.
    pub(crate) fn truncated(&self) -> EntryId {
        self.meta.truncated
    }

    /// The members of the group.
    pub(crate) fn conf_state(&self) -> &ConfState {
        &self.meta.conf_state
    }

    pub(crate) fn cluster_id(&self) -> ClusterId {
        self.meta.cluster_id
    }

    pub(crate) fn is_bootstrapped(&self) -> bool {
        self.meta.bootstrap.is_some()
    }

    /// All ids below this one may have been handed out.
    pub(crate) fn id_bound(&self) -> u64 {
        self.meta.id_bound
    }

    pub(crate) fn tso_upper_ms(&self) -> u64 {
        self.meta.tso_upper_ms
    }

    /// What there is to know of old versions; `None` before anything has concerned them.
    pub(crate) fn gc(&self) -> Option<&GcState> {
        self.meta.gc.as_ref()
    }

    fn gc_mut(&mut self) -> &mut GcState {
        self.meta.gc.get_or_insert_default()
    }

    pub(crate) fn stores(&self) -> &BTreeMap<StoreId, StoreRecord> {
        &self.stores
    }

    pub(crate) fn address_holder(&self, address: &str) -> Option<StoreId> {
        self.addresses.get(address).copied()
    }

    /// The members of a group that has none yet.
    pub(crate) fn found(&mut self, conf_state: ConfState) {
        assert!(self.is_new(), "a group is founded once");
        self.meta.conf_state = conf_state;
    }

    /// Notes that the log begins after `to` now.
    pub(crate) fn truncate(&mut self, to: EntryId, batch: &mut WriteBatch) {
        assert!(
            self.meta.truncated.index < to.index && to.index <= self.meta.applied.index,
            "compaction to {to:?}"
        );
        self.meta.truncated = to;
        batch.put(Cf::Default, META_KEY, &self.meta.to_bytes());
    }

    /// All of it, for another member.
    pub(crate) fn image(&self) -> Bytes {
        let stores = self.stores.values().cloned().collect();
        Image { meta: self.meta.clone(), stores, keyspaces: self.keyspaces.values().cloned().collect() }
            .to_bytes()
    }

    /// The state of another member at `at` takes the place of this one.
    pub(crate) fn restore(
        &mut self,
        at: EntryId,
        image: &Bytes,
        batch: &mut WriteBatch,
    ) -> Result<(), Error> {
        let Image { meta, stores, keyspaces } = Image::from_bytes(image)?;
        if meta.applied != at {
            return Err(Error::Corrupt(format!(
                "a snapshot at {at:?} holds the state at {:?}",
                meta.applied
            )));
        }
        let range = KeyRange::prefix(STORE_PREFIX);
        batch.delete_range(Cf::Default, &range.start, &range.end);
        self.meta = Meta { truncated: at, ..meta };
        self.stores.clear();
        self.addresses.clear();
        for record in stores {
            self.put(record, batch);
        }
        self.keyspaces.retain(|id, _| *id == 0);
        for keyspace in keyspaces {
            self.put_keyspace(keyspace, batch);
        }
        batch.put(Cf::Default, META_KEY, &self.meta.to_bytes());
        Ok(())
    }

    /// Applies the command at a position of the log and adds what changes on disk to `batch`. `None` is the empty entry
    /// with which a leader begins.
    pub(crate) fn apply(&mut self, at: EntryId, command: Option<Command>, batch: &mut WriteBatch) -> Outcome {
        assert_eq!(at.index, self.meta.applied.index.next(), "commands are applied in order, once each");
        assert!(at.term >= self.meta.applied.term, "terms do not decrease along a log");
        self.meta.applied = at;
        let outcome = match command {
            None => Outcome::Done,
            Some(Command::Init { cluster_id }) => {
                if self.meta.cluster_id.is_zero() {
                    self.meta.cluster_id = cluster_id;
                }
                Outcome::Done
            }
            Some(Command::Bootstrap { store, region }) => self.apply_bootstrap(store, region, batch),
            Some(Command::PutStore { store, takes_over, retires }) => {
                self.apply_put_store(store, takes_over, retires, batch)
            }
            Some(Command::SetMode { store_id, mode, others_min }) => {
                self.apply_set_mode(store_id, mode, others_min, batch)
            }
            Some(Command::Retire { store_id }) => {
                let drained = self.stores.get(&store_id).filter(|record| record.mode == StoreMode::Draining);
                if let Some(mut record) = drained.cloned() {
                    record.retired = true;
                    record.info.address.clear();
                    self.put(record, batch);
                }
                Outcome::Done
            }
            Some(Command::Marks { marks }) => {
                for LogMark { store_id, log_mark } in marks {
                    if let Some(mut record) = self.stores.get(&store_id).cloned() {
                        record.info.log_mark = record.info.log_mark.max(log_mark);
                        self.put(record, batch);
                    }
                }
                Outcome::Done
            }
            Some(Command::ReserveIds { count }) => {
                let first = self.meta.id_bound;
                self.meta.id_bound = first.saturating_add(count);
                Outcome::Ids { first, end: self.meta.id_bound }
            }
            Some(Command::ExtendTso { upper_ms }) => {
                let before_ms = self.meta.tso_upper_ms;
                self.meta.tso_upper_ms = before_ms.max(upper_ms);
                Outcome::Tso { before_ms, upper_ms: self.meta.tso_upper_ms }
            }
            Some(Command::AdvanceGc { now_ms, life_ms }) => {
                let ignores_services = self.bugs.has(SeededBug::SafePointIgnoresServices);
                let lives = self.lives(life_ms);
                self.gc_mut().advance(now_ms, &lives, ignores_services);
                Outcome::Done
            }
            Some(Command::GcResolved { round }) => {
                self.gc_mut().resolved(round);
                Outcome::Done
            }
            Some(Command::GcCollected { round }) => {
                self.gc_mut().collected(round);
                Outcome::Done
            }
            Some(Command::HoldSafePoint { name, at, expires_ms }) => {
                let held = self.gc_mut().hold(Service { name, at, expires_ms });
                held.map_or_else(Outcome::Refused, |()| Outcome::Done)
            }
            Some(Command::CreateKeyspace { name, gc_life_ms }) => {
                self.apply_create_keyspace(name, gc_life_ms, batch)
            }
            Some(Command::SetKeyspaceLife { name, gc_life_ms }) => {
                self.apply_keyspace_life(&name, gc_life_ms, batch)
            }
            Some(Command::ReleaseSafePoint { name }) => match self.gc_mut().release(&name) {
                true => Outcome::Done,
                false => {
                    let message = format!("no service {name:?} holds the safe point");
                    Outcome::Refused(PdError::InvalidRequest { message })
                }
            },
        };
        batch.put(Cf::Default, META_KEY, &self.meta.to_bytes());
        outcome
    }

    fn apply_create_keyspace(&mut self, name: String, gc_life_ms: u64, batch: &mut WriteBatch) -> Outcome {
        let refused = |message| Outcome::Refused(PdError::InvalidRequest { message });
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > KEYSPACE_NAME_MAX || !name.bytes().all(is_plain) {
            return refused(format!(
                "a key space has a name of 1 to {KEYSPACE_NAME_MAX} bytes: small letters, digits, `-`, `_` and `.`"
            ));
        }
        if let Some(known) = self.keyspace(&name) {
            return Outcome::Keyspace(known.clone());
        }
        let id = self.last_keyspace() + 1;
        if id > KEYSPACE_ID_MAX {
            return refused(format!("there are {KEYSPACE_ID_MAX} key spaces already"));
        }
        self.set_keyspace(KeyspaceInfo { id, name, gc_life_ms }, batch)
    }

    fn apply_keyspace_life(&mut self, name: &str, gc_life_ms: u64, batch: &mut WriteBatch) -> Outcome {
        match self.keyspace(name).cloned() {
            Some(known) => self.set_keyspace(KeyspaceInfo { gc_life_ms, ..known }, batch),
            None => Outcome::Refused(PdError::UnknownKeyspace { name: name.to_owned() }),
        }
    }

    fn set_keyspace(&mut self, keyspace: KeyspaceInfo, batch: &mut WriteBatch) -> Outcome {
        let others = self.lives(0).own_ms.keys().filter(|id| **id != keyspace.id).count();
        if keyspace.gc_life_ms > 0 && others >= OWN_LIVES_MAX {
            let message = format!("{OWN_LIVES_MAX} key spaces have a life time of their own already");
            return Outcome::Refused(PdError::InvalidRequest { message });
        }
        self.put_keyspace(keyspace.clone(), batch);
        Outcome::Keyspace(keyspace)
    }

    fn put_keyspace(&mut self, keyspace: KeyspaceInfo, batch: &mut WriteBatch) {
        let key = [KEYSPACE_PREFIX, &keyspace.id.to_be_bytes()].concat();
        batch.put(Cf::Default, &key, &keyspace.to_bytes());
        self.keyspaces.insert(keyspace.id, keyspace);
    }

    /// By id.
    /// The id of the one that was made last: ids are given in order, and none is taken back.
    pub(crate) fn last_keyspace(&self) -> u32 {
        self.keyspaces.last_key_value().map_or(0, |(last, _)| *last)
    }

    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = &KeyspaceInfo> {
        self.keyspaces.values()
    }

    pub(crate) fn keyspace(&self, name: &str) -> Option<&KeyspaceInfo> {
        self.keyspaces.values().find(|keyspace| keyspace.name == name)
    }

    /// How long versions live, if it is `common_ms` where nothing else is said.
    pub(crate) fn lives(&self, common_ms: u64) -> Lives {
        let own = self.keyspaces.values().filter(|keyspace| keyspace.gc_life_ms > 0);
        Lives { common_ms, own_ms: own.map(|keyspace| (keyspace.id, keyspace.gc_life_ms)).collect() }
    }

    fn apply_bootstrap(&mut self, store: StoreInfo, region: Region, batch: &mut WriteBatch) -> Outcome {
        if let Some(first) = &self.meta.bootstrap {
            // A store that lost the answer, or crashed before it came, asks again and has won.
            return match *first == region && self.meta.bootstrap_store == store.id {
                true => Outcome::Done,
                false => Outcome::Refused(PdError::AlreadyBootstrapped),
            };
        }
        if let Err(message) = self.check_first_region(&store, &region) {
            return Outcome::Refused(PdError::InvalidRequest { message });
        }
        self.meta.bootstrap_store = store.id;
        self.meta.bootstrap = Some(region);
        self.put(StoreRecord { info: store, ..StoreRecord::default() }, batch);
        Outcome::Done
    }

    fn apply_set_mode(
        &mut self,
        store_id: StoreId,
        mode: StoreMode,
        others_min: u64,
        batch: &mut WriteBatch,
    ) -> Outcome {
        let refused = |message| Outcome::Refused(PdError::InvalidRequest { message });
        let Some(mut record) = self.stores.get(&store_id).cloned() else {
            return refused(format!("no store {store_id} is known"));
        };
        if record.retired {
            return refused(format!(
                "the id of store {store_id} has ended: it holds nothing and takes no part"
            ));
        }
        let is_other = |other: &&StoreRecord| {
            other.info.id != store_id && other.takes_part() && other.mode == StoreMode::Serving
        };
        let others = self.stores.values().filter(is_other).count() as u64;
        if mode != StoreMode::Serving && others < others_min {
            return refused(format!(
                "{others} other stores would be left that serve, and {others_min} are needed: add stores first"
            ));
        }
        record.mode = mode;
        self.put(record, batch);
        Outcome::Done
    }

    fn check_first_region(&self, store: &StoreInfo, region: &Region) -> Result<(), String> {
        if store.address.is_empty() {
            return Err("a store needs an address".to_owned());
        }
        if region.range != KeyRange::full() {
            return Err("the first region covers all keys".to_owned());
        }
        let [peer] = region.peers[..] else {
            return Err(format!("the first region has one peer, not {}", region.peers.len()));
        };
        if peer.store_id != store.id || peer.role != PeerRole::Voter {
            return Err(format!("the first region's peer is a voter on store {}", store.id));
        }
        for id in [store.id.get(), region.id.get(), peer.id.get()] {
            if id == 0 || id >= self.meta.id_bound {
                return Err(format!("id {id} was never handed out"));
            }
        }
        Ok(())
    }

    fn apply_put_store(
        &mut self,
        store: StoreInfo,
        takes_over: Option<StoreId>,
        retires: bool,
        batch: &mut WriteBatch,
    ) -> Outcome {
        if !self.is_bootstrapped() {
            return Outcome::Refused(PdError::NotBootstrapped);
        }
        if store.address.is_empty() || store.id.is_zero() || store.id.get() >= self.meta.id_bound {
            let message =
                format!("store {} at {:?}: it needs an id from here and an address", store.id, store.address);
            return Outcome::Refused(PdError::InvalidRequest { message });
        }
        let known = self.stores.get(&store.id);
        if known.is_some_and(|record| record.retired) && !self.bugs.has(SeededBug::RetiredStoreReturns) {
            let message = format!(
                "store id {} is retired: it was drained, or its place was taken, and its data was copied elsewhere. \
                 Move its data directory away and start it again, so that it joins under a new id",
                store.id
            );
            return Outcome::Refused(PdError::StoreRejected { message });
        }
        if let Some(StoreRecord { info, .. }) = known
            && (store.starts < info.starts || store.log_mark < info.log_mark)
            && !self.bugs.has(SeededBug::DiskAgeUnchecked)
        {
            let message = format!(
                "the data directory of store {} is older than what the store has said since, or the store runs elsewhere: \
                 this is start {} of it, after {} writes to its logs, and start {} and {} writes are known. It has forgotten \
                 votes and acknowledgements, so it takes no part. Move the data directory away and start it again, so \
                 that it joins under a new id and its data is copied to it",
                store.id, store.starts, store.log_mark, info.starts, info.log_mark
            );
            return Outcome::Refused(PdError::StoreRejected { message });
        }
        let mode = known.map_or(StoreMode::Serving, |record| record.mode);
        let mode = if self.bugs.has(SeededBug::DrainForgotten) { StoreMode::Serving } else { mode };
        if let Some(holder) = self.address_holder(&store.address).filter(|holder| *holder != store.id) {
            if takes_over != Some(holder) {
                let message = format!(
                    "address {} belongs to store {holder}, which was heard from lately. If this store was meant to be \
                     another one, give it an address of its own; if it replaces store {holder}, stop that one first",
                    store.address
                );
                return Outcome::Refused(PdError::StoreRejected { message });
            }
            let mut old = self.stores[&holder].clone();
            old.info.address.clear();
            old.retired = retires;
            self.put(old, batch);
        }
        self.put(StoreRecord { info: store, retired: false, mode }, batch);
        Outcome::Done
    }

    fn put(&mut self, record: StoreRecord, batch: &mut WriteBatch) {
        if self.stores.get(&record.info.id) != Some(&record) {
            batch.put(Cf::Default, &store_key(record.info.id), &record.to_bytes());
            self.insert(record);
        }
    }

    fn insert(&mut self, record: StoreRecord) {
        let id = record.info.id;
        if let Some(old) = self.stores.get(&id) {
            self.addresses.remove(&old.info.address);
        }
        if !record.info.address.is_empty() {
            self.addresses.insert(record.info.address.clone(), id);
        }
        self.stores.insert(id, record);
    }

    pub(crate) fn check_invariants(&self) {
        let addresses: BTreeMap<String, StoreId> = self
            .stores
            .values()
            .filter(|record| !record.info.address.is_empty())
            .map(|record| (record.info.address.clone(), record.info.id))
            .collect();
        assert_eq!(addresses, self.addresses, "the index of addresses is that of the stores");
        assert!(self.meta.id_bound >= 1, "ids begin at one");
        self.meta.gc.iter().for_each(GcState::check_invariants);
        assert!(self.keyspaces.contains_key(&0), "the default key space is always there");
        assert!(self.meta.bootstrap.is_some() || self.stores.is_empty(), "stores join after the bootstrap");
    }
}

fn store_key(id: StoreId) -> Vec<u8> {
    [STORE_PREFIX, &id.get().to_be_bytes()].concat()
}
