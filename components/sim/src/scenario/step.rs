//! The steps of a scenario, and how each is read.

use super::words::{Names, Who, disk_hurt, passage, span, thread, topics};
use crate::disk::DiskHurt;
use crate::fields::{Fields, Unreadable};
use crate::gate::Passage;
use crate::kernel::{CrashKind, NodeId};
use crate::nodes::Thread;
use crate::script::Topic;
use std::time::Duration;

/// What a client is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    Put(String, String),
    Get(String),
    Delete(String),
    Swap(String, Option<String>, Option<String>),
    Scan { reverse: bool },
    Timestamp,
    Split(String),
    Transfer(String, Who),
    AddPeer(String, Who),
    RemovePeer(String, Who),
    TransferPeer(String, Who, Who),
    CancelOperator(String),
    CompactLog(String),
}

/// How a call is to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Expected {
    /// It is done.
    Ok,
    /// The key holds one of these; `None` is nothing.
    Values(Vec<Option<String>>),
    /// A scan finds these pairs.
    Pairs(Vec<(String, String)>),
    /// A swap found what it expected, or not.
    Swapped(bool),
    /// Nothing was done, and what the client is told holds these words.
    Refused(String),
    /// Nobody knows.
    Unknown,
    /// Whatever it is.
    Any,
}

/// Something that is so or not, at a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// This store leads the region of the key: of those that believe to, it has the highest term of the newest region.
    Leader(String, Who),
    /// Another store leads the region of the key.
    Deposed(String, Who),
    /// This store believes to lead the region of the key.
    Leads(String, Who),
    /// This store would answer a read of the key by its lease.
    Lease(String, Who),
    /// This store has a copy of the region of the key.
    Copy(String, Who),
    /// This store has applied as much of the key's region as its leader.
    Applied(String, Who),
    /// The voters of the key's region, as its leader has it, are on exactly these stores, and nobody is a learner.
    Voters(String, Vec<Who>),
    /// There are at least so many regions.
    Regions(u64),
    /// The placement driver takes this store for the leader of the key's region.
    Known(String, Who),
    /// This member of the placement driver was elected last.
    PdLeader(Who),
    /// The node is up.
    Up(Who),
    /// Its process has ended by itself at some time.
    Ended(Who),
    /// The call has its answer.
    Answered(String),
    /// So many messages have come to the gate, at least.
    Seen(String, u64),
    /// So many messages wait at the gate, at least.
    Held(String, u64),
    /// So many operations of clients were done, at least.
    Done(u64),
    /// So many snapshots took the place of what a peer held, at least.
    Snapshots(u64),
    /// Logs were cut at their beginning so often, at least.
    Compactions(u64),
    /// Peers fell asleep so often, at least.
    Sleeps(u64),
    /// Regions cover all keys, and all their members have applied what their leaders have.
    Agreed,
}

/// Who is given a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Leader(String),
    /// The first voter of the key's region that does not lead and has no name yet.
    Follower(String),
    PdLeader,
    /// The first member that does not lead and has no name yet.
    PdFollower,
}

/// Directions of messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Links {
    pub(super) from: Vec<Who>,
    pub(super) to: Vec<Who>,
    /// Back as well.
    pub(super) both: bool,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Request { request: Request, by: NodeId, expected: Expected },
    Begin { name: String, request: Request, by: NodeId },
    End { name: String, expected: Expected },
    Load { by: NodeId, keys: Vec<String>, rest: Duration },
    EndLoad,
    Run(Duration),
    Wait { condition: Condition, wanted: bool, within: Duration },
    Expect { condition: Condition, wanted: bool },
    Name { name: String, role: Role },
    Lead { key: String, who: Who },
    Cut { links: Links, cut: bool },
    Slow { links: Links, by: Duration },
    Heal,
    Crash { nodes: Vec<Who>, kind: CrashKind },
    Restart(Vec<Who>),
    Freeze { who: Who, lasts: Duration },
    Thaw(Who),
    Drift { who: Who, ppm: i64 },
    WallJump { who: Who, ms: i64 },
    Disk { nodes: Vec<Who>, hurt: DiskHurt },
    Hold { who: Who, thread: Thread, still: bool },
    Gate { name: String, passage: Passage, topics: Vec<Topic>, from: Option<Who>, to: Option<Who> },
    Open { name: String, lost: bool },
    Check,
}

