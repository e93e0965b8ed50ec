//! Client to store: transactions, and reading at a timestamp.
//!
//! Keys here are in the encoding of `codec::ordered`, prefix of the key space included. Every command may come twice and
//! answers the second time as it did the first. What a command finds that keeps it from doing what it should is a
//! [`TxnFault`], and then it has changed nothing.

use crate::kv::Scan;
use bytes::Bytes;
use codec::{codec_enum, codec_struct};
use types::{Key, KeyRange, SafePoints, Timestamp};

/// A command of a transaction on one region. All keys named lie in it, but for the primary of others' locks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnCommand {
    /// Lock keys with what the transaction does to them. Answer: [`TxnReply::Prewritten`].
    Prewrite(Prewrite),
    /// Make locked keys visible. The primary comes first, alone or with others of its region, and decides for all.
    /// Answer: [`TxnReply::Done`].
    Commit {
        /// The keys.
        keys: Vec<Key>,
        /// When the transaction began.
        start_ts: Timestamp,
        /// When it commits.
        commit_ts: Timestamp,
    },
    /// Give keys up, and see to it that the transaction never writes them. Answer: [`TxnReply::Done`].
    Rollback {
        /// The keys.
        keys: Vec<Key>,
        /// When the transaction began.
        start_ts: Timestamp,
    },
    /// The same for one key, unless its transaction may still be at work. Answer: [`TxnReply::Done`].
    CleanUp {
        /// The key.
        key: Key,
        /// When the transaction began.
        start_ts: Timestamp,
        /// What time it is; zero: whatever its lock says.
        current_ts: Timestamp,
    },
    /// What became of a transaction? Asked at its primary. Answer: [`TxnReply::Status`].
    CheckStatus(CheckStatus),
    /// What do some keys say of a transaction that commits as soon as all its keys are locked? Answer:
    /// [`TxnReply::Secondaries`], in the same order.
    CheckSecondaries {
        /// The keys.
        keys: Vec<Key>,
        /// When the transaction began.
        start_ts: Timestamp,
    },
    /// Commit or roll back what a transaction of known fate has left. Answer: [`TxnReply::Done`].
    Resolve {
        /// When the transaction began.
        start_ts: Timestamp,
        /// When it committed; `None`: it was rolled back.
        commit_ts: Option<Timestamp>,
        /// Its keys; keys that it has not locked are passed over.
        keys: Vec<Key>,
    },
    /// The transaction is still at work. Asked at its primary. Answer: [`TxnReply::TimeToLive`].
    Heartbeat {
        /// The primary.
        primary: Key,
        /// When the transaction began.
        start_ts: Timestamp,
        /// How long after its beginning it may take, in milliseconds.
        ttl_ms: u64,
    },
    /// Reserve keys before it is known what is done to them. Answer: [`TxnReply::Reserved`].
    Acquire(Acquire),
    /// Give up keys that were reserved. Answer: [`TxnReply::Done`].
    Release {
        /// The keys.
        keys: Vec<Key>,
        /// When the transaction began.
        start_ts: Timestamp,
        /// Only what was reserved with a view up to then.
        for_update_ts: Timestamp,
    },
    /// Old versions of the region's keys will be removed: no transaction that began by then gets locks here any more, and
    /// nobody reads below. Answer: [`TxnReply::Done`].
    Guard {
        /// By when.
        safe_points: SafePoints,
    },
    /// Remove old versions. Only after all locks of transactions that began by then are resolved, in all regions. Answer:
    /// [`TxnReply::Collected`].
    Collect {
        /// Those that are not the newest ones by then.
        safe_points: SafePoints,
        /// From this key on, as the region layer sees it; what lies outside of the region is not looked at.
        from: Key,
    },
    /// Remove raw values whose time is over, as the store knows the time. Answer: [`TxnReply::Collected`].
    CollectExpired {
        /// From this key on, as the region layer sees it; what lies outside of the region is not looked at.
        from: Key,
    },
}
codec_enum!(TxnCommand {
    1 = Prewrite(prewrite),
    2 = Commit { keys, start_ts, commit_ts },
    3 = Rollback { keys, start_ts },
    4 = CleanUp { key, start_ts, current_ts },
    5 = CheckStatus(asked),
    6 = CheckSecondaries { keys, start_ts },
    7 = Resolve { start_ts, commit_ts, keys },
    8 = Heartbeat { primary, start_ts, ttl_ms },
    9 = Acquire(acquire),
    10 = Release { keys, start_ts, for_update_ts },
    11 = Guard { safe_points },
    12 = Collect { safe_points, from },
    13 = CollectExpired { from },
});

