//! Connections that are made again when they are lost.

use crate::{CallError, CallOptions, ConnectError, Connection, Counters, Identity, Settings, Target};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};

/// When to try again after failed attempts.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { failures: 0, until: None }
    }

    /// True while no attempt is to be made.
    pub(crate) fn is_waiting(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn failed(&mut self, now: Instant, settings: &Settings) {
        let wait =
            settings.backoff_min.saturating_mul(1_u32 << self.failures.min(20)).min(settings.backoff_max);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + wait + jitter(wait / 2));
    }
}

/// A duration below `most`, by chance. The keys of std's hasher are random; that is all the chance that is needed.
fn jitter(most: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) >> 32;
    most.mul_f64(chance as f64 / (1_u64 << 32) as f64)
}

/// The way to one server: a connection while there is one, and a new one after it was lost.
///
/// Never repeats a request. After a failed attempt calls fail at once until the next attempt is due (exponential
/// backoff), so that callers can turn elsewhere. An attempt to connect runs in a task of its own, for which any number
/// of callers up to `calls_max` wait: one that is slow to be polled, or goes away, holds up no other.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    identity: Identity,
    settings: Settings,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Option<Connection>,
    backoff: Backoff,
    /// The attempt under way. Its number tells it from one that was begun before the channel was closed.
    attempt: Option<(u64, Attempt)>,
    attempts: u64,
}

/// What becomes of an attempt: nothing yet, or its end.
type Attempt = watch::Sender<Option<Result<Connection, ConnectError>>>;

impl State {
    fn open(&mut self) -> Option<Connection> {
        if self.current.as_ref().is_some_and(|connection| !connection.is_open()) {
            self.current = None;
        }
        self.current.clone()
    }
}

/// An attempt under way; tells how it ended when it goes, also when its task is ended with the runtime.
struct Attempting {
    shared: Arc<Shared>,
    number: u64,
    waiters: Attempt,
    result: Result<Connection, ConnectError>,
}

impl Attempting {
    async fn run(mut self) {
        let Shared { target, identity, settings, counters, .. } = &*self.shared;
        self.result = Connection::connect(target, *identity, settings, counters).await;
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            if state.attempt.as_ref().is_some_and(|(current, _)| *current == self.number) {
                state.attempt = None;
                match &self.result {
                    Ok(connection) => {
                        state.backoff.succeeded();
                        state.current = Some(connection.clone());
                    }
                    Err(_) => state.backoff.failed(Instant::now(), &self.shared.settings),
                }
            }
        }
        let result = std::mem::replace(&mut self.result, Err(ConnectError::Timeout));
        self.waiters.send_replace(Some(result));
    }
}

