//! A cluster as a client sees it: stores that lead regions and change, a placement driver that lags behind, and a
//! network that loses things. One map holds the data, so that only routing can go wrong.

use crate::process::Process;
use crate::txn_store;
use crate::world::{Slot, World};
use bytes::Bytes;
use client_core::{Core, Keyspace, Options, Rpc, RpcError};
use engine::MemEngine;
use env::{Dice, SplitMix};
use futures_util::future::{BoxFuture, Either, select};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use types::{
    ClusterId, Epoch, Key, KeyRange, LogIndex, MonoTime, Peer, PeerId, Region, RegionId, StoreId, Timestamp,
};
use wire::kv::{BusyReason, KvCommand, KvError, KvPair, KvReply, KvRequest, KvResponse, Life, Scan, WriteOp};
use wire::pd::{
    OperatorStatus, PdError, PdReply, PdRequest, PdResponse, RegionRoute, StoreInfo, StoreMode, StoreState,
    StoreStats, StoreStatus,
};
use wire::txn::TxnRead;

/// What happens to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It arrives and is answered.
    Pass,
    /// It never leaves.
    NotSent,
    /// It is lost, and so is the connection.
    RequestLost,
    /// It is done, then the connection is lost.
    AnswerLost,
    /// It is done; nothing is heard of it.
    AnswerSilent,
    /// It is lost; nothing is heard of it.
    RequestSilent,
    /// It is done when nobody counts on it any more.
    Late(Duration),
    /// The store refuses so.
    Refused(KvError),
    /// The store answers so, whatever was asked.
    Answered(KvReply),
}

/// How often things go wrong, in thousandths.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) network: u64,
    pub(crate) busy: u64,
    pub(crate) undetermined: u64,
    /// Requests that come when their senders have given them up.
    pub(crate) late: u64,
    /// Commands of transactions before which their region is split, or led elsewhere.
    pub(crate) change: u64,
}

/// What happens to a request, decided when it leaves; `None` leaves it to the weather.
pub(crate) type Script = Box<dyn FnMut(&KvRequest) -> Option<Fate> + Send>;

pub(crate) struct Lead {
    pub(crate) region: Region,
    pub(crate) leader: Option<StoreId>,
}

pub(crate) struct State {
    pub(crate) regions: BTreeMap<Key, Lead>,
    pub(crate) data: BTreeMap<Key, Bytes>,
    /// Of values that were set for a while: for how many milliseconds.
    pub(crate) lives: BTreeMap<Key, u64>,
    pub(crate) stores: BTreeMap<StoreId, bool>,
    /// What is sent to these vanishes, and nobody is told. Others are not cut off from them.
    pub(crate) silent: BTreeSet<StoreId>,
    /// These listen at another address than at first.
    pub(crate) moved: BTreeSet<StoreId>,
    /// What the placement driver knows, which is what was so when it last heard.
    pub(crate) known: Vec<RegionRoute>,
    pub(crate) pd_down: bool,
    pub(crate) pd_errors: VecDeque<PdError>,
    pub(crate) weather: Weather,
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) script: Option<Script>,
    /// What transactions read and write.
    pub(crate) engine: MemEngine,
    /// The last timestamp that was given.
    pub(crate) given: Timestamp,
    /// The latest at which anything was read.
    pub(crate) read_at: Timestamp,
    /// Leaders know what was read before; if they are forgetful, one does not now and then.
    pub(crate) leaders_know_reads: bool,
    pub(crate) forgetful: bool,
    /// Requests that stores were sent, and those that were done.
    pub(crate) kv_sent: Vec<(StoreId, KvRequest)>,
    pub(crate) pd_sent: Vec<PdRequest>,
    /// How often each value was written.
    pub(crate) applied: BTreeMap<Bytes, u32>,
    pub(crate) in_flight: usize,
    pub(crate) in_flight_max: usize,
    pub(crate) scans_page_max: u32,
    next_id: u64,
    dice: SplitMix,
}

#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) state: Arc<Mutex<State>>,
}

pub(crate) const STORES: u64 = 4;

