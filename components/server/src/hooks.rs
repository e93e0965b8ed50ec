//! How a process is told to stop, and how it says that it is ready.

use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use types::{ClusterId, StoreId};

/// Tells a running process to stop. Clones tell the same process; any thread may.
#[derive(Clone, Debug)]
pub struct Shutdown {
    told: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nobody has told anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self { told: Arc::new(watch::Sender::new(false)) }
    }

    /// Tells to stop, in good order. Telling it again changes nothing.
    pub fn trigger(&self) {
        self.told.send_replace(true);
    }

    /// True once told.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.told.borrow()
    }

    /// Ready once told.
    pub async fn wait(&self) {
        // Fails only if the sender is gone, and we hold it.
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }
}

/// What a process says when it is ready.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReadyInfo {
    /// The cluster; zero for a PD that has no leader yet.
    pub cluster_id: ClusterId,
    /// The store's id; zero for a PD.
    pub store_id: StoreId,
    /// Where clients and other stores reach it.
    pub address: String,
    /// Where status and metrics are.
    pub status_address: String,
}

/// What the caller of a process wants to be told.
#[derive(Default)]
pub struct Hooks {
    /// Called once, when the process listens, has joined its cluster, and serves.
    pub on_ready: Option<Box<dyn FnOnce(ReadyInfo) + Send>>,
}

impl Hooks {
    /// To be told when the process is ready.
    #[must_use]
    pub fn on_ready(told: impl FnOnce(ReadyInfo) + Send + 'static) -> Self {
        Self { on_ready: Some(Box::new(told)) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("on_ready", &self.on_ready.is_some()).finish()
    }
}
