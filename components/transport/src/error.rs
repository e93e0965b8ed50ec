//! What can go wrong, by what the caller does next.

use std::fmt;
use std::io;
use types::{ClusterId, StoreId};
use wire::hello::Close;

/// Why there is no connection. Nothing was sent over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// Nobody answers at this address; try again later.
    Unreachable(io::ErrorKind),
    /// Nobody answered in time; try again later.
    Timeout,
    /// The last attempt failed a moment ago; the next one is due later.
    BackingOff,
    /// As many calls as may be wait for the attempt that is under way.
    TooManyWait,
    /// The other side refused, and says why.
    Refused(Close),
    /// The other side belongs to another cluster.
    WrongCluster {
        /// Which.
        theirs: ClusterId,
    },
    /// The address belongs to another store.
    WrongStore {
        /// Which.
        theirs: StoreId,
    },
    /// The other side does not speak our protocol; the text says where it departs from it.
    Protocol(String),
    /// Nobody knows an address for the store.
    UnknownAddress,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(kind) => write!(f, "unreachable: {kind}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::BackingOff => f.write_str("the last attempt to connect failed a moment ago"),
            Self::TooManyWait => f.write_str("too many calls wait for a connection"),
            Self::Refused(close) => write!(f, "refused: {close:?}"),
            Self::WrongCluster { theirs } => write!(f, "belongs to cluster {theirs}"),
            Self::WrongStore { theirs } => write!(f, "the address belongs to store {theirs}"),
            Self::Protocol(what) => write!(f, "does not speak our protocol: {what}"),
            Self::UnknownAddress => f.write_str("no address is known"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// There is no connection. The request was not sent.
    NotConnected(ConnectError),
    /// Too many calls, or too many bytes, wait on this connection. The request was not sent.
    TooBusy,
    /// The request is longer than a frame may be. It was not sent.
    TooLarge {
        /// Its length in bytes.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// The connection was lost before the answer.
    ConnectionLost {
        /// False if not all of the request had been put on the socket, so that the other side cannot have acted on it.
        sent: bool,
    },
    /// The answer did not come in time. Nobody knows whether the request was, or will be, acted upon.
    Timeout,
}

impl CallError {
    /// True if the other side may have acted on the request, or still may.
    #[must_use]
    pub const fn may_have_been_done(&self) -> bool {
        matches!(self, Self::ConnectionLost { sent: true } | Self::Timeout)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(why) => write!(f, "not connected: {why}"),
            Self::TooBusy => f.write_str("too many calls wait on this connection"),
            Self::TooLarge { size, max } => write!(f, "a request of {size} bytes exceeds the limit of {max}"),
            Self::ConnectionLost { sent: true } => {
                f.write_str("the connection was lost after the request was sent")
            }
            Self::ConnectionLost { sent: false } => {
                f.write_str("the connection was lost before the request was sent")
            }
            Self::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for CallError {}

/// Why a snapshot was not delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotSendError {
    /// The receiver was not reached.
    NotConnected(ConnectError),
    /// The receiver refused it, at its start, at its end or in between; the text says why.
    Refused(String),
    /// The pieces ended before their end.
    Aborted,
    /// A piece is longer than a frame may be.
    TooLarge {
        /// Its length in bytes.
        size: usize,
    },
    /// The connection was lost.
    ConnectionLost,
    /// The verdict did not come in time. After the end was sent nobody knows whether the receiver has taken it.
    Timeout,
}

impl fmt::Display for SnapshotSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(why) => write!(f, "not connected: {why}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Aborted => f.write_str("the pieces ended before their end"),
            Self::TooLarge { size } => write!(f, "a piece of {size} bytes does not fit a frame"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::Timeout => f.write_str("no verdict in time"),
        }
    }
}

impl std::error::Error for SnapshotSendError {}