impl Cluster {
    /// Regions cut at these raw keys, each on three of four stores, led by turns.
    pub(crate) fn new(world: &World, cuts: &[&str]) -> Self {
        let mut cluster = State {
            regions: BTreeMap::new(),
            data: BTreeMap::new(),
            lives: BTreeMap::new(),
            stores: (1..=STORES).map(|id| (StoreId(id), true)).collect(),
            silent: BTreeSet::new(),
            moved: BTreeSet::new(),
            known: Vec::new(),
            pd_down: false,
            pd_errors: VecDeque::new(),
            weather: Weather::default(),
            fates: VecDeque::new(),
            script: None,
            engine: MemEngine::new(),
            given: Timestamp::default(),
            read_at: Timestamp::default(),
            leaders_know_reads: true,
            forgetful: true,
            kv_sent: Vec::new(),
            pd_sent: Vec::new(),
            applied: BTreeMap::new(),
            in_flight: 0,
            in_flight_max: 0,
            scans_page_max: 7,
            next_id: 100,
            dice: world.dice("cluster"),
        };
        let peers = (1..=3).map(|store| Peer::voter(PeerId(store), StoreId(store))).collect();
        let epoch = Epoch { conf_ver: 1, version: 1 };
        let first = Region { id: RegionId(2), range: KeyRange::full(), epoch, peers };
        cluster.regions.insert(Key::new(), Lead { region: first, leader: Some(StoreId(1)) });
        for (place, cut) in cuts.iter().enumerate() {
            let key = client_core::Keyspace::RAW.encode(cut.as_bytes());
            cluster.split(&key);
            let leader = StoreId(1 + place as u64 % 3);
            cluster.regions.get_mut(&key).expect("just cut").leader = Some(leader);
        }
        cluster.tell_pd();
        Self { world: world.clone(), state: Arc::new(Mutex::new(cluster)) }
    }

    pub(crate) fn core(&self, options: Options) -> Core {
        Process::new(self).core(options)
    }

    /// How things go from here on. The placement driver knows everything now.
    pub(crate) fn set_weather(&self, weather: Weather) {
        let mut state = self.state.lock();
        state.weather = weather;
        state.tell_pd();
    }

    /// Cuts regions at these keys of transactions, led by turns.
    pub(crate) fn cut_txn(&self, cuts: &[&str]) {
        let mut state = self.state.lock();
        for (place, cut) in cuts.iter().enumerate() {
            let key = Keyspace::TXN.encode(cut.as_bytes());
            state.split(&key);
            let leader = StoreId(1 + place as u64 % 3);
            state.regions.get_mut(&key).expect("just cut").leader = Some(leader);
        }
        state.tell_pd();
    }

    /// One thing changes in the cluster.
    pub(crate) fn disturb(&self, dice: &mut SplitMix) {
        let mut state = self.state.lock();
        let keys: Vec<Key> = state.regions.keys().cloned().collect();
        let start = keys[dice.below(keys.len() as u64) as usize].clone();
        match dice.below(10) {
            0..2 if keys.len() < 24 => {
                let raw = format!("{:03}", dice.below(100));
                state.split(&client_core::Keyspace::RAW.encode(raw.as_bytes()));
            }
            2..5 => {
                let lead = state.regions.get_mut(&start).expect("listed");
                let place = dice.below(lead.region.peers.len() as u64) as usize;
                lead.leader = Some(lead.region.peers[place].store_id);
            }
            5 => state.regions.get_mut(&start).expect("listed").leader = None,
            6 => state.move_peer(&start),
            7 => {
                let store = StoreId(1 + dice.below(STORES));
                let is_up = state.stores.get_mut(&store).expect("listed");
                *is_up = !*is_up;
                let down: Vec<StoreId> =
                    state.stores.iter().filter(|(_, is_up)| !**is_up).map(|(id, _)| *id).collect();
                if down.len() > 1 {
                    state.stores.insert(down[0], true);
                }
            }
            _ => {}
        }
        // Lost leaders are replaced before long, and the placement driver hears of everything in the end.
        if dice.chance(1, 2) {
            state.elect();
        }
        if dice.chance(1, 3) {
            state.tell_pd();
        }
    }

