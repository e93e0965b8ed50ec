//! Bounds and times.

use std::time::Duration;

/// Bounds and times of connections; the defaults suit a cluster in one data centre.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The longest frame, head included; checked before anything is allocated for it, and before it is sent.
    pub frame_size_max: usize,
    /// How many connections a server holds; further ones are closed with `TooBusy`.
    pub connections_max: usize,
    /// How many bytes of requests (or snapshot pieces) of one connection may be under way in the process before its
    /// socket is not read any more. A single larger frame is let through when nothing else is under way.
    pub in_flight_bytes_max: usize,
    /// How many bytes may wait to be written to one connection. A server closes the connection of a peer that lets more
    /// gather; a client refuses the call; a store link drops the messages. At least `frame_size_max`.
    pub outgoing_bytes_max: usize,
    /// How many calls of one client connection may wait for their answers.
    pub calls_max: usize,
    /// Time for a TCP connection to be made.
    pub connect_timeout: Duration,
    /// Time for the greeting.
    pub greeting_timeout: Duration,
    /// After so much silence of the other side it is asked whether it is there.
    pub keep_alive_interval: Duration,
    /// After so much silence the connection is given up. Longer than `keep_alive_interval`.
    pub keep_alive_timeout: Duration,
    /// The first wait after a failed attempt to connect; doubled up to `backoff_max`, and up to half as much again is
    /// added by chance, so that many clients do not return at once.
    pub backoff_min: Duration,
    /// The longest wait between attempts, without that addition.
    pub backoff_max: Duration,
    /// Time for a connection that is being closed to take what is left, the reason included.
    pub farewell_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frame_size_max: types::FRAME_SIZE_MAX,
            connections_max: 10_000,
            in_flight_bytes_max: 16 << 20,
            outgoing_bytes_max: 2 * types::FRAME_SIZE_MAX,
            calls_max: 1 << 16,
            connect_timeout: Duration::from_secs(2),
            greeting_timeout: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(3),
            keep_alive_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            farewell_timeout: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// What contradicts itself, if anything does.
    ///
    /// # Errors
    /// A sentence for whoever wrote the configuration.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.outgoing_bytes_max < self.frame_size_max {
            return Err("outgoing_bytes_max must hold a frame of frame_size_max");
        }
        if self.keep_alive_timeout <= self.keep_alive_interval {
            return Err("keep_alive_timeout must exceed keep_alive_interval");
        }
        if self.keep_alive_interval.is_zero()
            || self.backoff_min.is_zero()
            || self.backoff_max < self.backoff_min
        {
            return Err(
                "keep_alive_interval and backoff_min must not be zero, nor backoff_max less than backoff_min",
            );
        }
        if self.connections_max == 0 || self.calls_max == 0 || self.calls_max > u32::MAX as usize {
            return Err("connections_max and calls_max must not be zero, and calls_max must fit 32 bits");
        }
        Ok(())
    }
}
