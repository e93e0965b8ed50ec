//! A whole cluster in one thread, on virtual time, from one seed.
//!
//! The [`Kernel`] keeps the queue of things to come, with the network, disks, clocks and failures between the nodes; a
//! [`Cluster`] hands what happens to its [`Node`]s; the [`Executor`] runs what is written as `async fn`, the product's
//! client above all; [`check`] says whether a correct system could have shown what was seen. [`run()`] puts it together:
//! a drawn cluster under a drawn workload and a drawn [`Plan`], first for safety, then, healed, for liveness. One
//! `u64` decides everything: the same seed gives the same run, bit by bit, and the [`TraceHash`] proves it.
//!
//! This room knows no real clock, thread, socket or disk. Start with [`run()`], then [`Kernel::advance`].

mod bank;
pub mod check;
pub mod client;
mod client_process;
mod clock;
mod cluster;
mod counters;
mod disk;
mod executor;
mod faults;
mod fields;
pub mod frame;
mod gate;
mod kernel;
mod lists;
mod nemesis;
mod network;
pub mod nodes;
mod observer;
mod plan;
mod points;
mod queue;
pub mod reference;
mod run;
pub mod scenario;
mod schedule;
pub mod script;
mod setup;
mod short;
mod shrink;
#[cfg(feature = "seeded_bugs")]
pub mod teeth;
mod time;
mod trace;
pub mod workload;

pub use bank::{BankConfig, Books};
pub use clock::NodeClock;
pub use cluster::{Cluster, DiskStock, Node, RegionView, StoresEver, World};
pub use counters::Counters;
pub use disk::{Disk, DiskConfig, DiskHurt};
pub use executor::{Completer, Completion, Executor, Handle, Sleep, promise};
pub use faults::{Action, DiskFailure, Fault, Shape};
pub use fields::Unreadable;
pub use gate::{GateId, Passage};
pub use kernel::{CrashKind, Kernel, MachineConfig, NodeId, Occurrence, Packet};
pub use lists::ListsConfig;
pub use nemesis::FaultCount;
pub use network::{ConnectionId, Lane, NetworkConfig, NetworkCounts};
pub use observer::{Depths, Observer, Told};
pub use plan::{DRIFT_PPM_MAX, Plan, Targets};
pub use points::{POINTS, Point, PointCounts};
pub use run::{Fail, Failure, Report, RunOptions, Scale, System, run, run_schedule};
pub use schedule::{SCHEDULE_VERSION, Schedule, ScheduleError};
pub use setup::Setup;
pub use shrink::{Shrunk, shrink};
pub use time::SimTime;
pub use trace::{Trace, TraceHash, TraceMode};