    async fn store(
        &self,
        store_id: StoreId,
        request: KvRequest,
        fate: Fate,
        answer: Slot<Result<KvResponse, RpcError>>,
    ) {
        let (there, back) = {
            let mut state = self.state.lock();
            (state.latency(), state.latency())
        };
        self.world.sleep(there).await;
        if let Fate::Late(delay) = fate {
            self.world.sleep(delay).await;
            let _ = self.state.lock().execute(store_id, request);
            return;
        }
        let lost = || Err(RpcError::ConnectionLost { reason: "cut".to_owned() });
        if fate == Fate::RequestSilent {
            return;
        }
        let response = if fate == Fate::RequestLost {
            lost()
        } else {
            Ok(self.state.lock().serve(store_id, request, &fate))
        };
        if fate == Fate::AnswerSilent {
            return;
        }
        self.world.sleep(back).await;
        answer.set(if fate == Fate::AnswerLost { lost() } else { response });
    }
}

impl Rpc for Cluster {
    fn kv<'a>(
        &'a self,
        store_id: StoreId,
        address: &'a str,
        request: KvRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<KvResponse, RpcError>> {
        let fate = {
            let mut state = self.state.lock();
            assert!(address.starts_with(&format!("store-{store_id}")), "the address of another store");
            let is_at_home = address == state.address(store_id);
            state.in_flight += 1;
            state.in_flight_max = state.in_flight_max.max(state.in_flight);
            let fate = if is_at_home { state.draw_fate(store_id, &request) } else { Fate::NotSent };
            if fate != Fate::NotSent {
                state.kv_sent.push((store_id, request.clone()));
            }
            fate
        };
        Box::pin(async move {
            let _in_flight = InFlight(self.clone());
            if fate == Fate::NotSent {
                return Err(RpcError::NotSent { reason: "refused".to_owned() });
            }
            let slot = Slot::new();
            // The store goes on whether or not the client still waits.
            let (cluster, answer) = (self.clone(), slot.clone());
            self.world.spawn(async move { cluster.store(store_id, request, fate, answer).await });
            match select(slot, self.world.sleep(timeout)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(RpcError::TimedOut),
            }
        })
    }

    fn pd<'a>(
        &'a self,
        request: PdRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<PdResponse, RpcError>> {
        Box::pin(async move {
            let (latency, is_down) = {
                let mut state = self.state.lock();
                state.pd_sent.push(request.clone());
                (state.latency(), state.pd_down)
            };
            if is_down {
                self.world.sleep(timeout).await;
                return Err(RpcError::TimedOut);
            }
            self.world.sleep(latency).await;
            let mut state = self.state.lock();
            if let Some(error) = state.pd_errors.pop_front() {
                return Ok(PdResponse::Err(error));
            }
            Ok(PdResponse::Ok(state.ask(request, self.world.now())))
        })
    }
}

struct InFlight(Cluster);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.lock().in_flight -= 1;
    }
}

impl State {
    fn address(&self, id: StoreId) -> String {
        if self.moved.contains(&id) { format!("store-{id}-moved") } else { format!("store-{id}") }
    }

    fn latency(&mut self) -> Duration {
        self.dice.duration(Duration::from_micros(100), Duration::from_millis(3))
    }

    fn draw_fate(&mut self, store_id: StoreId, request: &KvRequest) -> Fate {
        if let Some(fate) = self.script.as_mut().and_then(|script| script(request)) {
            return fate;
        }
        if let Some(fate) = self.fates.pop_front() {
            return fate;
        }
        if self.silent.contains(&store_id) {
            return Fate::RequestSilent;
        }
        if !self.stores[&store_id] {
            return if self.dice.chance(9, 10) { Fate::NotSent } else { Fate::RequestSilent };
        }
        let weather = self.weather;
        if self.dice.chance(weather.network, 1000) {
            let fates =
                [Fate::NotSent, Fate::RequestLost, Fate::AnswerLost, Fate::AnswerSilent, Fate::RequestSilent];
            return fates[self.dice.below(5) as usize].clone();
        }
        if weather.late > 0 && self.dice.chance(weather.late, 1000) {
            return Fate::Late(self.dice.duration(Duration::ZERO, Duration::from_secs(30)));
        }
        if self.dice.chance(weather.busy, 1000) {
            let backoff_ms = self.dice.below(40) as u32;
            return Fate::Refused(KvError::ServerIsBusy { reason: BusyReason::ProposalQueue, backoff_ms });
        }
        if self.dice.chance(weather.undetermined, 1000) {
            let errors = [KvError::StaleCommand, KvError::UndeterminedResult];
            return Fate::Refused(errors[self.dice.below(2) as usize].clone());
        }
        Fate::Pass
    }

