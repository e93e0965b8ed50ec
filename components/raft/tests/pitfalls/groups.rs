//! What takes several peers, and every point at which something can go wrong, to show.

use crate::story::Story;
use env::{Dice, SplitMix};
use raft::SeededBug;

#[test]
fn a_flapping_peer_raises_no_term() {
    // With pre-vote and check-quorum, a peer whose link comes and goes must not disturb a healthy leader: not once in ten
    // thousand ticks (thesis §9.6; etcd and its test prevote_checkquorum).
    let mut story = Story::new();
    story.goes("add-nodes voters=(1,2,3)");
    story.goes("elect 1");
    let mut dice = SplitMix::new(20);
    let mut ticks = 0;
    while ticks < 10_000 {
        for (link, longest) in [("isolate 3", 60), ("cut from=1 to=3", 40), ("heal", 20)] {
            let pass = 1 + dice.below(longest);
            story.goes(link);
            story.goes(&format!("run n={pass} quietly"));
            ticks += pass;
        }
    }
    story.goes("run n=20 quietly");
    let status = story.goes("status");
    assert!(status.starts_with("1: leader t1 ") && status.contains("2 3: follower of 1 t1 "), "{status}");
}

/// All orders of `0..count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let inserted = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| inserted(order, at))).collect()
}

#[test]
fn appends_in_any_order_end_in_one_log() {
    // Six appends in each of their 720 orders, every third one also twice (thesis §3.5). Whatever is refused on the way, the
    // follower ends with the leader's log, and nothing that it has acknowledged is taken back.
    let all = orders(6);
    assert_eq!(all.len(), 720);
    for order in all {
        let mut story = Story::new();
        story.goes("add-nodes voters=(1,2)");
        story.goes("elect 1");
        for at in 0..6 {
            story.goes("propose 1 data=x");
            story.goes(&format!("set-aside as=append-{at} type=append"));
        }
        for at in &order {
            story.goes(&format!("bring as=append-{at}"));
            if at % 3 == 0 {
                story.goes("settle quietly");
                story.goes(&format!("bring as=append-{at}"));
            }
        }
        story.goes("run n=6 quietly");
        let logs = story.goes("log");
        assert_eq!(logs, "1 2: 0@0 1@1 2@1 3@1 4@1 5@1 6@1 7@1\n", "in order {order:?}");
        let status = story.goes("status 2");
        assert!(status.contains("committed 7, applied 7"), "in order {order:?}: {status}");
    }
}

#[test]
fn a_joint_change_ends_wherever_its_leader_crashes() {
    // etcd#12136, etcd bd3c759: after a crash nobody left the joint configuration, or it was left twice. The leader crashes
    // after each message of the change in turn, and comes back later, or never.
    let mut crashes = 0;
    for comes_back in [true, false] {
        for delivered in 0.. {
            let mut story = Story::new();
            story.goes("add-nodes voters=(1,2,3) learners=(4) base=1");
            story.goes("elect 1");
            story.goes("run n=2 quietly");
            story.goes("conf-change 1 voter=4 learner=3");
            if !(0..delivered).all(|_| story.tries("deliver n=1").is_ok()) {
                break;
            }
            crashes += 1;
            story.goes("crash 1");
            let mut told = story.goes("run n=60 quietly");
            let rest = if comes_back {
                told += &story.goes("restart 1");
                told += &story.goes("run n=40 quietly");
                story.goes("members")
            } else {
                story.goes("members 2 3 4")
            };
            let who = if comes_back { "1 2 3 4" } else { "2 3 4" };
            let ends =
                [format!("{who}: voters 1 2 3, learners 4\n"), format!("{who}: voters 1 2 4, learners 3\n")];
            assert!(ends.contains(&rest), "after {delivered} messages: {rest}");
            assert!(!told.contains("is not joint"), "left twice, after {delivered} messages: {told}");
        }
    }
    assert!(crashes > 30, "the change takes more messages than {crashes}");
}

/// A group under everything at once, with clocks that run up to `percent` too fast or too slow; how much is proposed, and
/// how often a lease is seen.
fn drifting(seed: u64, percent: u64, bug: Option<SeededBug>) -> Result<(u64, u64), String> {
    let mut dice = SplitMix::new(seed);
    let mut story = Story::with(bug);
    story.tries(&format!("add-nodes voters=(1,2,3) seed={}", 1 + dice.below(1_000)))?;
    story.tries("drift percent=10")?;
    // A tick of each peer lasts this many moments: as wrong as it may be, one way or the other.
    let periods: Vec<u64> =
        (0..3).map(|_| if dice.chance(1, 2) { 100 - percent } else { 100 + percent }).collect();
    // Messages are quick, or take a tick and more, by the seed.
    let pace = [1, 20, 60][(seed % 3) as usize];
    let (mut proposed, mut leases) = (0, 0);
    for moment in 0..12_000_u64 {
        for (at, period) in periods.iter().enumerate() {
            if moment % period == at as u64
                && let Err(fault) = story.tries(&format!("tick {}", at + 1))
                && !is_down(&fault)
            {
                return Err(format!("at {moment}: {fault}"));
            }
        }
        let peer = 1 + dice.below(3);
        let line = match dice.below(600) {
            // One is cut off at a time, for some election timeouts.
            0 => {
                story.goes("heal");
                format!("isolate {peer}")
            }
            1 if dice.chance(1, 3) => "heal".to_owned(),
            2 if dice.chance(1, 4) => format!("crash {peer}"),
            3..8 => format!("restart {peer}"),
            8 => format!("forget-leader {peer}"),
            9 => format!("campaign {peer}"),
            10 => format!("transfer {peer} to={}", 1 + dice.below(3)),
            11..40 => format!("propose {peer} data=x"),
            40..60 => format!("lease {peer}"),
            60..400 if moment % pace == 0 => format!("deliver n={} quietly", 1 + dice.below(3)),
            _ => continue,
        };
        match story.tries(&line) {
            Ok(told) => {
                proposed += u64::from(told.contains("proposes"));
                leases += u64::from(told.contains("lease of"));
            }
            Err(fault) if is_down(&fault) => {}
            Err(fault) => return Err(format!("at {moment}: {fault}")),
        }
    }
    Ok((proposed, leases))
}

/// The story asked for what could not be just then; no rule is broken.
fn is_down(fault: &str) -> bool {
    ["is down", "runs already", "no such message"].iter().any(|what| fault.ends_with(what))
}

#[test]
fn leases_hold_while_clocks_differ_by_a_tenth() {
    // tikv#964, tikv#1127, sofa-jraft#34: a lease outlived the promise that it rested on. Here clocks run at rates that
    // differ by up to a tenth, and a lease counts as held for a tenth less than the promise lasts.
    let (mut proposed, mut leases) = (0, 0);
    for seed in 0..40 {
        let (more_proposed, more_leases) =
            drifting(seed, 5, None).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        proposed += more_proposed;
        leases += more_leases;
    }
    assert!(proposed > 2_000 && leases > 1_000, "too little happens: {proposed} proposals, {leases} leases");
    // Were votes given during a lease, or did clocks differ by more than is allowed for, it would be noticed.
    for (percent, bug) in [(5, Some(SeededBug::VoteDuringLease)), (30, None)] {
        let found = (0..200).find_map(|seed| drifting(seed, percent, bug).err());
        assert!(
            found.as_ref().is_some_and(|fault| fault.contains("INV-READ-1")),
            "{percent} {bug:?}: {found:?}"
        );
    }
}