/// What is done to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MutationKind {
    /// It gets a value.
    Put(Bytes),
    /// It gets a value, and must not have one.
    Insert(Bytes),
    /// It is removed.
    Delete,
    /// It must not be written by others.
    Lock,
    /// It must not have a value; it is not locked.
    CheckNotExists,
}
codec_enum!(MutationKind { 1 = Put(value), 2 = Insert(value), 3 = Delete, 4 = Lock, 5 = CheckNotExists });

/// One key of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutation {
    /// The key.
    pub key: Key,
    /// What is done to it.
    pub kind: MutationKind,
    /// The transaction has reserved it before, by [`TxnCommand::Acquire`].
    pub is_reserved: bool,
}
codec_struct!(Mutation { key, kind, is_reserved });

impl Mutation {
    /// What it weighs against limits, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.key.len()
            + match &self.kind {
                MutationKind::Put(value) | MutationKind::Insert(value) => value.len(),
                MutationKind::Delete | MutationKind::Lock | MutationKind::CheckNotExists => 0,
            }
    }
}

/// How a transaction becomes committed. Where a store cannot do as it is asked, the transaction commits in two phases, and
/// its answer says so.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum CommitMode {
    #[default]
    /// By a [`TxnCommand::Commit`] of its primary.
    TwoPhase,
    /// By having locked all of its keys, at the greatest `min_commit_ts` of its locks.
    Async {
        /// All its keys but the primary, each once; told where the primary is prewritten, and nowhere else.
        secondaries: Vec<Key>,
    },
    /// By this prewrite, which has all of its keys.
    OnePhase,
}
codec_enum!(CommitMode { 1 = TwoPhase, 2 = Async { secondaries }, 3 = OnePhase });

/// The first phase, for keys of one region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prewrite {
    /// The key that decides for the transaction. It may lie in another region.
    pub primary: Key,
    /// When the transaction began; names it.
    pub start_ts: Timestamp,
    /// How long after its beginning the transaction may take, in milliseconds.
    pub ttl_ms: u64,
    /// How many keys it has in all.
    pub txn_size: u64,
    /// Up to when it has seen the keys that it has reserved; zero for a transaction that reserves none.
    pub for_update_ts: Timestamp,
    /// It does not commit earlier; zero if it does not mind. Of a transaction that does not commit in two phases: later than
    /// any timestamp that was given to anybody before it was to be committed.
    pub min_commit_ts: Timestamp,
    /// It does not commit later than this without a second phase; zero if it does not mind.
    pub max_commit_ts: Timestamp,
    /// How it becomes committed.
    pub mode: CommitMode,
    /// Each key once.
    pub mutations: Vec<Mutation>,
}
codec_struct!(Prewrite {
    primary,
    start_ts,
    ttl_ms,
    txn_size,
    for_update_ts,
    min_commit_ts,
    mutations,
    max_commit_ts,
    mode,
});

/// A question about a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckStatus {
    /// Its primary, as the lock says that was found.
    pub primary: Key,
    /// When it began.
    pub start_ts: Timestamp,
    /// At which timestamp the asker reads: the transaction is made to commit later. Zero if the asker does not read.
    pub reads_at: Timestamp,
    /// What time it is, by the oracle: decides whether the transaction is abandoned.
    pub current_ts: Timestamp,
    /// Keep a transaction of which nothing is known from ever beginning.
    pub rollback_if_unknown: bool,
    /// Treat a transaction that commits as soon as all its keys are locked like any other.
    pub force_sync_commit: bool,
    /// The lock that was found only reserves a key.
    pub found_pessimistic: bool,
}
codec_struct!(CheckStatus {
    primary,
    start_ts,
    reads_at,
    current_ts,
    rollback_if_unknown,
    force_sync_commit,
    found_pessimistic,
});

