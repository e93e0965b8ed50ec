//! A whole cluster in one thread, on virtual time, from one seed.
//!
//! The [`Kernel`] keeps the queue of things to come, with the network, disks, clocks and failures between the nodes; the
//! [`Executor`] runs what is written as `async fn`; [`check`] says whether a correct system could have shown what was
//! seen. One `u64` decides everything: the same seed gives the same run, bit by bit, and the [`TraceHash`] proves it.
//!
//! This room knows no real clock, thread, socket or disk. Start with [`Kernel::advance`].

pub mod check;
mod clock;
mod disk;
mod executor;
mod kernel;
mod network;
mod time;
mod trace;

pub use clock::NodeClock;
pub use disk::{Disk, DiskConfig};
pub use executor::{Completer, Completion, Executor, Handle, Sleep, promise};
pub use kernel::{CrashKind, Kernel, MachineConfig, NodeId, Occurrence, Packet};
pub use network::{ConnectionId, Lane, NetworkConfig};
pub use time::SimTime;
pub use trace::{Trace, TraceHash, TraceMode};
