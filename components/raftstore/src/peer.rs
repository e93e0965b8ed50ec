//! One peer: a region's copy on this store, and all that its worker keeps about it.

use crate::command::WriteItem;
use crate::config::Config;
use crate::destroy::Destroy;
use crate::effects::{CreatePeer, LogTask, ReadRequest, ReceivedSnapshot, Token, TurnEffects};
use crate::hand_over::Holding;
use crate::held::HeldLocks;
use crate::hibernate::Hibernation;
use crate::install::Install;
use crate::liveness::Liveness;
use crate::membership;
use crate::meta::{Delegate, StoreMeta};
use crate::quiet::Quiet;
use crate::records::{ApplyRecord, RegionRecord, RemovedPeer};
use crate::schedule::Counted;
use crate::seeded_bug::SeededBug;
use crate::size::Size;
use crate::stages::EntryTimes;
use engine::Engine;
use env::sim_point;
use raft::{Counters, EntryId, RawNode, Ready, Role};
use raft_log::{GroupLog, LoadError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use types::{Key, LogIndex, MonoTime, Peer, PeerId, Region, RegionId, StoreId, Term};
use wire::kv::{KvError, KvReply};
use wire::store::{DiskState, RaftMessage, StoreMessage};

/// What all peers of a worker share.
pub(crate) struct Shared<E> {
    pub(crate) config: Config,
    pub(crate) store_id: StoreId,
    pub(crate) engine: E,
    pub(crate) meta: Arc<StoreMeta>,
    pub(crate) held: Arc<HeldLocks>,
    /// Differs from start to start, so that answers meant for an earlier life are not taken for ours.
    pub(crate) seed: u64,
}

/// One turn: when it is, and what it asks for so far.
pub(crate) struct Turn<E: Engine> {
    pub(crate) now: MonoTime,
    /// Ticks since the start, this turn's included.
    pub(crate) ticks: u64,
    pub(crate) shared: Arc<Shared<E>>,
    pub(crate) out: TurnEffects<E>,
    /// The log makes no progress: nothing is sent as a leader, nothing is proposed.
    pub(crate) stalled: bool,
    /// How much space each store has left, as it said last.
    pub(crate) disks: Arc<BTreeMap<StoreId, DiskState>>,
    /// Peers that may have effects to hand out.
    pub(crate) dirty: Vec<RegionId>,
    /// Where groups put their effects, one after the other: its lists keep their room from turn to turn.
    pub(crate) ready: Ready,
    /// Where groups count what they do: lent to the one that is being driven.
    pub(crate) counters: Option<Box<Counters>>,
    /// Which stores are at work, and who relies on them.
    pub(crate) liveness: Liveness,
}

impl<E: Engine> Turn<E> {
    /// How much space a store has left, as far as is known.
    pub(crate) fn disk(&self, store_id: StoreId) -> DiskState {
        self.disks.get(&store_id).copied().unwrap_or_default()
    }

    pub(crate) fn answer(&mut self, token: Token, answer: Result<KvReply, KvError>) {
        self.out.replies.push((token, answer));
    }

    pub(crate) fn log(&mut self) -> &mut LogTask {
        &mut self.out.log
    }
}

/// A write that waits to be proposed.
pub(crate) struct QueuedWrite {
    pub(crate) token: Token,
    pub(crate) item: WriteItem,
    pub(crate) deadline: MonoTime,
    /// The version of the region when it came, and the leadership under which it was decided on.
    pub(crate) decided_in: Option<(u64, Term)>,
    /// Whether the asker is told once it is proposed.
    pub(crate) tells_proposed: bool,
}

/// A write (or several, in one entry) that was proposed and is not decided yet.
pub(crate) struct PendingProposal {
    pub(crate) tokens: Vec<Token>,
    /// The earliest deadline of its writes.
    pub(crate) deadline: MonoTime,
    pub(crate) times: EntryTimes,
}

/// Reads on their way through a read index.
#[derive(Default)]
pub(crate) struct Reads {
    /// By the token that Raft was given; with the term in which they were.
    pub(crate) asked: BTreeMap<u64, (Term, ReadRequest)>,
    /// Waiting for an index to be applied, in order of the answers.
    pub(crate) waiting: VecDeque<(LogIndex, Term, ReadRequest)>,
    pub(crate) next_token: u64,
}

/// How far the region's entries have got on the way to the data.
pub(crate) struct Applying {
    /// The last entry that was handed out.
    pub(crate) handed: LogIndex,
    /// The last entry that was applied.
    pub(crate) applied: EntryId,
    /// Entries before this one are removed from the log.
    pub(crate) collected: LogIndex,
    /// Splits that we proposed or handed out and that are not applied, see [`PeerState::awaits_split`].
    pub(crate) splits: Vec<LogIndex>,
}

/// What PD is to be told, and what is needed for it.
pub(crate) struct Report {
    pub(crate) due: bool,
    pub(crate) last: Option<MonoTime>,
    /// When each peer was last heard, while we lead.
    pub(crate) heard: BTreeMap<PeerId, MonoTime>,
    pub(crate) pending: Vec<PeerId>,
}

/// A split that waits for its ids.
pub(crate) struct SplitRequest {
    pub(crate) keys: Vec<Key>,
    pub(crate) tokens: Vec<Token>,
    /// When whoever wants it, or we, give up waiting.
    pub(crate) deadline: MonoTime,
}

/// Where a peer is in its life.
pub(crate) enum Phase {
    /// It takes part.
    Normal,
    /// A snapshot takes the place of its data and log.
    Installing(Box<Install>),
    /// It was removed and is being cleared away.
    Destroying(Destroy),
    /// It had got nothing yet when a split made its region here. What it wrote becomes durable first; then the peer that
    /// the split made takes its place, and keeps its promises.
    GivesWay(Box<CreatePeer>),
}

/// One peer.
pub(crate) struct PeerState<E: Engine> {
    /// As of what the worker was told to be applied. Without peers until a first snapshot is in place.
    pub(crate) region: Region,
    pub(crate) me: Peer,
    pub(crate) raft: RawNode<GroupLog<E>>,
    pub(crate) phase: Phase,
    /// A snapshot that Raft is being offered.
    pub(crate) incoming: Option<Box<ReceivedSnapshot>>,
    pub(crate) role: Role,
    pub(crate) queued: Vec<QueuedWrite>,
    /// By position. A leader that was deposed and elected again may have proposed at one index twice, and what it
    /// proposed first may still be committed by others, so all are kept until something is applied at their index.
    pub(crate) proposals: BTreeMap<(LogIndex, Term), PendingProposal>,
    pub(crate) reads: Reads,
    pub(crate) applying: Applying,
    pub(crate) delegate: Option<Arc<Delegate>>,
    pub(crate) holding: Holding,
    /// The worker's tick count less the group's, once that has caught up: constant, for both grow together.
    pub(crate) tick_offset: u64,
    /// The tick at which it is visited next though nothing arrives.
    pub(crate) due_at: Option<u64>,
    pub(crate) counted: Counted,
    pub(crate) quiet: Quiet,
    pub(crate) hibernation: Hibernation,
    /// Appends handed to the log writer and not durable yet.
    pub(crate) unpersisted: u64,
    pub(crate) size: Size,
    pub(crate) report: Report,
    pub(crate) split: Option<SplitRequest>,
    pub(crate) removed: Vec<RemovedPeer>,
    /// Senders that the descriptor does not know (it lags behind, or they do).
    pub(crate) strangers: BTreeMap<PeerId, Peer>,
}

/// How a peer comes to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birth {
    /// By a split, or the bootstrap: it has never answered anybody.
    Newborn,
    /// By a restart, or by a snapshot.
    Resumed,
}