/// Keys of one region are to be reserved.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Acquire {
    /// The key that decides for the transaction.
    pub primary: Key,
    /// When the transaction began.
    pub start_ts: Timestamp,
    /// Up to when it sees these keys.
    pub for_update_ts: Timestamp,
    /// How long after its beginning the transaction may take, in milliseconds.
    pub ttl_ms: u64,
    /// Each once.
    pub keys: Vec<Key>,
    /// None of them may have a value.
    pub must_be_new: bool,
    /// How long to wait for whoever has reserved or locked one of them, in milliseconds; the store may wait for less.
    pub wait_ms: u64,
}
codec_struct!(Acquire { primary, start_ts, for_update_ts, ttl_ms, keys, must_be_new, wait_ms });

/// One transaction waits for another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WaitEdge {
    /// When the one began that waits.
    pub waiter_ts: Timestamp,
    /// When the one began that has locked the key.
    pub lock_ts: Timestamp,
    /// The key.
    pub key: Key,
}
codec_struct!(WaitEdge { waiter_ts, lock_ts, key });

/// Who reads, and when.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReadView {
    /// What was committed by then is seen.
    pub at: Timestamp,
    /// Transactions of which the reader knows that they were rolled back, or commit later: their locks hide nothing.
    pub resolved: Vec<Timestamp>,
    /// Transactions of which the reader knows that they are committed, at `at` or earlier: what their locks say is seen.
    pub committed: Vec<Timestamp>,
}
codec_struct!(ReadView { at, resolved, committed });

/// A read of one region at a timestamp.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnRead {
    /// The value of a key. Answer: [`KvReply::Value`](crate::kv::KvReply::Value).
    Get {
        /// The key.
        key: Key,
        /// Who reads.
        view: ReadView,
    },
    /// The values of several keys. Answer: [`KvReply::Values`](crate::kv::KvReply::Values), in the same order.
    BatchGet {
        /// The keys.
        keys: Vec<Key>,
        /// Who reads.
        view: ReadView,
    },
    /// The first keys of a range. Answer: [`TxnReply::Page`].
    Scan {
        /// What is wanted.
        scan: Scan,
        /// Who reads.
        view: ReadView,
    },
    /// The locks of a range. Answer: [`TxnReply::Locks`].
    Locks {
        /// The range; what lies outside of the region is not looked at.
        range: KeyRange,
        /// Of transactions that began by then.
        up_to: Timestamp,
        /// At most so many; zero for the store's limit.
        limit: u32,
    },
    /// All that is known of a key. Answer: [`TxnReply::History`].
    History {
        /// The key.
        key: Key,
    },
    /// Whether keys were changed after they were read. Answer: [`TxnReply::Changes`].
    KeyChanges {
        /// The keys.
        keys: Vec<Key>,
        /// When they were read.
        since: Timestamp,
        /// Who asks: changes up to `at` count, and nobody makes one up to then after the answer.
        view: ReadView,
    },
    /// The same for all keys of a range, whether they had a value or not. Answer: [`TxnReply::Changes`].
    RangeChanges {
        /// The range; what lies outside of the region is not looked at.
        range: KeyRange,
        /// When it was read.
        since: Timestamp,
        /// As of keys.
        view: ReadView,
    },
}
codec_enum!(TxnRead {
    1 = Get { key, view },
    2 = BatchGet { keys, view },
    3 = Scan { scan, view },
    4 = Locks { range, up_to, limit },
    5 = History { key },
    6 = KeyChanges { keys, since, view },
    7 = RangeChanges { range, since, view },
});

