//! Region snapshots on their way to other stores.

use super::agent::Addresses;
use super::hub::Hub;
use crate::measure::{add, get};
use engine_rocks::RocksSnapshot;
use raftstore::{Input, SendSnapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::SnapshotSource;
use tracing::{info, warn};
use transport::{Counters, Identity, Settings, SnapshotOptions, Target, send_snapshot};
use types::StoreId;
use wire::store::{SnapshotKey, SnapshotPiece};

/// How many may wait for each that is sent: every one of them holds a view of the engine.
const WAITING_PER_SLOT: usize = 4;

/// What it takes to send.
pub(crate) struct SendOptions {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) counters: Arc<Counters>,
    pub(crate) options: SnapshotOptions,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) at_once: usize,
}

/// Sends a snapshot, when it is its turn, and tells the worker what became of it.
pub(crate) fn send(hub: &Arc<Hub>, wanted: SendSnapshot) {
    let SendSnapshot { key, to_store, message } = wanted;
    let waiting_max = hub.sender.at_once * (1 + WAITING_PER_SLOT);
    let source = hub.builder.lock().take(key, message);
    let Some(source) = source.filter(|_| hub.to_send.load(Ordering::Relaxed) < waiting_max) else {
        add(&hub.counters.snapshots_put_off, 1);
        return tell(hub, key, false);
    };
    hub.to_send.fetch_add(1, Ordering::Relaxed);
    let hub = hub.clone();
    hub.runtime.clone().spawn(async move {
        let permit = hub.sending.clone().acquire_owned().await;
        add(&hub.counters.snapshots_sending, 1);
        let sender = hub.clone();
        // Pieces are read from the disk as the network takes them: on a thread that may wait for the disk.
        let sent = tokio::task::spawn_blocking(move || {
            let runtime = sender.runtime.clone();
            runtime.block_on(transfer(&sender, to_store, source))
        });
        let ok = sent.await.unwrap_or(false);
        drop(permit);
        hub.counters.snapshots_sending.fetch_sub(1, Ordering::Relaxed);
        hub.to_send.fetch_sub(1, Ordering::Relaxed);
        add(if ok { &hub.counters.snapshots_sent } else { &hub.counters.snapshots_failed }, 1);
        tell(&hub, key, ok);
    });
}

fn tell(hub: &Hub, key: SnapshotKey, ok: bool) {
    let (region_id, to) = (key.region_id, key.to_peer);
    hub.workers.input(region_id, Input::SnapshotSent { region_id, to, ok });
}

async fn transfer(hub: &Hub, to: StoreId, mut source: SnapshotSource<RocksSnapshot>) -> bool {
    let sender = &hub.sender;
    let key = source.key();
    let (region_id, index) = (key.region_id.get(), key.index.get());
    let Some(address) = sender.addresses.find(to) else {
        warn!(region_id, to_store = to.get(), "a snapshot is not sent: nobody knows the store's address");
        return false;
    };
    let bytes = AtomicU64::new(0);
    let pieces = || {
        let piece = source.next_piece();
        let piece = piece.unwrap_or_else(|error| crate::logging::fatal("reading a region", &error));
        if let Some(SnapshotPiece::Chunk { pairs, .. }) = &piece {
            let sizes = pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64);
            add(&bytes, sizes.sum());
        }
        piece
    };
    let target = Target::store(to, address);
    let sent =
        send_snapshot(&target, sender.identity, &sender.settings, &sender.counters, &sender.options, pieces);
    match sent.await {
        Ok(()) => {
            hub.counters.snapshot_bytes_sent.observe(get(&bytes));
            info!(region_id, index, to_store = to.get(), "sent a snapshot");
            true
        }
        Err(error) => {
            warn!(region_id, index, to_store = to.get(), %error, "a snapshot was not sent");
            false
        }
    }
}