impl Channel {
    /// A way to `target`; connects at the first call.
    #[must_use]
    pub fn new(target: Target, identity: Identity, settings: Settings, counters: Arc<Counters>) -> Self {
        let state = State { current: None, backoff: Backoff::new(), attempt: None, attempts: 0 };
        let state = Mutex::new(state);
        Self { shared: Arc::new(Shared { target, identity, settings, counters, state }) }
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// The connection, made first if there is none.
    ///
    /// # Errors
    /// Any [`ConnectError`]; nothing was sent.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connection(&self) -> Result<Connection, ConnectError> {
        let mut attempt = {
            let mut state = self.shared.state.lock();
            if let Some(connection) = state.open() {
                return Ok(connection);
            }
            match &state.attempt {
                Some((_, waiters)) if waiters.receiver_count() >= self.shared.settings.calls_max => {
                    return Err(ConnectError::TooManyWait);
                }
                Some((_, waiters)) => waiters.subscribe(),
                None if state.backoff.is_waiting(Instant::now()) => return Err(ConnectError::BackingOff),
                None => self.begin_attempt(&mut state),
            }
        };
        match attempt.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    fn begin_attempt(&self, state: &mut State) -> watch::Receiver<Option<Result<Connection, ConnectError>>> {
        let (waiters, receiver) = watch::channel(None);
        state.attempts += 1;
        let number = state.attempts;
        state.attempt = Some((number, waiters.clone()));
        let result = Err(ConnectError::Timeout);
        tokio::spawn(Attempting { shared: Arc::clone(&self.shared), number, waiters, result }.run());
        receiver
    }

    fn open(&self) -> Option<Connection> {
        self.shared.state.lock().open()
    }

    /// Asks a store.
    ///
    /// # Errors
    /// Any [`CallError`]; [`CallError::may_have_been_done`] tells what is known of a write.
    pub async fn kv(
        &self,
        request: &KvRequest,
        options: impl Into<CallOptions>,
    ) -> Result<KvResponse, CallError> {
        let options = options.into();
        let (connection, options) = self.connection_within(options).await?;
        connection.kv(request, options).await
    }

    /// Asks the placement driver.
    ///
    /// # Errors
    /// As [`Channel::kv`].
    pub async fn pd(
        &self,
        request: &PdRequest,
        options: impl Into<CallOptions>,
    ) -> Result<PdResponse, CallError> {
        let options = options.into();
        let (connection, options) = self.connection_within(options).await?;
        connection.pd(request, options).await
    }

    /// The connection, if it can be had in time, and the options with the time that is left.
    async fn connection_within(
        &self,
        mut options: CallOptions,
    ) -> Result<(Connection, CallOptions), CallError> {
        if let Some(connection) = self.open() {
            return Ok((connection, options));
        }
        let begun = Instant::now();
        match tokio::time::timeout(options.timeout, self.connection()).await {
            Ok(Ok(connection)) => {
                options.timeout = options.timeout.saturating_sub(begun.elapsed());
                Ok((connection, options))
            }
            Ok(Err(error)) => Err(CallError::NotConnected(error)),
            Err(_) => Err(CallError::NotConnected(ConnectError::Timeout)),
        }
    }

    /// Closes the connection, if there is one, once its calls are answered. The next call makes a new one; an attempt
    /// under way serves only those who wait for it.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        state.attempt = None;
        if let Some(connection) = state.current.take() {
            connection.close();
        }
    }
}

/// One [`Channel`] per target.
#[derive(Debug)]
pub struct Pool {
    identity: Identity,
    settings: Settings,
    counters: Arc<Counters>,
    channels: RwLock<BTreeMap<Target, Arc<Channel>>>,
}

impl Pool {
    /// A pool without channels; they are made when they are asked for.
    #[must_use]
    pub fn new(identity: Identity, settings: Settings, counters: Arc<Counters>) -> Self {
        Self { identity, settings, counters, channels: RwLock::new(BTreeMap::new()) }
    }

    /// The channel to `target`.
    ///
    /// A store that has moved, and the address that it has left, are other targets: whoever learns of it calls
    /// [`Pool::keep`]. Beyond `connections_max` channels those without a connection are let go.
    #[must_use]
    pub fn channel(&self, target: &Target) -> Arc<Channel> {
        if let Some(channel) = self.channels.read().get(target) {
            return Arc::clone(channel);
        }
        let mut channels = self.channels.write();
        if channels.len() >= self.settings.connections_max {
            channels.retain(|_, channel| channel.open().is_some());
        }
        let channel = channels.entry(target.clone()).or_insert_with(|| {
            let counters = Arc::clone(&self.counters);
            Arc::new(Channel::new(target.clone(), self.identity, self.settings.clone(), counters))
        });
        Arc::clone(channel)
    }

    /// Lets go of the channels to targets for which `keep` says no. Calls under way are answered.
    pub fn keep(&self, mut keep: impl FnMut(&Target) -> bool) {
        self.channels.write().retain(|target, channel| {
            let kept = keep(target);
            if !kept {
                channel.close();
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest_and_chance_adds_at_most_half() {
        let settings = Settings::default();
        let mut backoff = Backoff::new();
        let mut expected = settings.backoff_min;
        for failure in 0..40 {
            let now = Instant::now();
            backoff.failed(now, &settings);
            let wait = backoff.until.expect("it failed") - now;
            assert!(wait >= expected && wait <= expected + expected / 2, "{wait:?} after {failure} failures");
            assert!(backoff.is_waiting(now) && !backoff.is_waiting(now + wait));
            expected = (expected * 2).min(settings.backoff_max);
        }
        backoff.succeeded();
        assert!(!backoff.is_waiting(Instant::now()));
    }
}
