//! A region snapshot takes the place of a peer's log and data.
//!
//! ```text
//! received → step → Ready with the snapshot → apply stops → one batch, synced → (files: ingest) → Normal
//! ```
//!
//! A small snapshot goes through one batch of the log writer: old data out, new data in, region and apply records, the
//! log begun anew, all or nothing. A large one lies in files: the batch says `Applying` and names them; then the old
//! data goes, the files are ingested and the record says `Normal`. A crash in between finds `Applying` and does that
//! part again. Before the batch, nothing has happened. Should the files be lost, so is the peer, but not the store.

use crate::apply::ApplyTask;
use crate::destroy::Destroy;
use crate::effects::{Background, ReceivedSnapshot, SnapshotData};
use crate::membership::{conf_state, same_members};
use crate::peer::{PeerState, Phase, Turn};
use crate::records::{
    ApplyRecord, Beside, PeerState as State, RegionRecord, beside_in, delete_data, delete_uninitialized,
    put_apply, put_gc, put_region,
};
use crate::seeded_bug::{Bugs, SeededBug};
use engine::{Cf, Engine};
use raft::{Append, Body, EntryId, Message};
use types::{Region, StoreId};
use wire::store::{RaftMessage, SnapshotKey, StoreMessage};

/// A snapshot on its way into a peer.
pub(crate) struct Install {
    region: Region,
    beside: Beside,
    data: SnapshotData,
    size_bytes: u64,
    keys: u64,
    /// Where the log begins anew.
    position: EntryId,
    /// What Raft wants written, until it is.
    write: Option<(Append, Vec<Message>)>,
    /// The peer was removed meanwhile, and is cleared away afterwards. The messages tell those who want to know.
    pub(crate) destroy: Option<Vec<(StoreId, StoreMessage)>>,
}

impl<E: Engine> PeerState<E> {
    /// Offers a snapshot that has arrived to Raft, which may have no use for it any more.
    pub(crate) fn offer_received(&mut self, turn: &mut Turn<E>, received: ReceivedSnapshot) {
        let over_neighbour = turn.shared.config.bugs.has(SeededBug::SnapshotOverNeighbour);
        let free = self.is_normal()
            && (turn.shared.meta.reserve(self.region.id, &received.region.range) || over_neighbour);
        if !free {
            turn.out.background.extend(unused_files(&received.data));
            return;
        }
        let message = received.message.message.clone();
        self.remember(received.message.from);
        self.incoming = Some(Box::new(received));
        // A message that Raft refuses has no effect, and then nothing takes the snapshot.
        let _refused = self.raft.step(message).is_err();
        self.hand_out(turn);
        if let Some(unused) = self.incoming.take() {
            if turn.shared.config.bugs.has(SeededBug::InstallUnasked)
                && let SnapshotData::Pairs(pairs) = &unused.data
            {
                let log = &mut turn.out.log;
                delete_data(&mut log.batch, &self.region.range);
                pairs.iter().for_each(|(cf, key, value)| log.batch.put(*cf, key, value));
            }
            turn.shared.meta.release(self.region.id);
            turn.out.background.extend(unused_files(&unused.data));
        }
    }

    /// Raft takes the snapshot.
    pub(crate) fn begin_install(&mut self, turn: &mut Turn<E>, append: Append, messages_after: Vec<Message>) {
        let received = self.incoming.take().expect("Raft takes only a snapshot whose data has arrived");
        let ReceivedSnapshot { key, region, data, size_bytes, keys, .. } = *received;
        let position = EntryId::new(key.term, key.index);
        self.revoke_lease(turn);
        let error = self.not_leader();
        self.fail_waiting(turn, &error);
        // The snapshot jumps over them: whether they are part of it cannot be told.
        self.abandon_proposals(turn, position.index);
        let beside = append.snapshot.as_deref().map(beside_in);
        let beside = beside.expect("Raft takes a snapshot").expect("checked when its first piece came");
        let write = Some((append, messages_after));
        let install = Install { region, beside, data, size_bytes, keys, position, write, destroy: None };
        self.phase = Phase::Installing(Box::new(install));
        if self.is_initialized() && !turn.shared.config.bugs.has(SeededBug::InstallWithoutStop) {
            // Entries on their way to the data must not arrive after the snapshot's.
            turn.out.apply.push(ApplyTask::Stop { region_id: self.region.id });
        } else {
            self.write_install(turn);
        }
    }

