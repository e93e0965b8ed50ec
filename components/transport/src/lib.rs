//! Connections between processes: framing, batching, reconnect, snapshot streams.
//!
//! A driver on tokio: it moves the messages of [`wire`] and decides nothing about them. What it keeps true: **exactly one
//! answer leaves for each request, in as few wake-ups and write calls as the moment allows.** Many requests share a
//! connection; all whole frames of one read are handed over in one call; answers and messages are encoded straight into
//! the connection's outgoing buffer, from any thread, without waiting; one write takes all that has gathered there; and
//! the connection's task is woken only if it was idle.
//!
//! One task drives each connection, reading and writing ([`Server`] on the side that listens; [`Connection`],
//! [`StoreLinks`] and [`send_snapshot`] on the side that connects). All of it is generic over the stream, so that TLS
//! fits between. Everything is bounded: connections, frames, bytes in flight, bytes to be sent.
//!
//! It does not know what a request does, which store leads what, or when a command is to be repeated. Start with
//! [`Service`], then [`Channel`].

mod channel;
mod connection;
mod counters;
mod drive;
mod error;
mod greeting;
mod inbound;
mod links;
mod outgoing;
mod pending;
mod server;
mod service;
mod settings;
mod snapshot;

pub use channel::{Channel, Pool};
pub use connection::{Call, CallOptions, Connection};
pub use counters::{BadFrame, Counters, Ended};
pub use error::{CallError, ConnectError, SnapshotSendError};
pub use greeting::{Identity, Target};
pub use links::{Resolver, StoreLinks, Unreachable};
pub use outgoing::hold_wakes;
pub use server::{Server, listen};
pub use service::{ConnectionId, Receipt, Request, RequestBody, Responder, Service};
pub use settings::Settings;
pub use snapshot::{Pacer, SnapshotOptions, send_snapshot, send_snapshot_over};

use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection can run over: a TCP socket, a TLS stream, a pipe in a test.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}
