//! `flotilla ctl`: looks at regions and stores, and moves them.

mod gc;
mod keyspace;
mod view;
mod wait;

use crate::clock;
use crate::connect::Remote;
use crate::outcome::{Outcome, Usage};
use crate::text::{parse_key, show_key};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use client::{Admin, Client, KeyRange, Keyspace, Region, RegionId, StoreId};
use std::io::Write as _;
use std::time::Duration;
use types::Key;
use wire::pd::{Order, RegionRoute, StoreMode, StoreState, StoreStatus};

pub(crate) use wait::{Cluster, Wanted};

/// Looks at regions and stores, and moves them.
#[derive(Args, Debug)]
pub(crate) struct Ctl {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the stores.
    Stores,
    /// Have a store give its regions away, or take some again.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// List the regions, in key order.
    Regions {
        /// At most so many.
        #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// Show one region, or do something with it.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Region {
        /// Its id.
        #[arg(required = true)]
        id: Option<u64>,
        #[command(subcommand)]
        command: Option<RegionCommand>,
    },
    /// Cut a region at keys (raw keys, written as for `kv`).
    Split {
        /// The keys at which new regions begin.
        #[arg(value_parser = parse_key, required = true)]
        keys: Vec<Key>,
    },
    /// Have a region's leader hand over to the peer on another store.
    TransferLeader {
        /// The region.
        region: u64,
        /// The store.
        store: u64,
    },
    /// List what the placement driver is doing, and what it did last.
    Operators,
    /// Change the members of a region, or end such a change.
    Operator {
        #[command(subcommand)]
        command: OperatorCommand,
    },
    /// Show up to when old versions are given up, what holds them, or hold them.
    Gc {
        #[command(subcommand)]
        command: Option<gc::GcCommand>,
    },
    /// Show which transactions wait for whose locks, the longest first.
    LockWaits,
    /// Make key spaces, and list them.
    Keyspace {
        #[command(subcommand)]
        command: keyspace::KeyspaceCommand,
    },
    /// Wait until the cluster is as it should be; exit code 1 with the reason if it is not in time.
    Wait {
        /// Every region has three voters (or as many as stores are up), all of them well.
        #[arg(long, required_unless_present = "balanced")]
        replicated: bool,
        /// Leaders and peers are spread evenly over the stores, and the regions cover all keys.
        #[arg(long)]
        balanced: bool,
        /// For so long at most.
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
}

#[derive(Subcommand, Debug)]
enum RegionCommand {
    /// Forget the region's log as far as its leader has applied it: a peer that lacks some of it takes a snapshot.
    CompactLog {
        /// The region.
        region: u64,
    },
}

#[derive(Subcommand, Debug)]
enum StoreCommand {
    /// Move all of a store's regions elsewhere; once it has none, its id ends for good and its process may be stopped.
    Drain {
        /// The store.
        store: u64,
        /// Move its leaderships alone, for instance before it is restarted; `undrain` lets it lead again.
        #[arg(long)]
        leaders_only: bool,
    },
    /// Use a store that drains as any other again.
    Undrain {
        /// The store.
        store: u64,
    },
}

/// What the placement driver checks as it checks its own operators, and refuses with the reason. It goes on to keep the
/// configured number of voters: of a region that has more it removes one again, to one that has fewer it adds one.
#[derive(Subcommand, Debug)]
enum OperatorCommand {
    /// Add a voter to a region.
    AddPeer {
        /// The region.
        region: u64,
        /// Where the voter is to be.
        store: u64,
    },
    /// Remove a peer from a region.
    RemovePeer {
        /// The region.
        region: u64,
        /// Where the peer is.
        store: u64,
    },
    /// Put a voter on one store in the place of the peer on another.
    TransferPeer {
        /// The region.
        region: u64,
        /// Where the peer is.
        from: u64,
        /// Where the voter is to be.
        to: u64,
    },
    /// End the operator of a region; what it has done stays.
    Cancel {
        /// The region.
        region: u64,
    },
}

/// How long the placement driver may take to hear of a split.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one command.
pub(crate) async fn run(ctl: Ctl) -> anyhow::Result<Outcome> {
    if let Command::Wait { replicated, balanced, timeout } = ctl.command {
        // It connects by itself, again and again: a cluster that starts is what it is for.
        return wait::run(&ctl.remote, wait::Wanted { replicated, balanced }, timeout, ctl.json).await;
    }
    let client = ctl.remote.connect().await?;
    let admin = client.admin();
    match ctl.command {
        Command::Stores => {
            let stores = stores(&admin).await?;
            print(if ctl.json { view::stores_json(&stores).to_string() } else { view::stores_table(&stores) })
        }
        Command::Store { command } => {
            let (store, mode, text) = match command {
                StoreCommand::Drain { store, leaders_only: true } => {
                    (store, StoreMode::LeadingNone, "gives its leaderships away")
                }
                StoreCommand::Drain { store, leaders_only: false } => (
                    store,
                    StoreMode::Draining,
                    "drains; when it has given everything away, it is not listed any more",
                ),
                StoreCommand::Undrain { store } => (store, StoreMode::Serving, "is used as any other again"),
            };
            let asked = admin.set_store_mode(StoreId(store), mode).await;
            asked.with_context(|| format!("store {store}"))?;
            print(if ctl.json {
                serde_json::json!({"ok": true}).to_string()
            } else {
                format!("store {store} {text}: `flotilla ctl stores` shows what it holds")
            })
        }
        Command::Regions { limit } => {
            let regions = admin.regions(KeyRange::full(), limit).await.context("listing the regions")?;
            print(if ctl.json {
                view::regions_json(&regions).to_string()
            } else {
                view::regions_table(&regions)
            })
        }
        Command::Region { command: Some(RegionCommand::CompactLog { region }), .. } => {
            let region = RegionId(region);
            let to = admin.compact_log(region).await;
            let to = to.with_context(|| format!("compacting the log of region {region}"))?;
            print(if ctl.json {
                serde_json::json!({"ok": true, "compacted_to": to.get()}).to_string()
            } else {
                format!("the log of region {region} begins after entry {to} now")
            })
        }
        Command::Region { id, command: None } => {
            let id = id.expect("it is required where no command is given");
            let Some(route) = admin.region(RegionId(id)).await? else {
                eprintln!("no region {id}: `flotilla ctl regions` lists those there are");
                return Ok(Outcome::No);
            };
            print(if ctl.json {
                view::region_json(&route).to_string()
            } else {
                view::regions_table(std::slice::from_ref(&route))
            })
        }
        Command::Split { keys } => split(&admin, &keys, ctl.json).await,
        Command::TransferLeader { region, store } => {
            transfer_leader(&client, RegionId(region), StoreId(store), ctl.json).await
        }
        Command::Operators => {
            let operators = admin.operators().await.context("listing the operators")?;
            print(if ctl.json {
                view::operators_json(&operators).to_string()
            } else {
                view::operators_table(&operators)
            })
        }
        Command::Operator { command } => operate(&admin, command, ctl.json).await,
        Command::Gc { command } => gc::run(&admin, command, ctl.json).await,
        Command::LockWaits => {
            let mut waits = admin.lock_waits().await.context("asking who waits")?;
            waits.sort_by_key(|wait| std::cmp::Reverse(wait.age_ms));
            print(if ctl.json { view::waits_json(&waits).to_string() } else { view::waits_table(&waits) })
        }
        Command::Keyspace { command } => keyspace::run(&admin, command, ctl.json).await,
        Command::Wait { .. } => unreachable!("answered above"),
    }
}

/// All stores by their ids.
async fn stores(admin: &Admin) -> anyhow::Result<Vec<StoreStatus>> {
    let mut stores = admin.stores().await.context("listing the stores")?;
    stores.sort_by_key(|store| store.info.id);
    Ok(stores)
}

async fn split(admin: &Admin, keys: &[Key], json: bool) -> anyhow::Result<Outcome> {
    let inner: Vec<Key> = keys.iter().map(|key| Keyspace::RAW.encode(key)).collect();
    let shown = || keys.iter().map(|key| show_key(key)).collect::<Vec<_>>().join(", ");
    let made = admin.split_region(inner).await.with_context(|| format!("splitting at {}", shown()))?;
    wait_known(admin, &made).await;
    let routes: Vec<RegionRoute> =
        made.into_iter().map(|region| RegionRoute { region, ..RegionRoute::default() }).collect();
    if json {
        return print(view::regions_json(&routes).to_string());
    }
    if routes.is_empty() {
        return print("regions begin at these keys already: nothing to do".to_owned());
    }
    let ids: Vec<String> = routes.iter().map(|route| route.region.id.to_string()).collect();
    print(format!("made regions {}", ids.join(", ")))
}

/// Waits until the placement driver has heard of these regions, so that whoever asks it next finds them. It hears of them by their
/// heartbeats; if that takes longer than [`KNOWN_TIMEOUT`], the split was made all the same.
async fn wait_known(admin: &Admin, made: &[Region]) {
    let begin = clock::now();
    for region in made {
        while begin.elapsed() < KNOWN_TIMEOUT {
            match admin.region(region.id).await {
                Ok(Some(route)) if route.region.epoch.version >= region.epoch.version => break,
                Ok(_) => clock::pause(Duration::from_millis(50)).await,
                Err(_) => return,
            }
        }
    }
}

async fn operate(admin: &Admin, command: OperatorCommand, json: bool) -> anyhow::Result<Outcome> {
    let (region, order) = match command {
        OperatorCommand::Cancel { region } => {
            admin.cancel_operator(RegionId(region)).await.context("cancelling the operator")?;
            return print(if json {
                serde_json::json!({"ok": true}).to_string()
            } else {
                format!("the operator of region {region} is cancelled; what it has done stays")
            });
        }
        OperatorCommand::AddPeer { region, store } => (region, Order::AddPeer { to_store: StoreId(store) }),
        OperatorCommand::RemovePeer { region, store } => {
            (region, Order::RemovePeer { from_store: StoreId(store) })
        }
        OperatorCommand::TransferPeer { region, from, to } => {
            (region, Order::TransferPeer { from_store: StoreId(from), to_store: StoreId(to) })
        }
    };
    let begun = admin.add_operator(RegionId(region), order).await;
    let begun = [begun.with_context(|| format!("changing the members of region {region}"))?];
    if json {
        return print(view::operators_json(&begun).to_string());
    }
    let steps = begun[0].steps.join("; ");
    print(format!("begun: {steps}. `flotilla ctl operators` shows how it goes on"))
}

async fn transfer_leader(
    client: &Client,
    region: RegionId,
    store: StoreId,
    json: bool,
) -> anyhow::Result<Outcome> {
    let admin = client.admin();
    let Some(route) = admin.region(region).await? else {
        return Err(Usage(format!("no region {region}: `flotilla ctl regions` lists those there are")).into());
    };
    if route.region.peer_on(store).is_none() {
        let holders: Vec<String> = route.region.peers.iter().map(|peer| peer.store_id.to_string()).collect();
        let message = format!(
            "region {region} has no peer on store {store}; it has peers on stores {}",
            holders.join(", ")
        );
        return Err(Usage(message).into());
    }
    admin
        .transfer_leader(region, store)
        .await
        .with_context(|| format!("handing region {region} over to store {store}"))?;
    print(if json {
        serde_json::json!({"ok": true}).to_string()
    } else {
        format!(
            "region {region} is handing over to store {store}; `flotilla ctl region {region}` shows who leads"
        )
    })
}

/// Whether the store is up, as it is shown.
pub(crate) const fn state_name(state: StoreState) -> &'static str {
    match state {
        StoreState::Up => "up",
        StoreState::Disconnected => "disconnected",
        StoreState::Down => "down",
    }
}

fn print(text: String) -> anyhow::Result<Outcome> {
    writeln!(std::io::stdout(), "{text}").context("writing to the standard output")?;
    Ok(Outcome::Done)
}
