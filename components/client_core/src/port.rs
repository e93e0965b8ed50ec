//! What the client needs from the outside: requests, time, tasks, dice.

use env::Dice;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use types::{MonoTime, StoreId};
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};
use wire::trace::Trace;

/// Sends requests to stores and to the placement driver.
///
/// One call is at most one request on the wire: an implementation never repeats a request that may have left. It ends
/// within the timeout, with [`RpcError::TimedOut`] if nothing else. Dropping the future gives up the answer, not the
/// request.
pub trait Rpc: Send + Sync {
    /// Sends a command to a store, which is believed to be at `address`; another store that answers there is as good as
    /// none.
    ///
    /// # Errors
    /// Any [`RpcError`]; what the store itself refuses is inside of the response.
    fn kv<'a>(
        &'a self,
        store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<KvResponse, RpcError>>;

    /// As [`Rpc::kv`], and asks where the time of the request goes; a port, or a store, that cannot tell says nothing.
    ///
    /// # Errors
    /// As [`Rpc::kv`].
    fn kv_traced<'a>(
        &'a self,
        store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(KvResponse, Option<Trace>), RpcError>> {
        Box::pin(async move { Ok((self.kv(store_id, address, request, timeout).await?, None)) })
    }

    /// Asks the placement driver. Which member is asked, and following `PdError::NotLeader`, is the port's business;
    /// it may try members one after another, for requests that it knows not to have been sent.
    ///
    /// # Errors
    /// Any [`RpcError`]; what the placement driver itself refuses is inside of the response.
    fn pd<'a>(&'a self, request: PdRequest, timeout: Duration)
    -> BoxFuture<'a, Result<PdResponse, RpcError>>;
}

/// Why a request brought no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RpcError {
    /// The request has not left, and never will: it may be made again.
    #[error("not sent: {reason}")]
    NotSent {
        /// Why, for people.
        reason: String,
    },
    /// It may have arrived; the answer was lost with the connection.
    #[error("connection lost: {reason}")]
    ConnectionLost {
        /// Why, for people.
        reason: String,
    },
    /// It may have arrived; no answer came in time.
    #[error("no answer in time")]
    TimedOut,
}

impl RpcError {
    /// True unless it is certain that the request never reached anybody.
    #[must_use]
    pub const fn may_have_been_sent(&self) -> bool {
        !matches!(self, Self::NotSent { .. })
    }
}

/// The time, and waiting for it.
pub trait Timers: Send + Sync {
    /// A reading of the clock, never earlier than one before.
    fn now(&self) -> MonoTime;

    /// Ready after this much time, not before.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Work that goes on when the call that began it has its answer.
pub trait Spawn: Send + Sync {
    /// Sees to it that the task is polled until it is done, or until the process ends.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Ready when the tasks that could go on have had their turn. Where they go in no order, at once.
    fn let_others_go(&self) -> BoxFuture<'static, ()>;
}

/// All ports of a client.
pub struct Ports {
    /// Requests.
    pub rpc: Arc<dyn Rpc>,
    /// Time.
    pub timers: Arc<dyn Timers>,
    /// Tasks.
    pub spawn: Arc<dyn Spawn>,
    /// For jitter.
    pub dice: Box<dyn Dice>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}
