//! The greeting: who connects, to which cluster, speaking which protocol.

use codec::{codec_enum, codec_struct};
use types::{ClusterId, StoreId};

/// The oldest protocol version that this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol version that this build speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// Who connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionRole {
    /// A client, or a tool.
    Client,
    /// A store that will send Raft messages.
    Store,
    /// A store that will send one snapshot after another.
    Snapshot,
}
codec_enum!(ConnectionRole { 1 = Client, 2 = Store, 3 = Snapshot });

/// First frame of the side that connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The cluster that the sender belongs to; zero if it does not know yet (a new store, or a client, asking PD).
    pub cluster_id: ClusterId,
    /// Who connects.
    pub role: ConnectionRole,
    /// The oldest protocol version the sender speaks.
    pub protocol_min: u32,
    /// The newest.
    pub protocol_max: u32,
    /// The sender's store id; zero for clients.
    pub store_id: StoreId,
    /// The store that the sender believes to reach; zero for any (PD, or a client of PD).
    pub to_store_id: StoreId,
}
codec_struct!(Hello { cluster_id, role, protocol_min, protocol_max, store_id, to_store_id });

/// The answer to a [`Hello`] that is welcome. One that is not gets a [`Close`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HelloAck {
    /// The cluster of the side that answers.
    pub cluster_id: ClusterId,
    /// The version that both will speak: the newest that both know.
    pub protocol: u32,
    /// The answering store's id; zero for PD.
    pub store_id: StoreId,
}
codec_struct!(HelloAck { cluster_id, protocol, store_id });

/// Why a connection is closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Close {
    /// The other side belongs to another cluster.
    WrongCluster {
        /// The cluster of the side that closes.
        ours: ClusterId,
    },
    /// No protocol version is spoken by both.
    ProtocolMismatch {
        /// The oldest version of the side that closes.
        min: u32,
        /// Its newest.
        max: u32,
    },
    /// The address belongs to another store by now.
    WrongStore {
        /// The store that answers there.
        ours: StoreId,
    },
    /// A frame was damaged, too long or out of place; the text names it.
    BadFrame {
        /// What was wrong.
        reason: String,
    },
    /// The process is stopping.
    ShuttingDown,
    /// More connections, or more bytes in flight, than are allowed.
    TooBusy,
}
codec_enum!(Close {
    1 = WrongCluster { ours },
    2 = ProtocolMismatch { min, max },
    3 = WrongStore { ours },
    4 = BadFrame { reason },
    5 = ShuttingDown,
    6 = TooBusy,
});
