//! What the facts of a store promise to one thread at a time.

use crate::meta::{Delegate, StoreMeta};
use std::sync::Arc;
use types::{KeyRange, MonoTime, Peer, PeerId, Region, RegionId, Term};

fn region(id: u64, start: &'static str, end: &'static str) -> Region {
    Region { id: RegionId(id), range: KeyRange::new(start, end), ..Region::default() }
}

#[test]
fn overlapping_regions_are_found_at_every_border() {
    let meta = StoreMeta::new();
    meta.replace(None, &[region(1, "", "c"), region(2, "c", "f"), region(3, "h", "")]);
    let ids = |start: &'static str, end: &'static str| -> Vec<u64> {
        meta.overlapping(&KeyRange::new(start, end)).iter().map(|r| r.id.get()).collect()
    };
    assert_eq!(ids("", ""), [1, 2, 3]);
    assert_eq!(ids("b", "c"), [1]);
    assert_eq!(ids("c", "d"), [2]);
    assert_eq!(ids("f", "h"), []);
    assert_eq!(ids("e", "i"), [2, 3]);
    assert_eq!(ids("z", ""), [3]);
}

#[test]
fn a_split_ends_the_delegate_before_the_children_can_be_seen() {
    let meta = StoreMeta::new();
    meta.replace(None, &[region(1, "", "")]);
    let delegate = Arc::new(Delegate::new(region(1, "", ""), Peer::default(), Term(6)));
    delegate.renew(MonoTime(100));
    meta.set_delegate(RegionId(1), Some(delegate.clone()));
    let seen = meta.version();
    assert!(delegate.covers(MonoTime(99)));
    meta.replace(Some(RegionId(1)), &[region(2, "", "m"), region(1, "m", "")]);
    assert!(!delegate.covers(MonoTime(99)) && meta.version() != seen && meta.delegate(RegionId(1)).is_none());
}

#[test]
fn a_reservation_keeps_others_out_until_it_is_released() {
    let meta = StoreMeta::new();
    meta.replace(None, &[region(1, "", "c")]);
    assert!(!meta.reserve(RegionId(2), &KeyRange::new("b", "d")));
    assert!(meta.reserve(RegionId(2), &KeyRange::new("c", "e")));
    assert!(!meta.reserve(RegionId(3), &KeyRange::new("d", "")));
    meta.release(RegionId(2));
    assert!(meta.reserve(RegionId(3), &KeyRange::new("d", "")));
}

#[test]
fn a_region_is_not_born_while_it_is_entombed_nor_the_other_way_around() {
    let (meta, id, child) = (StoreMeta::new(), RegionId(7), PeerId(8));
    assert!(meta.claim_birth(id, child));
    assert!(!meta.claim_removal(id, PeerId(3)), "the peer may just be coming");
    meta.end_birth(id);
    assert!(meta.claim_removal(id, PeerId(3)) && meta.claim_removal(id, PeerId(5)));
    meta.end_removal(id, PeerId(3));
    assert_eq!(meta.removal_claimed(id), Some(PeerId(5)), "the second tombstone is still on its way");
    assert!(!meta.claim_birth(id, child));
    meta.end_removal(id, PeerId(5));
    assert!(meta.claim_birth(id, child) && meta.removal_claimed(id).is_none());
}

#[test]
fn a_peer_that_waits_for_its_region_makes_way_for_a_split_that_makes_it_but_not_for_an_earlier_life() {
    let (meta, id, range) = (StoreMeta::new(), RegionId(7), KeyRange::new("", "m"));
    assert!(meta.claim_uninitialized(id, PeerId(8)));
    assert!(!meta.claim_birth(id, PeerId(7)), "the split is of an earlier life of the region");
    assert!(meta.claim_birth(id, PeerId(8)));
    assert!(!meta.reserve(id, &range), "the peer comes by the split, not by a snapshot");
    assert!(!meta.claim_removal(id, PeerId(8)) && !meta.claim_uninitialized(id, PeerId(9)));
    meta.end_uninitialized(id);
    meta.end_birth(id);
    assert!(meta.claim_removal(id, PeerId(8)));
    assert!(!meta.claim_uninitialized(id, PeerId(9)), "it may come once the tombstone is written");
    meta.end_removal(id, PeerId(8));
    assert!(meta.claim_uninitialized(id, PeerId(9)));
}
