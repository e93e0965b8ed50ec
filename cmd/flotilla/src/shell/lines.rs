//! Where lines come from.

use super::words::COMMANDS;
use anyhow::Context as _;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use std::collections::VecDeque;
use std::io::BufRead as _;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Lines that are remembered from one session to the next.
const HISTORY_MAX: usize = 1_000;

pub(super) enum Source {
    /// The command line.
    Given(Vec<String>),
    /// A file or a pipe.
    Input,
    /// Somebody at a terminal.
    Prompt,
}

pub(super) enum Lines {
    Given(VecDeque<String>),
    /// A thread that waits for lines, told each time that one is wanted, and by which words to ask for it.
    Thread {
        wanted: std::sync::mpsc::Sender<String>,
        lines: mpsc::UnboundedReceiver<anyhow::Result<String>>,
    },
}

impl Source {
    pub(super) fn open(self, _prompt: &str) -> Lines {
        let read: fn(&std::sync::mpsc::Receiver<String>, &mpsc::UnboundedSender<anyhow::Result<String>>) =
            match self {
                Self::Given(lines) => return Lines::Given(lines.into()),
                Self::Input => read_input,
                Self::Prompt => ask,
            };
        let (wanted, wants) = std::sync::mpsc::channel();
        let (sender, lines) = mpsc::unbounded_channel();
        // Nobody waits for it at the end: it may be waiting for a line that never comes.
        #[expect(clippy::disallowed_methods, reason = "who types is waited for on a thread of its own")]
        std::thread::spawn(move || read(&wants, &sender));
        Lines::Thread { wanted, lines }
    }
}

impl Lines {
    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self, prompt: &str) -> anyhow::Result<Option<String>> {
        match self {
            Self::Given(lines) => Ok(lines.pop_front()),
            Self::Thread { wanted, lines } => {
                if wanted.send(prompt.to_owned()).is_err() {
                    return Ok(None);
                }
                lines.recv().await.transpose()
            }
        }
    }
}

fn read_input(
    wants: &std::sync::mpsc::Receiver<String>,
    lines: &mpsc::UnboundedSender<anyhow::Result<String>>,
) {
    let mut input = std::io::stdin().lock().lines();
    while wants.recv().is_ok() {
        let Some(line) = input.next() else { return };
        if lines.send(line.context("reading the standard input")).is_err() {
            return;
        }
    }
}

fn ask(wants: &std::sync::mpsc::Receiver<String>, lines: &mpsc::UnboundedSender<anyhow::Result<String>>) {
    let config =
        Config::builder().max_history_size(HISTORY_MAX).map(|builder| builder.auto_add_history(true));
    let editor = config.and_then(|config| Editor::<Words, FileHistory>::with_config(config.build()));
    let mut editor = match editor {
        Ok(editor) => editor,
        Err(error) => {
            let _ = lines.send(Err(anyhow::Error::new(error).context("using the terminal")));
            return;
        }
    };
    editor.set_helper(Some(Words));
    let file = history_file();
    if let Some(file) = &file {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    while let Ok(prompt) = wants.recv() {
        let line = match editor.readline(&prompt) {
            Ok(line) => Ok(line),
            // Ctrl-C gives the line up, not the session.
            Err(ReadlineError::Interrupted) => Ok(String::new()),
            Err(ReadlineError::Eof) => break,
            Err(error) => Err(anyhow::Error::new(error).context("reading from the terminal")),
        };
        if lines.send(line).is_err() {
            break;
        }
    }
    if let Some(file) = file
        && let Some(directory) = file.parent()
    {
        // To remember lines is a comfort; that it cannot be done is no error.
        let _ = std::fs::create_dir_all(directory)
            .and_then(|()| editor.save_history(&file).map_err(std::io::Error::other));
    }
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("flotilla/shell-history"))
}

/// Completes the first word of a line.
struct Words;

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..position];
        let fits = |command: &&super::words::Command| command.name.starts_with(typed);
        Ok((0, COMMANDS.iter().filter(fits).map(|command| format!("{} ", command.name)).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
