//! Stories in words: a command per line. `tests/scenarios/main.rs` explains them.

use super::{Fault, Filter, Group, show};
use bytes::Bytes;
use raft::{ConfChange, ConfChangeKind, ConfChangeOp, ConfState, EntryId, HardState, Role, Transition};
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, Term};

/// One line of a story: `name 1 2 key=value key=(value,value) flag`.
#[derive(Clone, Default, Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    /// Values by key; a peer or a flag is a key without values.
    pub(crate) args: BTreeMap<String, Vec<String>>,
}

impl Command {
    /// Reads a line; nothing for an empty one or a remark.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, Fault> {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { return Ok(None) };
        let mut args = BTreeMap::new();
        for word in words {
            let (key, values) = word.split_once('=').unwrap_or((word, ""));
            let values = values.trim_start_matches('(').trim_end_matches(')').split(',');
            let values = values.filter(|value| !value.is_empty()).map(str::to_owned).collect();
            if args.insert(key.to_owned(), values).is_some() {
                return Err(format!("{key} stands twice in: {line}"));
            }
        }
        Ok(Some(Self { name: name.to_owned(), args }))
    }

    fn take(&mut self, key: &str) -> Option<Vec<String>> {
        self.args.remove(key)
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(key).is_some()
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(mut values) if values.len() == 1 => Ok(values.pop()),
            Some(_) => Err(format!("{}: {key} needs one value", self.name)),
        }
    }

    fn number(&mut self, key: &str) -> Result<Option<u64>, Fault> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{}: {key} is no number", self.name))
    }

    fn numbers(&mut self, key: &str) -> Result<Vec<u64>, Fault> {
        let values = self.take(key).unwrap_or_default();
        let parsed: Result<_, _> = values.iter().map(|value| value.parse()).collect();
        parsed.map_err(|_| format!("{}: {key} is no list of numbers", self.name))
    }

    fn peer_list(&mut self, key: &str) -> Result<Vec<PeerId>, Fault> {
        Ok(self.numbers(key)?.into_iter().map(PeerId).collect())
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| format!("{} needs {key}", self.name))
    }

    /// The peers that are named without a key.
    fn peers(&mut self) -> Vec<PeerId> {
        let mut ids: Vec<PeerId> = self.args.keys().filter_map(|key| key.parse().ok()).map(PeerId).collect();
        ids.sort_unstable();
        self.args.retain(|key, _| key.parse::<u64>().is_err());
        ids
    }

    fn peer(&mut self) -> Result<PeerId, Fault> {
        match self.peers()[..] {
            [id] => Ok(id),
            _ => Err(format!("{} needs one peer", self.name)),
        }
    }

    fn filter(&mut self) -> Result<Filter, Fault> {
        Ok(Filter {
            from: self.peer_list("from")?,
            to: self.peer_list("to")?,
            kinds: self.take("type").unwrap_or_default(),
        })
    }

    /// Nothing is left over that nobody understood.
    fn done(&self) -> Result<(), Fault> {
        match self.args.keys().next() {
            None => Ok(()),
            Some(key) => Err(format!("{} knows no {key}", self.name)),
        }
    }
}

impl Group {
    /// Carries out one line, and returns what happened.
    pub(crate) fn run(&mut self, mut command: Command) -> Result<String, Fault> {
        self.tell_messages = !command.flag("quietly");
        self.dispatch(&mut command)?;
        command.done()?;
        // A beginning is put together peer by peer.
        if command.name != "put-state" {
            self.check_committed()?;
        }
        Ok(show::lines(std::mem::take(&mut self.out)))
    }