/// How long is waited where nobody says.
pub(super) const WITHIN: Duration = Duration::from_secs(60);

/// All steps, those of requests but for them.
const STEPS: [&str; 27] = [
    "begin",
    "check",
    "crash",
    "cut",
    "disk",
    "drift",
    "drop",
    "end",
    "end-load",
    "expect",
    "freeze",
    "gate",
    "go-on",
    "heal",
    "hold",
    "lead",
    "load",
    "mend",
    "name",
    "open",
    "power-loss",
    "restart",
    "run",
    "slow",
    "thaw",
    "wait",
    "wall-jump",
];

const REQUESTS: [&str; 13] = [
    "add-peer",
    "cancel-operator",
    "compact-log",
    "delete",
    "get",
    "put",
    "remove-peer",
    "scan",
    "split",
    "swap",
    "timestamp",
    "transfer",
    "transfer-peer",
];

const CONDITIONS: [(&str, &str); 20] = [
    ("agreed", "agreed"),
    ("answered", "answered CALL"),
    ("applied", "applied KEY STORE"),
    ("compactions", "compactions NUMBER"),
    ("copy", "copy KEY STORE"),
    ("deposed", "deposed KEY STORE"),
    ("done", "done NUMBER"),
    ("ended", "ended NODE"),
    ("held", "held GATE NUMBER"),
    ("known", "known KEY STORE"),
    ("leader", "leader KEY STORE"),
    ("leads", "leads KEY STORE"),
    ("lease", "lease KEY STORE"),
    ("pd-leader", "pd-leader MEMBER"),
    ("regions", "regions NUMBER"),
    ("seen", "seen GATE NUMBER"),
    ("sleeps", "sleeps NUMBER"),
    ("snapshots", "snapshots NUMBER"),
    ("up", "up NODE"),
    ("voters", "voters KEY STORES"),
];

/// The words of a line that nobody has asked for yet.
struct Words<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self { words: text.split_whitespace().collect::<Vec<_>>().into_iter().peekable() }
    }

    fn next(&mut self, what: &str) -> Result<&'a str, Unreadable> {
        self.words.next().ok_or_else(|| Unreadable(format!("{what} is missing")))
    }

    /// This word, or another one is read as something else.
    fn takes(&mut self, word: &str) -> bool {
        self.words.next_if(|next| *next == word).is_some()
    }

    fn end(mut self) -> Result<(), Unreadable> {
        match self.words.next() {
            Some(word) => Err(Unreadable(format!("{word:?} is too much"))),
            None => Ok(()),
        }
    }

    fn fields(self) -> Result<Fields<'a>, Unreadable> {
        Fields::parse(self.words)
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let word = self.next("a number")?;
        word.parse().map_err(|_| Unreadable(format!("{word:?} is not a number that fits")))
    }
}

fn value(word: &str) -> Option<String> {
    (word != "-").then(|| word.to_owned())
}

