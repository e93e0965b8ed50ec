//! How things read in a story. An entry is `index@term`.

use codec::Decode;
use raft::{
    Append, Body, ConfChange, ConfChangeKind, ConfState, Entry, EntryId, EntryKind, Message, ProgressState,
    ProgressView, Role, Status, Transition, VoteKind,
};
use std::fmt::Write;
use types::{LogIndex, PeerId};

/// One text of these lines; what several peers do alike, one right after the other, is told once.
pub(crate) fn lines(lines: Vec<String>) -> String {
    let mut merged: Vec<(String, String)> = Vec::new();
    for line in lines {
        // Messages have no colon after a bare number.
        let (who, what) = match line.split_once(": ") {
            Some((who, what)) if who.bytes().all(|byte| byte.is_ascii_digit()) => (who, what),
            _ => ("", line.as_str()),
        };
        match merged.last_mut() {
            Some((all, same)) if !who.is_empty() && same == what => {
                all.push(' ');
                all.push_str(who);
            }
            _ => merged.push((who.to_owned(), what.to_owned())),
        }
    }
    let line = |(who, what): (String, String)| {
        if who.is_empty() { format!("{what}\n") } else { format!("{who}: {what}\n") }
    };
    merged.into_iter().map(line).collect()
}

pub(crate) fn id(id: EntryId) -> String {
    format!("{}@{}", id.index, id.term)
}

pub(crate) fn entry(entry: &Entry) -> String {
    let what = match entry.kind {
        EntryKind::ConfChange => match ConfChange::from_bytes(&entry.data) {
            Ok(change) => format!(" {}", self::change(&change)),
            Err(_) => " (no change)".to_owned(),
        },
        EntryKind::Normal if entry.data.is_empty() => String::new(),
        EntryKind::Normal => format!(" {}", String::from_utf8_lossy(&entry.data)),
    };
    format!("{}{what}", id(entry.id()))
}

pub(crate) fn change(change: &ConfChange) -> String {
    if change.ops.is_empty() {
        return "leave-joint".to_owned();
    }
    let how = match change.transition {
        Transition::Auto => "",
        Transition::JointImplicit => "joint ",
        Transition::JointExplicit => "joint-explicit ",
    };
    let ops: Vec<String> = change
        .ops
        .iter()
        .map(|op| {
            let kind = match op.kind {
                ConfChangeKind::AddVoter => "voter",
                ConfChangeKind::AddLearner => "learner",
                ConfChangeKind::Remove => "remove",
            };
            format!("{kind} {}", op.id)
        })
        .collect();
    format!("{how}{}", ops.join(" "))
}

fn list(ids: &[PeerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(crate) fn members(conf: &ConfState) -> String {
    let mut out = format!("voters {}", list(&conf.voters));
    if conf.is_joint() {
        write!(out, " and {}", list(&conf.voters_outgoing)).expect("into a string");
    }
    for (name, ids) in [(", learners ", &conf.learners), (", learners next ", &conf.learners_next)] {
        if !ids.is_empty() {
            write!(out, "{name}{}", list(ids)).expect("into a string");
        }
    }
    if conf.auto_leave {
        out.push_str(", leaves by itself");
    }
    out
}

pub(crate) fn body(body: &Body) -> String {
    match body {
        Body::Append { prev, entries, commit } => {
            let entries: Vec<String> = entries.iter().map(entry).collect();
            let entries = if entries.is_empty() { "nothing".to_owned() } else { entries.join(", ") };
            format!("append after {}: {entries}; commit {commit}", id(*prev))
        }
        Body::AppendResp { reject: Some(reject), .. } => {
            format!("refuses to append after {}, hint {}", reject.rejected, id(reject.hint))
        }
        Body::AppendResp { index: LogIndex(0), .. } => "only tells its term".to_owned(),
        Body::AppendResp { index, .. } => format!("stored {index}"),
        Body::Vote { kind, last, commit } => {
            let kind = match kind {
                VoteKind::Pre => "would you vote".to_owned(),
                VoteKind::Real => "vote".to_owned(),
                VoteKind::Transfer { leader_term } => format!("vote, handed over in term {leader_term}"),
            };
            format!("{kind}? last {}, commit {}", id(*last), commit.index)
        }
        Body::VoteResp { pre, reject, .. } => {
            let would = if *pre { "would " } else { "" };
            let answer = if *reject { "no" } else { "yes" };
            format!("{would}vote: {answer}")
        }
        Body::Heartbeat { commit, round } => format!("heartbeat {round}, commit {commit}"),
        Body::HeartbeatResp { round, .. } => format!("heard {round}"),
        Body::Snapshot { snapshot } => {
            let at = EntryId::new(snapshot.meta.term, snapshot.meta.index);
            format!("snapshot at {}, {}", id(at), members(&snapshot.meta.conf_state))
        }
        Body::TimeoutNow => "campaign now".to_owned(),
        Body::ReadIndex { .. } => "read index?".to_owned(),
        Body::ReadIndexResp { reject: true, .. } => "read index: no".to_owned(),
        Body::ReadIndexResp { index, .. } => format!("read index: {index}"),
    }
}

pub(crate) fn message(message: &Message) -> String {
    let Message { from, to, term, .. } = message;
    format!("{from}>{to} t{term} {}", body(&message.body))
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

pub(crate) fn append(append: &Append) -> String {
    let mut parts = Vec::new();
    if let Some(snapshot) = &append.snapshot {
        parts.push(format!("snapshot {}", id(EntryId::new(snapshot.meta.term, snapshot.meta.index))));
    }
    if !append.entries.is_empty() {
        parts.push(append.entries.iter().map(entry).collect::<Vec<_>>().join(", "));
    }
    if let Some(state) = append.hard_state {
        parts.push(format!("term {} vote {} commit {}", state.term, state.vote, state.commit));
    }
    format!("write {}: {}", append.token.seq, parts.join("; "))
}

pub(crate) fn status(status: &Status) -> String {
    let lead = match (status.role, status.lead) {
        (Role::Follower, lead) if !lead.is_zero() => format!(" of {lead}"),
        _ => String::new(),
    };
    format!(
        "{}: {}{lead} t{} vote {}, last {}, durable {}, committed {}, applied {}",
        status.id,
        role(status.role),
        status.term,
        status.vote,
        id(status.last),
        status.persisted,
        status.committed,
        status.applied
    )
}

pub(crate) fn progress(of: PeerId, view: &ProgressView) -> String {
    let state = match view.state {
        ProgressState::Probe => "probe".to_owned(),
        ProgressState::Replicate => "replicate".to_owned(),
        ProgressState::Snapshot { index } => format!("snapshot {index}"),
    };
    let mut out = format!("{of}: {state}, matched {}, next {}", view.matched, view.next);
    if view.inflight_messages > 0 {
        write!(out, ", {} on the way", view.inflight_messages).expect("into a string");
    }
    if view.learner {
        out.push_str(", learner");
    }
    if !view.active {
        out.push_str(", silent");
    }
    out
}