    fn dispatch(&mut self, command: &mut Command) -> Result<(), Fault> {
        match command.name.as_str() {
            "add-nodes" => self.add_nodes(command),
            "add-newcomer" => {
                let id = command.peer()?;
                self.add_newcomer(id)
            }
            "put-state" => self.put_state_of(command),
            "campaign" | "transfer" | "propose" | "conf-change" | "leave-joint" | "read-index" | "lease"
            | "forget-leader" | "ping" | "unreachable" | "snapshot-report" | "elect" => self.ask(command),
            "tick" | "pass" | "run" => self.time(command),
            "drift" => {
                self.drift_percent = command.number("percent")?;
                Ok(())
            }
            "deliver" | "drop" | "repeat" | "set-aside" | "bring" | "settle" | "network" | "partition"
            | "isolate" | "cut" | "heal" => self.messages(command),
            "hold" | "release" | "write" | "persist" | "report" | "apply" | "crash" | "restart"
            | "compact" | "snapshots" => self.disk(command),
            "status" | "log" | "progress" | "members" | "writes" => self.show(command),
            other => Err(format!("there is no command {other}")),
        }
    }

    // ---- beginnings ----

    fn add_nodes(&mut self, command: &mut Command) -> Result<(), Fault> {
        let conf = ConfState {
            learners: command.peer_list("learners")?,
            voters_outgoing: command.peer_list("outgoing")?,
            ..ConfState::of_voters(command.peer_list("voters")?)
        };
        let on = |value: Option<String>| value.is_none_or(|value| value != "off");
        self.config.pre_vote = on(command.text("pre-vote")?);
        self.config.check_quorum = on(command.text("check-quorum")?);
        self.config.lazy_commit = on(command.text("lazy-commit")?);
        let config = &mut self.config;
        let mut limit = |key, limit: &mut u64| -> Result<(), Fault> {
            *limit = command.number(key)?.unwrap_or(*limit);
            Ok(())
        };
        limit("seed", &mut config.seed)?;
        limit("message-bytes", &mut config.max_size_per_message)?;
        limit("inflight-bytes", &mut config.max_inflight_bytes)?;
        limit("uncommitted-bytes", &mut config.max_uncommitted_bytes)?;
        limit("page-bytes", &mut config.max_committed_bytes_per_ready)?;
        if let Some(messages) = command.number("inflight")? {
            config.max_inflight_messages = messages as usize;
        }
        let base = command.number("base")?.map(|index| EntryId::new(Term(1), LogIndex(index)));
        self.add_founders(&conf, base)
    }

    fn put_state_of(&mut self, command: &mut Command) -> Result<(), Fault> {
        let ids = command.peers();
        let terms = command.numbers("log")?;
        let term = command.number("term")?.or(terms.last().copied()).unwrap_or_default();
        let state = HardState {
            term: Term(term),
            vote: PeerId(command.number("vote")?.unwrap_or_default()),
            commit: LogIndex(command.number("commit")?.unwrap_or_default()),
            ..HardState::default()
        };
        let applied = command.number("applied")?.map_or(state.commit, LogIndex);
        ids.into_iter().try_for_each(|id| self.put_state(id, &terms, state, applied))
    }

    // ---- what one peer is asked to do ----

    fn ask(&mut self, command: &mut Command) -> Result<(), Fault> {
        let id = command.peer()?;
        let refused: Option<String> = match command.name.as_str() {
            "campaign" => self.node(id)?.campaign().err().map(|error| error.to_string()),
            "elect" => return self.elect(id),
            "transfer" => {
                let to = command.number("to")?;
                let to = PeerId(command.need("to", to)?);
                self.node(id)?.transfer_leader(to).err().map(|error| error.to_string())
            }
            "propose" => {
                let data = command.text("data")?.unwrap_or_default();
                match self.node(id)?.propose(Bytes::from(data)) {
                    Ok(at) => {
                        self.tell(format!("{id}: proposes {}", show::id(at)));
                        None
                    }
                    Err(error) => Some(error.to_string()),
                }
            }
            "conf-change" => {
                let change = change(command)?;
                self.propose_change(id, change)?
            }
            "leave-joint" => self.propose_change(id, ConfChange::default())?,
            "read-index" => {
                let token = command.number("token")?;
                return self.read(id, command.need("token", token)?);
            }
            "lease" => {
                let (lease, now) = (self.node(id)?.lease(), self.node(id)?.tick_count());
                self.tell(match lease {
                    Some(lease) => {
                        let age = now - lease.start_tick;
                        format!("{id}: lease of t{}, {age} ticks old", lease.term)
                    }
                    None => format!("{id}: no lease"),
                });
                return Ok(());
            }
            "forget-leader" => {
                self.node(id)?.forget_leader();
                None
            }
            "ping" => {
                self.node(id)?.ping();
                None
            }
            "unreachable" => {
                let peer = command.number("peer")?;
                let peer = PeerId(command.need("peer", peer)?);
                self.node(id)?.report_unreachable(peer);
                None
            }
            _ => {
                let peer = command.number("peer")?;
                let peer = PeerId(command.need("peer", peer)?);
                let ok = !command.flag("failed");
                self.node(id)?.report_snapshot(peer, ok);
                None
            }
        };
        if let Some(refused) = refused {
            self.tell(format!("{id}: refused: {refused}"));
        }
        self.turn(id)
    }

