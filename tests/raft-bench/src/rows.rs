//! The rows. Each is one function over either implementation that sets up, does the work, and returns one number.
//!
//! Time is this thread's CPU time: what others do on the machine meanwhile is not in it.

use crate::alloc::{bytes_in_use, calls};
use crate::core::{At, Core, Group, Setup};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// How much of each there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Of cheap calls.
    pub(crate) calls: u64,
    /// Of batches that go through a group.
    pub(crate) commits: u64,
    /// Of groups in a store.
    pub(crate) groups: u64,
}

fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Nanoseconds of `work`.
fn time(work: impl FnOnce()) -> f64 {
    let begin = cpu_ns();
    work();
    cpu_ns() - begin
}

/// The payload of proposals.
const VALUE_BYTES: usize = 128;

/// A timeout that never comes.
const NEVER_TICKS: u32 = 1 << 30;

fn patient() -> Setup {
    Setup { election_tick: NEVER_TICKS, heartbeat_tick: 1, ..Setup::default() }
}

// ---- idle ----

/// A tick of a follower that has nothing to do, and the question whether it has. In ns.
pub(crate) fn tick_idle_follower<C: Core>(scale: Scale) -> f64 {
    let mut group = Group::<C>::led(&patient());
    let follower = &mut group.peers[1];
    let spent = time(|| {
        for _ in 0..scale.calls {
            assert!(!black_box(&mut *follower).tick(), "an idle follower has nothing to say");
        }
    });
    spent / scale.calls as f64
}

/// A tick of a leader of three that sends a heartbeat to each of its followers, and hears them answer. In ns.
pub(crate) fn tick_idle_leader_3<C: Core>(scale: Scale) -> f64 {
    let mut group = Group::<C>::led(&patient());
    let leader = &mut group.peers[0];
    let (mut room, mut out) = (C::Room::default(), Vec::new());
    let ticks = scale.calls / 20;
    let mut heartbeats = 0;
    let spent = time(|| {
        for _ in 0..ticks {
            if leader.tick() {
                leader.turn(&mut room, &mut out);
            }
            for heartbeat in &out {
                heartbeats += 1;
                leader.step(C::heartbeat_resp(heartbeat));
            }
            out.clear();
            leader.turn(&mut room, &mut out);
        }
    });
    assert_eq!(heartbeats, 2 * ticks, "a tick sends two heartbeats");
    spent / ticks as f64
}

/// The question whether a clean leader has anything to say. In ns.
pub(crate) fn has_ready_clean<C: Core>(scale: Scale) -> f64 {
    let group = Group::<C>::led(&patient());
    let leader = &group.peers[0];
    let spent = time(|| {
        for _ in 0..scale.calls {
            assert!(!black_box(leader).has_ready(), "a settled leader has nothing to say");
        }
    });
    spent / scale.calls as f64
}

// ---- commits ----

/// Commits a second on one core by three peers together: proposed, sent, durable on a quorum, applied by the leader.
pub(crate) fn commit_3nodes<C: Core>(scale: Scale, batch: u64) -> f64 {
    let mut group = Group::<C>::led(&Setup::default());
    group.commit(batch, VALUE_BYTES);
    let rounds = scale.commits / batch.div_ceil(8);
    let spent = time(|| {
        for _ in 0..rounds {
            group.commit(batch, VALUE_BYTES);
        }
    });
    (rounds * batch) as f64 * 1e9 / spent
}

/// How often memory is asked for, per commit, on all three peers together; two of the calls are the proposal's own.
pub(crate) fn commit_allocations<C: Core>(scale: Scale, batch: u64) -> f64 {
    let mut group = Group::<C>::led(&Setup::default());
    group.commit(batch, VALUE_BYTES);
    let before = calls();
    for _ in 0..scale.commits / 100 {
        group.commit(batch, VALUE_BYTES);
    }
    (calls() - before) as f64 / (scale.commits / 100 * batch) as f64
}

/// A follower takes appends of 64 entries of 256 bytes, writes them and answers. In ns an append.
pub(crate) fn step_append_follower_64x256b<C: Core>(scale: Scale) -> f64 {
    let appends = 64;
    let rounds = (scale.commits / 256).max(4);
    let mut spent = 0.0;
    for _ in 0..rounds {
        let mut follower = C::new(&patient(), 2, &[], 0);
        let (mut room, mut out) = (C::Room::default(), Vec::new());
        let message = |at: u64| {
            let prev = At { term: u64::from(at > 0), index: at * 64 };
            C::append(1, 2, 1, prev, 64, 256, at * 64)
        };
        let messages: Vec<_> = (0..appends).map(message).collect();
        spent += time(|| {
            for message in messages {
                follower.step(message);
                follower.turn(&mut room, &mut out);
            }
        });
        assert_eq!(follower.applied(), (appends - 1) * 64, "the follower has what was sent");
        assert_eq!(out.len() as u64, appends, "each append is answered");
    }
    spent / (rounds * appends) as f64
}

