//! What the fuzzers found worth keeping goes through their targets again; and bytes drawn from a seed, as a small run of
//! our own. `make fuzz` is the long one.

#[path = "../../../../fuzz/src/made.rs"]
mod made;
#[path = "../../../../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "they are public where fuzzers call them")]
mod targets;

use env::{Dice, SplitMix};
use std::path::Path;

/// How many inputs of our own each target is tried with.
const DRAWN: u64 = 40_000;

fn run(name: &str, mut target: impl FnMut(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut kept = 0;
    for file in std::fs::read_dir(&directory).expect("the corpus is kept") {
        let path = file.expect("readable").path();
        let data = std::fs::read(&path).expect("readable");
        // Whoever reads of a panic wants to know of which input.
        let guard = Told(format!("{}", path.display()));
        target(&data);
        drop(guard);
        kept += 1;
    }
    assert!(kept >= 20, "{kept} inputs are kept for {name}");
    let mut dice = SplitMix::new(1).fork(name);
    for number in 0..DRAWN {
        let data: Vec<u8> = (0..dice.below(200)).map(|_| dice.below(256) as u8).collect();
        let guard = Told(format!("drawn input {number}: {data:?}"));
        target(&data);
        drop(guard);
    }
}

/// Names the input when its target panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0);
        }
    }
}

#[test]
fn the_words_of_the_core() {
    run("raft_message", targets::raft_message);
}

#[test]
fn messages_between_processes() {
    run("wire_message", targets::wire_message);
}

#[test]
fn a_connection() {
    run("frames", targets::frames);
}

#[test]
fn a_group_that_is_told_anything() {
    let (mut led, mut committed, mut installed, mut stopped) = (0, 0, 0, 0);
    run("step", |data| {
        let reached = targets::step(data);
        led += u64::from(reached.led);
        committed += u64::from(reached.committed);
        installed += u64::from(reached.installed);
        stopped += u64::from(reached.stopped);
    });
    println!(
        "of {DRAWN} and the kept: {led} led, {committed} committed, {installed} installed, {stopped} stopped"
    );
    assert!(
        led > 100 && committed > 1_000 && installed > 20 && stopped > 1_000,
        "the bytes reach too little"
    );
}