    fn propose_change(&mut self, id: PeerId, change: ConfChange) -> Result<Option<String>, Fault> {
        match self.node(id)?.propose_conf_change(change) {
            Ok(at) => {
                self.tell(format!("{id}: proposes {}", show::id(at)));
                Ok(None)
            }
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// `id` campaigns and wins, whatever is said on the way.
    fn elect(&mut self, id: PeerId) -> Result<(), Fault> {
        self.tell_messages = false;
        self.node(id)?.campaign().map_err(|error| error.to_string())?;
        self.settle()?;
        let status = self.node(id)?.status();
        if status.role == Role::Leader { Ok(()) } else { Err(format!("{id} did not win: {status:?}")) }
    }

    // ---- time ----

    fn time(&mut self, command: &mut Command) -> Result<(), Fault> {
        let ticks = command.number("n")?.unwrap_or(1);
        let mut ids = command.peers();
        if ids.is_empty() {
            ids = self.live();
        }
        match command.name.as_str() {
            "tick" => (0..ticks).try_for_each(|_| self.tick(&ids)),
            "pass" => self.pass(&ids, ticks),
            _ => {
                self.tell_messages = false;
                (0..ticks).try_for_each(|_| {
                    self.tick(&ids)?;
                    self.settle()
                })
            }
        }
    }

    // ---- messages ----

    fn messages(&mut self, command: &mut Command) -> Result<(), Fault> {
        match command.name.as_str() {
            "settle" => self.settle(),
            "heal" => {
                self.network.heal();
                Ok(())
            }
            "cut" => {
                let (from, to) = (command.peer_list("from")?, command.peer_list("to")?);
                for &from in &from {
                    to.iter().for_each(|&to| self.network.cut(from, to));
                }
                Ok(())
            }
            "isolate" => {
                for id in command.peers() {
                    self.separate(&[id]);
                }
                Ok(())
            }
            "partition" => {
                self.separate(&command.peers());
                Ok(())
            }
            "bring" => {
                let name = command.text("as")?;
                let name = command.need("as", name)?;
                let messages =
                    self.network.aside(&name).ok_or_else(|| format!("nothing was set aside as {name}"))?;
                messages.into_iter().try_for_each(|message| self.arrive(message))
            }
            _ => self.chosen_messages(command),
        }
    }

    /// Between `ids` and all others nothing passes.
    fn separate(&mut self, ids: &[PeerId]) {
        for other in self.ids().into_iter().filter(|other| !ids.contains(other)) {
            for &id in ids {
                self.network.cut(id, other);
                self.network.cut(other, id);
            }
        }
    }

    fn chosen_messages(&mut self, command: &mut Command) -> Result<(), Fault> {
        let count = command.number("n")?.map_or(usize::MAX, |count| count as usize);
        let reverse = command.flag("reversed");
        let name = command.text("as")?;
        let filter = command.filter()?;
        if command.name == "network" || command.name == "repeat" {
            let messages: Vec<_> = self.network.flying(&filter).into_iter().take(count).collect();
            for message in messages {
                if command.name == "network" {
                    self.tell(show::message(&message));
                } else {
                    self.arrive(message)?;
                }
            }
            return Ok(());
        }
        let mut messages = self.network.take(&filter, count);
        if messages.is_empty() {
            return Err(format!("{}: no such message", command.name));
        }
        if reverse {
            messages.reverse();
        }
        match command.name.as_str() {
            "deliver" => messages.into_iter().try_for_each(|message| self.arrive(message)),
            "set-aside" => {
                let name = command.need("as", name)?;
                self.network.set_aside(&name, messages);
                Ok(())
            }
            _ => {
                messages.iter().for_each(|message| self.tell(format!("{} (lost)", show::message(message))));
                Ok(())
            }
        }
    }

    // ---- disk and state machine ----

    fn disk(&mut self, command: &mut Command) -> Result<(), Fault> {
        let id = command.peer()?;
        let count = command.number("n")?.map_or(usize::MAX, |count| count as usize);
        match command.name.as_str() {
            "hold" => {
                let (writes, applies) = (command.flag("writes"), command.flag("applies"));
                let host = self.host(id)?;
                host.hold_writes |= writes;
                host.hold_applies |= applies;
                return Ok(());
            }
            "release" => {
                let host = self.host(id)?;
                (host.hold_writes, host.hold_applies) = (false, false);
            }
            "write" => self.write(id, count)?,
            "persist" => self.persist(id, count)?,
            "report" => {
                let seq = command.number("write")?;
                let seq = command.need("write", seq)?;
                self.report(id, seq)?;
            }
            "apply" => self.apply(id, count)?,
            "crash" => {
                let survive = command.number("survive")?.unwrap_or_default();
                return self.crash(id, survive as usize);
            }
            "restart" => {
                let applied = command.number("applied")?.map(LogIndex);
                return self.restart(id, applied);
            }
            "compact" => {
                let to = command.number("to")?;
                let hint = self.node(id)?.compaction_hint();
                let to = to.map_or(hint, LogIndex);
                self.host(id)?.compact(to);
                self.tell(format!("{id}: log begins after {to}"));
                self.observe(id)?;
            }
            _ => {
                let off = command.flag("off");
                let _ = command.flag("on");
                self.node(id)?.storage_mut().set_snapshot_unavailable(off);
                return Ok(());
            }
        }
        self.turn(id)
    }

    // ---- looking ----

    fn show(&mut self, command: &mut Command) -> Result<(), Fault> {
        let mut ids = command.peers();
        if ids.is_empty() {
            ids = self.ids();
        }
        for id in ids {
            let host = self.host(id)?;
            let mut lines = Vec::new();
            match (command.name.as_str(), &host.node) {
                ("log", _) => {
                    let entries: Vec<String> =
                        host.log.iter().map(|(&index, &term)| show::id(EntryId::new(term, index))).collect();
                    lines.push(format!("{id}: {}", entries.join(" ")));
                }
                ("writes", _) => {
                    lines
                        .extend(host.writes.iter().map(|job| format!("{id}: {}", show::append(&job.append))));
                }
                (_, None) => lines.push(format!("{id}: down")),
                ("status", Some(node)) => lines.push(show::status(&node.status())),
                ("members", Some(node)) => lines.push(format!("{id}: {}", show::members(node.conf_state()))),
                (_, Some(node)) => node.with_progress(&mut |of, view| {
                    if of != id {
                        lines.push(show::progress(of, &view));
                    }
                }),
            }
            lines.into_iter().for_each(|line| self.tell(line));
        }
        Ok(())
    }
}

fn change(command: &mut Command) -> Result<ConfChange, Fault> {
    let mut ops = Vec::new();
    for (key, kind) in [
        ("voter", ConfChangeKind::AddVoter),
        ("learner", ConfChangeKind::AddLearner),
        ("remove", ConfChangeKind::Remove),
    ] {
        ops.extend(command.peer_list(key)?.into_iter().map(|id| ConfChangeOp { kind, id }));
    }
    let transition = match command.text("joint")?.as_deref() {
        None => Transition::Auto,
        Some("implicit") => Transition::JointImplicit,
        Some("explicit") => Transition::JointExplicit,
        Some(other) => return Err(format!("joint is implicit or explicit, not {other}")),
    };
    Ok(ConfChange { transition, ops, ..ConfChange::default() })
}
