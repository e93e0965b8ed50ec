//! Members of a placement driver on virtual time: engines that lose their power, a network that loses messages, and
//! writes that take as long as the dice say.

use engine::{Engine as _, MemEngine, SyncTicket};
use env::{Dice as _, SplitMix};
use pd::{Config, Member, Pd, PdAppend, PdInput};
use raft::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use types::{MonoTime, PeerId};
use wire::pd::{PdError, PdReply, PdRequest, PdResponse};

/// One member: its engine outlives it.
pub(crate) struct Node {
    id: PeerId,
    engine: MemEngine,
    pd: Option<Pd<MemEngine>>,
    inbox: Vec<PdInput>,
    /// Writes handed out, with the sync under way for the first of them.
    writes: VecDeque<PdAppend>,
    syncing: Option<SyncTicket>,
    starts: u64,
}

/// All members and the world around them.
pub(crate) struct Driver {
    pub(crate) config: Config,
    pub(crate) now: MonoTime,
    /// What the wall clock shows.
    pub(crate) wall_ms: u64,
    pub(crate) dice: SplitMix,
    pub(crate) nodes: Vec<Node>,
    members: Vec<Member>,
    replies: BTreeMap<u64, PdResponse>,
    next_token: u64,
    /// One write in so many turns makes progress; one is at once.
    pub(crate) write_delay: u64,
    /// Messages on the way.
    network: Vec<(MonoTime, Message)>,
    /// Members that nobody reaches.
    pub(crate) isolated: Vec<PeerId>,
    /// One message in so many is lost; zero for none.
    pub(crate) loss: u64,
}

impl Driver {
    pub(crate) fn new(config: Config, members: u64, seed: u64) -> Self {
        let members: Vec<Member> =
            (1..=members).map(|id| Member { id: PeerId(id), address: format!("pd-{id}:2379") }).collect();
        let node = |member: &Member| Node {
            id: member.id,
            engine: MemEngine::new(),
            pd: None,
            inbox: Vec::new(),
            writes: VecDeque::new(),
            syncing: None,
            starts: 0,
        };
        let nodes = members.iter().map(node).collect();
        let mut driver = Self {
            config,
            now: MonoTime(1),
            wall_ms: 1_700_000_000_000,
            dice: SplitMix::new(seed),
            nodes,
            members,
            replies: BTreeMap::new(),
            next_token: 0,
            write_delay: 1,
            network: Vec::new(),
            isolated: Vec::new(),
            loss: 0,
        };
        for index in 0..driver.nodes.len() {
            driver.start(index);
        }
        driver
    }

    /// Starts a member on what its engine holds.
    pub(crate) fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.starts += 1;
        let seed = self.dice.fork(&format!("member {} start {}", node.id, node.starts)).next_u64();
        let pd = Pd::open(self.config.clone(), node.engine.clone(), &self.members, node.id, seed).unwrap();
        node.pd = Some(pd);
    }

    /// Takes the power from a member: of what was not synced, the dice say what is left.
    pub(crate) fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.pd = None;
        node.inbox.clear();
        node.writes.clear();
        node.syncing = None;
        let dice = &mut self.dice;
        node.engine = node.engine.crash(|range| range.start() + dice.below(range.end() - range.start() + 1));
    }

    /// What a member keeps its state in.
    pub(crate) fn engine(&self, index: usize) -> MemEngine {
        self.nodes[index].engine.clone()
    }

    pub(crate) fn is_running(&self, index: usize) -> bool {
        self.nodes[index].pd.is_some()
    }

    pub(crate) fn pd(&self, index: usize) -> &Pd<MemEngine> {
        self.nodes[index].pd.as_ref().expect("the member runs")
    }

    /// The member that serves, if there is one that is reached.
    pub(crate) fn serving(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|index| {
            let node = &self.nodes[*index];
            !self.isolated.contains(&node.id) && node.pd.as_ref().is_some_and(|pd| pd.status().is_serving)
        })
    }

    /// Lets time pass and gives every member a turn.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.wall_ms += time.as_millis() as u64;
        self.deliver();
        for index in 0..self.nodes.len() {
            self.turn(index);
        }
    }

    /// Lets time pass in turns of `step`.
    pub(crate) fn run(&mut self, time: Duration, step: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass(step);
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later) = self.network.drain(..).partition(|(at, _)| *at <= now);
        self.network = later;
        let due: Vec<(MonoTime, Message)> = due;
        for (_, message) in due {
            if self.isolated.contains(&message.to) || self.isolated.contains(&message.from) {
                continue;
            }
            let node = self.nodes.iter_mut().find(|node| node.id == message.to).expect("a member");
            if node.pd.is_some() {
                node.inbox.push(PdInput::Message(message));
            }
        }
    }

    /// Turns of one member until it has nothing more to do now.
    pub(crate) fn turn(&mut self, index: usize) {
        loop {
            let node = &mut self.nodes[index];
            let Some(pd) = &mut node.pd else { return };
            let effects = pd.step(self.now, self.wall_ms, &mut node.inbox).unwrap();
            pd.check_invariants();
            node.writes.extend(effects.append);
            for (token, response) in effects.replies {
                assert!(self.replies.insert(token, response).is_none(), "request {token} is answered twice");
            }
            for message in effects.messages {
                if self.loss == 0 || !self.dice.chance(1, self.loss) {
                    let delay = self.dice.duration(Duration::from_millis(1), Duration::from_millis(20));
                    self.network.push((self.now + delay, message));
                }
            }
            if !self.write_some(index) {
                return;
            }
        }
    }

    /// Takes the writes of a member one stage further, if the dice let it. Returns whether the member has news of it.
    fn write_some(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        while let Some(write) = node.writes.front() {
            if self.write_delay > 1 && !self.dice.chance(1, self.write_delay) {
                return false;
            }
            if write.must_sync && node.syncing.is_none() {
                node.engine.write(&write.batch).unwrap();
                node.syncing = Some(node.engine.begin_sync());
                continue;
            }
            match node.syncing.take() {
                Some(ticket) => node.engine.finish_sync(ticket).unwrap(),
                None => node.engine.write(&write.batch).unwrap(),
            }
            node.inbox.push(PdInput::Persisted(write.token));
            node.writes.pop_front();
            return true;
        }
        false
    }

    /// Sends a request to a member; the answer is to be fetched with [`Driver::answer`].
    pub(crate) fn send(&mut self, index: usize, request: PdRequest) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        if self.nodes[index].pd.is_some() {
            self.nodes[index].inbox.push(PdInput::Request { token, request });
        }
        token
    }

    pub(crate) fn answer(&mut self, token: u64) -> Option<PdResponse> {
        self.replies.remove(&token)
    }

    /// Asks the serving member and waits for the answer.
    pub(crate) fn ask(&mut self, request: PdRequest) -> Result<PdReply, PdError> {
        for _ in 0..10_000 {
            let Some(index) = self.serving() else {
                self.pass(Duration::from_millis(10));
                continue;
            };
            let token = self.send(index, request.clone());
            for _ in 0..1000 {
                self.turn(index);
                match self.answer(token) {
                    Some(PdResponse::Err(PdError::NotLeader { .. })) => break,
                    Some(response) => return response.into(),
                    None => self.pass(Duration::from_millis(1)),
                }
            }
        }
        panic!("no answer to {request:?}");
    }

    /// Sends a request to the serving member, if there is one, and does not wait.
    pub(crate) fn ask_if_served(&mut self, request: PdRequest) {
        if let Some(index) = self.serving() {
            self.send(index, request);
        }
    }
}
