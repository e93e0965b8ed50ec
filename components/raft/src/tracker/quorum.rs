//! What a majority of voters has in common; of both halves while a configuration is joint (thesis §4.3).

use crate::ConfState;
use crate::bugs::{Bugs, SeededBug};
use types::PeerId;

/// How a vote stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VoteResult {
    Won,
    Lost,
    Pending,
}

/// The largest value that a quorum has reached; `u64::MAX` when nobody votes (no constraint). `value` is asked with the
/// voter's place in its half.
#[inline]
pub(crate) fn reached(conf: &ConfState, bugs: Bugs, value: impl Fn(usize, PeerId) -> u64) -> u64 {
    if let ([a, b, c], []) = (&conf.voters[..], &conf.voters_outgoing[..])
        && majority(3, bugs) == 2
    {
        // Most groups have three voters, and the value in the middle is the one.
        let (a, b, c) = (value(0, *a), value(1, *b), value(2, *c));
        return a.min(b).max(a.max(b).min(c));
    }
    reached_by_many(conf, bugs, value)
}

#[inline(never)]
fn reached_by_many(conf: &ConfState, bugs: Bugs, value: impl Fn(usize, PeerId) -> u64) -> u64 {
    let [incoming, outgoing] = halves(conf, bugs);
    majority_reached(incoming, bugs, &value).min(majority_reached(outgoing, bugs, &value))
}

/// The voters whose majorities are needed; nobody's where a list is empty.
#[inline]
fn halves(conf: &ConfState, bugs: Bugs) -> [&[PeerId]; 2] {
    let outgoing = if bugs.has(SeededBug::JointNeedsOneHalf) { &[] } else { &conf.voters_outgoing[..] };
    [&conf.voters, outgoing]
}

fn majority_reached(voters: &[PeerId], bugs: Bugs, value: impl Fn(usize, PeerId) -> u64) -> u64 {
    if voters.is_empty() {
        return u64::MAX;
    }
    // Groups of up to seven voters, which is nearly all of them, need no allocation.
    let mut inline = [0_u64; 7];
    let mut heap;
    let values: &mut [u64] = if voters.len() <= inline.len() {
        &mut inline[..voters.len()]
    } else {
        heap = vec![0; voters.len()];
        &mut heap
    };
    // Each value is put in its place as it comes: for so few the fastest way to sort.
    for (count, &id) in voters.iter().enumerate() {
        let (value, mut at) = (value(count, id), count);
        while at > 0 && values[at - 1] > value {
            values[at] = values[at - 1];
            at -= 1;
        }
        values[at] = value;
    }
    // Ascending order: the value at this place is reached by itself and everything after it, which is a majority.
    values[values.len() - majority(values.len(), bugs)]
}

/// How many of `voters` make a majority.
#[inline]
pub(crate) fn majority(voters: usize, bugs: Bugs) -> usize {
    if bugs.has(SeededBug::MajorityIsHalf) {
        return (voters / 2).max(1);
    }
    voters / 2 + 1
}

/// How a vote stands, given each voter's answer so far.
pub(crate) fn tally(conf: &ConfState, bugs: Bugs, answer: impl Fn(PeerId) -> Option<bool>) -> VoteResult {
    let [incoming, outgoing] = halves(conf, bugs);
    match (majority_tally(incoming, bugs, &answer), majority_tally(outgoing, bugs, &answer)) {
        (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
        (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
        _ => VoteResult::Pending,
    }
}

fn majority_tally(voters: &[PeerId], bugs: Bugs, answer: impl Fn(PeerId) -> Option<bool>) -> VoteResult {
    if voters.is_empty() {
        return VoteResult::Won;
    }
    let (mut yes, mut missing) = (0, 0);
    for &id in voters {
        match answer(id) {
            Some(true) => yes += 1,
            Some(false) => {}
            None => missing += 1,
        }
    }
    let needed = majority(voters.len(), bugs);
    if yes >= needed {
        VoteResult::Won
    } else if yes + missing >= needed {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(mask: u32) -> Vec<PeerId> {
        (0..8).filter(|bit| mask & (1 << bit) != 0).map(|bit| PeerId(bit + 1)).collect()
    }

    /// Every value is reached by a quorum or not, counted one by one.
    fn brute_force(conf: &ConfState, values: &[u64]) -> u64 {
        let holds = |bar: u64| {
            [&conf.voters, &conf.voters_outgoing].iter().all(|half| {
                half.is_empty()
                    || half.iter().filter(|id| values[id.0 as usize - 1] >= bar).count()
                        >= majority(half.len(), Bugs::default())
            })
        };
        (0..=9).rev().find(|&bar| holds(bar)).expect("zero is reached by all")
    }

    #[test]
    fn the_value_a_quorum_reached_agrees_with_counting() {
        // openraft#1802: a shortcut over an unsorted list committed what no quorum held.
        let mut state = 7_u64;
        let mut draw = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..5_000 {
            let conf = ConfState {
                voters: ids(1 + draw(255) as u32),
                voters_outgoing: ids(draw(256) as u32 * (draw(2) as u32)),
                ..ConfState::default()
            };
            let values: Vec<u64> = (0..8).map(|_| draw(9)).collect();
            assert_eq!(
                reached(&conf, Bugs::default(), |_, id| values[id.0 as usize - 1]),
                brute_force(&conf, &values),
                "of {values:?} in {conf:?}"
            );
        }
    }

    #[test]
    fn a_joint_vote_needs_both_halves_and_is_lost_by_either() {
        let conf = ConfState { voters: ids(0b0111), voters_outgoing: ids(0b11000), ..ConfState::default() };
        let vote = |yes: u32, no: u32| {
            tally(&conf, Bugs::default(), |id| {
                let bit = 1 << (id.0 - 1);
                if yes & bit != 0 {
                    Some(true)
                } else if no & bit != 0 {
                    Some(false)
                } else {
                    None
                }
            })
        };
        assert_eq!(vote(0b00111, 0), VoteResult::Pending);
        assert_eq!(vote(0b11011, 0), VoteResult::Won);
        assert_eq!(vote(0b00111, 0b01000), VoteResult::Lost);
        assert_eq!(vote(0b11001, 0b00110), VoteResult::Lost);
    }
}
