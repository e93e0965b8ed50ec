//! Where the cluster is, and how long to wait for it: the arguments that all tools share.

use anyhow::Context as _;
use clap::Args;
use client::{Client, Options};
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
