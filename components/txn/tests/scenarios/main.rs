//! Stories of transactions as text: commands in order, and what each finds.
//!
//! ```text
//! prewrite ts=10 primary=a [ttl=MS] [for-update=TS] [min-commit=TS] [max-commit=TS] [async=(b,c)] [one-phase]
//!     lines: KEY put VALUE | insert VALUE | delete | lock | check-not-exists, and `locked` where it is
//! commit ts=10 at=20 keys=(a,b)          rollback ts=10 keys=a          clean-up ts=10 key=a now=MS
//! status ts=10 primary=a now=MS [reads=TS] [rollback] [force] [pessimistic]      secondary ts=10 key=b
//! heartbeat ts=10 primary=a ttl=MS     acquire ts=10 at=12 primary=a keys=a [new]     release ts=10 at=12 keys=a
//! get at=15 keys=(a,b) [resolved=TS] [committed=TS]      scan at=15 [from=a] [to=c] [reverse]      records keys=a
//! ```
//!
//! A command over several keys changes nothing unless all succeed. `now` is in milliseconds, as in a timestamp's upper part.
//! Timestamps are written as `10` (logical, in the first millisecond) or `5ms`.

use bytes::{Bytes, BytesMut};
use codec::ordered::{put_ordered, read_ordered};
use datadriven::TestCase;
use engine::{Engine, MemEngine, MemSnapshot, WriteBatch};
use mvcc::{Direction, Lock, MvccReader, ReadError, ScanLimits, View, Write};
use std::fmt::Write as _;
use txn::{
    CheckStatus, CommitMode, LockRequest, Mutation, MutationKind, Prewrite, Prewritten, Secondary, Status,
    TxnError, acquire, check_secondary, check_status, clean_up, commit, heartbeat, prewrite, release,
    rollback,
};
use types::{Key, KeyRange, Timestamp, escape_key};

fn key(text: &str) -> Key {
    let mut out = BytesMut::new();
    put_ordered(&mut out, text.as_bytes());
    out.freeze()
}

fn name(key: &Key) -> String {
    escape_key(&read_ordered(key).expect("keys of a story are ordered").0)
}

fn text(value: &Bytes) -> String {
    match value.len() {
        0..=20 => escape_key(value),
        len => format!("{} bytes", len),
    }
}

/// The arguments of a command.
struct Args<'a>(&'a TestCase);

impl Args<'_> {
    fn find(&self, name: &str) -> Option<&Vec<String>> {
        self.0.args.get(name)
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        let values = self.find(name).ok_or(format!("`{}` needs `{name}=`", self.0.directive))?;
        values.first().map(String::as_str).ok_or(format!("`{name}` needs a value"))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.text(name)?.parse().map_err(|_| format!("`{name}` is no number"))
    }

    fn timestamp(&self, name: &str) -> Result<Timestamp, String> {
        let text = self.text(name)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no timestamp"));
        match text.strip_suffix("ms") {
            _ if text == "max" => Ok(Timestamp(u64::MAX)),
            Some(ms) => Ok(Timestamp::compose(number(ms)?, 0)),
            None => Ok(Timestamp(number(text)?)),
        }
    }

    fn timestamp_or_zero(&self, name: &str) -> Result<Timestamp, String> {
        if self.has(name) { self.timestamp(name) } else { Ok(Timestamp(0)) }
    }

    fn key(&self, name: &str) -> Result<Key, String> {
        self.text(name).map(key)
    }

    fn keys(&self) -> Result<Vec<Key>, String> {
        let keys = self.find("keys").ok_or(format!("`{}` needs `keys=`", self.0.directive))?;
        Ok(keys.iter().map(|text| key(text)).collect())
    }
}

fn timestamp(at: Timestamp) -> String {
    match (at.physical_ms(), at.logical()) {
        _ if at.0 == u64::MAX => "max".to_owned(),
        (0, logical) => logical.to_string(),
        (ms, 0) => format!("{ms}ms"),
        (ms, logical) => format!("{ms}ms+{logical}"),
    }
}