    fn serve(&mut self, store_id: StoreId, request: KvRequest, fate: &Fate) -> KvResponse {
        match fate {
            // A lost outcome: done or not, as it falls.
            Fate::Refused(KvError::UndeterminedResult) => {
                if self.dice.chance(1, 2) {
                    let _ = self.execute(store_id, request);
                }
                KvResponse::Err(KvError::UndeterminedResult)
            }
            Fate::Refused(error) => KvResponse::Err(error.clone()),
            Fate::Answered(reply) => KvResponse::Ok(reply.clone()),
            _ => self.execute(store_id, request).into(),
        }
    }

    fn execute(&mut self, store_id: StoreId, request: KvRequest) -> Result<KvReply, KvError> {
        if matches!(request.command, KvCommand::Txn(_) | KvCommand::TxnRead(_))
            && self.dice.chance(self.weather.change, 1000)
        {
            self.change_something();
        }
        let region_id = request.region_id;
        let missing = KvError::RegionNotFound { region_id };
        let lead = self.regions.values().find(|lead| lead.region.id == region_id).ok_or(missing.clone())?;
        if lead.region.peer_on(store_id).is_none() {
            return Err(missing);
        }
        if lead.leader != Some(store_id) {
            let leader = lead.leader.and_then(|leader| lead.region.peer_on(leader)).copied();
            return Err(KvError::NotLeader { region_id, leader: leader.filter(|_| self.dice.chance(2, 3)) });
        }
        if lead.region.epoch != request.epoch {
            let start = lead.region.range.start.clone();
            let count = self.dice.below(4) as usize;
            let current_regions =
                self.regions.range(start..).take(count).map(|(_, lead)| lead.region.clone()).collect();
            return Err(KvError::EpochNotMatch { current_regions });
        }
        let range = lead.region.range.clone();
        let holds = |key: &Key| {
            assert!(range.contains(key), "a key was sent to the wrong region, and with its epoch");
        };
        let seen_at = txn_store::seen_at(&request.command);
        self.read_at = self.read_at.max(seen_at);
        Ok(match request.command {
            KvCommand::Get { key } => {
                holds(&key);
                KvReply::Value(self.data.get(&key).cloned())
            }
            KvCommand::BatchGet { keys } => {
                keys.iter().for_each(holds);
                KvReply::Values(keys.iter().map(|key| self.data.get(key).cloned()).collect())
            }
            KvCommand::Scan(scan) => {
                assert!(range.covers(&scan.range) && !scan.range.is_empty());
                self.scan(&scan)
            }
            KvCommand::Write { ops } => {
                for op in ops {
                    match op {
                        WriteOp::Put { key, value } => {
                            holds(&key);
                            self.put(key, Some(value));
                        }
                        WriteOp::PutFor { key, value, ttl_ms } => {
                            holds(&key);
                            self.put_for(key, value, ttl_ms);
                        }
                        WriteOp::Delete { key } => {
                            holds(&key);
                            self.put(key, None);
                        }
                        WriteOp::DeleteRange { range: part } => {
                            assert!(range.covers(&part) && !part.is_empty());
                            self.data.retain(|key, _| !part.contains(key));
                        }
                    }
                }
                KvReply::Written
            }
            KvCommand::CompareAndSwap { key, expected, new } => {
                holds(&key);
                let previous = self.data.get(&key).cloned();
                let succeeded = previous == expected;
                if succeeded {
                    self.put(key, new);
                }
                KvReply::Swapped { succeeded, previous }
            }
            KvCommand::CompareAndSwapFor { key, expected, new, ttl_ms } => {
                holds(&key);
                let previous = self.data.get(&key).cloned();
                let succeeded = previous == expected;
                if succeeded {
                    self.put_for(key, new, ttl_ms);
                }
                KvReply::Swapped { succeeded, previous }
            }
            KvCommand::GetLife { key } => {
                holds(&key);
                let life = self.lives.get(&key).map_or(Life::Unlimited, |ms| Life::Left { ms: *ms });
                KvReply::Life(self.data.contains_key(&key).then_some(life))
            }
            KvCommand::Split { keys } => {
                for key in &keys {
                    assert!(range.contains(key) && range.start != *key);
                    self.split(key);
                }
                KvReply::Regions(
                    self.regions
                        .range(range.start..)
                        .take(keys.len() + 1)
                        .map(|(_, lead)| lead.region.clone())
                        .collect(),
                )
            }
            KvCommand::TransferLeader { to_store } => {
                let lead = self.regions.get_mut(&range.start).expect("found above");
                if lead.region.peer_on(to_store).is_none() {
                    return Err(KvError::InvalidRequest { message: "no peer there".to_owned() });
                }
                lead.leader = Some(to_store);
                KvReply::Started
            }
            KvCommand::CompactLog => KvReply::Compacted { to: LogIndex(7) },
            KvCommand::Txn(command) => {
                txn_store::keys_of(&command).into_iter().for_each(holds);
                let floor = Timestamp(self.read_at.0 + 1);
                let knows = self.leaders_know_reads && !(self.forgetful && self.dice.chance(1, 16));
                return txn_store::execute(&self.engine, *command, knows.then_some(floor));
            }
            KvCommand::TxnRead(read) => {
                let page_max = self.dice.below(u64::from(self.scans_page_max)) as usize + 1;
                match &*read {
                    TxnRead::Get { key, .. } => holds(key),
                    TxnRead::BatchGet { keys, .. } | TxnRead::KeyChanges { keys, .. } => {
                        keys.iter().for_each(holds);
                    }
                    TxnRead::RangeChanges { range: wanted, .. } => assert!(range.covers(wanted)),
                    TxnRead::Scan { scan, .. } => assert!(range.covers(&scan.range)),
                    other => panic!("a client does not ask {other:?}"),
                }
                return txn_store::read(&self.engine, *read, page_max);
            }
        })
    }

