//! `flotilla kv`: raw keys and values, one command each.

use crate::connect::{Remote, Within};
use crate::outcome::{Outcome, Usage};
use crate::text::{from_hex, parse_key, show_key, to_hex};
use crate::trace;
use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, Subcommand};
use client::{CallTrace, RawClient, ScanOptions, TimeToLive};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;
use types::{Key, KeyRange};

/// Reads and writes raw keys.
///
/// KEY is text; `\xNN`, `\n`, `\t`, `\0` and `\\` are escapes, and `hex:00ff` is a key in hexadecimal. (A key that begins with
/// `hex:` is written `\x68ex:`.) Keys are printed so that they can be typed again.
#[derive(Args, Debug)]
pub(crate) struct Kv {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    within: Within,
    /// Print JSON: one object, or for a scan one object on each line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print the value of a key, and a newline; exit code 1 if it has none.
    Get {
        /// The key.
        #[arg(value_parser = parse_key)]
        key: Key,
        /// Print the value alone, without a newline.
        #[arg(long)]
        raw: bool,
        /// Say where the time went, on the standard error; with --json within the object.
        #[arg(long)]
        trace: bool,
    },
    /// Set a key.
    Put {
        /// The key.
        #[arg(value_parser = parse_key)]
        key: Key,
        #[command(flatten)]
        value: ValueArgs,
        /// Only if the key has no value; exit code 1 if it has one.
        #[arg(long)]
        if_absent: bool,
        /// The value is gone after so long, for instance 10s or 2h.
        #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "trace")]
        ttl: Option<Duration>,
        /// Say where the time went, on the standard error; with --json within the object.
        #[arg(long, conflicts_with = "if_absent")]
        trace: bool,
    },
    /// Print for how much longer a key has its value, in milliseconds, or `unlimited`; exit code 1 if it has none.
    Ttl {
        /// The key.
        #[arg(value_parser = parse_key)]
        key: Key,
    },
    /// Remove keys; those that are not there stay so.
    Delete {
        /// The keys.
        #[arg(value_parser = parse_key, required = true)]
        keys: Vec<Key>,
    },
    /// Remove all keys of a range.
    DeleteRange {
        #[command(flatten)]
        range: RangeArgs,
        /// Really all keys: needed when no bound is given.
        #[arg(long)]
        all: bool,
    },
    /// Print keys and values in order: `key<TAB>value`, both escaped.
    Scan {
        #[command(flatten)]
        range: RangeArgs,
        /// At most so many pairs.
        #[arg(long)]
        limit: Option<u64>,
        /// From the end to the start.
        #[arg(long)]
        reverse: bool,
        /// Leave the values out.
        #[arg(long)]
        keys_only: bool,
    },
    /// Compare and swap: set or remove a key if it holds what is expected; exit code 1 if it does not.
    Cas {
        /// The key.
        #[arg(value_parser = parse_key)]
        key: Key,
        /// What it must hold.
        #[arg(long, required_unless_present = "expected_absent", conflicts_with = "expected_absent")]
        expected: Option<String>,
        /// It must hold nothing.
        #[arg(long)]
        expected_absent: bool,
        /// What it then holds.
        #[arg(long, required_unless_present = "delete", conflicts_with = "delete")]
        new: Option<String>,
        /// It then holds nothing.
        #[arg(long)]
        delete: bool,
        /// What it then holds is gone after so long.
        #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "delete")]
        ttl: Option<Duration>,
    },
}

/// A value: given, or read.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct ValueArgs {
    /// The value, as it is.
    value: Option<String>,
    /// The value in hexadecimal.
    #[arg(long, value_parser = from_hex)]
    hex: Option<Bytes>,
    /// The value is what this file holds; `-` is the standard input.
    #[arg(long)]
    file: Option<PathBuf>,
}