fn lock_text(lock: &Lock) -> String {
    let kind = format!("{:?}", lock.kind).to_lowercase();
    let mut out = format!("{kind} by {}, primary {}", timestamp(lock.start_ts), name(&lock.primary));
    write!(out, ", commits at {} or later", timestamp(lock.min_commit_ts)).expect("text grows");
    if lock.async_commit {
        out.push_str(" with ");
        match &lock.secondaries {
            Some(keys) => out.push_str(&keys.iter().map(name).collect::<Vec<_>>().join(" and ")),
            None => out.push_str("its primary"),
        }
    }
    if lock.for_update_ts > Timestamp(0) {
        write!(out, ", saw {}", timestamp(lock.for_update_ts)).expect("text grows");
    }
    out
}

fn record_text(commit_ts: Timestamp, write: &Write) -> String {
    let kind = format!("{:?}", write.kind).to_lowercase();
    let mut out = format!("{kind} by {} at {}", timestamp(write.start_ts), timestamp(commit_ts));
    if let Some(value) = &write.short_value {
        write!(out, ": {}", text(value)).expect("text grows");
    }
    if write.overlapped_rollback {
        out.push_str(", and a rollback");
    }
    out
}

fn error_text(error: &TxnError) -> String {
    match error {
        TxnError::KeyIsLocked { locks } => {
            let told = |(key, lock): &(Key, Lock)| format!("{}: {}", name(key), lock_text(lock));
            format!("KeyIsLocked {}", locks.iter().map(told).collect::<Vec<_>>().join("; "))
        }
        TxnError::WriteConflict { key, conflict_start_ts, conflict_commit_ts, reason, .. } => format!(
            "WriteConflict {} ({reason:?}): by {} at {}",
            name(key),
            timestamp(*conflict_start_ts),
            timestamp(*conflict_commit_ts)
        ),
        TxnError::AlreadyExist { key } => format!("AlreadyExist {}", name(key)),
        TxnError::CommitTsExpired { key, min_commit_ts, .. } => {
            format!("CommitTsExpired {}: {} or later", name(key), timestamp(*min_commit_ts))
        }
        TxnError::TxnLockNotFound { key, .. } => format!("TxnLockNotFound {}", name(key)),
        TxnError::TxnNotFound { primary, .. } => format!("TxnNotFound {}", name(primary)),
        TxnError::PrimaryMismatch { key, lock } => {
            format!("PrimaryMismatch {}: {}", name(key), lock_text(lock))
        }
        TxnError::PessimisticLockNotFound { key, .. } => format!("PessimisticLockNotFound {}", name(key)),
        TxnError::Committed { key, commit_ts, .. } => {
            format!("Committed {} at {}", name(key), timestamp(*commit_ts))
        }
        TxnError::Invalid { message } => format!("Invalid: {message}"),
        TxnError::Engine(error) => format!("Engine: {error}"),
    }
}

#[derive(Default)]
struct Story {
    engine: MemEngine,
}

type Reader<'a> = MvccReader<'a, MemSnapshot>;

impl Story {
    /// Lets a command loose on each key; what they change is written if none fails.
    fn each<K>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut command: impl FnMut(&Reader<'_>, K, &mut WriteBatch) -> Result<String, TxnError>,
    ) -> String {
        let snapshot = self.engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let (mut batch, mut out) = (WriteBatch::new(), String::new());
        for key in keys {
            match command(&reader, key, &mut batch) {
                Ok(said) => out.push_str(&said),
                Err(error) => return error_text(&error) + "\n",
            }
        }
        self.engine.write(&batch).expect("the disk works");
        if out.is_empty() { "ok\n".to_owned() } else { out }
    }