/// An answer that moves the commit index, as it comes to a leader. In ns.
pub(crate) fn append_resp_commit_advance<C: Core>(scale: Scale) -> f64 {
    let entries = 4_000;
    let rounds = (scale.calls / 200_000).max(4);
    let setup = Setup { max_inflight_messages: entries as usize + 1, ..patient() };
    let mut spent = 0.0;
    for _ in 0..rounds {
        let mut group = Group::<C>::led(&setup);
        let leader = &mut group.peers[0];
        let (mut room, mut out) = (C::Room::default(), Vec::new());
        let first = leader.last().index + 1;
        for _ in 0..entries {
            leader.propose(vec![7; VALUE_BYTES]);
            leader.turn(&mut room, &mut out);
        }
        let term = leader.last().term;
        let answers: Vec<_> =
            (first..first + entries).map(|index| C::append_resp(2, 1, term, index)).collect();
        spent += time(|| {
            for answer in answers {
                leader.step(answer);
            }
        });
        leader.turn(&mut room, &mut out);
        assert_eq!(leader.applied(), first + entries - 1, "all is committed");
    }
    spent / (rounds * entries) as f64
}

// ---- encoding ----

fn append_64x256b<C: Core>() -> C::Message {
    C::append(1, 2, 7, At { term: 7, index: 123_456 }, 64, 256, 123_400)
}

/// Encodes an append of 64 entries of 256 bytes. In ns.
pub(crate) fn codec_encode_append_64x256b<C: Core>(scale: Scale) -> f64 {
    let message = append_64x256b::<C>();
    let mut wire = C::wire();
    let calls = scale.calls / 400;
    let spent = time(|| {
        for _ in 0..calls {
            assert!(C::encode(black_box(&message), &mut wire) > 64 * 256, "all payloads are in it");
        }
    });
    spent / calls as f64
}

/// Decodes it, payloads shared with the input. In ns.
pub(crate) fn codec_decode_append_64x256b<C: Core>(scale: Scale) -> f64 {
    let bytes = C::encoded(&append_64x256b::<C>());
    let calls = scale.calls / 400;
    let spent = time(|| {
        for _ in 0..calls {
            black_box(C::decode(black_box(&bytes)));
        }
    });
    spent / calls as f64
}

// ---- memory ----

/// In which state the peers are whose memory is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleeper {
    /// Followers of a group that has been idle for a while.
    Follower,
    /// Leaders of such groups.
    Leader,
    /// Leaders that have just committed one proposal.
    WokenLeader,
}

/// Bytes that one of many peers keeps: the core itself and what it has allocated, without its log, of which only the
/// handle (8 bytes) counts.
pub(crate) fn bytes_per_group<C: Core>(scale: Scale, sleeper: Sleeper) -> f64 {
    let groups = scale.groups;
    let mut kept: Vec<C> = Vec::with_capacity(groups as usize);
    let before = bytes_in_use() - (groups as usize * size_of::<C>()) as i64;
    for number in 0..groups {
        let mut group = Group::<C>::led(&Setup { group: number, ..Setup::default() });
        // Work has gone by, and left behind what it leaves.
        for _ in 0..8 {
            group.commit(4, VALUE_BYTES);
        }
        group.beat(20);
        for peer in &mut group.peers {
            peer.shrink();
        }
        if sleeper == Sleeper::WokenLeader {
            group.commit(1, VALUE_BYTES);
        }
        let which = if sleeper == Sleeper::Follower { 1 } else { 0 };
        let mut peer = group.peers.swap_remove(which);
        assert_eq!(peer.leads(), sleeper != Sleeper::Follower, "the first peer leads");
        peer.forget_log();
        kept.push(peer);
    }
    (bytes_in_use() - before) as f64 / groups as f64
}

// ---- waking ----

/// What became of a store's loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    /// CPU time until every group has a leader, in ms.
    pub(crate) ms: f64,
    /// When the first orphaned group had one, in election timeouts (minimum).
    pub(crate) first: f64,
    /// When the last had.
    pub(crate) all: f64,
    /// The most messages that were on their way at once.
    pub(crate) queue: f64,
}

