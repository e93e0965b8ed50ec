//! What the threads of a process hand to one another: the mailbox, the seat beside it, the log, what is applied, answers, commands of transactions, timestamps, and
//! the end. The files of the product are compiled here a second time, over types whose every step a scheduler decides,
//! and run in many orders, with queues of length one.
//!
//! Each test says what must hold in every order; beside it stand mistakes on purpose that some order must show.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod answers;
mod applied;
mod clock;
mod disk;
mod end;
mod logged;
mod mailboxes;
mod pd_process;
mod scheduled;
#[path = "../../../store/tests/handoffs/schedules.rs"]
mod schedules;
mod seats;
mod store_process;
mod stored;
mod sync;
mod timestamps;

#[path = "../../src/mailbox.rs"]
mod mailbox;
#[path = "../../src/measure.rs"]
#[expect(dead_code, reason = "nobody looks at metrics here")]
mod measure;
#[path = "../../src/seat.rs"]
mod seat;

pub(crate) use clock::BootClock;

/// The engine does not fail here.
mod logging {
    pub(crate) fn fatal(doing: &'static str, error: &dyn std::fmt::Display) -> ! {
        panic!("{doing}: {error}")
    }
}
