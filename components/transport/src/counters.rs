//! What happened, counted; the server exports it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The label for metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

labels!(
    /// What is wrong with a frame. Any of these closes the connection, since the position of the next frame is unknown or
    /// the other side does not speak our protocol.
    BadFrame {
        /// The head does not match its checksum.
        HeadChecksum = "head_checksum",
        /// The body does not match its checksum.
        BodyChecksum = "body_checksum",
        /// Longer than allowed.
        TooLarge = "too_large",
        /// Lengths contradict each other.
        Malformed = "malformed",
        /// The connection ended within it.
        Truncated = "truncated",
        /// Of a kind that this version does not know.
        UnknownKind = "unknown_kind",
        /// Its payload is no message of its kind.
        Undecodable = "undecodable",
        /// Not to be said here, or not now.
        OutOfPlace = "out_of_place",
    }
);

labels!(
    /// Why a connection ended.
    Ended {
        /// The other side closed it, or it was lost on the way.
        Lost = "lost",
        /// We closed it in good order.
        Finished = "finished",
        /// The other side sent a reason and closed it.
        ClosedByPeer = "closed_by_peer",
        /// The other side was silent for too long.
        Silent = "silent",
        /// The other side took too little of what we sent.
        Overflowed = "overflowed",
        /// A frame was bad.
        BadFrame = "bad_frame",
        /// The greeting did not come in time.
        GreetingTimeout = "greeting_timeout",
        /// The greeting came from another cluster.
        WrongCluster = "wrong_cluster",
        /// The greeting was for another store.
        WrongStore = "wrong_store",
        /// The greeting knew none of our protocol versions.
        ProtocolMismatch = "protocol_mismatch",
        /// There are too many connections.
        TooBusy = "too_busy",
        /// The process stops, and what was left took too long.
        Stopped = "stopped",
    }
);

/// Counts of one process's connections (or of one purpose: servers and clients may have their own). All grow only, but
/// for `connections_open`.
#[derive(Default, Debug)]
pub struct Counters {
    connections_open: AtomicU64,
    connections_made: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
    bad_frames: [AtomicU64; BadFrame::ALL.len()],
    accept_errors: AtomicU64,
    connect_errors: AtomicU64,
    reads: AtomicU64,
    frames_received: AtomicU64,
    bytes_received: AtomicU64,
    writes: AtomicU64,
    frames_sent: AtomicU64,
    bytes_sent: AtomicU64,
    read_pauses: AtomicU64,
    messages_dropped: AtomicU64,
    requests_unanswered: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        impl Counters {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })*
        }
    };
}
counts!(
    /// Connections that are open now, those that are being greeted included.
    connections_open
    /// Connections accepted or made.
    connections_made
    /// Times that the system refused to accept a connection (no descriptors left, for instance).
    accept_errors
    /// Attempts to connect that failed.
    connect_errors
    /// Reads that brought bytes.
    reads
    /// Frames that arrived; over `reads`: how well the other side batches.
    frames_received
    /// Bytes that arrived.
    bytes_received
    /// Writes that took bytes.
    writes
    /// Frames that left; over `writes`: how well we batch.
    frames_sent
    /// Bytes that left.
    bytes_sent
    /// Times that a socket was left unread because too many bytes were in flight.
    read_pauses
    /// Messages to other stores that were dropped, for want of a connection or of room.
    messages_dropped
    /// Requests that were dropped without an answer: a defect of ours. Answered as undetermined.
    requests_unanswered
);

impl Counters {
    /// Connections that ended for this reason.
    #[must_use]
    pub fn ended(&self, why: Ended) -> u64 {
        self.ended[why as usize].load(Ordering::Relaxed)
    }

    /// Frames that were bad in this way.
    #[must_use]
    pub fn bad_frames(&self, what: BadFrame) -> u64 {
        self.bad_frames[what as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn opened(&self) {
        add(&self.connections_open, 1);
        add(&self.connections_made, 1);
    }

    pub(crate) fn closed(&self, why: Ended) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
        add(&self.ended[why as usize], 1);
    }

    pub(crate) fn bad_frame(&self, what: BadFrame) {
        add(&self.bad_frames[what as usize], 1);
    }

    pub(crate) fn accept_failed(&self) {
        add(&self.accept_errors, 1);
    }

    pub(crate) fn connect_failed(&self) {
        add(&self.connect_errors, 1);
    }

    pub(crate) fn received(&self, bytes: usize, frames: u64) {
        add(&self.reads, 1);
        add(&self.bytes_received, bytes as u64);
        add(&self.frames_received, frames);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.writes, 1);
        add(&self.bytes_sent, bytes as u64);
    }

    pub(crate) fn sent_frames(&self, frames: u64) {
        add(&self.frames_sent, frames);
    }

    pub(crate) fn paused(&self) {
        add(&self.read_pauses, 1);
    }

    pub(crate) fn dropped(&self, messages: u64) {
        add(&self.messages_dropped, messages);
    }

    pub(crate) fn unanswered(&self) {
        add(&self.requests_unanswered, 1);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