/// Many groups of three sleep on three stores, each led by one store in turn, when the third store is lost. All are
/// woken and ticked from then on. The two stores that are left tick one after the other, and what they say arrives
/// within the tick, as on a network that is much faster than a tick of 100 ms.
pub(crate) fn wake_storm<C: Core>(scale: Scale) -> Storm {
    let setup = Setup::default();
    let mut peers: Vec<[C; 2]> = Vec::with_capacity(scale.groups as usize);
    let orphaned = |number: usize| number % 3 == 2;
    for number in 0..scale.groups {
        let setup = Setup { group: number, ..setup.clone() };
        let mut group = Group::<C>::led(&setup);
        group.beat(2);
        let third = group.peers.pop().expect("three");
        let second = group.peers.pop().expect("three");
        let first = group.peers.pop().expect("three");
        // Who led is lost in every third group; in the others a follower is.
        peers.push(if orphaned(number as usize) { [second, third] } else { [first, second] });
    }
    let slot = |number: usize, to: u64| match (orphaned(number), to) {
        (true, 2 | 3) => Some(to as usize - 2),
        (false, 1 | 2) => Some(to as usize - 1),
        _ => None,
    };
    let mut flying: Vec<(usize, C::Message)> = Vec::new();
    let mut next = Vec::new();
    let (mut first, mut queue, mut ticks) = (None, 0, 0_u32);
    let mut orphans: Vec<usize> = (0..peers.len()).filter(|&number| orphaned(number)).collect();
    let spent = time(|| {
        let (mut room, mut out) = (C::Room::default(), Vec::new());
        let mut say = |number: usize, peer: &mut C, next: &mut Vec<_>| {
            peer.turn(&mut room, &mut out);
            next.extend(out.drain(..).map(|message| (number, message)));
        };
        while !orphans.is_empty() {
            ticks += 1;
            assert!(ticks < 200 * setup.election_tick, "{} does not recover", C::NAME);
            for store in 0..2 {
                for (number, pair) in peers.iter_mut().enumerate() {
                    if pair[store].tick() {
                        say(number, &mut pair[store], &mut next);
                    }
                }
                while !next.is_empty() {
                    std::mem::swap(&mut flying, &mut next);
                    queue = queue.max(flying.len());
                    for (number, message) in flying.drain(..) {
                        if let Some(at) = slot(number, C::to(&message)) {
                            let peer = &mut peers[number][at];
                            peer.step(message);
                            say(number, peer, &mut next);
                        }
                    }
                }
            }
            let before = orphans.len();
            orphans.retain(|&number| !peers[number].iter().any(Core::leads));
            if orphans.len() < before {
                first.get_or_insert(ticks);
            }
        }
    });
    let timeouts = |ticks: u32| f64::from(ticks) / f64::from(setup.election_tick);
    Storm {
        ms: spent / 1e6,
        first: timeouts(first.unwrap_or(ticks)),
        all: timeouts(ticks),
        queue: queue as f64,
    }
}

// ---- conflicts ----

/// How often a leader asks a follower whose long tail is of other terms, until it knows where their logs agree. The tail
/// is of `terms` terms, the leader's own of as many others.
pub(crate) fn log_conflict_probe_long_tail<C: Core>() -> f64 {
    // Both agree on 100 entries of term 1, then the leader has 1,000 entries of the even terms to 8, the follower as many
    // of the odd ones.
    let tail = |of: [u64; 4]| of.into_iter().flat_map(|term| [term; 250]);
    let of_leader: Vec<u64> = [1; 100].into_iter().chain(tail([2, 4, 6, 8])).collect();
    let of_follower: Vec<u64> = [1; 100].into_iter().chain(tail([3, 5, 7, 9])).collect();
    let setup = patient();
    let mut leader = C::new(&setup, 1, &of_leader, 100);
    let mut same = C::new(&setup, 2, &of_leader, 100);
    let mut follower = C::new(&setup, 3, &of_follower, 100);
    // The third peer answers nothing before there is a leader: with its log it would not vote for it.
    let (mut room, mut out) = (C::Room::default(), Vec::new());
    let mut probes = 0;
    leader.campaign();
    for _ in 0..200 {
        leader.turn(&mut room, &mut out);
        let messages = std::mem::take(&mut out);
        for message in messages {
            match C::to(&message) {
                2 => same.step(message),
                3 if C::is_append(&message) => {
                    probes += 1;
                    follower.step(message);
                }
                _ => {}
            }
        }
        for peer in [&mut same, &mut follower] {
            peer.turn(&mut room, &mut out);
        }
        for message in std::mem::take(&mut out) {
            leader.step(message);
        }
        if leader.leads() && follower.last() == leader.last() {
            return f64::from(probes);
        }
    }
    panic!("{}: the follower has {:?}, the leader {:?}", C::NAME, follower.last(), leader.last());
}

// ---- quorum ----

/// What a leader of these voters finds committed, by what it knows of each. In ns.
pub(crate) fn committed_index<C: Core>(scale: Scale, voters: &[u64], outgoing: &[u64]) -> f64 {
    let setup = Setup { voters: voters.to_vec(), outgoing: outgoing.to_vec(), ..patient() };
    let mut group = Group::<C>::led(&setup);
    let leader = &mut group.peers[0];
    let goal = leader.last().index;
    let calls = scale.calls / 4;
    let spent = time(|| {
        for _ in 0..calls {
            assert_eq!(black_box(&mut *leader).quorum_reached(), goal, "all hold all");
        }
    });
    spent / calls as f64
}
