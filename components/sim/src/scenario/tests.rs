//! What is no scenario is refused with its line and the reason; what is one goes as it says, or is told where it does not.

use super::*;
use crate::scenario::play::Missed;

const HEAD: &str = "flotilla-sim scenario version=1\n# A story.\n";

#[test]
fn what_is_not_a_scenario_is_refused_with_its_line_and_the_reason() {
    let with = |lines: &str| format!("{HEAD}{lines}");
    let cases = [
        (String::new(), 1, "there is nothing in it"),
        ("put a=1\n".to_owned(), 1, "it does not begin with flotilla-sim scenario version=1"),
        (
            HEAD.replace("version=1", "version=7"),
            1,
            "written for a version 7 of the language, this is version 1",
        ),
        ("flotilla-sim scenario version=1\nrun 1s\n".to_owned(), 2, "tells its story in a comment"),
        (HEAD.to_owned(), 2, "nothing happens in it"),
        (with("melt s1\n"), 3, "\"melt\" is no step; there are: begin, check, crash, cut, disk"),
        (with("run 1s\n\nrun soon\n"), 5, "\"soon\" is no span of time; a number with us, ms, s, m or h is"),
        (with("run\n"), 3, "a span of time is missing"),
        (with("run 1s now\n"), 3, "\"now\" is too much"),
        (with("run 1s -> ok\n"), 3, "\"run\" has no end to expect"),
        (with("crash s4\n"), 3, "\"s4\" is no node; there are s1, s2, s3, p1, c1, c2, c3"),
        (with("put a\n"), 3, "\"a\" is not KEY=VALUE"),
        (with("put a=1 by=s1\n"), 3, "\"s1\" is no client; there are c1 to c3"),
        (with("put a=1 for=c1\n"), 3, "nothing here is called \"for\""),
        (with("put a=1 -> 1\n"), 3, "\"1\" is no end of this request; ok, any, unknown or refused is"),
        (with("get a ->\n"), 3, "what is expected is missing after ->"),
        (with("get a -> b c\n"), 3, "a value, several as A|B, or - for none is"),
        (with("swap a - 1 -> 1\n"), 3, "swapped, kept, ok, any, unknown or refused is"),
        (with("wait\n"), 3, "a condition is missing"),
        (
            with("wait rain\n"),
            3,
            "\"rain\" is no condition; there are: agreed, answered CALL, applied KEY STORE",
        ),
        (with("wait regions many\n"), 3, "\"many\" is not a number that fits"),
        (with("expect known a s1\n"), 3, "what the placement driver knows is waited for"),
        (with("end w\n"), 3, "\"w\" is no call; none was begun above"),
        (with("begin w get a\nend v\n"), 4, "\"v\" is no call; begun above: w"),
        (with("begin w fly a\n"), 3, "\"fly\" is no request; one of add-peer, cancel-operator, compact-log"),
        (with("begin w get a\nbegin w get a\n"), 4, "the name \"w\" was given above"),
        (with("begin s7 get a\n"), 3, "\"s7\" cannot be a name"),
        (with("open g\n"), 3, "\"g\" is no gate; none was set above"),
        (with("gate g keep append\n"), 3, "\"keep\" is no way to treat a message; one of hold, lose, watch"),
        (with("gate g hold gossip\n"), 3, "\"gossip\" is no topic of messages; one of append, append-answer"),
        (with("cut s1 and s2\n"), 3, "\"and\" is neither from (both ways) nor to (one way)"),
        (with("hold s1 poller\n"), 3, "\"poller\" is no thread of a store; one of reader, log, worker"),
        (with("disk s1 melts\n"), 3, "\"melts\" is no change of a disk; one of fails-write"),
        (with("name x king\n"), 3, "\"king\" is no role; there are: leader KEY"),
        (with("name x leader a\nname x leader a\n"), 4, "the name \"x\" was given above"),
        (with("cluster stores=99\n"), 3, "stores: 99 is not from 1 to 9"),
        (with("cluster stores=2 late=2\n"), 3, "late: 2 is not from 0 to 1"),
        (with("cluster\ncluster\n"), 4, "\"cluster\" comes once, and before \"config\""),
        (with("config lease=9\n"), 3, "the stores: "),
        (with("config leash=0.7\n"), 3, "nothing here is called \"leash\""),
        (with("config stores=4\n"), 3, "stores is said by \"cluster\""),
        (with("run 1s\nguards raft:X by=Y\n"), 4, "\"guards\" comes before the first step"),
        (with("guards raft:X\n"), 3, "by is missing"),
    ];
    for (text, line, reason) in cases {
        let error = Scenario::parse(&text).expect_err(reason);
        assert!(error.line == line && error.reason.contains(reason), "{error}, not line {line}: {reason}");
    }
}

/// The line at which a scenario goes otherwise than it says, and what is told.
fn missed(lines: &str) -> (usize, String) {
    let scenario = Scenario::parse(&format!("{HEAD}{lines}")).unwrap_or_else(|error| panic!("{error}"));
    let failure = scenario.play(0, &[], TraceMode::Off, None).expect_err("it goes otherwise");
    assert!(matches!(failure.missed, Missed::Expectation(_)), "{failure}");
    (failure.line, failure.to_string())
}

#[test]
fn what_goes_otherwise_is_told_with_its_line() {
    let cases = [
        ("put a=1\nget a -> 2\n", 4, "Value(Some(b\"1\"))"),
        ("put a=1\nscan -> a=2\n", 4, "Pairs([(b\"a\", b\"1\")])"),
        ("put a=1\nswap a 2 3\n", 4, "Swapped(false)"),
        ("put a=1 -> refused\n", 3, "Done"),
        ("lead a s1\nexpect leader a s2\n", 4, "leads in term"),
        ("lead a s1\nwait deposed a s1 within=1s\n", 4, "not within 1s"),
        ("crash s1\nlead a s1\n", 4, "n1 does not come to lead"),
    ];
    for (lines, line, told) in cases {
        let (at, text) = missed(lines);
        assert!(at == line && text.contains(told), "{lines}: {text}");
    }
}

#[test]
fn every_kind_of_request_ends_as_it_does() {
    let lines = "put a=1\nput b=2\nget a -> 1\nget c -> -\nget a -> 7|1\nswap a 1 2\nswap a 1 3 -> kept\nswap d - 4\n\
                 scan -> a=2 b=2 d=4\nscan reverse -> d=4 b=2 a=2\ndelete a\nget a -> -\ntimestamp\nsplit c\nwait regions 2\n\
                 begin w put c=3 by=c2\nwait answered w\nend w\nscan -> b=2 c=3 d=4\ncheck\n";
    let scenario = Scenario::parse(&format!("{HEAD}{lines}")).unwrap_or_else(|error| panic!("{error}"));
    let played = scenario.play(3, &[], TraceMode::Off, None).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(played.operations > 15, "{played:?}");
}
