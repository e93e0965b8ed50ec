//! Region snapshots on their way: pieces go out one after another, and whoever sent or received part of one learns of
//! its end.

use crate::cluster::World;
use crate::frame::frame;
use crate::kernel::NodeId;
use crate::network::{ConnectionId, Lane};
use engine::{EngineError, MemSnapshot};
use env::{Dice, SplitMix};
use std::collections::{BTreeMap, BTreeSet};
use store::SnapshotSource;
use wire::FrameKind;
use wire::store::{SnapshotKey, SnapshotPiece, SnapshotVerdict};

/// Flips a bit of a value, as bad memory would.
fn damage(dice: &mut SplitMix, piece: &mut SnapshotPiece) {
    let SnapshotPiece::Chunk { pairs, .. } = piece else { return };
    let at = usize::try_from(dice.below(pairs.len() as u64)).expect("an index");
    let Some((_, value)) = pairs.get_mut(at) else { return };
    let mut bytes = value.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    *value = bytes.into();
}

/// Snapshots have a connection of their own.
const SNAPSHOT_LANE: Lane = Lane::Stream(2);

struct Outgoing {
    to: NodeId,
    source: Box<SnapshotSource<MemSnapshot>>,
    connection: Option<ConnectionId>,
    /// The receiver has to say something before more is sent.
    awaits_verdict: bool,
    /// Its last piece has left.
    is_sent: bool,
}

/// What a store sends and receives.
#[derive(Default)]
pub(super) struct Transfers {
    outgoing: BTreeMap<SnapshotKey, Outgoing>,
    /// By connection: snapshots that have begun to arrive on it.
    arriving: BTreeMap<ConnectionId, BTreeSet<SnapshotKey>>,
    /// Where verdicts go.
    reply_to: BTreeMap<u64, ConnectionId>,
    replies: u64,
}

/// A snapshot that was sent, and whether its receiver has it.
pub(super) type Sent = (SnapshotKey, bool);

impl Transfers {
    /// Begins to send. A snapshot that is sent again replaces the one before.
    pub(super) fn begin(&mut self, to: NodeId, source: Box<SnapshotSource<MemSnapshot>>) {
        let key = source.key();
        self.outgoing
            .insert(key, Outgoing { to, source, connection: None, awaits_verdict: false, is_sent: false });
    }

    /// True if [`send_piece`](Self::send_piece) would send something.
    pub(super) fn wants_to_send(&self) -> bool {
        self.outgoing.values().any(|outgoing| !outgoing.awaits_verdict)
    }

    /// Reads the next piece of one of the snapshots that wait for nothing, and sends it; one in so many is damaged before
    /// its frame is made.
    ///
    /// # Errors
    /// The disk cannot be read: the store must stop.
    pub(super) fn send_piece(
        &mut self,
        world: &mut World<'_>,
        damage_one_in: u64,
    ) -> Result<(), EngineError> {
        let mut ready: Vec<&mut Outgoing> =
            self.outgoing.values_mut().filter(|outgoing| !outgoing.awaits_verdict).collect();
        if ready.is_empty() {
            return Ok(());
        }
        let at = usize::try_from(world.dice().below(ready.len() as u64)).expect("an index");
        let outgoing = &mut *ready[at];
        let piece = outgoing.source.next_piece()?;
        let mut piece = piece.expect("after its end a verdict is awaited");
        if damage_one_in > 0 && world.dice().chance(1, damage_one_in) {
            damage(world.dice(), &mut piece);
        }
        outgoing.awaits_verdict = !matches!(piece, SnapshotPiece::Chunk { .. });
        outgoing.is_sent = matches!(piece, SnapshotPiece::End { .. });
        let piece = frame(FrameKind::SnapshotPiece, 0, None, &piece);
        match outgoing.connection {
            None => outgoing.connection = world.send(outgoing.to, SNAPSHOT_LANE, piece),
            // All pieces come on one connection, or not at all.
            Some(connection) => world.reply(connection, piece),
        }
        Ok(())
    }

    /// The receiver has spoken.
    pub(super) fn on_verdict(&mut self, verdict: &SnapshotVerdict) -> Option<Sent> {
        match verdict {
            SnapshotVerdict::Accepted(key) => {
                let outgoing = self.outgoing.get_mut(key)?;
                if !outgoing.is_sent {
                    outgoing.awaits_verdict = false;
                    return None;
                }
                self.outgoing.remove(key);
                Some((*key, true))
            }
            SnapshotVerdict::Refused { key, .. } => self.outgoing.remove(key).map(|_| (*key, false)),
        }
    }

    /// A piece arrives on a connection. Returns the number under which its verdict is sent.
    pub(super) fn on_piece(&mut self, connection: ConnectionId, piece: &SnapshotPiece) -> u64 {
        match piece {
            SnapshotPiece::Start { key, .. } => {
                self.arriving.entry(connection).or_default().insert(*key);
            }
            SnapshotPiece::Chunk { .. } => {}
            SnapshotPiece::End { key, .. } => {
                if let Some(keys) = self.arriving.get_mut(&connection) {
                    keys.remove(key);
                }
            }
        }
        self.replies += 1;
        self.reply_to.insert(self.replies, connection);
        self.replies
    }

    /// Sends a verdict.
    pub(super) fn send_verdict(&mut self, world: &mut World<'_>, reply_to: u64, verdict: &SnapshotVerdict) {
        let connection = self.reply_to.remove(&reply_to).expect("a verdict follows its piece");
        world.reply(connection, frame(FrameKind::SnapshotVerdict, 0, None, verdict));
    }

    /// Pieces without a verdict are done with.
    pub(super) fn forget_replies(&mut self) {
        self.reply_to.clear();
    }

    /// A connection is gone: what was being sent on it did not arrive as far as we know, and what was arriving does not.
    pub(super) fn on_disconnected(&mut self, connection: ConnectionId) -> (Vec<Sent>, Vec<SnapshotKey>) {
        let lost: Vec<SnapshotKey> = self
            .outgoing
            .iter()
            .filter(|(_, outgoing)| outgoing.connection == Some(connection))
            .map(|(key, _)| *key)
            .collect();
        for key in &lost {
            self.outgoing.remove(key);
        }
        let arriving = self.arriving.remove(&connection).unwrap_or_default();
        (lost.into_iter().map(|key| (key, false)).collect(), arriving.into_iter().collect())
    }
}
