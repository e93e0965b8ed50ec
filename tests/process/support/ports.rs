//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what systems use for outgoing connections, so that none of these takes the port of a process that is down for a
/// while.
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// A port of the loopback address that is free now, and is given to no other caller in this process.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other runs of this suite begin elsewhere.
    let offset = std::process::id().wrapping_mul(1_009);
    for _ in 0..COUNT {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)).wrapping_add(offset) % u32::from(COUNT);
        let port = FIRST + u16::try_from(number).expect("below COUNT");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// The address of a free port.
pub(crate) fn address() -> String {
    format!("127.0.0.1:{}", free())
}