impl<E: Engine> PeerState<E> {
    /// A peer whose records are on disk.
    pub(crate) fn load(
        shared: &Shared<E>,
        record: &RegionRecord,
        apply: ApplyRecord,
        birth: Birth,
        ticks: u64,
    ) -> Result<Self, LoadError> {
        let conf_state = membership::conf_state(&record.region);
        let group = record.region.id;
        let mut log = GroupLog::load(shared.engine.clone(), group, apply.truncated, conf_state)?;
        log.on_recovered(apply.applied.index)?;
        let me = record
            .region
            .peer(record.peer_id)
            .copied()
            .unwrap_or(Peer::learner(record.peer_id, shared.store_id));
        let mut peer = Self::new(shared, record.region.clone(), me, log, apply, birth, ticks)?;
        peer.removed = record.removed.clone();
        // Its size is not on disk: measure it as soon as it leads.
        peer.size.unmeasured_bytes = shared.config.region_split_bytes;
        Ok(peer)
    }

    /// A peer that has got nothing of its region yet, but for what it may have promised before a restart.
    pub(crate) fn uninitialized(
        shared: &Shared<E>,
        region_id: RegionId,
        me: Peer,
        ticks: u64,
    ) -> Result<Self, LoadError> {
        let nothing = EntryId::default();
        let log = GroupLog::load(shared.engine.clone(), region_id, nothing, raft::ConfState::default())?;
        let region = Region { id: region_id, ..Region::default() };
        let apply = ApplyRecord { applied: nothing, truncated: nothing };
        Self::new(shared, region, me, log, apply, Birth::Resumed, ticks)
    }

