//! Thousands of short schedules over three to seven voters, in every run of the tests; each begins differently, which a
//! long run does only once. What must hold is checked after every event, as in the long runs.
//!
//! Millions: `make soak-raft SCHEDULES=1000000`.

use crate::plan::{Broken, Plan, Summary};
use crate::world::run_plan;

/// So many in each of four tests, which share the work among the machine's cores.
const SCHEDULES: u64 = 2_600;
const PARTS: u64 = 4;

/// Enough for an election or two and for what they interrupt.
const SHORT: Plan =
    Plan { events: 1_000, ends_in_peace: false, campaigns_first: true, founders_min: 3, founders_spread: 4 };

fn part(part: u64) {
    let wanted = std::env::var("RAFT_SCHEDULES").map(|number| number.parse::<u64>().expect("a number"));
    let schedules = wanted.map_or(SCHEDULES, |all| all.div_ceil(PARTS));
    let first = std::env::var("RAFT_FIRST").map_or(1_000_000, |seed| seed.parse().expect("a number"));
    let mut total = Summary::default();
    for number in 0..schedules {
        let seed = first + number * PARTS + part;
        // That all comes to rest again takes long to see, so it is asked of some.
        let plan = Plan { ends_in_peace: number % 20 == 0, ..SHORT };
        match run_plan(seed, plan, Broken::Nothing, false) {
            Ok(summary) => total.add(&summary),
            Err(what) => {
                panic!("schedule {seed}, {plan:?}: {what}\nalone: RAFT_FIRST={seed} RAFT_SCHEDULES=1")
            }
        }
    }
    println!("{schedules} schedules: {total:?}");
    // Void, if nothing happened in them.
    assert!(schedules < 100 || total.elections > schedules, "{total:?}");
    assert!(schedules < 100 || total.committed > 4 * schedules && total.reads > schedules, "{total:?}");
    assert!(schedules < 100 || total.crashes > schedules && total.snapshots > schedules / 20, "{total:?}");
    assert!(
        schedules < 100 || total.conf_changes > schedules / 4 && total.joint > schedules / 20,
        "{total:?}"
    );
    assert!(schedules < 100 || total.transfers > schedules / 20, "{total:?}");
}

#[test]
fn short_schedules_1_of_4() {
    part(0);
}

#[test]
fn short_schedules_2_of_4() {
    part(1);
}

#[test]
fn short_schedules_3_of_4() {
    part(2);
}

#[test]
fn short_schedules_4_of_4() {
    part(3);
}
