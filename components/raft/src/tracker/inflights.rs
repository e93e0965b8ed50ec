//! The window of appends on their way to one peer.

use crate::line::Line;
use types::LogIndex;

/// Appends that were sent and not yet answered. Takes no memory when nothing was sent.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Inflights(Option<Box<Window>>);

#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
struct Window {
    /// The last index of each append and its bytes of entries, oldest first.
    appends: Line<(LogIndex, u64), 1>,
    /// Invariant: the sum over `appends`.
    bytes: u64,
}

impl Inflights {
    #[inline]
    pub(crate) fn add(&mut self, last: LogIndex, bytes: u64) {
        let window = self.0.get_or_insert_default();
        debug_assert!(
            window.appends.back().is_none_or(|&(previous, _)| previous < last),
            "appends are sent in order"
        );
        window.appends.push_back((last, bytes));
        window.bytes += bytes;
    }

    /// Everything up to `index` has arrived.
    #[inline]
    pub(crate) fn free_to(&mut self, index: LogIndex) {
        let Some(window) = &mut self.0 else { return };
        while let Some(&(last, bytes)) = window.appends.front()
            && last <= index
        {
            window.appends.pop_front();
            window.bytes -= bytes;
        }
        window.appends.forget_burst(16);
    }

    /// Nothing is on the way any more.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        if self.messages() == 0 {
            self.0 = None;
        }
    }

    /// No more may be sent. One message always may, however large.
    #[inline]
    pub(crate) fn is_full(&self, messages_max: usize, bytes_max: u64) -> bool {
        self.messages() >= messages_max || self.bytes() >= bytes_max
    }

    #[inline]
    pub(crate) fn messages(&self) -> usize {
        self.0.as_ref().map_or(0, |window| window.appends.len())
    }

    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |window| window.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_agrees_with_a_naive_queue() {
        // etcd-io/raft#54: a byte counter that was not reset let a flow stall for ever. cockroach#90314: counting
        // messages alone let 128 large ones through.
        let mut window = Inflights::default();
        let mut naive: Vec<(u64, u64)> = Vec::new();
        let mut state = 3_u64;
        let mut next = 0;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match state >> 61 {
                0 => {
                    let to = next - naive.len() as u64 / 2;
                    window.free_to(LogIndex(to));
                    naive.retain(|&(last, _)| last > to);
                }
                1 if state >> 57 & 7 == 0 => {
                    window.clear();
                    naive.clear();
                }
                _ => {
                    let bytes = state >> 50 & 0xfff;
                    let full =
                        naive.len() >= 8 || naive.iter().map(|&(_, bytes)| bytes).sum::<u64>() >= 9_000;
                    assert_eq!(window.is_full(8, 9_000), full);
                    if !full {
                        next += 1;
                        window.add(LogIndex(next), bytes);
                        naive.push((next, bytes));
                    }
                }
            }
            assert_eq!(window.messages(), naive.len());
            assert_eq!(window.bytes(), naive.iter().map(|&(_, bytes)| bytes).sum::<u64>());
        }
    }

    #[test]
    fn one_message_passes_however_large() {
        let mut window = Inflights::default();
        assert!(!window.is_full(4, 10));
        window.add(LogIndex(1), 1_000);
        assert!(window.is_full(4, 10));
        window.free_to(LogIndex(1));
        assert!(!window.is_full(4, 10));
    }
}