    fn new(
        shared: &Shared<E>,
        region: Region,
        me: Peer,
        log: GroupLog<E>,
        apply: ApplyRecord,
        birth: Birth,
        ticks: u64,
    ) -> Result<Self, LoadError> {
        let config = raft::Config {
            id: me.id,
            group_id: region.id.get(),
            seed: shared.seed,
            election_tick: shared.config.election_ticks,
            heartbeat_tick: shared.config.heartbeat_ticks,
            applied: apply.applied.index,
            newborn: birth == Birth::Newborn,
            ..raft::Config::default()
        };
        let group = region.id;
        let raft = RawNode::new(&config, log)
            .map_err(|error| LoadError::Corrupt { group, what: error.to_string() })?;
        #[cfg(feature = "seeded_bugs")]
        let raft = {
            let mut raft = raft;
            shared.config.raft_seeded_bugs.iter().for_each(|bug| raft.plant(*bug));
            raft
        };
        Ok(Self {
            region,
            me,
            role: raft.status().role,
            tick_offset: ticks - raft.tick_count(),
            due_at: None,
            counted: Counted::default(),
            quiet: Quiet::default(),
            hibernation: Hibernation::default(),
            raft,
            phase: Phase::Normal,
            incoming: None,
            queued: Vec::new(),
            proposals: BTreeMap::new(),
            reads: Reads::default(),
            applying: Applying {
                handed: apply.applied.index,
                applied: apply.applied,
                // A crash may have kept the compaction and lost the removal, so the first one removes all there is.
                collected: LogIndex::ZERO,
                splits: Vec::new(),
            },
            delegate: None,
            holding: Holding::default(),
            unpersisted: 0,
            size: Size::default(),
            report: Report { due: false, last: None, heard: BTreeMap::new(), pending: Vec::new() },
            split: None,
            removed: Vec::new(),
            strangers: BTreeMap::new(),
        })
    }