    /// One thing changes, somewhere among the keys of transactions.
    fn change_something(&mut self) {
        let keys: Vec<Key> = self.regions.keys().cloned().collect();
        let start = keys[self.dice.below(keys.len() as u64) as usize].clone();
        match self.dice.below(4) {
            0 if keys.len() < 24 => {
                let key = format!("{:03}", self.dice.below(100));
                self.split(&Keyspace::TXN.encode(key.as_bytes()));
            }
            1 => self.move_peer(&start),
            _ => {
                let lead = self.regions.get_mut(&start).expect("listed");
                let place = self.dice.below(lead.region.peers.len() as u64) as usize;
                lead.leader = Some(lead.region.peers[place].store_id);
            }
        }
        self.elect();
    }

    fn put_for(&mut self, key: Key, value: Bytes, ttl_ms: u64) {
        self.put(key.clone(), Some(value));
        self.lives.insert(key, ttl_ms);
    }

    fn put(&mut self, key: Key, value: Option<Bytes>) {
        self.lives.remove(&key);
        match value {
            Some(value) => {
                *self.applied.entry(value.clone()).or_default() += 1;
                self.data.insert(key, value);
            }
            None => drop(self.data.remove(&key)),
        }
    }

    fn scan(&mut self, scan: &Scan) -> KvReply {
        let found = self.data.iter().filter(|(key, _)| scan.range.contains(key));
        let mut found: Vec<KvPair> =
            found.map(|(key, value)| KvPair { key: key.clone(), value: value.clone(), ttl_ms: 0 }).collect();
        if scan.reverse {
            found.reverse();
        }
        // Any page may be short, or even empty: the store's work is bounded, not only its answer.
        let mut page = self.dice.below(u64::from(scan.limit.min(self.scans_page_max)) + 1) as usize;
        let mut resume = None;
        if page == 0
            && let Some(first) = found.first()
        {
            let before_first =
                if scan.reverse { Key::from([&first.key[..], &[0]].concat()) } else { first.key.clone() };
            if before_first != scan.range.start && before_first != scan.range.end {
                return KvReply::Page { pairs: Vec::new(), resume: Some(before_first) };
            }
            page = 1;
        }
        if found.len() > page {
            let rest = found.split_off(page);
            resume = Some(if scan.reverse { found[page - 1].key.clone() } else { rest[0].key.clone() });
        }
        if scan.keys_only {
            found.iter_mut().for_each(|pair| pair.value = Bytes::new());
        }
        KvReply::Page { pairs: found, resume }
    }