/// A range of keys, `[start, end)`.
#[derive(Args, Debug)]
struct RangeArgs {
    /// The first key.
    #[arg(long, value_parser = parse_key, conflicts_with = "prefix")]
    start: Option<Key>,
    /// The key before which it ends.
    #[arg(long, value_parser = parse_key, conflicts_with = "prefix")]
    end: Option<Key>,
    /// All keys that begin so.
    #[arg(long, value_parser = parse_key)]
    prefix: Option<Key>,
}

impl ValueArgs {
    fn read(self) -> anyhow::Result<Bytes> {
        if let Some(text) = self.value {
            return Ok(text.into());
        }
        if let Some(bytes) = self.hex {
            return Ok(bytes);
        }
        let path = self.file.expect("clap asks for one of the three");
        // One byte more than allowed is read, so that a value that is too long is refused rather than cut.
        let read_max = types::VALUE_SIZE_MAX as u64 + 1;
        let mut value = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().take(read_max).read_to_end(&mut value).context("reading the standard input")?;
        } else {
            let file = std::fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            file.take(read_max)
                .read_to_end(&mut value)
                .with_context(|| format!("reading {}", path.display()))?;
        }
        Ok(value.into())
    }
}

impl RangeArgs {
    fn is_everything(&self) -> bool {
        self.start.is_none() && self.end.is_none() && self.prefix.is_none()
    }

    fn range(self) -> KeyRange {
        match self.prefix {
            Some(prefix) => KeyRange::prefix(prefix),
            None => KeyRange::new(self.start.unwrap_or_default(), self.end.unwrap_or_default()),
        }
    }
}

/// Runs one command.
pub(crate) async fn run(kv: Kv) -> anyhow::Result<Outcome> {
    let client = kv.within.raw(&kv.remote.connect().await?).await?;
    match kv.command {
        Command::Get { key, raw, trace } => get(&client, key, raw, trace, kv.json).await,
        Command::Put { key, value, if_absent, ttl, trace } => {
            let value = value.read()?;
            if if_absent {
                let swap = match ttl {
                    Some(ttl) => client.put_if_absent_with_ttl(key, value, ttl).await?,
                    None => client.put_if_absent(key, value).await?,
                };
                return swapped(swap.succeeded, swap.previous.as_deref(), kv.json);
            }
            if let Some(ttl) = ttl {
                client.put_with_ttl(key, value, ttl).await?;
                return done(kv.json, None);
            }
            if trace {
                let told = client.put_traced(key, value).await?;
                return done(kv.json, Some(&told));
            }
            client.put(key, value).await?;
            done(kv.json, None)
        }
        Command::Ttl { key } => time_to_live(&client, &key, kv.json).await,
        Command::Delete { keys } => {
            client.batch_delete(keys).await?;
            done(kv.json, None)
        }
        Command::DeleteRange { range, all } => {
            if range.is_everything() && !all {
                let message = "this would remove all keys: say --all, or give --start, --end or --prefix";
                return Err(Usage(message.to_owned()).into());
            }
            client.delete_range(range.range()).await?;
            done(kv.json, None)
        }
        Command::Scan { range, limit, reverse, keys_only } => {
            let options = ScanOptions { limit, reverse, keys_only, ..ScanOptions::default() };
            scan(&client, range.range(), options, kv.json).await
        }
        Command::Cas { key, expected, new, ttl, .. } => {
            let (expected, new) = (expected.map(Bytes::from), new.map(Bytes::from));
            let swap = match (new, ttl) {
                (Some(new), Some(ttl)) => client.compare_and_swap_with_ttl(key, expected, new, ttl).await?,
                (new, _) => client.compare_and_swap(key, expected, new).await?,
            };
            swapped(swap.succeeded, swap.previous.as_deref(), kv.json)
        }
    }
}

