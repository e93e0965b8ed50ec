//! Groups whose stories are told in words; `tests/scenarios/main.rs` explains them.

use crate::group::{Command, Group};
use raft::SeededBug;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) struct Story {
    group: Group,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// With a rule broken in every peer.
    pub(crate) fn with(bug: Option<SeededBug>) -> Self {
        Self { group: Group::new(bug) }
    }

    /// What happens at `line`, or the rule that is broken.
    pub(crate) fn tries(&mut self, line: &str) -> Result<String, String> {
        match Command::parse(line)? {
            Some(command) => self.group.run(command).map_err(|fault| format!("{line}: {fault}")),
            None => Ok(String::new()),
        }
    }

    /// What happens at `line`, which must break no rule.
    pub(crate) fn goes(&mut self, line: &str) -> String {
        self.tries(line).unwrap_or_else(|fault| panic!("{fault}"))
    }
}

/// What happens in `story`, line by line.
pub(crate) fn told(story: &str) -> String {
    play(None, story).unwrap_or_else(|fault| panic!("{fault}"))
}

/// How the checks put it when `story` is played with a rule broken in every peer.
pub(crate) fn noticed(bug: SeededBug, story: &str) -> String {
    match catch_unwind(AssertUnwindSafe(|| play(Some(bug), story))) {
        Ok(Ok(told)) => panic!("{bug:?} goes unnoticed:\n{told}"),
        Ok(Err(fault)) => fault,
        // The assertions of the core and of the storage are checks, too.
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    }
}

fn play(bug: Option<SeededBug>, story: &str) -> Result<String, String> {
    let mut played = Story::with(bug);
    story.lines().map(|line| played.tries(line)).collect()
}