    pub(crate) fn split(&mut self, key: &Key) {
        let (_, lead) = self.regions.range_mut(..=key.clone()).next_back().expect("regions cover all keys");
        if lead.region.range.start == *key {
            return;
        }
        let mut child = lead.region.clone();
        lead.region.range.end = key.clone();
        lead.region.epoch.version += 1;
        self.next_id += 1;
        child.id = RegionId(self.next_id);
        child.range.start = key.clone();
        child.epoch.version += 1;
        for peer in &mut child.peers {
            self.next_id += 1;
            peer.id = PeerId(self.next_id);
        }
        let leader = lead.leader;
        self.regions.insert(key.clone(), Lead { region: child, leader });
    }

    fn move_peer(&mut self, start: &Key) {
        self.next_id += 1;
        let id = PeerId(self.next_id);
        let lead = self.regions.get_mut(start).expect("listed");
        let free = (1..=STORES).map(StoreId).find(|store| lead.region.peer_on(*store).is_none());
        let free = free.expect("three of four stores hold a region");
        let place = self.dice.below(3) as usize;
        let old = lead.region.peers[place].store_id;
        lead.region.peers[place] = Peer::voter(id, free);
        lead.region.epoch.conf_ver += 3;
        if lead.leader == Some(old) {
            lead.leader = None;
        }
    }

    /// Regions whose leader is down or gone elect another.
    pub(crate) fn elect(&mut self) {
        for lead in self.regions.values_mut() {
            if lead.leader.is_none_or(|leader| !self.stores[&leader]) {
                let up = lead.region.peers.iter().find(|peer| self.stores[&peer.store_id]);
                lead.leader = up.map(|peer| peer.store_id);
            }
        }
    }

    pub(crate) fn tell_pd(&mut self) {
        self.known = self
            .regions
            .values()
            .map(|lead| RegionRoute {
                region: lead.region.clone(),
                leader: lead.leader.and_then(|leader| lead.region.peer_on(leader)).copied(),
                ..RegionRoute::default()
            })
            .collect();
    }

    fn ask(&mut self, request: PdRequest, now: MonoTime) -> PdReply {
        if self.weather.change > 0 && self.dice.chance(1, 4) {
            // It hears of everything in the end.
            self.tell_pd();
        }
        match request {
            PdRequest::GetCluster => PdReply::Cluster { cluster_id: ClusterId(7), bootstrapped: true },
            PdRequest::GetStores => {
                PdReply::Stores(self.stores.keys().map(|id| status(*id, self.address(*id))).collect())
            }
            PdRequest::GetRegionByKey { key, before } => {
                let holds = |route: &&RegionRoute| {
                    let range = &route.region.range;
                    if !before {
                        return range.contains(&key);
                    }
                    let reaches = range.end.is_empty() || (!key.is_empty() && range.end >= key);
                    reaches && (key.is_empty() || range.start < key)
                };
                PdReply::Region(self.known.iter().find(holds).cloned())
            }
            PdRequest::GetRegion { region_id } => {
                PdReply::Region(self.known.iter().find(|route| route.region.id == region_id).cloned())
            }
            PdRequest::GetRegions { range, limit } => {
                let overlapping = self.known.iter().filter(|route| route.region.range.overlaps(&range));
                PdReply::Regions(overlapping.take(limit as usize).cloned().collect())
            }
            PdRequest::GetTimestamps { count } => {
                let now_ms = now.since(MonoTime::ZERO).as_millis() as u64;
                let first = Timestamp::compose(1_000_000 + now_ms, 0).max(Timestamp(self.given.0 + 1));
                self.given = Timestamp(first.0 + u64::from(count) - 1);
                PdReply::Timestamp(self.given)
            }
            PdRequest::GetOperators => PdReply::Operators(Vec::new()),
            PdRequest::AddOperator { region_id, order } => {
                let why = format!("{order:?}");
                PdReply::Operators(vec![OperatorStatus { region_id, why, ..OperatorStatus::default() }])
            }
            PdRequest::CancelOperator { .. } | PdRequest::SetStoreMode { .. } => PdReply::Done,
            other => panic!("a client does not ask {other:?}"),
        }
    }
}

fn status(id: StoreId, address: String) -> StoreStatus {
    let info = StoreInfo { id, address, ..StoreInfo::default() };
    StoreStatus {
        info,
        stats: StoreStats::default(),
        state: StoreState::Up,
        silent_ms: 0,
        mode: StoreMode::Serving,
    }
}