async fn get(client: &RawClient, key: Key, raw: bool, trace: bool, json: bool) -> anyhow::Result<Outcome> {
    let (value, told) = match trace {
        true => client.get_traced(key.clone()).await.map(|(value, told)| (value, Some(told)))?,
        false => (client.get(key.clone()).await?, None),
    };
    let Some(value) = value else {
        if json {
            let line = json!({"key": show_key(&key), "key_hex": to_hex(&key), "found": false});
            print_line(with_trace(line, told.as_ref()))?;
        } else {
            show_trace(told.as_ref());
            eprintln!("not found: {}", show_key(&key));
        }
        return Ok(Outcome::No);
    };
    if json {
        let mut line = pair_json(&key, Some(&value));
        line["found"] = Value::Bool(true);
        print_line(with_trace(line, told.as_ref()))?;
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(&value)?;
        if !raw {
            out.write_all(b"\n")?;
        }
        out.flush()?;
        show_trace(told.as_ref());
    }
    Ok(Outcome::Done)
}

async fn time_to_live(client: &RawClient, key: &Key, json: bool) -> anyhow::Result<Outcome> {
    let found = client.get_ttl(key.clone()).await?;
    let left_ms = match found {
        Some(TimeToLive::Left(left)) => Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        Some(TimeToLive::Unlimited) | None => None,
    };
    if json {
        let (name, name_hex) = (show_key(key), to_hex(key));
        print_line(json!({"key": name, "key_hex": name_hex, "found": found.is_some(), "ttl_ms": left_ms}))?;
    } else {
        match (found, left_ms) {
            (None, _) => eprintln!("not found: {}", show_key(key)),
            (Some(_), Some(left_ms)) => println!("{left_ms}"),
            (Some(_), None) => println!("unlimited"),
        }
    }
    Ok(if found.is_some() { Outcome::Done } else { Outcome::No })
}

async fn scan(
    client: &RawClient,
    range: KeyRange,
    options: ScanOptions,
    json: bool,
) -> anyhow::Result<Outcome> {
    let keys_only = options.keys_only;
    let mut scan = client.scan(range, options)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while let Some(pair) = scan.next_pair().await? {
        let written = if json {
            writeln!(out, "{}", pair_json(&pair.key, (!keys_only).then_some(&pair.value)))
        } else if keys_only {
            writeln!(out, "{}", show_key(&pair.key))
        } else {
            // A tab is escaped, so the first one divides.
            writeln!(out, "{}\t{}", show_key(&pair.key), types::escape_key(&pair.value))
        };
        if stopped_reading(&written) {
            return Ok(Outcome::Done);
        }
        written?;
    }
    let flushed = out.flush();
    if !stopped_reading(&flushed) {
        flushed?;
    }
    Ok(Outcome::Done)
}

/// The reader of a pipe has seen enough (`… | head`): nothing is wrong.
fn stopped_reading(written: &std::io::Result<()>) -> bool {
    written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn pair_json(key: &[u8], value: Option<&Bytes>) -> Value {
    let mut line = json!({"key": show_key(key), "key_hex": to_hex(key)});
    if let Some(value) = value {
        line["value"] = types::escape_key(value).into();
        line["value_hex"] = to_hex(value).into();
    }
    line
}

fn with_trace(mut line: Value, told: Option<&CallTrace>) -> Value {
    if let Some(told) = told {
        line["trace"] = trace::json(told);
    }
    line
}

fn show_trace(told: Option<&CallTrace>) {
    if let Some(told) = told {
        eprint!("{}", trace::text(told));
    }
}

fn done(json: bool, told: Option<&CallTrace>) -> anyhow::Result<Outcome> {
    if json {
        print_line(with_trace(json!({"ok": true}), told))?;
    } else {
        show_trace(told);
    }
    Ok(Outcome::Done)
}

fn swapped(succeeded: bool, previous: Option<&[u8]>, json: bool) -> anyhow::Result<Outcome> {
    if json {
        print_line(json!({
            "succeeded": succeeded,
            "previous": previous.map(types::escape_key),
            "previous_hex": previous.map(to_hex),
        }))?;
    } else if !succeeded {
        match previous {
            Some(previous) => eprintln!("not done: the key holds {}", types::escape_key(previous)),
            None => eprintln!("not done: the key holds nothing"),
        }
    }
    Ok(if succeeded { Outcome::Done } else { Outcome::No })
}

fn print_line(line: Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("writing to the standard output")
}
