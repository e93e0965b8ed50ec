//! The messages between the peers of one group. None moves by itself.

use raft::{Body, Message, VoteKind};
use std::collections::{BTreeMap, BTreeSet};
use types::PeerId;

/// Which messages are meant. What is not named is any.
#[derive(Clone, Default, Debug)]
pub(crate) struct Filter {
    pub(crate) from: Vec<PeerId>,
    pub(crate) to: Vec<PeerId>,
    pub(crate) kinds: Vec<String>,
}

impl Filter {
    fn matches(&self, message: &Message) -> bool {
        let any = |list: &[PeerId], id| list.is_empty() || list.contains(&id);
        any(&self.from, message.from)
            && any(&self.to, message.to)
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind(&message.body)))
    }
}

/// What a kind of message is called in stories.
pub(crate) fn kind(body: &Body) -> &'static str {
    match body {
        Body::Append { .. } => "append",
        Body::AppendResp { .. } => "append-resp",
        Body::Vote { kind: VoteKind::Pre, .. } => "pre-vote",
        Body::Vote { .. } => "vote",
        Body::VoteResp { pre: true, .. } => "pre-vote-resp",
        Body::VoteResp { .. } => "vote-resp",
        Body::Heartbeat { .. } => "heartbeat",
        Body::HeartbeatResp { .. } => "heartbeat-resp",
        Body::Snapshot { .. } => "snapshot",
        Body::TimeoutNow => "timeout-now",
        Body::ReadIndex { .. } => "read-index",
        Body::ReadIndexResp { .. } => "read-index-resp",
    }
}

#[derive(Default)]
pub(crate) struct Network {
    /// On their way, in the order in which they were sent.
    flying: Vec<Message>,
    /// Directed links that lose everything.
    cut: BTreeSet<(PeerId, PeerId)>,
    /// Taken out of the flow under a name, until they are brought back.
    aside: BTreeMap<String, Vec<Message>>,
}

impl Network {
    /// What is sent over a link that is cut is lost.
    pub(crate) fn send(&mut self, message: Message) {
        if !self.cut.contains(&(message.from, message.to)) {
            self.flying.push(message);
        }
    }

    /// Takes the oldest message whose link is open.
    pub(crate) fn next_open(&mut self) -> Option<Message> {
        let cut = &self.cut;
        let at = self.flying.iter().position(|message| !cut.contains(&(message.from, message.to)))?;
        Some(self.flying.remove(at))
    }

    /// Takes up to `count` messages that `filter` names, oldest first; over a link that is cut only when sender and receiver
    /// are both named.
    pub(crate) fn take(&mut self, filter: &Filter, count: usize) -> Vec<Message> {
        let named = !filter.from.is_empty() && !filter.to.is_empty();
        let mut taken = Vec::new();
        let mut at = 0;
        while at < self.flying.len() && taken.len() < count {
            let message = &self.flying[at];
            let open = named || !self.cut.contains(&(message.from, message.to));
            if open && filter.matches(message) {
                taken.push(self.flying.remove(at));
            } else {
                at += 1;
            }
        }
        taken
    }

    /// What is on its way and `filter` names.
    pub(crate) fn flying(&self, filter: &Filter) -> Vec<Message> {
        self.flying.iter().filter(|message| filter.matches(message)).cloned().collect()
    }

    pub(crate) fn set_aside(&mut self, name: &str, messages: Vec<Message>) {
        self.aside.entry(name.to_owned()).or_default().extend(messages);
    }

    /// What was set aside under `name`; a copy stays.
    pub(crate) fn aside(&self, name: &str) -> Option<Vec<Message>> {
        self.aside.get(name).cloned()
    }

    pub(crate) fn cut(&mut self, from: PeerId, to: PeerId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}
