//! Words all layers share.
//!
//! Ids, positions in a Raft log, key ranges, regions and their epochs, time as we count it. Plain values: this crate
//! does no I/O, knows no encoding (see `codec`) and no protocol. Start with [`Region`].

mod id;
mod key;
mod region;
mod safe_point;
mod time;

pub use id::{ClusterId, LogIndex, PeerId, RegionId, StoreId, Term};
pub use key::{Key, KeyRange, escape_key};
pub use region::{Epoch, Peer, PeerRole, Region};
pub use safe_point::{
    KeyspacePoint, RAW_MODE, SafePoints, TXN_MODE, keyspace_of, raw_range, transactional_range,
};
pub use time::{MonoTime, Timestamp};

/// The longest key a client may use, in bytes, before the key space prefix is added.
pub const KEY_SIZE_MAX: usize = 32 << 10;
/// The longest value a client may store, in bytes.
pub const VALUE_SIZE_MAX: usize = 8 << 20;
/// The largest Raft entry: one value and its key, or many small ones, with room for framing.
pub const ENTRY_SIZE_MAX: usize = 12 << 20;
/// The largest frame between processes: room for two of the largest entries.
pub const FRAME_SIZE_MAX: usize = 32 << 20;

// An entry must hold the largest write, and a frame must hold the largest entry with its envelope (twice, so that a
// batch that is being filled never has to reject what fits an entry).
const _: () = assert!(ENTRY_SIZE_MAX >= VALUE_SIZE_MAX + KEY_SIZE_MAX + (1 << 20));
const _: () = assert!(FRAME_SIZE_MAX >= 2 * ENTRY_SIZE_MAX);
const _: () = assert!(FRAME_SIZE_MAX >= 2 * VALUE_SIZE_MAX);
