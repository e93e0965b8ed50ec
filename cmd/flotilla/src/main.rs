//! `flotilla`: the one binary a user needs.
//!
//! It turns a command line into calls of `server` and `client`, and what comes back into text, JSON and an exit code
//! (`outcome`). It decides nothing about data: no protocol lives here. Start with [`Command`], whose variants are the
//! modules.

mod bench;
mod clock;
mod connect;
mod ctl;
mod import;
mod kv;
mod outcome;
mod playground;
mod process;
mod settings;
mod shell;
mod text;
mod trace;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use outcome::Outcome;
use std::process::ExitCode;

/// What all threads and RocksDB get their memory from.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What it reads when the process starts: it notes who asked for one in a million bytes, for `/debug/pprof/heap`. The
/// environment variable of the same name, in capitals, has the last word.
#[expect(unsafe_code, reason = "the allocator looks for this name")]
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8; 45] = b"prof:true,prof_active:true,lg_prof_sample:20\0";

/// A sharded, replicated key-value store.
#[derive(Parser, Debug)]
#[command(name = "flotilla", version, after_help = outcome::HELP, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(after_help = outcome::HELP)]
    Playground(playground::Playground),
    Store(process::Store),
    Pd(process::Pd),
    #[command(after_help = outcome::HELP)]
    Kv(kv::Kv),
    #[command(after_help = outcome::HELP)]
    Shell(shell::Shell),
    #[command(after_help = outcome::HELP)]
    Import(import::Import),
    #[command(after_help = outcome::HELP)]
    Export(import::Export),
    #[command(after_help = outcome::HELP)]
    Ctl(ctl::Ctl),
    #[command(after_help = outcome::HELP)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(advice) = outcome::advice(&error) {
                eprintln!("  {advice}");
            }
            ExitCode::from(outcome::code_of(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Playground(playground) => on_this_thread(playground::run(playground)),
        Command::Store(store) => process::store(&store),
        Command::Pd(pd) => process::pd(&pd),
        Command::Kv(kv) => on_this_thread(kv::run(kv)),
        Command::Shell(shell) => on_this_thread(shell::run(shell)),
        Command::Import(import) => on_this_thread(import::import(import)),
        Command::Export(export) => on_this_thread(import::export(export)),
        Command::Ctl(ctl) => on_this_thread(ctl::run(ctl)),
        Command::Bench(bench) => on_this_thread(bench::run(bench)),
    }
}

/// Tools wait for the network far more than they compute: one thread drives them.
fn on_this_thread(tool: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime: are there file descriptors left?")?;
    runtime.block_on(tool)
}