/// What a command, or a read that raw keys do not have, answers when it was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnReply {
    /// Nothing more to say than that it was done.
    Done,
    /// The keys are locked, or more.
    Prewritten {
        /// The transaction is committed, at this timestamp: in one phase, or the request comes late, and again.
        committed_at: Option<Timestamp>,
        /// The transaction is committed as soon as all of its keys are locked, at this timestamp or later. `None`: it commits
        /// in two phases, whatever is answered for its other keys.
        min_commit_ts: Option<Timestamp>,
    },
    /// What became of a transaction.
    Status(TxnStatus),
    /// What keys say of it, in the order asked.
    Secondaries(Vec<Secondary>),
    /// How long after its beginning the transaction may take now, in milliseconds.
    TimeToLive {
        /// So long.
        ttl_ms: u64,
    },
    /// The keys are reserved; these are their values, in the order asked.
    Reserved {
        /// `None` for a key that has none.
        values: Vec<Option<Bytes>>,
    },
    /// A piece of a scan.
    Page {
        /// In the direction of the scan.
        items: Vec<TxnItem>,
        /// As of [`KvReply::Page`](crate::kv::KvReply::Page).
        resume: Option<Key>,
    },
    /// Locks, in key order.
    Locks {
        /// The locks.
        locks: Vec<LockInfo>,
        /// The search goes on at this key.
        resume: Option<Key>,
    },
    /// All that is known of a key.
    History {
        /// Its lock.
        lock: Option<LockInfo>,
        /// What happened to it, the newest first; a bounded number.
        versions: Vec<Version>,
    },
    /// Old versions were removed.
    Collected {
        /// How many records of what happened to keys.
        removed: u64,
        /// There is more to do, from this key on.
        resume: Option<Key>,
    },
    /// Whether somebody has changed what was read.
    Changes {
        /// The first change that was found; the search has ended there.
        first: Option<Changed>,
        /// The search goes on at this key.
        resume: Option<Key>,
    },
}
codec_enum!(TxnReply {
    1 = Done,
    2 = Prewritten { committed_at, min_commit_ts },
    3 = Status(status),
    4 = Secondaries(secondaries),
    5 = TimeToLive { ttl_ms },
    6 = Reserved { values },
    7 = Page { items, resume },
    8 = Locks { locks, resume },
    9 = History { lock, versions },
    10 = Collected { removed, resume },
    11 = Changes { first, resume },
});

/// A key that was changed by somebody else after it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The key.
    pub key: Key,
    /// When it was changed.
    pub commit_ts: Timestamp,
    /// When the transaction began that changed it.
    pub start_ts: Timestamp,
}
codec_struct!(Changed { key, commit_ts, start_ts });

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnStatus {
    /// It is under way.
    Alive {
        /// Its primary's lock.
        lock: LockInfo,
        /// It commits after the asker's timestamp.
        is_pushed: bool,
    },
    /// It committed.
    Committed {
        /// When.
        commit_ts: Timestamp,
    },
    /// It was rolled back.
    RolledBack,
    /// The lock that was found reserves a key for a transaction of which nothing else is known: release it.
    Released,
}
codec_enum!(TxnStatus {
    1 = Alive { lock, is_pushed },
    2 = Committed { commit_ts },
    3 = RolledBack,
    4 = Released,
});

/// What a key says of a transaction that commits as soon as all its keys are locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Secondary {
    /// It is locked.
    Locked(LockInfo),
    /// The transaction committed.
    Committed {
        /// When.
        commit_ts: Timestamp,
    },
    /// It is not, and never will be.
    RolledBack,
}
codec_enum!(Secondary { 1 = Locked(lock), 2 = Committed { commit_ts }, 3 = RolledBack });

/// A key that a scan has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnItem {
    /// The key.
    pub key: Key,
    /// Its value; empty in a scan of keys only, and where a lock hides it.
    pub value: Bytes,
    /// The lock that hides whether the key has a value: resolve it, and read this key again.
    pub lock: Option<LockInfo>,
}
codec_struct!(TxnItem { key, value, lock });

/// What the transaction that holds a lock does to its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LockKind {
    /// It sets it.
    Put,
    /// It removes it.
    Delete,
    /// It only claims that nobody else has written it.
    Lock,
    /// It has reserved it, and has not decided yet.
    Pessimistic,
}
codec_enum!(LockKind { 1 = Put, 2 = Delete, 3 = Lock, 4 = Pessimistic });

/// A lock, as others are told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockInfo {
    /// The locked key.
    pub key: Key,
    /// The key that decides for the lock's transaction.
    pub primary: Key,
    /// When that transaction began.
    pub start_ts: Timestamp,
    /// How long after its beginning it may take, in milliseconds.
    pub ttl_ms: u64,
    /// What it does to the key.
    pub kind: LockKind,
    /// How many keys it has, as far as is known.
    pub txn_size: u64,
    /// Up to when it has seen the key, if it has reserved it.
    pub for_update_ts: Timestamp,
    /// It commits then or later.
    pub min_commit_ts: Timestamp,
    /// It commits as soon as all its keys are locked.
    pub is_async_commit: bool,
    /// On the primary of such a transaction: its other keys.
    pub secondaries: Vec<Key>,
}
codec_struct!(LockInfo {
    key,
    primary,
    start_ts,
    ttl_ms,
    kind,
    txn_size,
    for_update_ts,
    min_commit_ts,
    is_async_commit,
    secondaries,
});

