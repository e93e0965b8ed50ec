//! Each observer accepts what a correct cluster shows and refuses the nearest thing that it must not show.

use super::*;
use raft::EntryId;
use types::Peer;

const R: RegionId = RegionId(1);
const P1: PeerId = PeerId(11);
const P2: PeerId = PeerId(12);
const S1: StoreId = StoreId(1);
const S2: StoreId = StoreId(2);

#[track_caller]
fn broken(result: Result<(), Broken>, invariant: &str) {
    assert_eq!(result.map_err(|broken| broken.invariant), Err(invariant));
}

#[test]
fn a_term_has_one_leader() {
    let mut elections = ElectionSafety::default();
    assert!(elections.leader(R, Term(1), P1).unwrap());
    assert!(!elections.leader(R, Term(1), P1).unwrap());
    elections.leader(R, Term(2), P2).unwrap();
    elections.leader(RegionId(2), Term(1), P2).unwrap();
    assert!(elections.latest().eq([(R, Term(2), P2), (RegionId(2), Term(1), P2)]));
    broken(elections.leader(R, Term(1), P2).map(|_| ()), "INV-RAFT-1 (election safety)");
}

#[test]
fn peers_apply_the_same_in_order() {
    let entry = |term, checksum| Applied { term: Term(term), checksum };
    let mut chains = AppliedChains::default();
    chains.start_from(R, P1, LogIndex(5), Term(1)).unwrap();
    chains.apply(R, P1, LogIndex(6), entry(1, 60)).unwrap();
    chains.apply(R, P1, LogIndex(7), entry(2, 70)).unwrap();
    broken(chains.apply(R, P1, LogIndex(9), entry(2, 90)), "INV-STORE-3 (applying in order)");
    broken(chains.apply(R, P1, LogIndex(8), entry(1, 80)), "INV-STORE-3 (terms in order)");
    chains.start_from(R, P2, LogIndex(6), Term(1)).unwrap();
    broken(chains.apply(R, P2, LogIndex(7), entry(2, 71)), "INV-RAFT-5 (state-machine safety)");
    broken(chains.start_from(R, P2, LogIndex(7), Term(1)), "INV-RAFT-5 (state-machine safety)");
    // After a restart it applies again, the same.
    chains.start_from(R, P1, LogIndex(6), Term(1)).unwrap();
    chains.apply(R, P1, LogIndex(7), entry(2, 70)).unwrap();
}

#[test]
fn an_acknowledged_entry_is_on_a_majority_of_disks() {
    let log = |peer: u64, term: Option<u64>, applied: u64| DurableLog {
        peer: PeerId(peer),
        term: term.map(Term),
        applied: LogIndex(applied),
    };
    let ok = [log(1, Some(2), 0), log(2, None, 9), log(3, None, 4)];
    acknowledged_is_durable(R, LogIndex(5), Term(2), &ok).unwrap();
    let other_term = [log(1, Some(2), 0), log(2, Some(1), 0), log(3, None, 4)];
    broken(
        acknowledged_is_durable(R, LogIndex(5), Term(2), &other_term),
        "INV-RAFT-12 (durable when acknowledged)",
    );
    broken(acknowledged_is_durable(R, LogIndex(5), Term(2), &[]), "INV-RAFT-12 (durable when acknowledged)");
}

#[test]
fn regions_of_a_store_do_not_overlap_and_all_together_cover_all_keys() {
    let at = |id: u64, start: &'static str, end: &'static str| (RegionId(id), KeyRange::new(start, end));
    ranges_are_disjoint(S1, &[at(2, "m", ""), at(1, "", "c"), at(3, "c", "m")]).unwrap();
    broken(ranges_are_disjoint(S1, &[at(2, "m", ""), at(1, "", "n")]), "INV-STORE-1 (disjoint ranges)");

    let regions = |ranges: &[(RegionId, KeyRange)]| -> Vec<Region> {
        ranges
            .iter()
            .map(|(id, range)| Region { id: *id, range: range.clone(), ..Region::default() })
            .collect()
    };
    regions_cover_all_keys(&regions(&[at(2, "m", ""), at(1, "", "m")])).unwrap();
    for bad in [
        &[at(2, "n", ""), at(1, "", "m")][..],
        &[at(2, "l", ""), at(1, "", "m")],
        &[at(1, "", "m")],
        &[at(1, "", ""), at(2, "m", "")],
        &[],
    ] {
        broken(regions_cover_all_keys(&regions(bad)), "coverage");
    }
}