    fn run(&self, case: &TestCase) -> Result<String, String> {
        let args = Args(case);
        let ok = |()| String::new();
        Ok(match &case.directive[..] {
            "prewrite" => self.prewrite(&args)?,
            "commit" => {
                let (start, at) = (args.timestamp("ts")?, args.timestamp("at")?);
                self.each(args.keys()?, |reader, key, batch| commit(reader, &key, start, at, batch).map(ok))
            }
            "rollback" => {
                let start = args.timestamp("ts")?;
                self.each(args.keys()?, |reader, key, batch| rollback(reader, &key, start, batch).map(ok))
            }
            "clean-up" => {
                let (start, now) = (args.timestamp("ts")?, args.timestamp_or_zero("now")?);
                self.each([args.key("key")?], |reader, key, batch| {
                    clean_up(reader, &key, start, now, batch).map(ok)
                })
            }
            "status" => self.status(&args)?,
            "secondary" => {
                let start = args.timestamp("ts")?;
                self.each([args.key("key")?], |reader, key, batch| {
                    Ok(match check_secondary(reader, &key, start, batch)? {
                        Secondary::Locked(lock) => format!("locked: {}\n", lock_text(&lock)),
                        Secondary::Committed(at) => format!("committed at {}\n", timestamp(at)),
                        Secondary::RolledBack => "rolled back\n".to_owned(),
                    })
                })
            }
            "heartbeat" => {
                let (start, ttl) = (args.timestamp("ts")?, args.number("ttl")?);
                self.each([args.key("primary")?], |reader, key, batch| {
                    heartbeat(reader, &key, start, ttl, batch).map(|ttl| format!("{ttl} ms\n"))
                })
            }
            "acquire" => self.acquire(&args)?,
            "release" => {
                let (start, at) = (args.timestamp("ts")?, args.timestamp("at")?);
                self.each(args.keys()?, |reader, key, batch| release(reader, &key, start, at, batch).map(ok))
            }
            "get" => self.get(&args)?,
            "scan" => self.scan(&args)?,
            "records" => self.records(&args)?,
            other => return Err(format!("`{other}` is no command")),
        })
    }

