//! An allocator that counts, so that a row can say how many bytes something keeps.

#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait; all work is the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator with a count of the bytes in use by this thread (the benchmarks have no other).
#[derive(Debug)]
pub(crate) struct Counting;

thread_local! {
    static IN_USE: Cell<i64> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn note(bytes: i64) {
    // Const-initialised and without destructor, so it may be used at any time of a thread's life.
    IN_USE.with(|in_use| in_use.set(in_use.get() + bytes));
}

/// Bytes that were asked for and not given back. What the system adds for its own bookkeeping is not in it.
pub(crate) fn bytes_in_use() -> i64 {
    IN_USE.with(Cell::get)
}

/// How often memory was asked for.
pub(crate) fn calls() -> u64 {
    CALLS.with(Cell::get)
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as i64 - layout.size() as i64);
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}