fn pair(word: &str) -> Result<(String, String), Unreadable> {
    let pair = word.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
    let (key, value) = pair.ok_or_else(|| Unreadable(format!("{word:?} is not KEY=VALUE")))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A name that was not given before.
fn new_name(word: &str, taken: &mut Vec<String>) -> Result<String, Unreadable> {
    let is_word = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_number = word.len() > 1 && word[1..].bytes().all(|byte| byte.is_ascii_digit());
    if !is_word || is_number || ["others", "all"].contains(&word) {
        return Err(Unreadable(format!(
            "{word:?} cannot be a name; letters and hyphens can, but not as in s1"
        )));
    }
    if taken.iter().any(|name| name == word) {
        return Err(Unreadable(format!("the name {word:?} was given above")));
    }
    taken.push(word.to_owned());
    Ok(word.to_owned())
}

impl Request {
    fn parse(verb: &str, words: &mut Words<'_>, names: &Names) -> Result<Self, Unreadable> {
        let mut key = || words.next("a key").map(str::to_owned);
        Ok(match verb {
            "put" => {
                let (key, value) = pair(words.next("KEY=VALUE")?)?;
                Self::Put(key, value)
            }
            "get" => Self::Get(key()?),
            "delete" => Self::Delete(key()?),
            "swap" => {
                let key = key()?;
                Self::Swap(key, value(words.next("what it holds")?), value(words.next("what it is to hold")?))
            }
            "scan" => Self::Scan { reverse: words.takes("reverse") },
            "timestamp" => Self::Timestamp,
            "split" => Self::Split(key()?),
            "transfer" => Self::Transfer(key()?, names.node(words.next("a store")?)?),
            "add-peer" => Self::AddPeer(key()?, names.node(words.next("a store")?)?),
            "remove-peer" => Self::RemovePeer(key()?, names.node(words.next("a store")?)?),
            "transfer-peer" => {
                let key = key()?;
                let from = names.node(words.next("a store")?)?;
                Self::TransferPeer(key, from, names.node(words.next("another store")?)?)
            }
            "cancel-operator" => Self::CancelOperator(key()?),
            "compact-log" => Self::CompactLog(key()?),
            _ => {
                let all = REQUESTS.join(", ");
                return Err(Unreadable(format!("{verb:?} is no request; one of {all} is")));
            }
        })
    }

    /// What is expected where nobody says.
    fn usual(&self) -> Expected {
        match self {
            Self::Swap(..) => Expected::Swapped(true),
            _ => Expected::Ok,
        }
    }

    fn expected(&self, text: Option<&str>) -> Result<Expected, Unreadable> {
        let Some(text) = text else { return Ok(self.usual()) };
        if let Some(expected) = Expected::parse(text)? {
            return Ok(expected);
        }
        let wrong = |what: &str| Unreadable(format!("{text:?} is no end of this request; {what} is"));
        let ends = "ok, any, unknown or refused";
        match self {
            Self::Get(_) if text.split_whitespace().count() == 1 => {
                Ok(Expected::Values(text.split('|').map(value).collect()))
            }
            Self::Get(_) => Err(wrong("a value, several as A|B, or - for none")),
            Self::Scan { .. } if text == "-" => Ok(Expected::Pairs(Vec::new())),
            Self::Scan { .. } => {
                text.split_whitespace().map(pair).collect::<Result<_, _>>().map(Expected::Pairs)
            }
            Self::Swap(..) => match text {
                "swapped" => Ok(Expected::Swapped(true)),
                "kept" => Ok(Expected::Swapped(false)),
                _ => Err(wrong(&format!("swapped, kept, {ends}"))),
            },
            _ => Err(wrong(ends)),
        }
    }
}

impl Expected {
    /// The ends that every call may have.
    fn parse(text: &str) -> Result<Option<Self>, Unreadable> {
        Ok(Some(match text {
            "" => return Err(Unreadable("what is expected is missing after ->".to_owned())),
            "ok" => Self::Ok,
            "any" => Self::Any,
            "unknown" => Self::Unknown,
            _ => match text.strip_prefix("refused") {
                Some(words) if words.is_empty() || words.starts_with(' ') => {
                    Self::Refused(words.trim().to_owned())
                }
                _ => return Ok(None),
            },
        }))
    }
}

impl Condition {
    fn parse(words: &mut Words<'_>, names: &Names) -> Result<Self, Unreadable> {
        let name = words.next("a condition")?;
        let mut key = || words.next("a key").map(str::to_owned);
        Ok(match name {
            "leader" => Self::Leader(key()?, names.node(words.next("a store")?)?),
            "deposed" => Self::Deposed(key()?, names.node(words.next("a store")?)?),
            "leads" => Self::Leads(key()?, names.node(words.next("a store")?)?),
            "lease" => Self::Lease(key()?, names.node(words.next("a store")?)?),
            "copy" => Self::Copy(key()?, names.node(words.next("a store")?)?),
            "applied" => Self::Applied(key()?, names.node(words.next("a store")?)?),
            "known" => Self::Known(key()?, names.node(words.next("a store")?)?),
            "voters" => Self::Voters(key()?, names.nodes(words.next("stores")?)?),
            "regions" => Self::Regions(words.number()?),
            "pd-leader" => Self::PdLeader(names.node(words.next("a member")?)?),
            "up" => Self::Up(names.node(words.next("a node")?)?),
            "ended" => Self::Ended(names.node(words.next("a node")?)?),
            "answered" => Self::Answered(names.call(words.next("a call")?)?),
            "seen" => Self::Seen(names.gate(words.next("a gate")?)?, words.number()?),
            "held" => Self::Held(names.gate(words.next("a gate")?)?, words.number()?),
            "done" => Self::Done(words.number()?),
            "snapshots" => Self::Snapshots(words.number()?),
            "compactions" => Self::Compactions(words.number()?),
            "sleeps" => Self::Sleeps(words.number()?),
            "agreed" => Self::Agreed,
            _ => {
                let all: Vec<&str> = CONDITIONS.iter().map(|(_, usage)| *usage).collect();
                return Err(Unreadable(format!("{name:?} is no condition; there are: {}", all.join(", "))));
            }
        })
    }
}

fn links(words: &mut Words<'_>, names: &Names) -> Result<Links, Unreadable> {
    let from = names.nodes(words.next("a node")?)?;
    let both = match words.next("\"from\" or \"to\"")? {
        "from" => true,
        "to" => false,
        word => return Err(Unreadable(format!("{word:?} is neither from (both ways) nor to (one way)"))),
    };
    Ok(Links { from, to: names.nodes(words.next("nodes")?)?, both })
}

impl Step {
    /// Reads one line; names that it gives are known from then on.
    pub(super) fn parse(line: &str, names: &mut Names) -> Result<Self, Unreadable> {
        let (text, expected) = match line.split_once("->") {
            Some((text, expected)) => (text, Some(expected.trim())),
            None => (line, None),
        };
        let mut words = Words::new(text);
        let verb = words.next("a step")?;
        let takes_end = REQUESTS.contains(&verb) || verb == "end";
        if expected.is_some() && !takes_end {
            return Err(Unreadable(format!("{verb:?} has no end to expect: no -> after it")));
        }
        let step = match verb {
            "begin" => {
                let name = new_name(words.next("a name")?, &mut names.calls)?;
                let verb = words.next("a request")?;
                let request = Request::parse(verb, &mut words, names)?;
                let mut fields = words.fields()?;
                let by = by(&mut fields, names)?;
                fields.end()?;
                names.begun.insert(name.clone(), request.clone());
                return Ok(Self::Begin { name, request, by });
            }
            "end" => {
                let name = names.call(words.next("a call")?)?;
                let expected = names.begun[&name].expected(expected)?;
                Self::End { name, expected }
            }
            "load" => {
                let keys = words.next("keys")?.split(',').map(str::to_owned).collect();
                let mut fields = words.fields()?;
                let (by, rest) = (by(&mut fields, names)?, span(fields.text("every")?)?);
                fields.end()?;
                return Ok(Self::Load { by, keys, rest });
            }
            "end-load" => Self::EndLoad,
            "run" => Self::Run(span(words.next("a span of time")?)?),
            "wait" => {
                let wanted = !words.takes("not");
                let condition = Condition::parse(&mut words, names)?;
                let mut fields = words.fields()?;
                let within = if fields.has("within") { span(fields.text("within")?)? } else { WITHIN };
                fields.end()?;
                return Ok(Self::Wait { condition, wanted, within });
            }
            "expect" => {
                let wanted = !words.takes("not");
                let condition = Condition::parse(&mut words, names)?;
                if matches!(condition, Condition::Known(..)) {
                    let why = "what the placement driver knows is waited for, for asking it takes time";
                    return Err(Unreadable(why.to_owned()));
                }
                Self::Expect { condition, wanted }
            }
            "name" => {
                let word = words.next("a name")?;
                let role = match words.next("a role")? {
                    "leader" => Role::Leader(words.next("a key")?.to_owned()),
                    "follower" => Role::Follower(words.next("a key")?.to_owned()),
                    "pd-leader" => Role::PdLeader,
                    "pd-follower" => Role::PdFollower,
                    role => {
                        let all = "leader KEY, follower KEY, pd-leader, pd-follower";
                        return Err(Unreadable(format!("{role:?} is no role; there are: {all}")));
                    }
                };
                Self::Name { name: new_name(word, &mut names.nodes)?, role }
            }
            "lead" => {
                let key = words.next("a key")?.to_owned();
                Self::Lead { key, who: names.node(words.next("a store")?)? }
            }
            "cut" | "mend" => Self::Cut { links: links(&mut words, names)?, cut: verb == "cut" },
            "slow" => {
                let links = links(&mut words, names)?;
                let mut fields = words.fields()?;
                let by = span(fields.text("by")?)?;
                fields.end()?;
                return Ok(Self::Slow { links, by });
            }
            "heal" => Self::Heal,
            "crash" | "power-loss" => {
                let kind = if verb == "crash" { CrashKind::Process } else { CrashKind::Power };
                Self::Crash { nodes: names.nodes(words.next("nodes")?)?, kind }
            }
            "restart" => Self::Restart(names.nodes(words.next("nodes")?)?),
            "freeze" => {
                let who = names.node(words.next("a node")?)?;
                let mut fields = words.fields()?;
                let lasts =
                    if fields.has("for") { span(fields.text("for")?)? } else { Duration::from_hours(1) };
                fields.end()?;
                return Ok(Self::Freeze { who, lasts });
            }
            "thaw" => Self::Thaw(names.node(words.next("a node")?)?),
            "drift" | "wall-jump" => {
                let who = names.node(words.next("a node")?)?;
                let mut fields = words.fields()?;
                let step = if verb == "drift" {
                    Self::Drift { who, ppm: fields.number("ppm")? }
                } else {
                    Self::WallJump { who, ms: fields.number("ms")? }
                };
                fields.end()?;
                return Ok(step);
            }
            "disk" => {
                let nodes = names.nodes(words.next("nodes")?)?;
                Self::Disk { nodes, hurt: disk_hurt(words.next("a change")?)? }
            }
            "hold" | "go-on" => {
                let who = names.node(words.next("a store")?)?;
                Self::Hold { who, thread: thread(words.next("a thread")?)?, still: verb == "hold" }
            }
            "gate" => {
                let word = words.next("a name")?;
                let passage = passage(words.next("hold, lose, watch or repeat")?)?;
                let topics = topics(words.next("topics")?)?;
                let mut fields = words.fields()?;
                let mut end = |name: &str| match fields.has(name) {
                    true => names.node(fields.text(name)?).map(Some),
                    false => Ok(None),
                };
                let (from, to) = (end("from")?, end("to")?);
                fields.end()?;
                let name = new_name(word, &mut names.gates)?;
                return Ok(Self::Gate { name, passage, topics, from, to });
            }
            "open" | "drop" => {
                let name = names.gate(words.next("a gate")?)?;
                names.gates.retain(|gate| *gate != name);
                Self::Open { name, lost: verb == "drop" }
            }
            "check" => Self::Check,
            "cluster" | "config" | "guards" => {
                return Err(Unreadable(format!("{verb:?} comes before the first step")));
            }
            verb if REQUESTS.contains(&verb) => {
                let request = Request::parse(verb, &mut words, names)?;
                let mut fields = words.fields()?;
                let by = by(&mut fields, names)?;
                fields.end()?;
                let expected = request.expected(expected)?;
                return Ok(Self::Request { request, by, expected });
            }
            _ => {
                let all = [&STEPS[..], &REQUESTS[..]].concat().join(", ");
                return Err(Unreadable(format!("{verb:?} is no step; there are: {all}")));
            }
        };
        words.end()?;
        Ok(step)
    }
}

/// The client that asks: the first, unless `by` says otherwise.
fn by(fields: &mut Fields<'_>, names: &Names) -> Result<NodeId, Unreadable> {
    names.client(if fields.has("by") { fields.text("by")? } else { "c1" })
}
