//! When a cluster is as it should be: pure judgements, and a loop that asks until they hold.

use super::{state_name, stores};
use crate::clock;
use crate::connect::Remote;
use crate::outcome::Outcome;
use anyhow::Context as _;
use client::{Client, KeyRange, Keyspace, StoreId};
use std::collections::BTreeMap;
use std::time::Duration;
use types::PeerRole;
use wire::pd::{RegionRoute, StoreMode, StoreState, StoreStatus};

/// How many voters a region has, where there are stores enough.
const REPLICAS: usize = 3;
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) replicated: bool,
    pub(crate) balanced: bool,
}

/// What the placement driver says at one moment.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) stores: Vec<StoreStatus>,
    /// In key order.
    pub(crate) regions: Vec<RegionRoute>,
}

impl Cluster {
    /// Asks.
    pub(crate) async fn look(client: &Client) -> anyhow::Result<Self> {
        let admin = client.admin();
        let stores = stores(&admin).await?;
        let regions = admin.regions(KeyRange::full(), usize::MAX).await.context("listing the regions")?;
        Ok(Self { stores, regions })
    }

    /// What is not yet as it is wanted; `None` when all is.
    pub(crate) fn missing(&self, wanted: Wanted) -> Option<String> {
        let replicated = || wanted.replicated.then(|| self.not_replicated()).flatten();
        let balanced = || wanted.balanced.then(|| self.not_balanced()).flatten();
        self.not_covered().or_else(replicated).or_else(balanced)
    }

    fn up(&self) -> impl Iterator<Item = StoreId> + Clone {
        let stays = |store: &&StoreStatus| store.state == StoreState::Up && store.mode != StoreMode::Draining;
        self.stores.iter().filter(stays).map(|store| store.info.id)
    }

    /// Regions must lie edge to edge: a gap means that some are not known yet.
    fn not_covered(&self) -> Option<String> {
        let Some(last) = self.regions.last() else {
            return Some("the placement driver knows no region yet".to_owned());
        };
        let mut reached = &KeyRange::full().start;
        for route in &self.regions {
            let range = &route.region.range;
            if range.start != *reached {
                return Some(format!(
                    "no region is known to hold the keys from `{}` on",
                    Keyspace::describe(reached)
                ));
            }
            reached = &range.end;
        }
        (!last.region.range.end.is_empty())
            .then(|| format!("no region is known to hold the keys from `{}` on", Keyspace::describe(reached)))
    }

    fn not_replicated(&self) -> Option<String> {
        let wanted = self.up().count().min(REPLICAS);
        if wanted == 0 {
            return Some("no store is up".to_owned());
        }
        self.regions.iter().find_map(|route| {
            let lack = self.region_lack(route, wanted)?;
            Some(format!("region {} {lack}", route.region.id))
        })
    }

    fn region_lack(&self, route: &RegionRoute, wanted: usize) -> Option<String> {
        let region = &route.region;
        if region.is_joint() {
            return Some("is changing its peers".to_owned());
        }
        let voters = region.peers.iter().filter(|peer| peer.role == PeerRole::Voter).count();
        if voters < wanted {
            return Some(format!("has {voters} of {wanted} voters"));
        }
        if let Some(learner) = region.peers.iter().find(|peer| peer.role == PeerRole::Learner) {
            return Some(format!("has a learner on store {} that is on its way in or out", learner.store_id));
        }
        if let Some(id) = route.down_peers.first() {
            return Some(format!("has a peer that does not answer: {id}"));
        }
        if let Some(id) = route.pending_peers.first() {
            return Some(format!("has a peer that lags behind: {id}"));
        }
        for peer in &region.peers {
            let store = self.stores.iter().find(|store| store.info.id == peer.store_id);
            match store.map(|store| store.state) {
                Some(StoreState::Up) if store.is_some_and(|store| store.mode == StoreMode::Draining) => {
                    return Some(format!("has a peer on store {}, which drains", peer.store_id));
                }
                Some(StoreState::Up) => {}
                Some(state) => {
                    return Some(format!(
                        "has a peer on store {}, which is {}",
                        peer.store_id,
                        state_name(state)
                    ));
                }
                None => return Some(format!("has a peer on store {}, which is unknown", peer.store_id)),
            }
        }
        route.leader.is_none().then(|| "has no known leader".to_owned())
    }

