//! The way to one server, for callers that may stop polling at any time.

use parking_lot::Mutex;
use std::sync::Arc;
use transport::{Channel, ConnectError, Connection, Counters, Identity, Settings, Target};

/// A channel whose connection is made in a task of its own.
///
/// The channel has all its callers wait for the one that connects. Were that a caller's own future, one that is not
/// polled any more (a scan that is not read on) would keep the others waiting.
pub(crate) struct Link {
    channel: Arc<Channel>,
    current: Mutex<Option<Connection>>,
}

impl Link {
    pub(crate) fn new(
        target: Target,
        identity: Identity,
        settings: Settings,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            channel: Arc::new(Channel::new(target, identity, settings, counters)),
            current: Mutex::new(None),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.channel.target().address
    }

    /// The connection, made first if there is none.
    pub(crate) async fn connection(&self) -> Result<Connection, ConnectError> {
        if let Some(connection) = &*self.current.lock()
            && connection.is_open()
        {
            return Ok(connection.clone());
        }
        let channel = Arc::clone(&self.channel);
        let connecting = tokio::spawn(async move { channel.connection().await });
        // A task that is gone was ended with its runtime.
        let connection = connecting.await.unwrap_or(Err(ConnectError::Timeout))?;
        *self.current.lock() = Some(connection.clone());
        Ok(connection)
    }
}
