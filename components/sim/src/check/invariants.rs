//! What must hold at every moment, checked on plain facts that an observer of all nodes collects.
//!
//! The observers here see everything at once, which no node does: that is what makes them strict. Each returns a
//! [`Broken`] at the first fact that contradicts what it has seen before.

use crate::cluster::{LeaseView, RegionView};
use raft::EntryId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use types::{Epoch, KeyRange, LogIndex, PeerId, Region, RegionId, StoreId, Term, Timestamp, escape_key};

/// An invariant that does not hold, with the facts that contradict each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub facts: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.facts)
    }
}

impl std::error::Error for Broken {}

fn require(holds: bool, invariant: &'static str, facts: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { invariant, facts: facts() }) }
}

/// Election safety: a region has at most one leader in a term (Raft thesis, Figure 3.2).
#[derive(Clone, Default, Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<(RegionId, Term), PeerId>,
}

impl ElectionSafety {
    /// `peer` is, or believes to be, leader of `region` in `term`. Returns whether that is news.
    ///
    /// # Errors
    /// When another peer was.
    pub fn leader(&mut self, region: RegionId, term: Term, peer: PeerId) -> Result<bool, Broken> {
        let is_new = !self.leaders.contains_key(&(region, term));
        let first = *self.leaders.entry((region, term)).or_insert(peer);
        require(first == peer, "INV-RAFT-1 (election safety)", || {
            format!("peers {first} and {peer} both lead region {region} in term {term}")
        })?;
        Ok(is_new)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// The highest term in which a region was led; zero if it was not.
    #[must_use]
    pub fn newest_term(&self, region: RegionId) -> Term {
        let terms = self.leaders.range((region, Term::ZERO)..=(region, Term(u64::MAX)));
        terms.last().map_or(Term::ZERO, |((_, term), _)| *term)
    }

    /// The leader seen last in each region.
    pub fn latest(&self) -> impl Iterator<Item = (RegionId, Term, PeerId)> + '_ {
        let mut latest = BTreeMap::new();
        for ((region, term), peer) in &self.leaders {
            latest.insert(*region, (*term, *peer));
        }
        latest.into_iter().map(|(region, (term, peer))| (region, term, peer))
    }
}

/// Leader completeness: what was committed in a term is in the logs of the leaders of all later ones (Raft thesis,
/// Figure 3.2). Which term something was committed in is not told by what is applied; it is at most the highest in which
/// anybody was seen to lead by then.
#[derive(Clone, Default, Debug)]
pub struct Committed {
    /// By region and the highest term in which it had been led: the last entry that was applied.
    last: BTreeMap<(RegionId, Term), EntryId>,
}

impl Committed {
    /// Some peer of `region` has applied `entry`, when nobody had led in a term above `led_in`.
    pub fn applied(&mut self, region: RegionId, entry: EntryId, led_in: Term) {
        let last = self.last.entry((region, led_in)).or_insert(entry);
        if last.index < entry.index {
            *last = entry;
        }
    }

    /// The last entry that was committed for certain before `term`.
    #[must_use]
    pub fn before(&self, region: RegionId, term: Term) -> Option<EntryId> {
        let earlier = self.last.range((region, Term::ZERO)..(region, term));
        earlier.map(|(_, entry)| *entry).max_by_key(|entry| entry.index)
    }
}

/// The leader of `term` has `log` at the index of `wanted`, which was committed before.
///
/// # Errors
/// When that is another entry, or none.
pub fn leader_is_complete(
    region: RegionId,
    term: Term,
    wanted: EntryId,
    log: DurableLog,
) -> Result<(), Broken> {
    let holds = log.term.map_or(log.applied >= wanted.index, |term| term == wanted.term);
    require(holds, "INV-RAFT-4 (leader completeness)", || {
        format!(
            "region {region} is led in term {term} by a peer that has {log:?}, but {wanted:?} was committed"
        )
    })
}

/// Log matching: an entry's index and term tell what it is, and what is before it (Raft thesis, Figure 3.2).
#[derive(Clone, Default, Debug)]
pub struct LogMatching {
    /// By region, index and term.
    entries: BTreeMap<(RegionId, LogIndex, Term), FirstSeen>,
}

/// An entry as it was first seen.
#[derive(Clone, Copy, Debug)]
struct FirstSeen {
    /// The term of the entry before, if it was known.
    before: Option<Term>,
    checksum: u64,
    /// Who had it.
    peer: PeerId,
}

