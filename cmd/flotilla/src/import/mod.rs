//! `flotilla import` and `flotilla export`: directories into the store and back.

mod export;
mod load;
mod port;
mod progress;
mod read;
mod scheme;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

use crate::connect::{Remote, Within};
use crate::outcome::{Outcome, Usage};
use crate::text::{parse_key, show_bytes};
use clap::{Args, Subcommand};
use client::RawClient;
use progress::Progress;
use read::LeftOut;
use scheme::Scheme;
use serde_json::json;
use std::path::{Path, PathBuf};
use types::Key;
use verify::Findings;

/// Brings files into the store.
#[derive(Args, Debug)]
pub(crate) struct Import {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    within: Within,
    #[command(subcommand)]
    from: ImportFrom,
}

#[derive(Subcommand, Debug)]
enum ImportFrom {
    /// Stores every file below a directory under its relative path.
    ///
    /// A file longer than a value may be is stored in chunks that `export` joins again. Symbolic links, sockets and devices are
    /// counted and left out; files that cannot be read are listed and make the exit code 5; empty directories leave no trace. What is
    /// stored already stays unless a file has its key.
    Dir {
        /// The directory.
        path: PathBuf,
        #[command(flatten)]
        place: Place,
        /// Afterwards read everything back and compare it with the files; exit code 1 if it differs, or if there are other keys
        /// with the prefix.
        #[arg(long)]
        verify: bool,
        /// Only compare, import nothing.
        #[arg(long, conflicts_with = "verify")]
        verify_only: bool,
        /// How much is read ahead, in MiB.
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
        memory_mib: u16,
    },
}

/// Brings files out of the store.
#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    within: Within,
    #[command(subcommand)]
    to: ExportTo,
}

#[derive(Subcommand, Debug)]
enum ExportTo {
    /// Writes every stored file into a directory; each appears whole or not at all.
    ///
    /// Keys that are no path below the directory are listed and left out, which makes the exit code 5.
    Dir {
        /// The directory; made if it is not there. Files that are there already are replaced.
        path: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the files lie among the keys.
#[derive(Args, Debug)]
struct Place {
    /// What stands before the paths, written as keys are for `kv`.
    #[arg(long, value_parser = parse_key, default_value = "")]
    prefix: Key,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs an import, a comparison, or both.
pub(crate) async fn import(import: Import) -> anyhow::Result<Outcome> {
    let ImportFrom::Dir { path, place, verify, verify_only, memory_mib } = import.from;
    if !path.is_dir() {
        return Err(Usage(format!("{} is not a directory", path.display())).into());
    }
    let client = import.within.raw(&import.remote.connect().await?).await?;
    let scheme = Scheme::new(place.prefix);
    let memory_bytes = usize::from(memory_mib) << 20;
    let mut summary = json!({});
    let mut left_out = None;
    if !verify_only {
        let mut progress = Progress::new("importing", total(&path).await?);
        let (loaded, left) = load::import(&client, &path, &scheme, memory_bytes, &mut progress).await?;
        let line = progress.finish();
        summary["imported"] = json!({
            "files": loaded.files, "bytes": loaded.bytes, "keys": loaded.keys, "files_cut": loaded.files_cut,
        });
        if !place.json {
            println!("imported {line}");
        }
        left_out = Some(left);
    }
    let mut outcome = Outcome::Done;
    if verify || verify_only {
        let (findings, left) = verified(&client, &path, &scheme, memory_bytes, place.json).await?;
        if !findings.is_clean() {
            outcome = Outcome::No;
        }
        summary["verified"] = serde_json::to_value(&findings)?;
        // What could not be read the first time was reported the first time.
        left_out = left_out.or(Some(left));
    }
    let left_out = left_out.expect("the files were read once at least");
    if outcome == Outcome::Done && left_out.unreadable > 0 {
        outcome = Outcome::InPart;
    }
    summary["left_out"] = serde_json::to_value(&left_out)?;
    if place.json {
        println!("{summary}");
    } else {
        show_left_out(&left_out);
    }
    Ok(outcome)
}

async fn verified(
    client: &RawClient,
    path: &Path,
    scheme: &Scheme,
    memory_bytes: usize,
    json: bool,
) -> anyhow::Result<(Findings, LeftOut)> {
    let mut progress = Progress::new("comparing", total(path).await?);
    let (findings, left) = verify::verify(client, path, scheme, memory_bytes, &mut progress).await?;
    let line = progress.finish();
    if !json {
        println!("compared {line}: {} keys are as they should be", findings.keys_equal);
        for (what, names) in [
            ("missing", &findings.missing),
            ("different", &findings.different),
            ("superfluous", &findings.superfluous),
        ] {
            list(what, names.count, &names.first);
        }
    }
    Ok((findings, left))
}

/// How many bytes are to be read, if somebody watches a bar that should know.
async fn total(root: &Path) -> anyhow::Result<Option<u64>> {
    if !progress::is_shown_as_bar() {
        return Ok(None);
    }
    let root = root.to_owned();
    let count = move || {
        let walk = walk::Walk::new(&root)?;
        let size = |entry: walk::Entry| {
            // What cannot be asked is not counted here; reading it will tell.
            std::fs::symlink_metadata(walk::absolute(&root, &entry.path)).map_or(0, |metadata| metadata.len())
        };
        Ok(walk.filter(|entry| matches!(entry.kind, walk::Kind::File)).map(size).sum())
    };
    let counted: std::io::Result<u64> = tokio::task::spawn_blocking(count).await?;
    Ok(Some(counted?))
}

fn show_left_out(left_out: &LeftOut) {
    if left_out.links + left_out.special > 0 {
        println!(
            "left out: {} symbolic links, {} sockets, pipes or devices",
            left_out.links, left_out.special
        );
    }
    list("could not be read", left_out.unreadable, &left_out.unreadable_first);
}

fn list(what: &str, count: u64, first: &[String]) {
    if count == 0 {
        return;
    }
    println!("{what}: {count}");
    for name in first {
        println!("  {name}");
    }
    if count > first.len() as u64 {
        println!("  … and {} more", count - first.len() as u64);
    }
}

/// Runs an export.
pub(crate) async fn export(export: Export) -> anyhow::Result<Outcome> {
    let ExportTo::Dir { path, place } = export.to;
    let client = export.within.raw(&export.remote.connect().await?).await?;
    let scheme = Scheme::new(place.prefix);
    let mut progress = Progress::new("exporting", None);
    let exported = export::export(&client, &path, &scheme, &mut progress).await?;
    let line = progress.finish();
    if place.json {
        println!("{}", serde_json::to_value(&exported)?);
    } else {
        println!("exported {line}");
        list("left out", exported.left_out, &exported.left_out_first);
        if exported.files == 0 && exported.left_out == 0 {
            println!("there is nothing under this prefix ({})", show_bytes(exported.bytes));
        }
    }
    Ok(if exported.left_out > 0 { Outcome::InPart } else { Outcome::Done })
}
