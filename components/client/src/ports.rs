//! The ports of `client_core` on tokio.
#![expect(clippy::disallowed_methods, reason = "this is the driver that owns the client's clock")]

use crate::pd::{PdCallError, PdClient};
use client_core::{Rpc, RpcError, Spawn, Timers};
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use transport::{CallError, Channel, Connection, Counters, Identity, Settings, Target};
use types::{MonoTime, StoreId};
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};
use wire::trace::Trace;

/// Requests over the connections of `transport`.
pub(crate) struct TokioRpc {
    pub(crate) pd: PdClient,
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) counters: Arc<Counters>,
    /// One link for each store, to the address that it was asked at last.
    pub(crate) stores: RwLock<BTreeMap<StoreId, Arc<Channel>>>,
}

impl TokioRpc {
    fn link(&self, store_id: StoreId, address: &str) -> Arc<Channel> {
        if let Some(link) = self.stores.read().get(&store_id)
            && link.target().address == address
        {
            return Arc::clone(link);
        }
        let target = Target::store(store_id, address);
        let link =
            Arc::new(Channel::new(target, self.identity, self.settings.clone(), Arc::clone(&self.counters)));
        let mut stores = self.stores.write();
        match stores.get(&store_id) {
            // Somebody else was faster.
            Some(made) if made.target().address == address => Arc::clone(made),
            _ => {
                stores.insert(store_id, Arc::clone(&link));
                link
            }
        }
    }

    /// A connection to a store, and the time that it leaves.
    async fn connection(
        &self,
        store_id: StoreId,
        address: &str,
        timeout: Duration,
    ) -> Result<(Connection, Duration), RpcError> {
        let deadline = Instant::now() + timeout;
        let link = self.link(store_id, address);
        let connection = match tokio::time::timeout_at(deadline, link.connection()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(RpcError::NotSent { reason: error.to_string() }),
            Err(_) => return Err(RpcError::NotSent { reason: "no connection in time".to_owned() }),
        };
        Ok((connection, deadline.saturating_duration_since(Instant::now())))
    }
}

fn unanswered(error: CallError) -> RpcError {
    match error {
        CallError::Timeout => RpcError::TimedOut,
        error if error.may_have_been_done() => RpcError::ConnectionLost { reason: error.to_string() },
        error => RpcError::NotSent { reason: error.to_string() },
    }
}

impl Rpc for TokioRpc {
    fn kv<'a>(
        &'a self,
        store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<KvResponse, RpcError>> {
        Box::pin(async move {
            let (connection, left) = self.connection(store_id, address, timeout).await?;
            connection.kv(&request, left).await.map_err(unanswered)
        })
    }

    fn kv_traced<'a>(
        &'a self,
        store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(KvResponse, Option<Trace>), RpcError>> {
        Box::pin(async move {
            let (connection, left) = self.connection(store_id, address, timeout).await?;
            connection.kv_traced(&request, left).await.map_err(unanswered)
        })
    }

    fn pd<'a>(
        &'a self,
        request: PdRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<PdResponse, RpcError>> {
        Box::pin(async move {
            match self.pd.request(&request, timeout).await {
                Ok(reply) => Ok(PdResponse::Ok(reply)),
                Err(PdCallError::Refused(error)) => Ok(PdResponse::Err(error)),
                Err(PdCallError::Unreachable { reason }) => Err(RpcError::NotSent { reason }),
                Err(PdCallError::NoAnswer { timed_out: true, .. }) => Err(RpcError::TimedOut),
                Err(PdCallError::NoAnswer { reason, .. }) => Err(RpcError::ConnectionLost { reason }),
            }
        })
    }
}

/// Tasks of the runtime in which the client was made.
pub(crate) struct TokioSpawn(pub(crate) tokio::runtime::Handle);

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // What becomes of it shows in the cluster alone.
        drop(self.0.spawn(task));
    }

    fn let_others_go(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

/// tokio's clock, counted from the client's birth.
pub(crate) struct TokioTimers {
    origin: Instant,
}

impl TokioTimers {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Timers for TokioTimers {
    fn now(&self) -> MonoTime {
        MonoTime::ZERO + self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
