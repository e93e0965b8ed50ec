//! `flotilla shell`: a prompt at which keys are read and written, in transactions.
//!
//! Lines come from people, from `--execute` or from the standard input ([`lines`]); a [`Session`] has the one transaction that
//! is open and does what a line says. The two are on different threads, because a transaction gives signs of life while
//! somebody thinks about the next line.

mod lines;
mod session;
mod words;

use crate::connect::{Remote, Within};
use crate::outcome::{Outcome, code_of};
use clap::Args;
use lines::Source;
use session::{Done, Session};
use std::io::IsTerminal as _;

/// Reads and writes keys in transactions, line by line.
///
/// With a terminal it asks for lines, knows their words (Tab) and remembers them (the arrow keys). Without one, or with --execute, it
/// does what the lines say and stops at the first that fails. Type `help` for what there is. Keys and values are written as
/// for `flotilla kv`; a value may have spaces.
#[derive(Args, Debug)]
pub(crate) struct Shell {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    within: Within,
    /// Do this line instead of asking; may come several times.
    #[arg(long, short, value_name = "LINE")]
    execute: Vec<String>,
    /// Go on after a line that fails.
    #[arg(long)]
    keep_going: bool,
}

/// Runs it.
pub(crate) async fn run(shell: Shell) -> anyhow::Result<Outcome> {
    let is_asked = shell.execute.is_empty() && std::io::stdin().is_terminal();
    let client = shell.remote.connect().await?;
    let mut session = Session::new(shell.within.txn(&client).await?);
    let source = match (shell.execute.is_empty(), is_asked) {
        (false, _) => Source::Given(shell.execute),
        (true, true) => Source::Prompt,
        (true, false) => Source::Input,
    };
    let mut lines = source.open(session.prompt());
    let mut failed = None;
    while let Some(line) = lines.next(session.prompt()).await? {
        match session.obey(&line).await {
            Ok(Done::Next) => {}
            Ok(Done::Quit) => break,
            Err(error) => {
                eprintln!("error: {error:#}");
                if !is_asked {
                    failed.get_or_insert(code_of(&error));
                }
                if !is_asked && !shell.keep_going {
                    break;
                }
            }
        }
    }
    session.end().await;
    Ok(failed.map_or(Outcome::Done, Outcome::Code))
}