impl LogMatching {
    /// `peer` of `region` has an entry `id` with this checksum in its log, after one of the term `before`, if that is
    /// known.
    ///
    /// # Errors
    /// When another peer has another one there, or another one before it.
    pub fn entry(
        &mut self,
        region: RegionId,
        peer: PeerId,
        id: EntryId,
        before: Option<Term>,
        checksum: u64,
    ) -> Result<(), Broken> {
        let seen = FirstSeen { before, checksum, peer };
        let first = self.entries.entry((region, id.index, id.term)).or_insert(seen);
        first.before = first.before.or(before);
        let matches = first.checksum == checksum && (before.is_none() || first.before == before);
        require(matches, "INV-RAFT-3 (log matching)", || {
            let told = |seen: &FirstSeen| {
                let FirstSeen { before, checksum, peer } = seen;
                format!("peer {peer} has {checksum:x} after term {before:?}")
            };
            format!("region {region}, entry {id:?}: {}, {}", told(first), told(&seen))
        })
    }
}

/// State-machine safety: what is applied at an index of a region is the same on every peer, and each
/// peer applies index after index (Raft thesis, Figure 3.2).
#[derive(Clone, Default, Debug)]
pub struct AppliedChains {
    /// By region and index: what the first to apply it had there, and who that was.
    applied: BTreeMap<(RegionId, LogIndex), (Applied, PeerId)>,
    progress: BTreeMap<PeerId, (LogIndex, Term)>,
}

/// What a peer applied at an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The term of the entry.
    pub term: Term,
    /// A checksum of the entry and, where the observer has it, of its effects.
    pub checksum: u64,
}

impl AppliedChains {
    /// How many entries were applied by anybody.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.applied.len() as u64
    }

    /// `peer` of `region` applies the entry at `index`.
    ///
    /// # Errors
    /// When another peer has applied something else there, or this one was not at the index before.
    pub fn apply(
        &mut self,
        region: RegionId,
        peer: PeerId,
        index: LogIndex,
        applied: Applied,
    ) -> Result<(), Broken> {
        if let Some((at, term)) = self.progress.get(&peer) {
            require(index == at.next(), "INV-STORE-3 (applying in order)", || {
                format!("peer {peer} of region {region} applies {index} after {at}")
            })?;
            require(applied.term >= *term, "INV-STORE-3 (terms in order)", || {
                format!(
                    "peer {peer} of region {region} applies term {} at {index} after term {term}",
                    applied.term
                )
            })?;
        }
        let (first, by) = *self.applied.entry((region, index)).or_insert((applied, peer));
        require(first == applied, "INV-RAFT-5 (state-machine safety)", || {
            format!(
                "region {region} at {index}: peer {by} applied {first:?}, peer {peer} applies {applied:?}"
            )
        })?;
        self.progress.insert(peer, (index, applied.term));
        Ok(())
    }

    /// `peer` starts from here: it was made, has restarted (its applied index may have gone back), or has taken over a
    /// region snapshot.
    ///
    /// # Errors
    /// When the region has applied an entry of another term there.
    pub fn start_from(
        &mut self,
        region: RegionId,
        peer: PeerId,
        index: LogIndex,
        term: Term,
    ) -> Result<(), Broken> {
        if let Some((first, by)) = self.applied.get(&(region, index)) {
            require(first.term == term, "INV-RAFT-5 (state-machine safety)", || {
                format!(
                    "region {region} at {index}: peer {by} applied term {}, peer {peer} starts at term {term}",
                    first.term
                )
            })?;
        }
        self.progress.insert(peer, (index, term));
        Ok(())
    }
}

/// Applying depends on the log and the data alone: where peers of a region have applied the same entry last, they hold
/// the same, descriptor included.
#[derive(Clone, Default, Debug)]
pub struct AppliedStates {
    states: BTreeMap<(RegionId, LogIndex), (Applied, PeerId)>,
}

impl AppliedStates {
    /// `peer` of `region` has applied the entry at `index` last; `applied` holds its term and a checksum of all that the
    /// peer holds of the region.
    ///
    /// # Errors
    /// When another peer held something else there.
    pub fn state(
        &mut self,
        region: RegionId,
        peer: PeerId,
        index: LogIndex,
        applied: Applied,
    ) -> Result<(), Broken> {
        let (first, by) = *self.states.entry((region, index)).or_insert((applied, peer));
        require(first == applied, "INV-STORE-13 (equal entries, equal states)", || {
            format!("region {region} after {index}: peer {by} held {first:?}, peer {peer} holds {applied:?}")
        })
    }
}

