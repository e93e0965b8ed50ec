//! Where the cluster is, and how long to wait for it: the arguments that all tools share.

use anyhow::Context as _;
use clap::Args;
use client::{Client, Options, RawClient, TxnClient};
use std::time::Duration;

/// Where the placement driver listens when nobody says anything else.
pub(crate) const PD_ADDRESS: &str = "127.0.0.1:2379";

/// Which cluster, and how long to wait.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Addresses of the placement driver, divided by commas.
    #[arg(long, env = "FLOTILLA_PD", value_delimiter = ',', default_value = PD_ADDRESS, global = true)]
    pub(crate) pd: Vec<String>,
    /// How long a call may take, retries included.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, global = true)]
    pub(crate) deadline: Duration,
}

impl Remote {
    /// A client of that cluster.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let mut options = Options::default();
        options.calls.deadline = self.deadline;
        Client::connect(self.pd.iter().cloned(), options)
            .await
            .with_context(|| format!("connecting to the cluster at {}", self.pd.join(",")))
    }
}

/// Which keys of the cluster.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct Within {
    /// The key space by its name, instead of the one that is always there; `flotilla ctl keyspace create` makes one.
    #[arg(long, value_name = "NAME", global = true)]
    keyspace: Option<String>,
}

impl Within {
    /// Whether one was named.
    pub(crate) const fn is_named(&self) -> bool {
        self.keyspace.is_some()
    }

    /// Its raw keys.
    pub(crate) async fn raw(&self, client: &Client) -> anyhow::Result<RawClient> {
        match &self.keyspace {
            Some(name) => Ok(client.keyspace(name).await?.raw()),
            None => Ok(client.raw()),
        }
    }

    /// Its keys of transactions.
    pub(crate) async fn txn(&self, client: &Client) -> anyhow::Result<TxnClient> {
        match &self.keyspace {
            Some(name) => Ok(client.keyspace(name).await?.txn()),
            None => Ok(client.txn()),
        }
    }
}
