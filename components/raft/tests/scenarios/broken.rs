//! The stories once more, with a rule of the protocol broken in every peer: are they told well enough to notice?

use crate::files;
use crate::group::{Command, Group};
use raft::SeededBug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A block of a story: its commands, and what happens.
struct Block {
    commands: Vec<Command>,
    outcome: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut commands = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "----" {
            let outcome = lines.by_ref().take_while(|line| !line.is_empty()).map(|line| format!("{line}\n"));
            blocks.push(Block { commands: std::mem::take(&mut commands), outcome: outcome.collect() });
        } else {
            commands.extend(Command::parse(line).expect("the story is well-formed"));
        }
    }
    blocks
}

/// How a story goes with `bug`.
#[derive(Debug)]
enum End {
    AsTold,
    /// Something else happens, by which no rule is broken.
    Otherwise(String),
    /// A check finds a rule broken.
    Broken(String),
}

fn play(bug: Option<SeededBug>, text: &str) -> End {
    let mut group = Group::new(bug);
    let mut end = End::AsTold;
    for block in blocks(text) {
        let mut out = String::new();
        for command in block.commands {
            // The assertions of the core and of the storage are checks, too.
            match catch_unwind(AssertUnwindSafe(|| group.run(command))) {
                Ok(Ok(happened)) => out.push_str(&happened),
                Ok(Err(fault)) if fault.contains("INV-") || fault.contains("invariant violated") => {
                    return End::Broken(fault);
                }
                Ok(Err(fault)) => return End::Otherwise(fault),
                Err(panic) => {
                    let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    return End::Broken(format!("an assertion: {what}"));
                }
            }
        }
        if out.contains(": stops: ") {
            return End::Broken(out);
        }
        if out != block.outcome && matches!(end, End::AsTold) {
            end = End::Otherwise(out);
        }
    }
    end
}

/// Noticed by what happens, and by no rule: what would break one of them needs more to go wrong at the same time.
const TOLD_ONLY: &[SeededBug] = &[
    SeededBug::CampaignOverConfChange,
    SeededBug::OvertakenAppendTruncates,
    SeededBug::TransferVoteOfAnyTerm,
    SeededBug::TransferRetryKeepsMark,
];

/// Not noticed: the peers around it never say what the rule is there against. A leader's append reaches into what the
/// follower shares with it, or replaces what it does not, so what the append has proved is all there is.
/// `pitfalls/random.rs` says it by hand.
const NEVER_ASKED: &[SeededBug] = &[SeededBug::CommitBeyondProven];

#[test]
fn every_broken_rule_is_noticed_by_a_story() {
    let stories: Vec<(String, String)> = files()
        .into_iter()
        .map(|file| {
            let name = file.file_stem().expect("a file").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&file).expect("a story can be read"))
        })
        .collect();
    let mut wrong = Vec::new();
    for &bug in SeededBug::ALL {
        let (mut broken, mut otherwise) = (None, None);
        for (name, text) in &stories {
            match play(Some(bug), text) {
                End::AsTold => {}
                End::Otherwise(what) => otherwise = otherwise.or(Some(format!("{name}: {what}"))),
                End::Broken(what) => broken = broken.or(Some(format!("{name}: {what}"))),
            }
        }
        println!("{bug:?}\n  broken: {broken:?}\n  otherwise: {otherwise:?}");
        let expected = if NEVER_ASKED.contains(&bug) {
            broken.is_none() && otherwise.is_none()
        } else if TOLD_ONLY.contains(&bug) {
            broken.is_none() && otherwise.is_some()
        } else {
            broken.is_some()
        };
        if !expected {
            wrong.push(bug);
        }
    }
    assert!(wrong.is_empty(), "not noticed, or not as the lists above say: {wrong:?}");
}

#[test]
fn without_a_broken_rule_all_goes_as_told() {
    // The reader of stories above is not the one that the other test uses.
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("a story can be read");
        assert!(matches!(play(None, &text), End::AsTold), "{}", file.display());
    }
}