/// What one voter's disk would still hold after a power loss now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableLog {
    /// The voter.
    pub peer: PeerId,
    /// The term of its durable entry at the index asked about; `None` if it has none there.
    pub term: Option<Term>,
    /// The index up to which its durable state has the log applied, or a snapshot of it.
    pub applied: LogIndex,
}

/// Durability: when a write is acknowledged, its entry is on the disks of a majority of the voters.
///
/// `voters` are those of the configuration under which it was committed (of each half of a joint one in turn).
///
/// # Errors
/// When fewer have it.
pub fn acknowledged_is_durable(
    region: RegionId,
    index: LogIndex,
    term: Term,
    voters: &[DurableLog],
) -> Result<(), Broken> {
    let holding = voters.iter().filter(|log| log.term == Some(term) || log.applied >= index).count();
    require(holding > voters.len() / 2, "INV-RAFT-12 (durable when acknowledged)", || {
        format!(
            "region {region}: the entry at {index} of term {term} was acknowledged, but the disks hold {voters:?}"
        )
    })
}

/// Regions of one store that own keys do not overlap.
///
/// # Errors
/// The first two that do.
pub fn ranges_are_disjoint(store: StoreId, regions: &[(RegionId, KeyRange)]) -> Result<(), Broken> {
    let mut sorted: Vec<_> = regions.iter().filter(|(_, range)| !range.is_empty()).collect();
    sorted.sort_by(|(_, a), (_, b)| a.start.cmp(&b.start));
    for pair in sorted.windows(2) {
        let [(left, left_range), (right, right_range)] = pair else { unreachable!("windows of two") };
        require(!left_range.overlaps(right_range), "INV-STORE-1 (disjoint ranges)", || {
            format!("store {store} holds region {left} {left_range:?} and region {right} {right_range:?}")
        })?;
    }
    Ok(())
}

/// The newest regions cover all keys, each once. For quiet moments: while a split or a merge is under way only some of
/// its halves may be known.
///
/// # Errors
/// The first hole or overlap.
pub fn regions_cover_all_keys(regions: &[Region]) -> Result<(), Broken> {
    let mut sorted: Vec<_> = regions.iter().collect();
    sorted.sort_by(|a, b| a.range.start.cmp(&b.range.start));
    let mut reached = Some(types::Key::new());
    for region in sorted {
        let meets = reached.as_ref() == Some(&region.range.start);
        require(meets, "coverage", || {
            let until = reached.as_ref().map_or_else(|| "the end".to_owned(), |key| escape_key(key));
            format!("keys are covered up to {until}, then comes region {} {:?}", region.id, region.range)
        })?;
        reached = (!region.range.end.is_empty()).then(|| region.range.end.clone());
    }
    require(reached.is_none(), "coverage", || {
        format!(
            "no region covers the keys from {}",
            reached.as_ref().map_or_else(String::new, |key| escape_key(key))
        )
    })
}

/// Whether a quiet cluster has come together: the leaders' regions cover all keys, and each member of each region has
/// applied as much as its leader. Returns what is still missing.
///
/// # Errors
/// The first thing that is missing; on a cluster that is not quiet, that means nothing.
pub fn has_converged(views: &[RegionView]) -> Result<(), Broken> {
    let mut leaders: BTreeMap<RegionId, &RegionView> = BTreeMap::new();
    for view in views.iter().filter(|view| view.leads_in.is_some()) {
        let newest = leaders.entry(view.region.id).or_insert(view);
        if newest.leads_in < view.leads_in {
            *newest = view;
        }
    }
    let regions: Vec<Region> = leaders.values().map(|view| view.region.clone()).collect();
    regions_cover_all_keys(&regions)?;
    for leader in leaders.values() {
        for peer in &leader.region.peers {
            let member = views.iter().find(|view| view.peer_id == peer.id);
            let agrees =
                member.is_some_and(|view| view.applied == leader.applied && view.region == leader.region);
            require(agrees, "convergence", || {
                format!("peer {} has {member:?}, its leader {leader:?}", peer.id)
            })?;
        }
    }
    Ok(())
}

/// Epochs of a region only grow, on every store alike, and one epoch means one descriptor.
#[derive(Clone, Default, Debug)]
pub struct Epochs {
    by_epoch: BTreeMap<(RegionId, Epoch), Region>,
    /// By store and region: what it showed last.
    latest: BTreeMap<(StoreId, RegionId), Epoch>,
}

