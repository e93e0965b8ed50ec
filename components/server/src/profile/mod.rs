//! `/debug/pprof/profile`: which code this process spends its processor time in, taken while it works.
//!
//! While a profile is taken, the system interrupts whichever thread runs, so many times in a second of processor time, and
//! notes its stack; a process that is not being profiled pays nothing. Only one is taken at a time. Processor time is all it
//! sees: a thread that waits (for a disk, for a lock) is not there. What memory is in use for is in [`heap`].

mod flamegraph;
mod heap;
mod proto;

pub(crate) use heap::heap;

use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pprof::ProfilerGuardBuilder;
use proto::Counted;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Mutex;

/// Seconds, if nobody says how many.
const SECONDS: u64 = 10;
/// Whoever wants more takes several.
const SECONDS_MAX: u64 = 300;
/// Not a divisor of what happens every tenth of a second: what is in step with it would be seen always or never.
const FREQUENCY: u32 = 99;
const FREQUENCY_MAX: u32 = 1000;
/// Code that cannot be unwound from within an interrupt: the unwinder itself, and the kernel's clock pages.
const NOT_INTERRUPTED: [&str; 2] = ["libgcc", "vdso"];

/// The one profile that is being taken.
static TAKING: Mutex<()> = Mutex::const_new(());

/// How often each stack was seen: the thread's name, then functions, the outermost first.
pub(crate) type Stacks = BTreeMap<Vec<String>, u64>;

/// In which form a profile is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// A picture, for people.
    FlameGraph,
    /// What `pprof` and its like read.
    Proto,
}

impl Form {
    /// Whoever accepts pictures (a browser) gets one.
    fn accepted(accepts: &str) -> Self {
        let is_browser = accepts.contains("image/svg+xml") || accepts.contains("text/html");
        if is_browser { Self::FlameGraph } else { Self::Proto }
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    seconds: u64,
    frequency: u32,
    form: Form,
}

impl Wanted {
    /// Reads `seconds=…&frequency=…&format=svg|proto`; without a format, whoever accepts pictures (a browser) gets one.
    fn of(query: &str, accepts: &str) -> Result<Self, String> {
        let mut wanted = Self { seconds: SECONDS, frequency: FREQUENCY, form: Form::accepted(accepts) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = |max: u64| {
                let number = value.parse::<u64>().ok().filter(|number| (1..=max).contains(number));
                number.ok_or_else(|| format!("{name}={value}: give a whole number from 1 to {max}"))
            };
            match (name, value) {
                ("seconds", _) => wanted.seconds = number(SECONDS_MAX)?,
                ("frequency", _) => {
                    let hertz = number(FREQUENCY_MAX.into())?;
                    wanted.frequency = u32::try_from(hertz).expect("it is small");
                }
                ("format", "svg") => wanted.form = Form::FlameGraph,
                ("format", "proto") => wanted.form = Form::Proto,
                ("format", _) => return Err(format!("format={value}: give svg or proto")),
                _ => return Err(format!("{name}: give seconds, frequency and format")),
            }
        }
        Ok(wanted)
    }
}

/// Takes a profile and shows it.
pub(crate) async fn profile(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = match Wanted::of(query.as_deref().unwrap_or_default(), accepts) {
        Ok(wanted) => wanted,
        Err(message) => return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
    };
    let Ok(_alone) = TAKING.try_lock() else {
        return (StatusCode::CONFLICT, "a profile is being taken: ask when it is done\n").into_response();
    };
    match take(wanted).await {
        Ok(stacks) => show(&stacks, wanted),
        Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{message}\n")).into_response(),
    }
}

async fn take(wanted: Wanted) -> Result<Stacks, String> {
    let frequency = i32::try_from(wanted.frequency).expect("it is small");
    let builder = ProfilerGuardBuilder::default().frequency(frequency).blocklist(&NOT_INTERRUPTED);
    let guard = builder.build().map_err(|error| format!("the profiler does not start: {error}"))?;
    wait(Duration::from_secs(wanted.seconds)).await;
    // To find the names takes a while, and no connection should wait for it.
    let named = tokio::task::spawn_blocking(move || {
        let report = guard.report().build().map_err(|error| format!("the profile is lost: {error}"))?;
        let mut stacks = Stacks::new();
        for (frames, count) in &report.data {
            let names = frames.frames.iter().rev().flat_map(|frame| frame.iter().rev());
            let stack = std::iter::once(frames.thread_name_or_id()).chain(names.map(|symbol| symbol.name()));
            *stacks.entry(stack.collect()).or_default() += u64::try_from(*count).unwrap_or(0);
        }
        Ok(stacks)
    });
    named.await.map_err(|error| format!("the profile is lost: {error}"))?
}

#[expect(clippy::disallowed_methods, reason = "a profile lasts as long as it was asked for")]
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn show(stacks: &Stacks, wanted: Wanted) -> Response {
    let Wanted { seconds, frequency, form } = wanted;
    match form {
        Form::FlameGraph => {
            let title = format!("Processor time of {seconds} s, {frequency} samples in each second of it");
            picture(flamegraph::draw(stacks, &title, "samples"))
        }
        Form::Proto => {
            attachment("profile.pb", proto::encode(stacks, Counted::Interrupts { seconds, frequency }))
        }
    }
}

fn picture(svg: String) -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response()
}

fn attachment(name: &str, content: Vec<u8>) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_a_picture_and_a_tool_what_tools_read() {
        let browser = "text/html,application/xhtml+xml,image/webp,*/*;q=0.8";
        assert_eq!(Wanted::of("", browser).map(|wanted| wanted.form), Ok(Form::FlameGraph));
        let wanted = Wanted::of("seconds=3&frequency=500", "*/*");
        assert_eq!(wanted, Ok(Wanted { seconds: 3, frequency: 500, form: Form::Proto }));
        assert_eq!(Wanted::of("format=svg", "").map(|wanted| wanted.form), Ok(Form::FlameGraph));
        assert_eq!(Wanted::of("format=proto", browser).map(|wanted| wanted.form), Ok(Form::Proto));
    }

    #[test]
    fn what_cannot_be_taken_is_refused_with_what_can() {
        for (query, said) in [
            ("seconds=0", "from 1 to 300"),
            ("seconds=301", "from 1 to 300"),
            ("seconds=soon", "from 1 to 300"),
            ("frequency=100000", "from 1 to 1000"),
            ("format=png", "svg or proto"),
            ("second=1", "give seconds, frequency and format"),
        ] {
            let refused = Wanted::of(query, "").expect_err("it is wrong");
            assert!(refused.contains(said), "{query}: {refused}");
        }
    }
}