    /// Apply has stopped: write the batch.
    pub(crate) fn write_install(&mut self, turn: &mut Turn<E>) {
        let Phase::Installing(install) = &mut self.phase else { unreachable!("called while installing") };
        let (append, mut messages_after) = install.write.take().expect("a snapshot is written once");
        let bugs = turn.shared.config.bugs;
        let log = &mut turn.out.log;
        let keeps_old = bugs.has(SeededBug::InstallOverOldData);
        if !keeps_old {
            delete_data(&mut log.batch, &install.region.range);
        }
        if !self.region.peers.is_empty() && !keeps_old {
            delete_data(&mut log.batch, &self.region.range);
        }
        if let SnapshotData::Pairs(pairs) = &install.data {
            for (cf, key, value) in pairs {
                log.batch.put(*cf, key, value);
            }
        }
        let record = install.record(self.me.id, bugs);
        put_region(&mut log.batch, &record);
        let apply = ApplyRecord { applied: install.position, truncated: install.position };
        put_apply(&mut log.batch, self.region.id, apply);
        turn.shared.meta.guard(install.beside.gc.latest());
        put_gc(&mut log.batch, self.region.id, &install.beside.gc);
        delete_uninitialized(&mut log.batch, self.region.id);
        self.raft.storage_mut().append(&append, &mut log.batch);
        log.must_sync = true;
        log.persisted.tokens.push((self.region.id, append.token));
        log.persisted.installed.push(self.region.id);
        self.unpersisted += 1;
        self.raft.on_stable(append.token);
        self.send_after(turn, &mut messages_after);
    }

    /// The batch is durable: the data is in place, or its files now may be.
    pub(crate) fn on_installed(&mut self, turn: &mut Turn<E>) {
        let Phase::Installing(install) = &self.phase else { return };
        match &install.data {
            SnapshotData::Pairs(_) => self.finish_install(turn),
            SnapshotData::Files(_) => {
                let record = install.record(self.me.id, Bugs::default());
                turn.out.background.push(Background::Ingest { record });
            }
        }
    }

    /// The data is in place: the peer takes part again.
    pub(crate) fn finish_install(&mut self, turn: &mut Turn<E>) {
        if !self.is_installing() {
            return;
        }
        let Phase::Installing(install) = std::mem::replace(&mut self.phase, Phase::Normal) else { return };
        let Install { region, beside, size_bytes, keys, position, destroy, .. } = *install;
        self.region = region;
        if let Some(me) = self.region.peer(self.me.id) {
            self.me = *me;
        }
        self.size.bytes = size_bytes;
        self.size.keys = keys;
        self.size.unmeasured_bytes = 0;
        self.applying.applied = position;
        self.applying.handed = position.index;
        self.applying.collected = position.index.next();
        self.applying.splits.clear();
        self.removed = beside.removed;
        turn.out.apply.push(self.registration());
        turn.shared.meta.release(self.region.id);
        turn.shared.meta.end_uninitialized(self.region.id);
        turn.shared.meta.replace(Some(self.region.id), std::slice::from_ref(&self.region));
        if self.raft.status().applied < position.index {
            self.raft.on_applied(position.index);
        }
        if let Some(confirm) = destroy {
            self.begin_destroy(turn, None);
            if let Phase::Destroying(destroy) = &mut self.phase {
                destroy.confirm.extend(confirm);
            }
        }
    }

    /// Files of the snapshot are gone, and the data before it was cleared away for it: this peer has promised entries
    /// that it cannot get any more. So it falls silent for ever, as if its disk were lost, and leaves a tombstone: it
    /// never answers under its id again, its leader finds it down, and PD makes the copy anew. What happens to other
    /// regions of the store is none of its business.
    pub(crate) fn fail_install(&mut self, turn: &mut Turn<E>) {
        if !self.is_installing() {
            return;
        }
        let Phase::Installing(install) = std::mem::replace(&mut self.phase, Phase::Normal) else { return };
        turn.out.background.extend(install.unused_files());
        let Install { region, destroy, .. } = *install;
        // The old range was cleared with the batch that said `Applying`, which is durable; parts of the new one may have
        // been ingested. Apply knows nothing of it: it was stopped, or never told.
        self.region = region;
        self.phase = Phase::Destroying(Destroy { confirm: destroy.unwrap_or_default() });
        self.write_destroy(turn);
    }