    fn not_balanced(&self) -> Option<String> {
        let leaders = self.regions.iter().filter_map(|route| Some(route.leader?.store_id));
        let peers = self.regions.iter().flat_map(|route| route.region.peers.iter().map(|peer| peer.store_id));
        uneven("leaders", self.up(), leaders).or_else(|| uneven("peers", self.up(), peers))
    }
}

/// The store whose share is farthest from even, if it is farther than by one and by a fifth.
fn uneven(
    what: &str,
    up: impl Iterator<Item = StoreId>,
    holders: impl Iterator<Item = StoreId>,
) -> Option<String> {
    let mut shares: BTreeMap<StoreId, usize> = up.map(|store| (store, 0)).collect();
    if shares.is_empty() {
        return Some("no store is up".to_owned());
    }
    let mut total = 0;
    for holder in holders {
        total += 1;
        // What lies on a store that is not up counts against the others: they are to take it over.
        if let Some(share) = shares.get_mut(&holder) {
            *share += 1;
        }
    }
    let even = total as f64 / shares.len() as f64;
    let allowed = (even * 0.2).max(1.0);
    let distance = |share: usize| (share as f64 - even).abs();
    let (store, share) = shares
        .into_iter()
        .max_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))
        .expect("there is at least one store");
    (distance(share) > allowed)
        .then(|| format!("store {store} has {share} {what}, where {even:.1} would be even (±{allowed:.1})"))
}

/// Waits until the cluster is as wanted.
pub(super) async fn run(
    remote: &Remote,
    wanted: Wanted,
    timeout: Duration,
    json: bool,
) -> anyhow::Result<Outcome> {
    let begin = clock::now();
    let mut client: Option<Client> = None;
    loop {
        let left = timeout.saturating_sub(begin.elapsed());
        // A call that hangs must not outlast the wait.
        let remote = Remote { deadline: remote.deadline.min(left.max(LOOK_INTERVAL)), ..remote.clone() };
        let lack = match judge(&remote, &mut client, wanted).await {
            Ok(None) => {
                let seconds = begin.elapsed().as_secs_f64();
                report(json, true, &format!("as wanted after {seconds:.1} s"));
                return Ok(Outcome::Done);
            }
            Ok(Some(lack)) => lack,
            Err(error) => {
                client = None;
                format!("{error:#}")
            }
        };
        if begin.elapsed() >= timeout {
            report(json, false, &format!("not as wanted after {:.1} s: {lack}", timeout.as_secs_f64()));
            return Ok(Outcome::No);
        }
        clock::pause(LOOK_INTERVAL.min(timeout.saturating_sub(begin.elapsed()))).await;
    }
}

async fn judge(
    remote: &Remote,
    client: &mut Option<Client>,
    wanted: Wanted,
) -> anyhow::Result<Option<String>> {
    if client.is_none() {
        *client = Some(remote.connect().await?);
    }
    let client = client.as_ref().expect("it was just made");
    Ok(Cluster::look(client).await?.missing(wanted))
}