#[test]
fn a_quiet_cluster_agrees_with_its_leaders() {
    let region = Region { id: R, peers: vec![Peer::voter(P1, S1), Peer::voter(P2, S2)], ..Region::default() };
    let view = |store_id, peer_id, applied, leads_in: Option<u64>| RegionView {
        store_id,
        region: region.clone(),
        peer_id,
        applied: LogIndex(applied),
        leads_in: leads_in.map(Term),
    };
    has_converged(&[view(S1, P1, 7, Some(2)), view(S2, P2, 7, None)]).unwrap();
    // One that has not noticed yet that it was deposed.
    has_converged(&[view(S1, P1, 7, Some(2)), view(S2, P2, 7, Some(3))]).unwrap();
    broken(has_converged(&[view(S1, P1, 7, Some(2)), view(S2, P2, 6, None)]), "convergence");
    broken(has_converged(&[view(S1, P1, 7, Some(2))]), "convergence");
    broken(has_converged(&[view(S1, P1, 7, None), view(S2, P2, 7, None)]), "coverage");
}

#[test]
fn epochs_grow_and_name_one_descriptor() {
    let region = |version: u64, end: &'static str| Region {
        id: R,
        range: KeyRange::new("", end),
        epoch: Epoch { conf_ver: 1, version },
        peers: vec![Peer::voter(P1, S1)],
    };
    let mut epochs = Epochs::default();
    epochs.region(S1, &region(1, "")).unwrap();
    epochs.region(S1, &region(2, "m")).unwrap();
    epochs.region(S2, &region(1, "")).unwrap();
    broken(epochs.region(S2, &region(2, "n")), "INV-RAFT-14 (one epoch, one descriptor)");
    broken(epochs.clone().region(S1, &region(1, "")), "growing epochs");
    epochs.restarted(S1);
    epochs.region(S1, &region(1, "")).unwrap();
}

#[test]
fn a_vote_is_kept() {
    let mut states = HardStates::default();
    states.durable(P1, Term(1), None).unwrap();
    states.durable(P1, Term(1), Some(P2)).unwrap();
    states.durable(P1, Term(2), None).unwrap();
    states.durable(P1, Term(2), Some(P1)).unwrap();
    broken(states.clone().durable(P1, Term(2), Some(P2)), "INV-RAFT-11 (one vote in a term)");
    broken(states.clone().durable(P1, Term(2), None), "INV-RAFT-11 (one vote in a term)");
    broken(states.durable(P1, Term(1), Some(P1)), "INV-RAFT-10 (terms grow)");
}

#[test]
fn an_old_lease_does_not_outlive_the_first_use_of_a_newer_one() {
    let mut leases = Leases::default();
    leases.serves(R, Term(1), P1, 10).unwrap();
    leases.acknowledges(R, Term(2), P2, 20);
    leases.acknowledges(R, Term(1), P1, 21);
    broken(leases.serves(R, Term(1), P1, 22), "INV-READ-6 (disjoint leases)");
    leases.serves(R, Term(2), P2, 23).unwrap();
}

