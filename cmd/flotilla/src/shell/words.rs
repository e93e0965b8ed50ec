//! What a line may say.

use crate::outcome::Usage;
use crate::text::parse_key;
use bytes::Bytes;
use types::Key;

/// A command as `help` tells it.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) does: &'static str,
}

const fn command(name: &'static str, takes: &'static str, does: &'static str) -> Command {
    Command { name, takes, does }
}

pub(super) const COMMANDS: &[Command] = &[
    command("get", "KEY", "print the value of a key"),
    command("put", "KEY VALUE", "set a key; the value is the rest of the line"),
    command("insert", "KEY VALUE", "the same, if the key has no value yet"),
    command("delete", "KEY", "remove a key"),
    command("scan", "[START [END]]", "print keys and values from START up to END, which is left out"),
    command("prefix", "PREFIX", "print all keys that begin so, and their values"),
    command(
        "begin",
        "[pessimistic] [serializable]",
        "begin a transaction; pessimistic ones reserve what they write at once",
    ),
    command("lock", "KEY", "keep others from writing a key until the transaction ends; print its value"),
    command("commit", "", "make what the transaction has written visible"),
    command("savepoint", "NAME", "mark this moment of the transaction"),
    command("rollback", "[NAME]", "give it up, or what it has written since a savepoint"),
    command("at", "[TIMESTAMP]", "read as of a timestamp from now on; without one, as of now again"),
    command("timestamp", "", "print a timestamp of the cluster"),
    command(
        "locks",
        "[START [END]]",
        "print the locks of transactions that are at work, or were, and who waits for them",
    ),
    command("mvcc", "KEY", "print the lock and all versions of a key"),
    command("!", "COMMAND", "run a command of the system's shell"),
    command("help", "", "print this"),
    command("quit", "", "leave; what is not committed is given up"),
];

/// What a line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Nothing,
    Get(Key),
    Put(Key, Bytes),
    Insert(Key, Bytes),
    Delete(Key),
    Scan(Key, Key),
    Prefix(Key),
    Begin { is_pessimistic: bool, is_serializable: bool },
    Lock(Key),
    Commit,
    Savepoint(String),
    Rollback,
    RollbackTo(String),
    At(Option<u64>),
    Timestamp,
    Locks(Key, Key),
    Mvcc(Key),
    System(String),
    Help,
    Quit,
}

/// What a line means.
pub(super) fn read(line: &str) -> Result<Said, Usage> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Said::Nothing);
    }
    if let Some(command) = line.strip_prefix('!') {
        return Ok(Said::System(command.trim().to_owned()));
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let key = |place: usize| parse_key(words[place]).map_err(Usage);
    let pair = || -> Result<(Key, Bytes), Usage> {
        let (first, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        Ok((parse_key(first).map_err(Usage)?, parse_key(value.trim()).map_err(Usage)?))
    };
    let bounds = || -> Result<(Key, Key), Usage> {
        let bound = |place| if place < words.len() { key(place) } else { Ok(Key::new()) };
        Ok((bound(0)?, bound(1)?))
    };
    Ok(match (name, words.len()) {
        ("get", 1) => Said::Get(key(0)?),
        ("put", 2..) => pair().map(|(key, value)| Said::Put(key, value))?,
        ("insert", 2..) => pair().map(|(key, value)| Said::Insert(key, value))?,
        ("delete", 1) => Said::Delete(key(0)?),
        ("scan", 0..=2) => bounds().map(|(start, end)| Said::Scan(start, end))?,
        ("prefix", 1) => Said::Prefix(key(0)?),
        ("begin", 0..=2) if words.iter().all(|word| ["pessimistic", "serializable"].contains(word)) => {
            let has = |wanted| words.contains(&wanted);
            Said::Begin { is_pessimistic: has("pessimistic"), is_serializable: has("serializable") }
        }
        ("lock", 1) => Said::Lock(key(0)?),
        ("commit", 0) => Said::Commit,
        ("savepoint", 1) => Said::Savepoint(words[0].to_owned()),
        ("rollback", 0) => Said::Rollback,
        ("rollback", 1) => Said::RollbackTo(words[0].to_owned()),
        ("at", 0) => Said::At(None),
        ("at", 1) => {
            let wrong = |_| Usage("a timestamp is a number, as `timestamp` prints it".to_owned());
            Said::At(Some(words[0].parse().map_err(wrong)?))
        }
        ("timestamp", 0) => Said::Timestamp,
        ("locks", 0..=2) => bounds().map(|(start, end)| Said::Locks(start, end))?,
        ("mvcc", 1) => Said::Mvcc(key(0)?),
        ("help", _) => Said::Help,
        ("quit" | "exit", 0) => Said::Quit,
        _ => return Err(wrong(name)),
    })
}

fn wrong(name: &str) -> Usage {
    Usage(match COMMANDS.iter().find(|command| command.name == name) {
        Some(Command { name, takes: "", .. }) => format!("`{name}` takes nothing"),
        Some(Command { name, takes, .. }) => format!("it is `{name} {takes}`"),
        None => format!("there is no `{name}`; `help` says what there is"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_with_keys_as_everywhere_and_values_to_the_end() {
        let bytes = |text: &'static str| Bytes::from(text);
        for (line, said) in [
            ("", Said::Nothing),
            ("  # a word to the reader", Said::Nothing),
            ("get a\\x00b", Said::Get(bytes("a\0b"))),
            ("get hex:6162", Said::Get(bytes("ab"))),
            ("put  k   two words ", Said::Put(bytes("k"), bytes("two words"))),
            ("insert k hex:00", Said::Insert(bytes("k"), bytes("\0"))),
            ("scan", Said::Scan(Key::new(), Key::new())),
            ("scan a", Said::Scan(bytes("a"), Key::new())),
            ("begin pessimistic", Said::Begin { is_pessimistic: true, is_serializable: false }),
            ("begin serializable", Said::Begin { is_pessimistic: false, is_serializable: true }),
            ("savepoint one", Said::Savepoint("one".to_owned())),
            ("rollback one", Said::RollbackTo("one".to_owned())),
            ("at 17", Said::At(Some(17))),
            ("locks a b", Said::Locks(bytes("a"), bytes("b"))),
            ("! echo it", Said::System("echo it".to_owned())),
            ("exit", Said::Quit),
        ] {
            assert_eq!(read(line).map_err(|error| error.0), Ok(said), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_answered_with_what_would() {
        for (line, said) in [
            ("got k", "`help`"),
            ("get", "get KEY"),
            ("put k", "put KEY VALUE"),
            ("begin slowly", "begin [pessimistic]"),
            ("commit now", "takes nothing"),
            ("at noon", "a number"),
            ("get a\\q", "escape"),
        ] {
            let refused = read(line).expect_err("it must be refused").0;
            assert!(refused.contains(said), "{line:?} is refused with {refused}");
        }
    }
}
