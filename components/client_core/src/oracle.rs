//! Timestamps from the placement driver, many for one request.
//!
//! One request is under way at a time, and whoever comes meanwhile shares the next. So nobody gets a timestamp of a request
//! that left before the call for it began: that one might be older than something that was committed, and seen, by then.
//!
//! Nor does a request leave before those who are ready have had their turn: answers come many at once, and whoever is woken
//! by one mostly asks again. Else the first would ask for itself alone, and from then on go its way apart from the others: to
//! stores too, where what comes together is written together.

use crate::backoff::Class;
use crate::call::{Call, Effect};
use crate::core::Core;
use crate::error::Error;
use crate::port::Rpc;
use crate::router::{PdFailure, pd_once, unexpected};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Shared, select};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use types::Timestamp;
use wire::pd::{PdReply, PdRequest};

/// So many share a request at most; the placement driver gives some ten times as many at once.
const SEATS_MAX: u32 = 4096;

/// A request for timestamps. Whoever waits for it drives it, as with lookups.
type Asked = Shared<BoxFuture<'static, Result<Timestamp, PdFailure>>>;

/// How many wait for a request that has not left; `None` once it has.
type Seats = Arc<Mutex<Option<u32>>>;

/// The latest request, and the latest timestamp that was seen.
#[derive(Default)]
pub(crate) struct Oracle {
    newest: Option<(Seats, Asked)>,
    largest: Timestamp,
}

impl Oracle {
    /// A place in the next request to leave, counted from zero.
    fn join(&mut self, rpc: &Arc<dyn Rpc>, timeout: Duration) -> (u32, Asked) {
        if let Some((seats, asked)) = &self.newest
            && let Some(taken) = &mut *seats.lock()
            && *taken < SEATS_MAX
        {
            *taken += 1;
            return (*taken - 1, asked.clone());
        }
        let seats = Seats::new(Mutex::new(Some(1)));
        let before = self.newest.take().map(|(_, asked)| asked);
        let (rpc, closing) = (Arc::clone(rpc), Arc::clone(&seats));
        let asked = async move {
            if let Some(before) = before {
                // Whatever came of it.
                let _ = before.await;
            }
            let count = closing.lock().take().expect("a request leaves once");
            match pd_once(&*rpc, PdRequest::GetTimestamps { count }, timeout).await? {
                // The last one of those that were given; the others lie right before it.
                PdReply::Timestamp(last) if last.logical() + 1 >= count.into() => {
                    Ok(Timestamp(last.0 + 1 - u64::from(count)))
                }
                PdReply::Timestamp(last) => {
                    let message = format!("the placement driver gave {count} timestamps up to {last:?}");
                    Err(PdFailure::Never(Error::UnexpectedAnswer { message }))
                }
                other => {
                    let message = unexpected(&other).to_owned();
                    Err(PdFailure::Never(Error::UnexpectedAnswer { message }))
                }
            }
        };
        let asked = asked.boxed().shared();
        self.newest = Some((seats, asked.clone()));
        (0, asked)
    }
}

impl Core {
    /// A timestamp, later than any that was given to anybody before this call.
    pub(crate) async fn timestamp(&self, deadline: Duration) -> Result<Timestamp, Error> {
        self.timestamp_for(&mut self.begin(Effect::Read, deadline)).await
    }

    /// The same within another call.
    pub(crate) async fn timestamp_for(&self, call: &mut Call) -> Result<Timestamp, Error> {
        loop {
            let largest = self.shared.oracle.lock().largest;
            let (place, asked) = {
                let timeout = self.shared.options.pd_attempt_timeout;
                self.shared.oracle.lock().join(&self.shared.rpc, timeout)
            };
            self.shared.spawn.let_others_go().await;
            let remaining = self.remaining(call)?;
            match select(asked, self.shared.timers.sleep(remaining)).await {
                Either::Right(_) => return Err(call.expired()),
                Either::Left((Err(PdFailure::Never(error)), _)) => return Err(error),
                Either::Left((Err(PdFailure::Later { cause, after }), _)) => {
                    self.pause(call, Class::Pd, cause, after).await?;
                }
                Either::Left((Ok(first), _)) => {
                    let timestamp = Timestamp(first.0 + u64::from(place));
                    if timestamp <= largest {
                        let message = format!("{timestamp:?} was given after {largest:?}");
                        return Err(Error::UnexpectedAnswer { message });
                    }
                    let mut oracle = self.shared.oracle.lock();
                    oracle.largest = oracle.largest.max(timestamp);
                    return Ok(timestamp);
                }
            }
        }
    }
}