    fn prewrite(&self, args: &Args<'_>) -> Result<String, String> {
        let txn = Prewrite {
            primary: args.key("primary")?,
            start_ts: args.timestamp("ts")?,
            ttl_ms: if args.has("ttl") { args.number("ttl")? } else { 3000 },
            txn_size: 0,
            for_update_ts: args.timestamp_or_zero("for-update")?,
            min_commit_ts: args.timestamp_or_zero("min-commit")?,
            max_commit_ts: args.timestamp_or_zero("max-commit")?,
            mode: match (args.find("async"), args.has("one-phase")) {
                (Some(secondaries), false) => {
                    CommitMode::Async { secondaries: secondaries.iter().map(|text| key(text)).collect() }
                }
                (None, true) => CommitMode::OnePhase,
                (None, false) => CommitMode::TwoPhase,
                (Some(_), true) => return Err("a transaction commits in one way".to_owned()),
            },
        };
        let mut mutations = Vec::new();
        for line in args.0.input.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = |value: &str| match value.strip_prefix("long:") {
                Some(letter) => Bytes::from(letter.repeat(300)),
                None => Bytes::copy_from_slice(value.as_bytes()),
            };
            let (kind, rest) = match &words[1..] {
                ["put", new, rest @ ..] => (MutationKind::Put(value(new)), rest),
                ["insert", new, rest @ ..] => (MutationKind::Insert(value(new)), rest),
                ["delete", rest @ ..] => (MutationKind::Delete, rest),
                ["lock", rest @ ..] => (MutationKind::Lock, rest),
                ["check-not-exists", rest @ ..] => (MutationKind::CheckNotExists, rest),
                _ => return Err(format!("`{line}` is no mutation")),
            };
            mutations.push(Mutation { key: key(words[0]), kind, is_locked: rest == ["locked"] });
        }
        Ok(self.each([()], |reader, (), batch| {
            let Prewritten { committed_at, min_commit_ts } = prewrite(reader, &txn, &mutations, batch)?;
            Ok(match (committed_at, min_commit_ts) {
                (Some(at), _) => format!("committed at {}\n", timestamp(at)),
                (None, Some(at)) => format!("commits with the others at {} or later\n", timestamp(at)),
                (None, None) => String::new(),
            })
        }))
    }

    fn status(&self, args: &Args<'_>) -> Result<String, String> {
        let asked = CheckStatus {
            primary: args.key("primary")?,
            start_ts: args.timestamp("ts")?,
            reads_at: args.timestamp_or_zero("reads")?,
            current_ts: args.timestamp("now")?,
            rollback_if_unknown: args.has("rollback"),
            force_sync_commit: args.has("force"),
            found_pessimistic: args.has("pessimistic"),
        };
        Ok(self.each([()], |reader, (), batch| {
            Ok(match check_status(reader, &asked, batch)? {
                Status::Alive { lock, pushed } => {
                    format!("alive{}: {}\n", if pushed { ", pushed" } else { "" }, lock_text(&lock))
                }
                Status::Committed(at) => format!("committed at {}\n", timestamp(at)),
                Status::RolledBack => "rolled back\n".to_owned(),
                Status::Expired => "expired, rolled back\n".to_owned(),
                Status::Released => "released\n".to_owned(),
            })
        }))
    }

    fn acquire(&self, args: &Args<'_>) -> Result<String, String> {
        let (primary, start_ts) = (args.key("primary")?, args.timestamp("ts")?);
        let (for_update_ts, must_be_new) = (args.timestamp("at")?, args.has("new"));
        let keys = args.keys()?;
        let request = LockRequest { keys, primary, start_ts, for_update_ts, ttl_ms: 3000, must_be_new };
        Ok(self.each([()], |reader, (), batch| {
            let values = acquire(reader, &request, batch)?;
            let said = |(key, value): (&Key, &Option<Bytes>)| {
                format!("{} = {}\n", name(key), value.as_ref().map_or("-".to_owned(), text))
            };
            Ok(request.keys.iter().zip(&values).map(said).collect())
        }))
    }

    fn view(args: &Args<'_>) -> Result<View, String> {
        let known =
            |name| if args.has(name) { args.timestamp(name).map(|at| [at].into()) } else { Ok([].into()) };
        Ok(View { at: args.timestamp("at")?, resolved: known("resolved")?, committed: known("committed")? })
    }

    fn get(&self, args: &Args<'_>) -> Result<String, String> {
        let view = Self::view(args)?;
        let snapshot = self.engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let mut out = String::new();
        for key in args.keys()? {
            let seen = match reader.get(&key, &view) {
                Ok(value) => value.as_ref().map_or("-".to_owned(), text),
                Err(ReadError::Locked { lock, .. }) => format!("locked: {}", lock_text(&lock)),
                Err(ReadError::Engine(error)) => return Err(error.to_string()),
            };
            writeln!(out, "{} = {seen}", name(&key)).expect("text grows");
        }
        Ok(out)
    }

    fn scan(&self, args: &Args<'_>) -> Result<String, String> {
        let bound = |name| if args.has(name) { args.key(name) } else { Ok(Key::new()) };
        let range = KeyRange::new(bound("from")?, bound("to")?);
        let direction = if args.has("reverse") { Direction::Backward } else { Direction::Forward };
        let snapshot = self.engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let page = reader.scan(&range, direction, &Self::view(args)?, ScanLimits::default());
        let mut out = String::new();
        for item in page.map_err(|error| error.to_string())?.items {
            let seen = match &item.outcome {
                Ok(value) => text(value),
                Err(lock) => format!("locked: {}", lock_text(lock)),
            };
            writeln!(out, "{} = {seen}", name(&item.key)).expect("text grows");
        }
        Ok(if out.is_empty() { "nothing\n".to_owned() } else { out })
    }

    fn records(&self, args: &Args<'_>) -> Result<String, String> {
        let snapshot = self.engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let mut out = String::new();
        for key in args.keys()? {
            let name = name(&key);
            if let Some(lock) = reader.lock(&key).map_err(|error| error.to_string())? {
                writeln!(out, "{name}: locked: {}", lock_text(&lock)).expect("text grows");
            }
            let mut records = reader.records(&key).map_err(|error| error.to_string())?;
            while let Some((at, write)) = records.next().map_err(|error| error.to_string())? {
                writeln!(out, "{name}: {}", record_text(at, &write)).expect("text grows");
            }
        }
        Ok(if out.is_empty() { "nothing\n".to_owned() } else { out })
    }
}

#[test]
fn every_story_goes_as_it_is_told() {
    let stories = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut told = 0;
    for entry in std::fs::read_dir(stories).expect("the stories are there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            told += 1;
            datadriven::walk(path.to_str().expect("a plain name"), |file| {
                let story = Story::default();
                file.run(|case| story.run(case).unwrap_or_else(|error| format!("NOT UNDERSTOOD: {error}\n")));
            });
        }
    }
    assert!(told >= 15, "{told} stories");
}
