//! Transactions: what each command of the protocol does to the records of a key.
//!
//! The protocol is Percolator's (Peng and Dabek, OSDI 2010, §2) with the commands and outcomes of TiKV. A transaction
//! *prewrites* its keys, each with a lock that names the primary; then it *commits* the primary, which decides for all,
//! and the others follow. Who finds a lock asks at the primary what became of its transaction ([`check_status`]) and
//! resolves the lock accordingly. A *rollback* leaves a record, so that a prewrite that comes late fails.
//!
//! The second phase can be spared ([`CommitMode`]): *async commit* takes a transaction for committed once all its keys are
//! locked, at a timestamp that its locks say, and a transaction within one region commits by its prewrite. Then nobody asks
//! the timestamp oracle when it commits; what it asks for instead is a timestamp above every read so far, and that readers to
//! come notice it before it is written ([`Prewrite::min_commit_ts`]). Both are the store's to see to.
//!
//! Each command is a pure function over a view of the engine: it appends to a batch what is to be proposed, or gives an
//! error and has changed nothing. Each may come twice. What holds: a lock is never put over another transaction's
//! (INV-TXN-2), a record never over another's but for a rollback, which is then noted in it (INV-TXN-3), and a commit comes
//! after its start and at or after its lock's minimum (INV-TXN-1). That nobody else changes the key between the view and
//! the proposal is what [`Latches`] are for. Whoever meets another's lock may wait until it goes ([`Waits`]).
//!
//! This room knows no Raft, no region and no clock. Start with [`prewrite`].

mod commit;
mod error;
mod latch;
mod pessimistic;
mod prewrite;
mod rollback;
mod status;
mod waits;

pub use commit::commit;
pub use error::{Conflict, TxnError};
pub use latch::{Claim, CommandId, Latches};
pub use pessimistic::{LockRequest, acquire, release};
pub use prewrite::{CommitMode, Mutation, MutationKind, Prewrite, Prewritten, prewrite};
pub use rollback::rollback;
pub use status::{CheckStatus, Secondary, Status, check_secondary, check_status, clean_up, heartbeat};
pub use waits::{Due, Waiter, Waits};