/// What happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum VersionKind {
    /// It was set.
    Put,
    /// It was removed.
    Delete,
    /// It was locked by a transaction that has committed, and did not change.
    Lock,
    /// A transaction was rolled back that wanted to write it.
    Rollback,
}
codec_enum!(VersionKind { 1 = Put, 2 = Delete, 3 = Lock, 4 = Rollback });

/// One thing that happened to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// What.
    pub kind: VersionKind,
    /// When; for a rollback, when the transaction began.
    pub commit_ts: Timestamp,
    /// When the transaction began that did it.
    pub start_ts: Timestamp,
    /// The value of a `Put`.
    pub value: Option<Bytes>,
}
codec_struct!(Version { kind, commit_ts, start_ts, value });

/// In which respect a key was written meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Conflict {
    /// Somebody has committed it since the transaction began.
    Optimistic,
    /// Somebody has committed it since the transaction last looked: look again.
    Pessimistic,
    /// The transaction itself was rolled back on it, by whoever took it for abandoned.
    RolledBack,
}
codec_enum!(Conflict { 1 = Optimistic, 2 = Pessimistic, 3 = RolledBack });

/// What keeps a command from doing what it should, or a read from seeing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnFault {
    /// Other transactions have locked keys. Ask what became of them, resolve their locks or wait, and come again.
    KeyIsLocked {
        /// The locks, one at least, a bounded number.
        locks: Vec<LockInfo>,
    },
    /// A key was written meanwhile.
    WriteConflict {
        /// The key.
        key: Key,
        /// The transaction that cannot go on.
        start_ts: Timestamp,
        /// When the other one began.
        conflict_start_ts: Timestamp,
        /// When it committed, or was rolled back.
        conflict_commit_ts: Timestamp,
        /// In which respect.
        reason: Conflict,
    },
    /// A key was to be new, and has a value.
    AlreadyExist {
        /// The key.
        key: Key,
    },
    /// Somebody has read a key since, and has been told that the transaction commits later.
    CommitTsExpired {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
        /// When it wanted to commit.
        attempted: Timestamp,
        /// When it may, at the earliest.
        min_commit_ts: Timestamp,
    },
    /// There is no lock to commit, and no record that it was committed.
    TxnLockNotFound {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
    },
    /// Nothing is known of the transaction at what was said to be its primary.
    TxnNotFound {
        /// That key.
        primary: Key,
        /// The transaction.
        start_ts: Timestamp,
    },
    /// The lock's primary is another key: ask there.
    PrimaryMismatch {
        /// The lock.
        lock: LockInfo,
    },
    /// A key should be reserved by the transaction, and is not any more.
    PessimisticLockNotFound {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
    },
    /// The transaction is committed: it cannot be rolled back.
    Committed {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
        /// When.
        commit_ts: Timestamp,
    },
    /// A timestamp was named that the placement driver cannot have given to anybody yet.
    TimestampFromFuture {
        /// The timestamp.
        named: Timestamp,
        /// The latest one that the store would take.
        latest: Timestamp,
    },
    /// What was there then may be gone: the read, or the transaction, is too old. Nothing was done.
    BelowSafePoint {
        /// When was to be read, or when the transaction began.
        at: Timestamp,
        /// Up to when versions may be gone.
        safe_point: Timestamp,
    },
    /// Who holds the key waits for the one that asks for it, by itself or through others: one of them must give way, and
    /// that is whoever was last to wait. Roll back, and begin again.
    Deadlock {
        /// When the one began that holds the key.
        lock_ts: Timestamp,
        /// The key.
        lock_key: Key,
        /// Who waits for whom: from the one that asks, over the holder of the key, back to the one that asks.
        wait_chain: Vec<WaitEdge>,
    },
}
codec_enum!(TxnFault {
    1 = KeyIsLocked { locks },
    2 = WriteConflict { key, start_ts, conflict_start_ts, conflict_commit_ts, reason },
    3 = AlreadyExist { key },
    4 = CommitTsExpired { key, start_ts, attempted, min_commit_ts },
    5 = TxnLockNotFound { key, start_ts },
    6 = TxnNotFound { primary, start_ts },
    7 = PrimaryMismatch { lock },
    8 = PessimisticLockNotFound { key, start_ts },
    9 = Committed { key, start_ts, commit_ts },
    10 = TimestampFromFuture { named, latest },
    11 = BelowSafePoint { at, safe_point },
    12 = Deadlock { lock_ts, lock_key, wait_chain },
});
