//! The turns of a placement driver: drain, read the clock, step, write, answer.

use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use ::pd::{Pd, PdInput};
use engine::Engine;
use env::Clock as _;
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::warn;
use types::MonoTime;
use wire::pd::{PdError, PdRequest, PdResponse};

/// How whoever asked is answered.
pub(crate) trait Respond {
    /// Gives the one answer.
    fn respond(self, response: &PdResponse);

    /// Does work that gives several answers, and wakes each connection once.
    fn together<T>(work: impl FnOnce() -> T) -> T;
}

impl Respond for transport::Responder {
    fn respond(self, response: &PdResponse) {
        self.respond_pd(response);
    }

    fn together<T>(work: impl FnOnce() -> T) -> T {
        transport::hold_wakes(work)
    }
}

/// Who looks on while turns are taken: metrics, status pages.
pub(crate) trait Watch<E: Engine> {
    /// What is to be known of a request when it is answered.
    type Kind;

    /// Of which kind a request is.
    fn kind(&self, request: &PdRequest) -> Self::Kind;

    /// A request that came at `since` is being answered.
    fn answered(&self, kind: Self::Kind, since: MonoTime, now: MonoTime, response: &PdResponse);

    /// The log was synced from `begun` to `done`.
    fn synced(&self, begun: MonoTime, done: MonoTime);

    /// A turn has ended, and so many requests wait.
    fn turned(&mut self, now: MonoTime, pd: &Pd<E>, waiting: usize);
}

/// A request on its way to the thread.
pub(crate) struct Asked<R> {
    pub(crate) request: PdRequest,
    pub(crate) responder: R,
    /// When it arrived.
    pub(crate) since: MonoTime,
}

/// Who awaits an answer.
struct Waiting<R, K> {
    responder: R,
    kind: K,
    since: MonoTime,
}

/// Takes turns until the inbox is closed and empty: all that was asked meanwhile (up to `inputs_max` requests) becomes
/// one step. Then whoever still waits is told that nothing was done for them. `wall_ms` is the clock that timestamps
/// follow.
pub(crate) fn run<E: Engine, R: Respond, W: Watch<E>>(
    inbox: &Mailbox<Asked<R>>,
    engine: &E,
    mut pd: Pd<E>,
    inputs_max: usize,
    wall_ms: impl Fn() -> u64,
    watch: &mut W,
) {
    let mut asked: Vec<Asked<R>> = Vec::new();
    let mut inputs: Vec<PdInput> = Vec::new();
    let mut waiting: BTreeMap<u64, Waiting<R, W::Kind>> = BTreeMap::new();
    let mut next_token = 0;
    loop {
        // What became durable in the last turn does not wait for anything else.
        let wait = match inputs.is_empty() {
            true => pd.next_deadline().since(BootClock.now()),
            false => Duration::ZERO,
        };
        if inbox.drain(&mut asked, inputs_max, Some(wait)) == Drained::Closed {
            break;
        }
        for Asked { request, responder, since } in asked.drain(..) {
            next_token += 1;
            waiting.insert(next_token, Waiting { responder, kind: watch.kind(&request), since });
            inputs.push(PdInput::Request { token: next_token, request });
        }
        // After the inbox was drained: no input is younger than this.
        let now = BootClock.now();
        let effects = pd.step(now, wall_ms(), &mut inputs);
        let effects = effects.unwrap_or_else(|error| fatal("the placement driver's turn", &error));
        answer(watch, &mut waiting, effects.replies);
        if !effects.messages.is_empty() {
            // Of a group with one member, nobody is there to hear it.
            warn!(messages = effects.messages.len(), "messages to other members are dropped");
        }
        if let Some(append) = effects.append {
            engine.write(&append.batch).unwrap_or_else(|error| fatal("writing the log", &error));
            if append.must_sync {
                let begun = BootClock.now();
                engine.sync().unwrap_or_else(|error| fatal("syncing the log", &error));
                watch.synced(begun, BootClock.now());
            }
            inputs.push(PdInput::Persisted(append.token));
        }
        watch.turned(now, &pd, waiting.len());
    }
    // Nothing is decided for these; they can be asked again, here or elsewhere.
    let busy = |token| (token, PdResponse::Err(PdError::ServerIsBusy { backoff_ms: 100 }));
    let left: Vec<_> = waiting.keys().copied().map(busy).collect();
    answer(watch, &mut waiting, left);
}

fn answer<E: Engine, R: Respond, W: Watch<E>>(
    watch: &W,
    waiting: &mut BTreeMap<u64, Waiting<R, W::Kind>>,
    replies: Vec<(u64, PdResponse)>,
) {
    if replies.is_empty() {
        return;
    }
    let now = BootClock.now();
    R::together(|| {
        for (token, response) in replies {
            let Some(Waiting { responder, kind, since }) = waiting.remove(&token) else {
                warn!(token, "an answer to no request");
                continue;
            };
            watch.answered(kind, since, now, &response);
            responder.respond(&response);
        }
    });
}