    /// What makes the region known to apply.
    pub(crate) fn registration(&self) -> ApplyTask {
        let record = RegionRecord {
            state: State::Normal,
            region: self.region.clone(),
            peer_id: self.me.id,
            removed: self.removed.clone(),
        };
        let apply =
            ApplyRecord { applied: self.applying.applied, truncated: self.raft.storage().truncated() };
        ApplyTask::Register { record, apply }
    }

    /// Goes on where a restart found a snapshot half in place.
    pub(crate) fn resume_install(&mut self, turn: &mut Turn<E>, files: &[(u8, String)]) {
        let position = self.raft.storage().truncated();
        let files = files.iter().map(|(cf, name)| (Cf::ALL[usize::from(*cf) % Cf::ALL.len()], name.clone()));
        let install = Install {
            region: self.region.clone(),
            // What else the snapshot said was written with the record.
            beside: Beside { removed: self.removed.clone(), ..Beside::default() },
            data: SnapshotData::Files(files.collect()),
            size_bytes: 0,
            keys: 0,
            position,
            write: None,
            destroy: None,
        };
        let record = install.record(self.me.id, Bugs::default());
        turn.out.background.push(Background::Ingest { record });
        self.phase = Phase::Installing(Box::new(install));
    }
}

impl Install {
    /// True while nothing is written of it.
    pub(crate) fn can_be_dropped(&self) -> bool {
        self.write.is_some()
    }

    /// What clears away its files.
    pub(crate) fn unused_files(&self) -> Option<Background> {
        unused_files(&self.data)
    }

    fn record(&self, peer_id: types::PeerId, bugs: Bugs) -> RegionRecord {
        let state = match &self.data {
            SnapshotData::Pairs(_) => State::Normal,
            SnapshotData::Files(_) if bugs.has(SeededBug::ApplyingNotRecorded) => State::Normal,
            SnapshotData::Files(files) => {
                State::Applying { files: files.iter().map(|(cf, name)| (*cf as u8, name.clone())).collect() }
            }
        };
        RegionRecord { state, region: self.region.clone(), peer_id, removed: self.beside.removed.clone() }
    }
}

/// What clears away the files of a snapshot that will not be used.
pub(crate) fn unused_files(data: &SnapshotData) -> Option<Background> {
    match data {
        SnapshotData::Pairs(_) => None,
        SnapshotData::Files(files) => {
            Some(Background::RemoveFiles(files.iter().map(|(_, name)| name.clone()).collect()))
        }
    }
}

/// Whether what a snapshot says of itself fits together, as its installation relies on. To be asked before any of its
/// data is taken.
///
/// # Errors
/// Why it must be refused.
pub fn check_snapshot(key: SnapshotKey, region: &Region, message: &RaftMessage) -> Result<(), &'static str> {
    let Body::Snapshot { snapshot } = &message.message.body else {
        return Err("its message carries no snapshot");
    };
    if beside_in(snapshot).is_err() {
        return Err("what it says beside its data cannot be decoded");
    }
    let meta = &snapshot.meta;
    let same = (region.id, message.region_id) == (key.region_id, key.region_id)
        && (message.to.id, message.message.to) == (key.to_peer, key.to_peer)
        && (meta.term, meta.index) == (key.term, key.index);
    if !same {
        return Err("its parts speak of different snapshots");
    }
    let here = region.peer(key.to_peer).is_some_and(|peer| peer.store_id == message.to.store_id);
    if !here || region.range.is_empty() {
        return Err("its region is not one of this store's");
    }
    match same_members(&conf_state(region), &meta.conf_state) {
        true => Ok(()),
        false => Err("its region and its group disagree on the members"),
    }
}