fn report(json: bool, ok: bool, text: &str) {
    if json {
        println!("{}", serde_json::json!({"ok": ok, "reason": text}));
    } else if ok {
        println!("{text}");
    } else {
        eprintln!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Peer, PeerId, Region, RegionId};
    use wire::pd::{StoreInfo, StoreStats};

    fn store(id: u64, state: StoreState) -> StoreStatus {
        let id = StoreId(id);
        StoreStatus {
            info: StoreInfo { id, ..StoreInfo::default() },
            stats: StoreStats { store_id: id, ..StoreStats::default() },
            state,
            silent_ms: 0,
            mode: StoreMode::Serving,
        }
    }

    /// A region with voters on these stores, led by the first.
    fn region(id: u64, start: &str, end: &str, stores: &[u64]) -> RegionRoute {
        let peers: Vec<Peer> =
            stores.iter().map(|store| Peer::voter(PeerId(id * 10 + store), StoreId(*store))).collect();
        RegionRoute {
            leader: peers.first().copied(),
            region: Region {
                id: RegionId(id),
                range: KeyRange::new(start.to_owned(), end.to_owned()),
                peers,
                ..Region::default()
            },
            ..RegionRoute::default()
        }
    }

    fn three_up(regions: Vec<RegionRoute>) -> Cluster {
        Cluster { stores: (1..=3).map(|id| store(id, StoreState::Up)).collect(), regions }
    }

    const REPLICATED: Wanted = Wanted { replicated: true, balanced: false };
    const BALANCED: Wanted = Wanted { replicated: false, balanced: true };

    fn assert_lacks(cluster: &Cluster, wanted: Wanted, part: &str) {
        let lack = cluster.missing(wanted);
        assert!(lack.as_ref().is_some_and(|lack| lack.contains(part)), "{lack:?}, expected: {part}");
    }

    #[test]
    fn replicated_means_enough_voters_and_all_of_them_well() {
        let well = region(1, "", "", &[1, 2, 3]);
        assert_eq!(three_up(vec![well.clone()]).missing(REPLICATED), None);
        assert_lacks(&three_up(vec![region(1, "", "", &[1, 2])]), REPLICATED, "2 of 3 voters");
        let lacking = |change: fn(&mut RegionRoute)| {
            let mut route = well.clone();
            change(&mut route);
            three_up(vec![route])
        };
        assert_lacks(&lacking(|route| route.down_peers.push(PeerId(11))), REPLICATED, "not answer");
        assert_lacks(&lacking(|route| route.pending_peers.push(PeerId(11))), REPLICATED, "lags");
        assert_lacks(&lacking(|route| route.leader = None), REPLICATED, "leader");
        let joint = |route: &mut RegionRoute| route.region.peers[0].role = PeerRole::DemotingVoter;
        assert_lacks(&lacking(joint), REPLICATED, "changing");
        let learner = |route: &mut RegionRoute| {
            route.region.peers.push(Peer::learner(PeerId(14), StoreId(4)));
        };
        assert_lacks(&lacking(learner), REPLICATED, "learner");
    }

    #[test]
    fn fewer_stores_than_replicas_are_enough_when_they_hold_everything() {
        let mut cluster = three_up(vec![region(1, "", "", &[1, 2])]);
        cluster.stores.pop();
        assert_eq!(cluster.missing(REPLICATED), None);
        // A voter on a store that is gone is none, though two are left that are up.
        let mut cluster = three_up(vec![region(1, "", "", &[1, 2, 3])]);
        cluster.stores[2].state = StoreState::Disconnected;
        assert_lacks(&cluster, REPLICATED, "store 3, which is disconnected");
        assert_lacks(&Cluster { stores: Vec::new(), ..cluster }, REPLICATED, "no store is up");
    }

    #[test]
    fn a_gap_between_regions_is_never_as_wanted() {
        assert_lacks(&three_up(Vec::new()), REPLICATED, "no region");
        let all = [1, 2, 3];
        for regions in [
            vec![region(1, "b", "", &all)],
            vec![region(1, "", "b", &all)],
            vec![region(1, "", "b", &all), region(2, "c", "", &all)],
        ] {
            assert_lacks(&three_up(regions.clone()), REPLICATED, "no region is known");
            assert_lacks(&three_up(regions), BALANCED, "no region is known");
        }
        let whole = vec![region(1, "", "b", &all), region(2, "b", "", &all)];
        assert_eq!(three_up(whole).missing(REPLICATED), None);
    }

    #[test]
    fn balanced_allows_one_or_a_fifth_whichever_is_more() {
        let keys = ["", "b", "c", "d", "e", "f", ""];
        let cut = |leaders: [u64; 6]| {
            let regions = leaders.iter().enumerate().map(|(at, leader)| {
                let mut stores = vec![*leader];
                stores.extend((1..=3).filter(|store| store != leader));
                region(at as u64 + 1, keys[at], keys[at + 1], &stores)
            });
            three_up(regions.collect())
        };
        assert_eq!(cut([1, 1, 2, 2, 3, 3]).missing(BALANCED), None);
        assert_eq!(cut([1, 1, 1, 2, 2, 3]).missing(BALANCED), None);
        assert_lacks(&cut([1, 1, 1, 1, 2, 3]), BALANCED, "store 1 has 4 leaders");
        assert_lacks(&cut([1, 1, 1, 2, 2, 2]), BALANCED, "store 3 has 0 leaders");
        // Leaders may be even while a new store holds nothing.
        let mut cluster = cut([1, 1, 2, 2, 3, 3]);
        cluster.stores.push(store(4, StoreState::Up));
        assert_lacks(&cluster, BALANCED, "store 4 has 0");
    }
}
