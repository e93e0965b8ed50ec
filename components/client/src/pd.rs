//! The placement driver, whichever of its members leads.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use transport::{CallError, Channel, Counters, Identity, Settings, Target};
use wire::pd::{PdError, PdReply, PdRequest, PdResponse};

/// How many members are kept at most, those included that were only named by others.
const MEMBERS_MAX: usize = 16;

/// Why the placement driver gave no answer, or none that helps.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PdCallError {
    /// It refused; nothing was done.
    #[error("the placement driver refused: {0:?}")]
    Refused(PdError),
    /// No member could be reached; nothing was done. To be tried again later.
    #[error("no member of the placement driver was reached: {reason}")]
    Unreachable {
        /// Why, for people.
        reason: String,
    },
    /// The request may have arrived and been acted upon; the answer was lost.
    #[error("the placement driver did not answer: {reason}")]
    NoAnswer {
        /// Why, for people.
        reason: String,
        /// True if the time was over, false if the connection was lost.
        timed_out: bool,
    },
}

/// The stub of the placement driver. Cheap to clone; clones share their connections.
///
/// Members are tried one after another until one has taken the request, and a named leader is followed. What a member
/// may have acted upon is never sent again.
#[derive(Clone)]
pub struct PdClient {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    settings: Settings,
    counters: Arc<Counters>,
    members: Mutex<Members>,
}

struct Members {
    links: Vec<Arc<Channel>>,
    /// The one that is asked first: the leader, as far as we know.
    first: usize,
}

impl PdClient {
    /// A stub for the members at these addresses (`host:port`). Connects at the first request, as `identity`.
    ///
    /// # Panics
    /// Without any address.
    #[must_use]
    pub fn new(
        addresses: impl IntoIterator<Item = String>,
        identity: Identity,
        settings: Settings,
        counters: Arc<Counters>,
    ) -> Self {
        let link = |address| {
            Arc::new(Channel::new(Target::any(address), identity, settings.clone(), Arc::clone(&counters)))
        };
        let links: Vec<Arc<Channel>> = addresses.into_iter().take(MEMBERS_MAX).map(link).collect();
        assert!(!links.is_empty(), "a placement driver without addresses");
        let members = Mutex::new(Members { links, first: 0 });
        Self { shared: Arc::new(Shared { identity, settings, counters, members }) }
    }

    /// Asks, and waits for the answer for no longer than `timeout`.
    ///
    /// # Errors
    /// Any [`PdCallError`].
    pub async fn request(&self, request: &PdRequest, timeout: Duration) -> Result<PdReply, PdCallError> {
        let deadline = Instant::now() + timeout;
        let mut last = PdCallError::Unreachable { reason: "no time was left".to_owned() };
        // Each member twice: a leader that was named may have been tried already, before it led.
        let attempts = 2 * self.shared.members.lock().links.len() + 1;
        for _ in 0..attempts {
            if Instant::now() >= deadline {
                break;
            }
            let link = self.first();
            match ask(&link, request, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(PdCallError::Refused(PdError::NotLeader { leader: Some(leader) }))
                    if leader != link.target().address =>
                {
                    self.follow(leader.clone());
                    last = PdCallError::Refused(PdError::NotLeader { leader: Some(leader) });
                }
                Err(
                    error @ (PdCallError::Refused(PdError::NotLeader { .. })
                    | PdCallError::Unreachable { .. }),
                ) => {
                    self.turn_from(&link);
                    last = error;
                }
                Err(error @ PdCallError::NoAnswer { .. }) => {
                    self.turn_from(&link);
                    return Err(error);
                }
                Err(error @ PdCallError::Refused(_)) => return Err(error),
            }
        }
        Err(last)
    }

    fn first(&self) -> Arc<Channel> {
        let members = self.shared.members.lock();
        Arc::clone(&members.links[members.first])
    }

    /// Asks the next member first from now on, if `link` is still the one that would be.
    fn turn_from(&self, link: &Arc<Channel>) {
        let mut members = self.shared.members.lock();
        if Arc::ptr_eq(&members.links[members.first], link) {
            members.first = (members.first + 1) % members.links.len();
        }
    }

    /// Asks the member at this address first from now on.
    fn follow(&self, leader: String) {
        let shared = &self.shared;
        let mut members = shared.members.lock();
        let known = members.links.iter().position(|link| link.target().address == leader);
        members.first = known.unwrap_or_else(|| {
            let counters = Arc::clone(&shared.counters);
            let link = Channel::new(Target::any(leader), shared.identity, shared.settings.clone(), counters);
            if members.links.len() >= MEMBERS_MAX {
                members.links.pop();
            }
            members.links.push(Arc::new(link));
            members.links.len() - 1
        });
    }
}

async fn ask(link: &Channel, request: &PdRequest, deadline: Instant) -> Result<PdReply, PdCallError> {
    let unreachable = |reason: &dyn fmt::Display| PdCallError::Unreachable {
        reason: format!("{}: {reason}", link.target().address),
    };
    let connection = match tokio::time::timeout_at(deadline, link.connection()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&"no connection in time")),
    };
    let timeout = deadline.saturating_duration_since(Instant::now());
    match connection.pd(request, timeout).await {
        Ok(PdResponse::Ok(reply)) => Ok(reply),
        Ok(PdResponse::Err(error)) => Err(PdCallError::Refused(error)),
        Err(error) if error.may_have_been_done() => {
            Err(PdCallError::NoAnswer { reason: error.to_string(), timed_out: error == CallError::Timeout })
        }
        Err(error) => Err(unreachable(&error)),
    }
}

impl fmt::Debug for PdClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.shared.members.lock();
        let addresses: Vec<&str> = members.links.iter().map(|link| &*link.target().address).collect();
        f.debug_struct("PdClient").field("members", &addresses).field("first", &members.first).finish()
    }
}