#[test]
fn timestamps_grow_in_real_time() {
    let mut timestamps = Timestamps::default();
    let early = timestamps.floor();
    timestamps.answered(early, Timestamp(5), Timestamp(7)).unwrap();
    // Asked for before the answer above came: any order will do.
    timestamps.answered(early, Timestamp(3), Timestamp(4)).unwrap();
    assert_eq!(timestamps.floor(), Timestamp(7));
    let floor = timestamps.floor();
    broken(timestamps.answered(floor, Timestamp(7), Timestamp(9)), "INV-PD-TSO (growing timestamps)");
}

#[test]
fn peers_that_have_applied_the_same_hold_the_same() {
    let mut states = AppliedStates::default();
    let held = |checksum| Applied { term: Term(1), checksum };
    states.state(R, P1, LogIndex(6), held(1)).unwrap();
    states.state(R, P2, LogIndex(6), held(1)).unwrap();
    states.state(R, P1, LogIndex(8), held(2)).unwrap();
    broken(states.state(R, P2, LogIndex(8), held(3)), "INV-STORE-13 (equal entries, equal states)");
}

#[test]
fn two_stores_do_not_hold_leases_on_one_key() {
    let lease = |store_id, region: u64, start: &'static str, end: &'static str| LeaseView {
        store_id,
        region: Region { id: RegionId(region), range: KeyRange::new(start, end), ..Region::default() },
        peer_id: P1,
        term: Term(6),
        left: std::time::Duration::ZERO,
    };
    leases_are_disjoint(&[lease(S1, 2, "m", ""), lease(S2, 1, "", "m")]).unwrap();
    // The parent as it was, and a piece of it elsewhere.
    let split = [lease(S1, 1, "", ""), lease(S2, 2, "", "m")];
    broken(leases_are_disjoint(&split), "INV-READ-6 (disjoint leases)");
}

#[test]
fn a_leader_holds_what_was_committed_before() {
    let mut committed = Committed::default();
    committed.applied(R, EntryId::new(Term(1), LogIndex(6)), Term(1));
    committed.applied(R, EntryId::new(Term(1), LogIndex(7)), Term(3));
    committed.applied(R, EntryId::new(Term(1), LogIndex(5)), Term(3));
    assert_eq!(committed.before(R, Term(1)), None);
    // The leader of term 2 was elected late: it need not have what the one of term 3 has committed meanwhile.
    assert_eq!(committed.before(R, Term(2)), Some(EntryId::new(Term(1), LogIndex(6))));
    assert_eq!(committed.before(R, Term(4)), Some(EntryId::new(Term(1), LogIndex(7))));
    let wanted = EntryId::new(Term(1), LogIndex(7));
    let log = |term: Option<u64>, applied| DurableLog {
        peer: P1,
        term: term.map(Term),
        applied: LogIndex(applied),
    };
    leader_is_complete(R, Term(4), wanted, log(Some(1), 0)).unwrap();
    leader_is_complete(R, Term(4), wanted, log(None, 7)).unwrap();
    broken(leader_is_complete(R, Term(4), wanted, log(Some(2), 0)), "INV-RAFT-4 (leader completeness)");
    broken(leader_is_complete(R, Term(4), wanted, log(None, 6)), "INV-RAFT-4 (leader completeness)");
}

#[test]
fn logs_that_agree_on_an_entry_agree_on_what_is_before_it() {
    let mut logs = LogMatching::default();
    let at = |term, index| EntryId::new(Term(term), LogIndex(index));
    logs.entry(R, P1, at(1, 6), None, 60).unwrap();
    logs.entry(R, P1, at(2, 7), Some(Term(1)), 70).unwrap();
    // Another term at one index: not committed yet, so that may be.
    logs.entry(R, P2, at(3, 7), Some(Term(1)), 71).unwrap();
    logs.entry(R, P2, at(2, 7), Some(Term(1)), 70).unwrap();
    broken(logs.entry(R, P2, at(2, 7), Some(Term(1)), 72), "INV-RAFT-3 (log matching)");
    broken(logs.entry(R, P2, at(2, 7), Some(Term(2)), 70), "INV-RAFT-3 (log matching)");
}
