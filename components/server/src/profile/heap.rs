//! `/debug/pprof/heap`: which code asked for the memory that is in use now.
//!
//! The allocator notes the stack of one in about a million bytes that it hands out, and forgets it when they are given back. What
//! it knows is shown at once, scaled to what all of it is likely to be; nothing is started or stopped.
#![expect(unsafe_code, reason = "asks the allocator, which has no other door")]

use super::proto::Counted;
use super::{Form, Stacks, attachment, flamegraph, picture, proto};
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use tikv_jemalloc_ctl::raw;

/// Shows what memory is in use for: `format=svg|proto`; without, whoever accepts pictures (a browser) gets one.
pub(crate) async fn heap(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = match query.as_deref().unwrap_or_default() {
        "" => Form::accepted(accepts),
        "format=svg" => Form::FlameGraph,
        "format=proto" => Form::Proto,
        other => {
            return (StatusCode::BAD_REQUEST, format!("{other}: give format=svg or format=proto\n"))
                .into_response();
        }
    };
    if !is_sampled() {
        let why = "this process was started without samples of its memory (MALLOC_CONF=prof:true,prof_active:true)\n";
        return (StatusCode::NOT_IMPLEMENTED, why).into_response();
    }
    // To find the names takes a while, and no connection should wait for it.
    let stacks = tokio::task::spawn_blocking(|| parse(&dump()?).map(|samples| name(&samples)));
    match stacks.await.map_err(|error| error.to_string()).flatten() {
        Ok(stacks) => match form {
            Form::FlameGraph => picture(flamegraph::draw(&stacks, "Memory in use, from samples", "bytes")),
            Form::Proto => attachment("heap.pb", proto::encode(&stacks, Counted::Bytes)),
        },
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
    }
}

/// What the allocator gave to those who stood on one stack.
#[derive(PartialEq, Debug)]
struct Sample {
    /// The innermost first.
    addresses: Vec<usize>,
    /// About, of all of it.
    bytes: u64,
}

fn is_sampled() -> bool {
    // SAFETY: both are of the type `bool`, as the allocator's manual says.
    let read = |name| unsafe { raw::read::<bool>(name) }.unwrap_or(false);
    read(b"opt.prof\0") && read(b"prof.active\0")
}

/// What the allocator writes of its samples.
fn dump() -> Result<String, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("the allocator's samples are not to be had: {error}");
    let file = File::from(memfd_create("heap", MemfdFlags::CLOEXEC).map_err(|error| failed(&error))?);
    let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    // SAFETY: it wants a C string, which outlives the call.
    unsafe { raw::write(b"prof.dump\0", path.as_ptr()) }.map_err(|error| failed(&error))?;
    let mut text = String::new();
    (&file).read_to_string(&mut text).map_err(|error| failed(&error))?;
    Ok(text)
}

/// Reads `heap_v2/<rate>`, then for each stack a line `@ <addresses>` and a line `t*: <objects>: <bytes> […]`.
fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let odd = |line: &str| format!("the allocator's samples read otherwise than expected: {line}");
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let rate: f64 =
        first.strip_prefix("heap_v2/").and_then(|rate| rate.parse().ok()).ok_or_else(|| odd(first))?;
    let mut samples = Vec::new();
    let mut addresses: Option<Vec<usize>> = None;
    for line in lines.take_while(|line| !line.starts_with("MAPPED_LIBRARIES")) {
        if let Some(stack) = line.strip_prefix('@') {
            let read = |word: &str| usize::from_str_radix(word.trim_start_matches("0x"), 16).ok();
            addresses =
                Some(stack.split_whitespace().map(read).collect::<Option<_>>().ok_or_else(|| odd(line))?);
        } else if let Some(counts) = line.trim_start().strip_prefix("t*: ")
            && let Some(addresses) = addresses.take()
        {
            let mut counts = counts.split([':', '[']).map(|word| word.trim().parse::<u64>());
            let (Some(Ok(objects)), Some(Ok(bytes))) = (counts.next(), counts.next()) else {
                return Err(odd(line));
            };
            if objects > 0 {
                samples.push(Sample { addresses, bytes: likely(objects, bytes, rate) });
            }
        }
    }
    Ok(samples)
}

/// What there is likely to be where so much was sampled: a piece of `size` bytes is with the probability `1 - e^(-size/rate)`.
fn likely(objects: u64, bytes: u64, rate: f64) -> u64 {
    let size = bytes as f64 / objects as f64;
    (bytes as f64 / -(-size / rate).exp_m1()) as u64
}

/// The same by names of functions, the outermost first.
fn name(samples: &[Sample]) -> Stacks {
    let mut known: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut stacks = Stacks::new();
    for sample in samples {
        let mut stack = Vec::new();
        for address in &sample.addresses {
            stack.extend_from_slice(known.entry(*address).or_insert_with(|| functions(*address)));
        }
        stack.reverse();
        *stacks.entry(stack).or_default() += sample.bytes;
    }
    stacks
}

/// The functions at an address, inlined ones included, the innermost first.
fn functions(address: usize) -> Vec<String> {
    let mut names = Vec::new();
    backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
        names.extend(symbol.name().map(|name| format!("{name:#}")));
    });
    if names.is_empty() {
        names.push(format!("{address:#x}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_scaled_to_what_they_stand_for() {
        let text = "heap_v2/1048576\n  t*: 3: 9 [0: 0]\n  t1: 3: 9 [0: 0]\n@ 0x5f8 0xabc\n  t*: 2: 4194304 [0: 0]\n  \
                    t1: 2: 4194304 [0: 0]\n@ 0x10\n  t*: 1: 1024 [0: 0]\n@ 0x20\n  t*: 0: 0 [0: 0]\n\n\
                    MAPPED_LIBRARIES:\n@ 0x1\n t*: 1: 1 [0: 0]\n";
        let samples = parse(text).unwrap();
        // Large pieces are nearly always seen; a small one stands for about as much as is between two samples.
        assert_eq!(
            samples,
            [
                Sample { addresses: vec![0x5f8, 0xabc], bytes: 4_850_786 },
                Sample { addresses: vec![0x10], bytes: 1_049_088 },
            ]
        );
        assert!(parse("heap_v3/1\n").is_err());
        assert!(parse("heap_v2/1\n@ 0xzz\n").is_err());
    }

    #[test]
    fn an_address_in_a_function_has_its_name() {
        let address = samples_are_read_and_scaled_to_what_they_stand_for as fn() as usize + 1;
        let names = functions(address);
        assert!(names.iter().any(|name| name.contains("samples_are_read")), "{names:?}");
        assert_eq!(functions(1), ["0x1"]);
    }
}
