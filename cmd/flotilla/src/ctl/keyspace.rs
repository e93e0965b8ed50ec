//! Key spaces: making them, and looking at them.

use super::print;
use crate::outcome::Outcome;
use anyhow::Context as _;
use clap::Subcommand;
use client::Admin;
use serde_json::json;
use std::time::Duration;
use wire::pd::KeyspaceInfo;

/// Users with keys of their own, raw ones and those of transactions. `default` is always there.
#[derive(Subcommand, Debug)]
pub(super) enum KeyspaceCommand {
    /// Make a key space, or show the one that is there.
    Create {
        /// Its name: small letters, digits, `-`, `_` and `.`.
        name: String,
        /// How long old versions live there; without it, as long as elsewhere.
        #[arg(long, value_parser = humantime::parse_duration)]
        gc_life_time: Option<Duration>,
    },
    /// List all key spaces.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
    /// Change how long old versions live in a key space; without a time, as long as elsewhere.
    SetLife {
        /// Its name.
        name: String,
        /// How long.
        #[arg(value_parser = humantime::parse_duration)]
        gc_life_time: Option<Duration>,
    },
}

pub(super) async fn run(admin: &Admin, command: KeyspaceCommand, as_json: bool) -> anyhow::Result<Outcome> {
    let keyspaces = match command {
        KeyspaceCommand::List => admin.keyspaces().await.context("listing the key spaces")?,
        KeyspaceCommand::Show { name } => vec![admin.keyspace(name).await?],
        KeyspaceCommand::Create { name, gc_life_time } => {
            vec![admin.create_keyspace(name, gc_life_time).await.context("making the key space")?]
        }
        KeyspaceCommand::SetLife { name, gc_life_time } => {
            vec![admin.set_keyspace_life(name, gc_life_time).await?]
        }
    };
    print(if as_json { to_json(&keyspaces).to_string() } else { table(&keyspaces) })
}

fn life(keyspace: &KeyspaceInfo) -> String {
    match keyspace.gc_life_ms {
        0 => "common".to_owned(),
        ms => humantime::format_duration(Duration::from_millis(ms)).to_string(),
    }
}

fn table(keyspaces: &[KeyspaceInfo]) -> String {
    let width = keyspaces.iter().map(|keyspace| keyspace.name.len()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!("{:>8}  {:width$}  LIFE TIME", "ID", "NAME")];
    lines.extend(keyspaces.iter().map(|one| format!("{:>8}  {:width$}  {}", one.id, one.name, life(one))));
    lines.join("\n")
}

fn to_json(keyspaces: &[KeyspaceInfo]) -> serde_json::Value {
    let one = |keyspace: &KeyspaceInfo| json!({"id": keyspace.id, "name": keyspace.name, "gc_life_ms": keyspace.gc_life_ms});
    keyspaces.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list is read by people, who see at once whose versions live for another time.
    #[test]
    fn key_spaces_are_listed_with_their_life_times() {
        let space = |id, name: &str, gc_life_ms| KeyspaceInfo { id, name: name.to_owned(), gc_life_ms };
        let text = table(&[space(0, "default", 0), space(1, "shop", 3_600_000)]);
        assert_eq!(
            text.lines().map(str::trim).collect::<Vec<_>>(),
            ["ID  NAME     LIFE TIME", "0  default  common", "1  shop     1h"]
        );
    }
}
