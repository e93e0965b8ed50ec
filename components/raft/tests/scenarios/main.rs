//! Stories of a group, as text: each file beside this one tells one. A block is commands, `----`, and what happened.
//!
//! A group is in the hands of its story: no message moves, no clock ticks and nobody crashes unless the story says so.
//! Writes and applies are carried out at once, unless the story holds them. After every step all that happened is
//! checked against the rules of `group/record.rs` (one leader in a term, logs that match, nothing committed lost, one
//! sequence of applied entries, votes cast once, nothing said that is not durable, no read or lease that is stale), and
//! a rule that is broken ends the story, whatever it expected.
//!
//! A file begins with a remark that tells its story and, in a line `# Source: …`, where that comes from.
//!
//! To see what a story gives: `REWRITE=1 cargo test -p flotilla-raft --test scenarios every_story`, then read every line of the
//! difference; what is written there is a claim, and only its reader can say that it is right. `SCENARIO=figure_8` takes
//! the files whose names have that in them.
//!
//! # Commands
//!
//! Peers stand without a key: `campaign 1`, `status 1 2`. Lists stand in parentheses, without spaces: `voters=(1,2,3)`.
//! Any command may end in `quietly`: then the messages that arrive are not told.
//!
//! | command | what happens |
//! |---|---|
//! | `add-nodes voters=(…) [learners=(…)] [outgoing=(…)] [base=I]` | the founders start; with `base` after a snapshot at that index, on which newcomers can build. `pre-vote=off`, `check-quorum=off`, `lazy-commit=off`, `seed=`, `inflight=`, `inflight-bytes=`, `message-bytes=`, `uncommitted-bytes=`, `page-bytes=` are those of `Config` |
//! | `add-newcomer N` | a peer that knows nothing starts |
//! | `put-state N… log=(terms) [term=T] [vote=V] [commit=I] [applied=I]` | begins in the middle: these peers are restarted with this, and owe nobody silence |
//! | `campaign N` / `elect N` | told to campaign / and wins, with all messages passing |
//! | `propose N [data=x]`, `conf-change N [voter=…] [learner=…] [remove=…] [joint=implicit\|explicit]`, `leave-joint N` | offered to this peer |
//! | `transfer N to=M`, `forget-leader N`, `ping N`, `unreachable N peer=M`, `snapshot-report N peer=M [failed]` | as the methods of `RawNode` |
//! | `read-index N token=K` | asks; the answer is told when it comes |
//! | `lease N` | tells whether a lease is held, and how old it is |
//! | `tick [N…] [n=K]` | K ticks pass, each followed by a turn; for all who live if none is named |
//! | `pass [N…] [n=K]` | K ticks pass, and nobody looks at the clock before something else happens |
//! | `run [n=K]` | K times a tick for all, and all messages pass; only what changes is told |
//! | `drift percent=P` | clocks may differ by so much: leases are checked although clocks do not move together, and used for so much less |
//! | `settle` | messages pass, oldest first, until there are none |
//! | `deliver [from=…] [to=…] [type=…] [n=K] [reversed]` | these messages arrive; the receiver takes a turn after each |
//! | `drop …`, `repeat …` | these are lost / arrive, and stay on their way |
//! | `set-aside as=X …`, `bring as=X` | these leave the flow, and arrive whenever they are brought, as often as that is |
//! | `network …` | shows what is on its way |
//! | `partition N…`, `isolate N…`, `cut from=… to=…`, `heal` | what is sent over a cut is lost; what was on its way waits for the end of it, or for a `deliver` that names both ends |
//! | `hold N [writes] [applies]`, `release N` | from now on these wait / wait no longer |
//! | `persist N [n=K]` | the oldest K writes become durable, and the peer is told |
//! | `write N [n=K]`, `report N write=S` | the same in two steps; a report may come twice, or late |
//! | `apply N [n=K]` | the next K entries are applied |
//! | `crash N [survive=K]` | of the writes that wait, the first K reach the disk all the same |
//! | `restart N [applied=I]` | from what the disk has; the state machine perhaps from an earlier index |
//! | `compact N [to=I]` | the log is dropped up to there, by default up to where the peer itself says |
//! | `snapshots N off\|on` | whether a snapshot can be had at once |
//! | `status`, `log`, `progress`, `members`, `writes` | shows it |
//!
//! # Reading the outcome
//!
//! An entry is `index@term`. `1>2 t3 …` is a message of term 3 from 1 arriving at 2. `2: …` is what 2 does: its role when
//! that changes, what it applies, `committed I` when it learns so without applying it in the same breath, and
//! `holds write S: …` for a write that waits.

mod broken;
#[path = "../group/mod.rs"]
mod group;

use group::{Command, Group};
use std::panic::catch_unwind;
use std::path::PathBuf;

/// All stories, by name.
fn files() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let entries = std::fs::read_dir(directory).expect("the stories are beside this file");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

/// The lines of one block, as commands: the first was read already, the others are its input.
fn commands(case: &datadriven::TestCase) -> Result<Vec<Command>, String> {
    let args = case.args.iter().map(|(key, values)| (key.clone(), values.clone())).collect();
    let mut commands = vec![Command { name: case.directive.clone(), args }];
    for line in case.input.lines() {
        commands.extend(Command::parse(line)?);
    }
    Ok(commands)
}

#[test]
fn every_story_goes_as_it_is_told() {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let mut failures = Vec::new();
    for file in files() {
        let path = file.to_str().expect("names are plain").to_owned();
        if !path.contains(&wanted) {
            continue;
        }
        let played = catch_unwind(|| {
            let mut group = Group::new(None);
            let mut broken = None;
            datadriven::walk(&path, |story| {
                story.run(|case| -> Result<String, String> {
                    if let Some(fault) = &broken {
                        return Ok(format!("not reached: {fault}\n"));
                    }
                    let mut out = String::new();
                    for command in commands(case)? {
                        let name = command.name.clone();
                        match group.run(command) {
                            Ok(happened) => out.push_str(&happened),
                            Err(fault) => {
                                broken = Some(format!("{name}: {fault}"));
                                out.push_str(&format!("BROKEN at {name}: {fault}\n"));
                                break;
                            }
                        }
                    }
                    Ok(out)
                });
            });
            broken
        });
        match played {
            Ok(None) => {}
            Ok(Some(fault)) => failures.push(format!("{path}: {fault}")),
            Err(panic) => failures.push(panic.downcast_ref::<String>().cloned().unwrap_or(path)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
