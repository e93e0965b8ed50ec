//! A client's process, which may die.

use crate::cluster::Cluster;
use crate::world::Slot;
use client_core::{Core, Options, Ports, Rpc, RpcError, Spawn};
use futures_util::future::{BoxFuture, pending};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use types::StoreId;
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};

/// Ports of one process. Once it is dead nothing leaves it, nothing comes in, and its tasks are no more.
#[derive(Clone)]
pub(crate) struct Process {
    cluster: Cluster,
    life: Arc<Mutex<Life>>,
    died: Slot<()>,
}

#[derive(Default)]
struct Life {
    /// It dies when it has sent so many more requests to stores.
    requests_left: Option<usize>,
    is_over: bool,
}

impl Process {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), life: Arc::default(), died: Slot::new() }
    }

    pub(crate) fn core(&self, options: Options) -> Core {
        let ports = Ports {
            rpc: Arc::new(self.clone()),
            timers: Arc::new(self.cluster.world.clone()),
            spawn: Arc::new(self.clone()),
            dice: Box::new(self.cluster.world.dice("client")),
        };
        Core::new(ports, options)
    }

    /// It dies with the request that comes after so many.
    pub(crate) fn dies_after(&self, requests: usize) {
        self.life.lock().requests_left = Some(requests);
    }

    /// When it has died.
    pub(crate) fn death(&self) -> Slot<()> {
        self.died.clone()
    }

    fn is_dead(&self) -> bool {
        self.life.lock().is_over
    }

    /// Counts a request. The one with which it dies still leaves.
    fn sends(&self) {
        let mut life = self.life.lock();
        match &mut life.requests_left {
            Some(0) => {
                life.is_over = true;
                drop(life);
                self.died.set(());
            }
            Some(left) => *left -= 1,
            None => {}
        }
    }
}

impl Rpc for Process {
    fn kv<'a>(
        &'a self,
        store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<KvResponse, RpcError>> {
        Box::pin(async move {
            if self.is_dead() {
                return pending().await;
            }
            let mut answer = self.cluster.kv(store_id, address, request, timeout);
            // Polled once, it has left.
            let polled = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
            self.sends();
            let answer = match polled {
                Poll::Ready(answer) => answer,
                Poll::Pending => answer.await,
            };
            if self.is_dead() { pending().await } else { answer }
        })
    }

    fn pd<'a>(
        &'a self,
        request: PdRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<PdResponse, RpcError>> {
        Box::pin(async move {
            if self.is_dead() {
                return pending().await;
            }
            let answer = self.cluster.pd(request, timeout).await;
            if self.is_dead() { pending().await } else { answer }
        })
    }
}

impl Spawn for Process {
    fn spawn(&self, mut task: BoxFuture<'static, ()>) {
        let process = self.clone();
        self.cluster.world.spawn(poll_fn(move |context| {
            if process.is_dead() { Poll::Ready(()) } else { task.as_mut().poll(context) }
        }));
    }

    fn let_others_go(&self) -> BoxFuture<'static, ()> {
        self.cluster.world.let_others_go()
    }
}