    /// False until a first snapshot is in place.
    pub(crate) fn is_initialized(&self) -> bool {
        !self.region.peers.is_empty()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// True from the moment a split is known to be committed until it is applied here: its pieces may be served elsewhere
    /// by then, so the lease is not renewed and reads wait. What is committed may be long in coming, when our own log is
    /// slower than those of a quorum; so a leader goes by what it proposed, not by what it has handed out.
    pub(crate) fn awaits_split(&self) -> bool {
        let committed = self.raft.status().committed;
        self.applying.splits.iter().any(|at| *at <= committed)
    }

    pub(crate) fn is_normal(&self) -> bool {
        matches!(self.phase, Phase::Normal)
    }

    /// It has got nothing of its region, and nothing is about to change that.
    pub(crate) fn has_nothing(&self) -> bool {
        !self.is_initialized() && self.is_normal()
    }

    /// A split has made its region, and all that it wrote itself is durable.
    pub(crate) fn can_give_way(&self) -> bool {
        matches!(self.phase, Phase::GivesWay(_)) && self.unpersisted == 0
    }

    /// What to tell somebody who took us for the leader.
    pub(crate) fn not_leader(&self) -> KvError {
        let lead = self.raft.status().lead;
        let leader = self.region.peer(lead).copied().filter(|_| lead != self.me.id);
        let leader = leader.filter(|_| !sim_point!("raftstore.forget_leader_hint"));
        KvError::NotLeader { region_id: self.region.id, leader }
    }

    /// What to tell somebody whose picture of the region is out of date.
    pub(crate) fn epoch_not_match(&self, shared: &Shared<E>) -> KvError {
        // The neighbours on this store often are the pieces that a split made of what the asker knew.
        let mut current_regions = vec![self.region.clone()];
        if let Some(end) = Some(&self.region.range.start).filter(|start| !start.is_empty()) {
            let below = types::KeyRange::new("", end.clone());
            let neighbours = shared.meta.overlapping(&below);
            current_regions.splice(0..0, neighbours.into_iter().rev().take(4).rev());
        }
        KvError::EpochNotMatch { current_regions }
    }

    /// The peer with this id, in the descriptor or from what it said.
    pub(crate) fn find_peer(&self, id: PeerId) -> Option<Peer> {
        self.region.peer(id).or_else(|| self.strangers.get(&id)).copied()
    }

    /// A Raft message with its envelope; `None` if nobody knows where the receiver lives.
    pub(crate) fn envelope(&self, message: raft::Message) -> Option<(StoreId, StoreMessage)> {
        let to = self.find_peer(message.to)?;
        let envelope = RaftMessage {
            region_id: self.region.id,
            from: self.me,
            to,
            epoch: self.region.epoch,
            range: self.region.range.clone(),
            message,
        };
        Some((to.store_id, StoreMessage::Raft(envelope)))
    }

    /// Ends everything that waits here with an error, as far as that is decided; what was proposed stays undecided.
    pub(crate) fn fail_waiting(&mut self, turn: &mut Turn<E>, error: &KvError) {
        for write in self.queued.drain(..) {
            turn.answer(write.token, Err(error.clone()));
        }
        let asked = std::mem::take(&mut self.reads.asked).into_values().map(|(_, read)| read);
        let waiting = std::mem::take(&mut self.reads.waiting).into_iter().map(|(_, _, read)| read);
        for read in asked.chain(waiting) {
            turn.answer(read.token, Err(error.clone()));
        }
        for token in self.split.take().into_iter().flat_map(|split| split.tokens) {
            turn.answer(token, Err(error.clone()));
        }
    }

    /// Ends what was proposed up to `index` without knowing what became of it.
    pub(crate) fn abandon_proposals(&mut self, turn: &mut Turn<E>, index: LogIndex) {
        let refused = turn.shared.config.bugs.has(SeededBug::JumpedProposalRefused);
        let error = if refused { KvError::StaleCommand } else { KvError::UndeterminedResult };
        while let Some((_, proposal)) = self.next_proposal(index) {
            for token in proposal.tokens {
                turn.answer(token, Err(error.clone()));
            }
        }
    }

    /// Takes out the first proposal at or before `index`, with its position.
    pub(crate) fn next_proposal(&mut self, index: LogIndex) -> Option<(EntryId, PendingProposal)> {
        let first = self.proposals.first_entry().filter(|first| first.key().0 <= index)?;
        let ((index, term), proposal) = first.remove_entry();
        Some((EntryId::new(term, index), proposal))
    }
}
