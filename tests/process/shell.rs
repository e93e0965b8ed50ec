//! The shell, as scripts use it: two of them want the same key.

use crate::support::cluster::{Cluster, replicated};
use crate::support::process::{command, output};
use crate::support::run::Run;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A shell that is given line after line, and answers each.
struct Shell {
    child: Child,
    input: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Shell {
    fn start(pd: &str) -> Self {
        let mut child = command(&["shell", "--pd", pd, "--keep-going"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command can be started");
        let (sender, said) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let errors = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| drop(errors.send(line)));
        });
        Self { input: child.stdin.take().expect("piped"), child, said }
    }

    /// Types a line; the first line of the answer, which must begin so.
    #[track_caller]
    fn types(&mut self, line: &str, begins: &str) -> String {
        writeln!(self.input, "{line}").expect("the shell reads");
        self.says(line, begins)
    }

    /// The next line of the answer to what was typed.
    #[track_caller]
    fn says(&mut self, line: &str, begins: &str) -> String {
        let said = self.said.recv_timeout(Duration::from_secs(30));
        let said = said.unwrap_or_else(|_| panic!("nothing is said to {line:?}"));
        assert!(said.starts_with(begins), "to {line:?} is said {said:?}");
        said
    }

    fn ends(self) -> Option<i32> {
        let Self { mut child, input, .. } = self;
        drop(input);
        child.wait().expect("our child").code()
    }
}

/// Two shells change one key in transactions: the one that commits later is told that the other was faster, and nothing of
/// it is written. What became of the key stands in its history, and a look back shows what was.
#[test]
fn two_shells_in_conflict() {
    let run = Run::begin("shell");
    run.play(Duration::from_secs(90), story(&run));
}

async fn story(run: &Run) {
    let cluster = Cluster::start(1, &[]).await;
    let client = cluster.client(Duration::from_secs(20)).await;
    replicated(&client, 1, Duration::from_secs(30)).await;
    let pd = cluster.pd.address.clone();
    let (mut one, mut other) = (Shell::start(&pd), Shell::start(&pd));
    one.types("put stock 10", "done");
    let before = one.types("timestamp", "");
    for shell in [&mut one, &mut other] {
        shell.types("begin", "begun at ");
        shell.types("get stock", "10");
    }
    one.types("put stock 9", "written");
    one.types("get stock", "9");
    other.types("get stock", "10");
    other.types("put stock 7", "written");
    one.types("commit", "committed at ");
    run.say("one has committed, the other is about to");
    let refused = other.types("commit", "error: ");
    assert!(refused.contains("stock") && refused.contains("begin again"), "{refused}");
    other.types("get stock", "9");
    other.types(&format!("at {before}"), "reading as of");
    other.types("get stock", "10");
    other.types("at", "reading as of now");

    // Whoever reserves a key shows as a lock, until it is given up.
    one.types("begin pessimistic", "begun at ");
    one.types("lock stock", "9");
    assert!(other.types("locks", "stock\tpessimistic").contains("primary stock"));
    assert_eq!(other.said.recv_timeout(Duration::from_secs(5)).as_deref(), Ok("1 locks"));
    one.types("rollback", "rolled back");
    other.types("locks", "0 locks");
    assert!(other.types("mvcc stock", "").contains("put 9"));
    assert!(other.said.recv_timeout(Duration::from_secs(5)).is_ok_and(|line| line.contains("put 10")));

    assert_eq!(one.ends(), Some(0));
    assert_ne!(other.ends(), Some(0), "a line of it failed");

    // Lines on the command line, with bytes as they are typed elsewhere; the first that fails is the last.
    let lines = ["-e", "put hex:6b\\x00 two words", "-e", "get k"];
    let mut arguments = vec!["shell", "--pd", &pd];
    arguments.extend(lines);
    let ended = output(command(&arguments), Duration::from_secs(30));
    assert_eq!(ended.code, Some(2), "{} is no hexadecimal key: {}", lines[1], ended.stderr);
    let ended = output(
        command(&["shell", "--pd", &pd, "-e", "put k\\x00 two words", "-e", "get hex:6b00"]),
        Duration::from_secs(30),
    );
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "done\ntwo words\n"));
}

/// Two shells reserve two keys in different orders. While one waits, `locks` says for whom; the one that closes the ring is told
/// at once, and when it gives up the other has waited for long enough.
#[test]
fn two_shells_that_wait_for_each_other() {
    let run = Run::begin("deadlock");
    run.play(Duration::from_secs(90), deadlock(&run));
}

async fn deadlock(run: &Run) {
    let cluster = Cluster::start(1, &[]).await;
    let client = cluster.client(Duration::from_secs(20)).await;
    replicated(&client, 1, Duration::from_secs(30)).await;
    let pd = cluster.pd.address.clone();
    let (mut one, mut other) = (Shell::start(&pd), Shell::start(&pd));
    // On a machine that is busy somebody may have waited for too long before the ring is closed: then it begins again.
    for attempt in 0.. {
        one.types("begin pessimistic", "begun at ");
        other.types("begin pessimistic", "begun at ");
        one.types("put a 1", "written");
        other.types("put b 2", "written");
        writeln!(one.input, "put b 1").expect("the shell reads");
        other.types("locks b", "b\tpessimistic");
        other.says("locks b", "1 locks");
        // There is a line for whoever waits, unless that has not come to the store yet.
        writeln!(other.input, "put a 2").expect("the shell reads");
        let mut said = other.says("put a 2", "");
        let is_seen = said.contains("waits for that begun at");
        if is_seen {
            said = other.says("put a 2", "");
        }
        other.types("rollback", "rolled back");
        let got = one.says("put b 1", "");
        one.types("commit", "committed at ");
        if said.starts_with("error: deadlock: ") && got.starts_with("written") {
            assert!(said.contains("waits for") && said.contains("begin again"), "{said}");
            run.say(format!("found in attempt {attempt}"));
            break;
        }
        assert!(attempt < 10, "nobody is told of a deadlock: {said:?}, {got:?}");
    }
    other.types("get b", "1");
}