impl Epochs {
    /// `store` holds `region` as described, applied.
    ///
    /// # Errors
    /// When it held a newer one, or another store another one of the same epoch.
    pub fn region(&mut self, store: StoreId, region: &Region) -> Result<(), Broken> {
        let before = self.latest.insert((store, region.id), region.epoch);
        let went_back = before.is_some_and(|before| region.epoch.is_older_than(before));
        require(!went_back, "growing epochs", || {
            format!("region {} on store {store} goes from {before:?} to {:?}", region.id, region.epoch)
        })?;
        let known = self.by_epoch.entry((region.id, region.epoch)).or_insert_with(|| region.clone());
        require(known == region, "INV-RAFT-14 (one epoch, one descriptor)", || {
            format!("{known:?} and, on store {store}, {region:?}")
        })
    }

    /// Whether some store has applied exactly this.
    #[must_use]
    pub fn knows(&self, region: &Region) -> bool {
        self.by_epoch.get(&(region.id, region.epoch)) == Some(region)
    }

    /// Each region as of its newest epoch.
    #[must_use]
    pub fn newest(&self) -> Vec<Region> {
        let mut newest: BTreeMap<RegionId, &Region> = BTreeMap::new();
        for region in self.by_epoch.values() {
            let seen = newest.entry(region.id).or_insert(region);
            if seen.epoch.is_older_than(region.epoch) {
                *seen = region;
            }
        }
        newest.into_values().cloned().collect()
    }

    /// How many regions there were.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.by_epoch.keys().map(|(region, _)| *region).collect::<BTreeSet<_>>().len() as u64
    }

    /// How often a region's members changed.
    #[must_use]
    pub fn member_changes(&self) -> u64 {
        let epochs = self.by_epoch.keys().map(|(region, epoch)| (*region, epoch.conf_ver));
        epochs.collect::<BTreeSet<_>>().len() as u64 - self.regions()
    }

    /// `store` has restarted: what was not durable may be gone, so an older epoch may come again.
    pub fn restarted(&mut self, store: StoreId) {
        self.latest.retain(|(at, _), _| *at != store);
    }
}

/// Durable terms and votes of a peer: the term never falls, and in one term it votes for one candidate.
#[derive(Clone, Default, Debug)]
pub struct HardStates {
    latest: BTreeMap<PeerId, (Term, Option<PeerId>)>,
}

impl HardStates {
    /// `peer` has this term and vote on its disk. To be called for what is durable alone.
    ///
    /// # Errors
    /// When it had a higher term, or another vote in this one.
    pub fn durable(&mut self, peer: PeerId, term: Term, vote: Option<PeerId>) -> Result<(), Broken> {
        if let Some((term_before, vote_before)) = self.latest.insert(peer, (term, vote)) {
            let facts = || {
                format!(
                    "peer {peer} goes from term {term_before} vote {vote_before:?} to term {term} vote {vote:?}"
                )
            };
            require(term >= term_before, "INV-RAFT-10 (terms grow)", facts)?;
            let kept = term > term_before || vote_before.is_none() || vote == vote_before;
            require(kept, "INV-RAFT-11 (one vote in a term)", facts)?;
        }
        Ok(())
    }
}

/// Lease disjointness, in true time: once a leader of a higher term has acted, no older one serves a read by its lease.
#[derive(Clone, Default, Debug)]
pub struct Leases {
    /// By region: the highest term in which a leader acted, who that was, and when it was first seen.
    newest: BTreeMap<RegionId, (Term, PeerId, u64)>,
}

impl Leases {
    /// At the true time `now`, `peer` acknowledges a write as leader of `region`, proposed in `term`. An older leader may
    /// still do so: what it acknowledges was committed.
    pub fn acknowledges(&mut self, region: RegionId, term: Term, peer: PeerId, now: u64) {
        let newest = self.newest.entry(region).or_insert((term, peer, now));
        if newest.0 < term {
            *newest = (term, peer, now);
        }
    }

    /// At the true time `now`, `peer` serves a read of `region` by its lease of `term`.
    ///
    /// # Errors
    /// When a leader of a higher term has acted before: the read may be stale.
    pub fn serves(&mut self, region: RegionId, term: Term, peer: PeerId, now: u64) -> Result<(), Broken> {
        self.acknowledges(region, term, peer, now);
        let (newest, by, since) = self.newest[&region];
        require(newest == term, "INV-READ-6 (disjoint leases)", || {
            format!(
                "peer {peer} serves region {region} by a lease of term {term} at {now}, after peer {by} acted in term \
                 {newest} at {since}"
            )
        })
    }
}

