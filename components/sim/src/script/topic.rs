//! What a message is about, in words that a script uses.

use crate::frame::{kind_of, payload_of};
use codec::frame::Frame;
use raft::{Body, VoteKind};
use wire::FrameKind;
use wire::kv::{KvCommand, KvRequest};
use wire::store::{StoreBatch, StoreMessage};

/// What a message is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Topic {
    /// A region's entries.
    Append,
    /// The answer to that.
    AppendAnswer,
    /// A leader's heartbeat.
    Heartbeat,
    /// The answer to that.
    HeartbeatAnswer,
    /// A question whether an election could be won.
    PreVote,
    /// A request for a vote.
    Vote,
    /// A request for a vote by somebody whom the leader has handed over to.
    TransferVote,
    /// The answer to any of the three.
    VoteAnswer,
    /// A leader hands over.
    TimeoutNow,
    /// A snapshot's first words.
    Snapshot,
    /// A piece of a snapshot.
    SnapshotPiece,
    /// What became of a snapshot, told by its receiver.
    SnapshotVerdict,
    /// A follower's read, or the answer.
    ReadIndex,
    /// Between stores, about peers that were removed.
    Removed,
    /// Between stores, about regions that sleep.
    Hibernation,
    /// A client reads.
    Read,
    /// A client writes.
    Write,
    /// A client wants a region split, or its leader moved.
    Admin,
    /// What a store says to a client.
    Answer,
    /// The placement driver is asked for something.
    PdRequest,
    /// The answer to that.
    PdAnswer,
}

impl Topic {
    /// All there are, with their names in scenarios.
    pub const ALL: [(Self, &str); 21] = [
        (Self::Append, "append"),
        (Self::AppendAnswer, "append-answer"),
        (Self::Heartbeat, "heartbeat"),
        (Self::HeartbeatAnswer, "heartbeat-answer"),
        (Self::PreVote, "pre-vote"),
        (Self::Vote, "vote"),
        (Self::TransferVote, "transfer-vote"),
        (Self::VoteAnswer, "vote-answer"),
        (Self::TimeoutNow, "timeout-now"),
        (Self::Snapshot, "snapshot"),
        (Self::SnapshotPiece, "snapshot-piece"),
        (Self::SnapshotVerdict, "snapshot-verdict"),
        (Self::ReadIndex, "read-index"),
        (Self::Removed, "removed"),
        (Self::Hibernation, "hibernation"),
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Admin, "admin"),
        (Self::Answer, "answer"),
        (Self::PdRequest, "pd-request"),
        (Self::PdAnswer, "pd-answer"),
    ];
}

/// What a frame is about; empty for those that no script is interested in.
pub(super) fn topics_of(frame: &Frame) -> Vec<Topic> {
    match kind_of(frame) {
        FrameKind::StoreBatch => {
            let batch: StoreBatch = payload_of(frame);
            batch.messages.iter().map(topic_of).collect()
        }
        FrameKind::KvRequest => {
            let request: KvRequest = payload_of(frame);
            vec![match request.command {
                KvCommand::Get { .. }
                | KvCommand::GetLife { .. }
                | KvCommand::BatchGet { .. }
                | KvCommand::Scan(_)
                | KvCommand::TxnRead(_) => Topic::Read,
                KvCommand::Write { .. }
                | KvCommand::CompareAndSwap { .. }
                | KvCommand::CompareAndSwapFor { .. }
                | KvCommand::Txn(_) => Topic::Write,
                KvCommand::Split { .. } | KvCommand::TransferLeader { .. } | KvCommand::CompactLog => {
                    Topic::Admin
                }
            }]
        }
        FrameKind::KvResponse => vec![Topic::Answer],
        FrameKind::SnapshotPiece => vec![Topic::SnapshotPiece],
        FrameKind::SnapshotVerdict => vec![Topic::SnapshotVerdict],
        FrameKind::PdRequest => vec![Topic::PdRequest],
        FrameKind::PdResponse => vec![Topic::PdAnswer],
        _ => Vec::new(),
    }
}

fn topic_of(message: &StoreMessage) -> Topic {
    let message = match message {
        StoreMessage::Raft(message) => message,
        StoreMessage::Removed { .. } | StoreMessage::RemovedConfirmed { .. } => return Topic::Removed,
        StoreMessage::Alive { .. }
        | StoreMessage::Sleep { .. }
        | StoreMessage::SleepAgreed { .. }
        | StoreMessage::Wake { .. } => return Topic::Hibernation,
    };
    match &message.message.body {
        Body::Append { .. } => Topic::Append,
        Body::AppendResp { .. } => Topic::AppendAnswer,
        Body::Heartbeat { .. } => Topic::Heartbeat,
        Body::HeartbeatResp { .. } => Topic::HeartbeatAnswer,
        Body::Vote { kind: VoteKind::Pre, .. } => Topic::PreVote,
        Body::Vote { kind: VoteKind::Real, .. } => Topic::Vote,
        Body::Vote { kind: VoteKind::Transfer { .. }, .. } => Topic::TransferVote,
        Body::VoteResp { .. } => Topic::VoteAnswer,
        Body::TimeoutNow => Topic::TimeoutNow,
        Body::Snapshot { .. } => Topic::Snapshot,
        Body::ReadIndex { .. } | Body::ReadIndexResp { .. } => Topic::ReadIndex,
    }
}