/// What a leader of a higher term has acknowledged, no older one may leave out: a read that begins after a newer leader
/// has acknowledged a write is not answered by an older leader, by whatever right (thesis §6.4).
#[derive(Clone, Default, Debug)]
pub struct Acknowledged {
    /// By region and term: when the first write was, at the latest.
    first: BTreeMap<(RegionId, Term), u64>,
}

impl Acknowledged {
    /// At the true time `now` a leader of `region` has applied a write that was proposed in its `term`.
    pub fn write(&mut self, region: RegionId, term: Term, now: u64) {
        self.first.entry((region, term)).or_insert(now);
    }

    /// The leader of `term` answers a read of `region` that has arrived at the true time `arrived`.
    ///
    /// # Errors
    /// When a newer leader had acknowledged a write by then.
    pub fn read(&self, region: RegionId, term: Term, arrived: u64) -> Result<(), Broken> {
        let mut newer = self.first.range((region, Term(term.get() + 1))..=(region, Term(u64::MAX)));
        let before = newer.rfind(|(_, since)| **since < arrived);
        require(before.is_none(), "INV-RAFT-17 (reads see what newer leaders wrote)", || {
            format!(
                "region {region}: the leader of term {term} answers a read of {arrived}, {before:?} was before"
            )
        })
    }
}

/// A peer is made once, of one region and on one store; and never again once it is gone.
#[derive(Clone, Default, Debug)]
pub struct Lives {
    born: BTreeMap<PeerId, (RegionId, StoreId)>,
    gone: BTreeMap<PeerId, StoreId>,
}

impl Lives {
    /// `peer` of `region` is on `store`.
    ///
    /// # Errors
    /// When it was another region's, or elsewhere, or is gone.
    pub fn lives(&mut self, region: RegionId, peer: PeerId, store: StoreId) -> Result<(), Broken> {
        let born = *self.born.entry(peer).or_insert((region, store));
        require(born == (region, store), "INV-PD-IDS (one peer, one id)", || {
            format!("peer {peer} is of region {region} on store {store}, and was {born:?}")
        })?;
        require(!self.gone.contains_key(&peer), "INV-STORE-8 (gone for good)", || {
            format!("peer {peer} of region {region} is back on store {store}")
        })
    }

    /// `peer` was cleared away from `store`, durably.
    pub fn is_gone(&mut self, peer: PeerId, store: StoreId) {
        self.gone.insert(peer, store);
    }
}

/// Lease disjointness over keys: no two stores would answer a read of one key by their leases, be it of one region or
/// of one and its former self. `leases` are all that are held at one moment of true time.
///
/// # Errors
/// The first two that overlap.
pub fn leases_are_disjoint(leases: &[LeaseView]) -> Result<(), Broken> {
    let mut sorted: Vec<_> = leases.iter().collect();
    sorted.sort_by(|a, b| a.region.range.start.cmp(&b.region.range.start));
    for (at, left) in sorted.iter().enumerate() {
        let overlapping = sorted[at + 1..]
            .iter()
            .find(|right| right.store_id != left.store_id && left.region.range.overlaps(&right.region.range));
        if let Some(right) = overlapping {
            let facts = format!("two stores hold leases on the same keys: {left:?}, {right:?}");
            return Err(Broken { invariant: "INV-READ-6 (disjoint leases)", facts });
        }
    }
    Ok(())
}

/// Timestamps: one that is asked for after another was answered is greater, whoever answers.
#[derive(Clone, Default, Debug)]
pub struct Timestamps {
    answered: Timestamp,
}

impl Timestamps {
    /// The greatest timestamp that was answered so far: what a request that begins now must exceed.
    #[must_use]
    pub const fn floor(&self) -> Timestamp {
        self.answered
    }

    /// The timestamps `first ..= last` were answered to a request that began when [`floor`](Self::floor) was `floor`.
    ///
    /// # Errors
    /// When one of them is not greater.
    pub fn answered(&mut self, floor: Timestamp, first: Timestamp, last: Timestamp) -> Result<(), Broken> {
        require(first > floor && first <= last, "INV-PD-TSO (growing timestamps)", || {
            format!("{first:?} to {last:?} were handed out after {floor:?} had been")
        })?;
        self.answered = self.answered.max(last);
        Ok(())
    }
}

#[cfg(test)]
#[path = "invariants_tests.rs"]
mod tests;
