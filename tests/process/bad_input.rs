//! What users, operators and strangers get wrong: said clearly, survived, counted.

use crate::support::cluster::{Directory, Node, store_node};
use crate::support::process::{Ended, run as command_line};
use crate::support::run::{Run, until};
use crate::support::{http, ports};
use bytes::{BufMut as _, BytesMut};
use codec::frame::{FrameHead, put_frame};
use codec::{Decode as _, Encode as _};
use engine::{Cf, Engine as _, WriteBatch};
use engine_rocks::RocksEngine;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use store::{FORMAT_VERSION, StoreIdent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use types::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use wire::hello::{ConnectionRole, Hello, PROTOCOL_MAX, PROTOCOL_MIN};
use wire::{FrameKind, hello::Close};

const LIMIT: Duration = Duration::from_secs(120);

/// A process that ended by itself: with this code (never zero), naming what is wrong and what to do.
#[track_caller]
fn expect_refusal(ended: &Ended, code: i32, words: &[&str]) {
    let said = &ended.stderr;
    for word in words {
        assert!(said.contains(word), "the message does not say {word:?}:\n{said}\n{}", ended.stdout);
    }
    assert_eq!(ended.code, Some(code), "{said}\n{}", ended.stdout);
    assert!(!said.contains("panicked"), "{said}");
}

/// Runs a process that must refuse to start.
fn refused(node: &Node) -> Ended {
    command_line(&[node.kind(), "--config", node.config.to_str().expect("our paths are text")])
}

/// A placement driver or a store that cannot start says which setting, file or directory is to blame, and ends.
#[test]
fn processes_that_cannot_start_say_why() {
    let run = Run::begin("processes_that_cannot_start_say_why");
    run.play(LIMIT, async {
        let directory = Directory::new();
        let path = directory.path();
        // Configuration: typing mistakes, contradictions, files that are none.
        let pd = |name: &str, settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|line| (*line).to_owned()).collect();
            Node::new("pd", name, path, &settings)
        };
        let store = |name: &str, settings: &[&str]| store_node(name, path, "127.0.0.1:9", None, settings);
        expect_refusal(&refused(&store("typo", &["raft.lease_ms = 1"])), 2, &["lease_ms", "typo.toml"]);
        expect_refusal(
            &refused(&store("lease", &["raft.lease = \"2s\""])),
            2,
            &["lease", "stale reads", "shorten lease"],
        );
        expect_refusal(&refused(&store("open", &["status_addr_ = 1"])), 2, &["status_addr_"]);
        expect_refusal(&refused(&pd("replicas", &["schedule.replicas = 0"])), 2, &["replicas"]);
        let missing = path.join("missing.toml");
        let missing = missing.to_str().expect("our paths are text");
        expect_refusal(&command_line(&["store", "--config", missing]), 2, &["missing.toml", "No such file"]);
        let reachable = command_line(&["pd", "--addr", "0.0.0.0:0", "--data-dir", missing]);
        expect_refusal(&reachable, 2, &["0.0.0.0:0", "insecure = true"]);
        run.say("mistakes in configurations are named");

        // Ports that others have.
        let mut first = pd("first", &[]);
        let taken = TcpListener::bind(&first.address).expect("a free port");
        expect_refusal(&refused(&first), 6, &[&first.address, "listen_addr", "choose another address"]);
        drop(taken);
        let taken = TcpListener::bind(&first.status_address).expect("a free port");
        expect_refusal(
            &refused(&first),
            6,
            &[&first.status_address, "status_addr", "choose another address"],
        );
        drop(taken);
        run.say("ports in use are named");

        // Data directories: in use, of another cluster, of a newer build, no directory.
        first.start();
        first.ready().await;
        let mut other = pd("other", &[]);
        other.start();
        other.ready().await;
        let mut ours = store_node("ours", path, &first.address, None, &[]);
        ours.start();
        ours.ready().await;
        let data = ours.data.to_str().expect("our paths are text").to_owned();
        let same = format!("data_dir = {data:?}");
        let second = store_node("second", path, &first.address, None, &[]);
        edit(&second.config, "data_dir", &same);
        expect_refusal(&refused(&second), 6, &[&data, "in use"]);
        let stopped = ours.process().stop(Duration::from_secs(30));
        assert!(stopped.success(), "an orderly stop ends with {stopped}: {}", ours.process().log_end());
        let strange = store_node("strange", path, &other.address, None, &[]);
        edit(&strange.config, "data_dir", &same);
        expect_refusal(
            &refused(&strange),
            6,
            &["belongs to cluster", "PD of its own cluster", "empty data directory"],
        );
        let (older, newer) = (FORMAT_VERSION - 1, FORMAT_VERSION + 1);
        set_format(&ours.data, older);
        expect_refusal(&refused(&second), 6, &[&format!("format version {older}"), "flotilla export"]);
        set_format(&ours.data, newer);
        expect_refusal(&refused(&second), 6, &[&format!("format version {newer}"), "newer"]);
        let file = path.join("a file");
        std::fs::write(&file, "").expect("a file");
        let nowhere = store_node("nowhere", path, &first.address, None, &[]);
        edit(&nowhere.config, "data_dir", &format!("data_dir = {:?}", file.to_str().expect("text")));
        expect_refusal(&refused(&nowhere), 6, &["a file"]);
        run.say("data directories that cannot be used are named");
    });
}

/// Replaces the line of a setting.
fn edit(config: &Path, key: &str, line: &str) {
    let text = std::fs::read_to_string(config).expect("its configuration");
    let lines = text.lines().map(|old| if old.starts_with(&format!("{key} =")) { line } else { old });
    let text = lines.fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("a String takes what it is given");
        text
    });
    std::fs::write(config, text).expect("its configuration");
}

/// Has a store's disk look as if another build had written it.
fn set_format(data: &Path, format_version: u32) {
    let engine =
        RocksEngine::open(data.join("db"), &engine_rocks::Options::default()).expect("nobody has it open");
    // The record's key, as docs/formats draws it.
    let key = [0x01, 0x01];
    let ident = engine.get(Cf::Raft, &key).expect("it is readable").expect("it has joined");
    let ident = StoreIdent::from_bytes(&ident).expect("an identity");
    let mut batch = WriteBatch::new();
    batch.put(Cf::Raft, &key, &StoreIdent { format_version, ..ident }.to_bytes());
    engine.write(&batch).expect("it takes writes");
    engine.sync().expect("it syncs");
}

/// A store without its placement driver says so, in its log and on its status page, keeps trying, and joins when it comes.
#[test]
fn a_store_waits_for_its_placement_driver() {
    let run = Run::begin("a_store_waits_for_its_placement_driver");
    run.play(LIMIT, async {
        let directory = Directory::new();
        let mut pd = Node::new("pd", "pd", directory.path(), &[]);
        let mut store = store_node("store", directory.path(), &pd.address, None, &[]);
        store.start();
        until("the store says whom it waits for", Duration::from_secs(20), async || {
            store.process().expect_alive();
            let log = store.process().log();
            if log.contains(&pd.address) { Ok(()) } else { Err(format!("it says: {log}")) }
        })
        .await;
        let ready = http::page(&store.status_address, "/ready").await.expect_err("it is not ready");
        for word in ["503", "waiting for the placement driver", &pd.address] {
            assert!(ready.contains(word), "it does not say {word:?}: {ready}");
        }
        // Tools say the same of a cluster that is not there, and what to do.
        let get = command_line(&["kv", "--pd", &pd.address, "--deadline", "500ms", "get", "a"]);
        expect_refusal(&get, 3, &[&pd.address, "--pd"]);
        pd.start();
        let get = until("the cluster is empty", Duration::from_secs(20), async || {
            let get = command_line(&["kv", "--pd", &pd.address, "--deadline", "5s", "get", "a"]);
            if get.code == Some(1) { Ok(get) } else { Err(get.stderr) }
        })
        .await;
        expect_refusal(&get, 1, &["not found: a"]);
        store.ready().await;
        run.say("the store has joined");
    });
}

/// A placement driver and a store that is ready.
async fn one_store(directory: &Path, settings: &[&str]) -> (Node, Node) {
    let mut pd = Node::new("pd", "pd", directory, &[]);
    let mut store = store_node("store", directory, &pd.address, None, settings);
    pd.start();
    pd.ready().await;
    store.start();
    store.ready().await;
    (pd, store)
}

/// Keys, values and ranges that cannot be are refused with the limit, before anything is written; so are numbers of regions
/// and stores that do not exist.
#[test]
fn wrong_arguments_are_refused_with_the_limit() {
    let run = Run::begin("wrong_arguments_are_refused_with_the_limit");
    run.play(LIMIT, async {
        let directory = Directory::new();
        let (pd, _store) = one_store(directory.path(), &[]).await;
        let kv = |arguments: &[&str]| command_line(&[&["kv", "--pd", &pd.address], arguments].concat());
        let ctl = |arguments: &[&str]| command_line(&[&["ctl", "--pd", &pd.address], arguments].concat());
        assert_eq!(kv(&["put", "a", "1"]).code, Some(0));

        let long_key = "k".repeat(KEY_SIZE_MAX + 1);
        let key_limit = KEY_SIZE_MAX.to_string();
        expect_refusal(&kv(&["put", "", "value"]), 2, &["key", "empty"]);
        expect_refusal(&kv(&["put", &long_key, "value"]), 2, &["key", &key_limit]);
        expect_refusal(&kv(&["get", &long_key]), 2, &["key", &key_limit]);
        assert_eq!(kv(&["put", &long_key[1..], "value"]).code, Some(0), "a key at the limit is a key");
        let (long, longest) = (directory.path().join("long"), directory.path().join("longest"));
        std::fs::write(&long, vec![b'v'; VALUE_SIZE_MAX + 1]).expect("a file");
        std::fs::write(&longest, vec![b'v'; VALUE_SIZE_MAX]).expect("a file");
        let put = |file: &Path| kv(&["put", "value", "--file", file.to_str().expect("text")]);
        expect_refusal(&put(&long), 2, &["value", &VALUE_SIZE_MAX.to_string()]);
        expect_refusal(&kv(&["get", "value"]), 1, &["not found: value"]);
        assert_eq!(put(&longest).code, Some(0), "a value at the limit is a value");
        run.say("keys and values over the limits are refused");

        for reversed in [
            &["scan", "--start", "b", "--end", "a"][..],
            &["scan", "--reverse", "--start", "b", "--end", "a"],
            &["delete-range", "--start", "b", "--end", "a"],
        ] {
            expect_refusal(&kv(reversed), 2, &["range"]);
        }
        expect_refusal(&kv(&["delete-range"]), 2, &["--all"]);
        expect_refusal(&kv(&["put", "a\\x0", "1"]), 2, &["\\x", "hexadecimal"]);
        expect_refusal(&kv(&["put", "hex:0", "1"]), 2, &["hexadecimal", "pairs"]);
        expect_refusal(&ctl(&["region", "4711"]), 1, &["no region 4711", "ctl regions"]);
        expect_refusal(&ctl(&["transfer-leader", "4711", "1"]), 2, &["no region 4711", "ctl regions"]);
        expect_refusal(&kv(&["get", "a", "--deadline", "soon"]), 2, &["--deadline", "soon"]);
        let nowhere = directory.path().join("nowhere");
        let nowhere = nowhere.to_str().expect("text");
        expect_refusal(&command_line(&["import", "--pd", &pd.address, "dir", nowhere]), 2, &[nowhere]);
        let still = kv(&["get", "a"]);
        assert_eq!((still.code, still.stdout.as_str()), (Some(0), "1\n"), "{}", still.stderr);
    });
}

/// What strangers may send to a store's port.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let hello = Hello {
        cluster_id: types::ClusterId(0),
        role: ConnectionRole::Client,
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        store_id: types::StoreId::ZERO,
        to_store_id: types::StoreId::ZERO,
    };
    let frame = |kind: u8, payload: &[u8]| {
        let mut out = BytesMut::new();
        let head = FrameHead { kind, request_id: 1, ..FrameHead::default() };
        put_frame(&mut out, head, &[], |out| out.put_slice(payload));
        out.to_vec()
    };
    let greeting = frame(FrameKind::Hello as u8, &hello.to_bytes());
    let greeted = |more: &[u8]| [&greeting[..], more].concat();
    let mut damaged = frame(FrameKind::KvRequest as u8, b"payload");
    *damaged.last_mut().expect("not empty") ^= 1;
    // Four gibibytes are announced; the head itself is sound.
    let mut huge = frame(FrameKind::KvRequest as u8, b"");
    huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32c(&huge[..20]);
    huge[20..24].copy_from_slice(&crc.to_le_bytes());
    let request = frame(FrameKind::KvRequest as u8, b"not a request");
    vec![
        ("head_checksum", b"GET / HTTP/1.1\r\nHost: store\r\n\r\n".to_vec()),
        ("head_checksum", vec![0xff; 4096]),
        ("out_of_place", request.clone()),
        ("body_checksum", greeted(&damaged)),
        ("too_large", greeted(&huge)),
        ("undecodable", greeted(&request)),
        ("unknown_kind", greeted(&frame(200, b""))),
        ("truncated", greeted(&request[..request.len() - 3])),
    ]
}

/// CRC32C, bit by bit: the frames' own is no business of users.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// Garbage, truncated, damaged and oversized frames cost the stranger the connection, with a reason; each is counted, the store
/// lives on, and its memory is not spent on lengths that somebody merely claims.
#[test]
fn nonsense_on_the_wire_closes_the_connection() {
    let run = Run::begin("nonsense_on_the_wire_closes_the_connection");
    run.play(LIMIT, async {
        let directory = Directory::new();
        let (pd, mut store) = one_store(directory.path(), &[]).await;
        for (what, bytes) in nonsense() {
            let label = format!("kind=\"{what}\"");
            let before = bad_frames(&store, &label).await;
            let closing = say(&store.address, &bytes).await;
            until(&format!("{what} is counted"), Duration::from_secs(10), async || {
                let now = bad_frames(&store, &label).await;
                if now > before { Ok(()) } else { Err(store.metrics().await.show("bad_frames")) }
            })
            .await;
            // Who has hung up is told nothing.
            if what != "truncated" {
                let reason = closing
                    .unwrap_or_else(|| panic!("the connection was closed without a reason for {what}"));
                run.say(format!("{what}: {reason}"));
            }
        }
        store.process().expect_alive();
        let put = command_line(&["kv", "--pd", &pd.address, "put", "a", "1"]);
        assert_eq!(put.code, Some(0), "{}", put.stderr);
        let log = store.process().log();
        assert!(!log.contains("panicked"), "{log}");
    });
}

async fn bad_frames(store: &Node, label: &str) -> f64 {
    store.metrics().await.sum("flotilla_transport_bad_frames_total", label)
}

/// Sends bytes, ends the stream if they were all, and gives the reason with which the connection was closed.
async fn say(address: &str, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.expect("the store listens");
    stream.write_all(bytes).await.expect("it reads");
    // The store may have closed before.
    let _ = stream.shutdown().await;
    let mut answer = BytesMut::new();
    let read = async { while stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the store closes the connection");
    loop {
        let frame = codec::frame::take_frame(&mut answer, 1 << 20).expect("the store's frames are sound")?;
        if frame.head.kind == FrameKind::Close as u8 {
            let close = <Close as codec::Decode>::from_bytes(&frame.payload).expect("a reason");
            return Some(format!("{close:?}"));
        }
    }
}

/// A store that has less room than its reserve refuses what would need more, and says so; reads and deletes go on, and
/// writes too once there is room.
#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let run = Run::begin("a_full_disk_refuses_writes_and_nothing_else");
    run.play(LIMIT, async {
        let directory = Directory::new();
        let (pd, mut store) = one_store(directory.path(), &[]).await;
        let kv = |arguments: &[&str]| command_line(&[&["kv", "--pd", &pd.address], arguments].concat());
        for key in ["keep", "drop"] {
            assert_eq!(kv(&["put", key, "1"]).code, Some(0));
        }
        // Between a half and the whole of the reserve: low. Others use this disk, too.
        let space = rustix::fs::statvfs(directory.path()).expect("the disk says how much is left");
        let reserve = space.f_bavail * space.f_frsize / 10 * 14;
        let sound = std::fs::read_to_string(&store.config).expect("its configuration");
        edit(&store.config, "reserve_space", &format!("reserve_space = \"{reserve}\""));
        restart(&mut store).await;
        let refused = until("the store notices", Duration::from_secs(20), async || {
            let put = kv(&["put", "more", "1"]);
            if put.code == Some(0) { Err("it takes writes".to_owned()) } else { Ok(put) }
        })
        .await;
        expect_refusal(&refused, 3, &["disk is full", "make room"]);
        assert_eq!(store.status().await["disk"], "low");
        let metrics = store.metrics().await;
        assert!(metrics.sum("flotilla_store_disk_state", "") > 0.0);
        assert!(metrics.sum("flotilla_rpc_errors_total", "code=\"disk_full\"") > 0.0);
        let get = kv(&["get", "keep"]);
        assert_eq!((get.code, get.stdout.as_str()), (Some(0), "1\n"), "{}", get.stderr);
        let delete = kv(&["delete", "drop"]);
        assert_eq!(delete.code, Some(0), "{}", delete.stderr);
        expect_refusal(&kv(&["get", "drop"]), 1, &["not found: drop"]);
        run.say("writes are refused; reads and deletes go on");

        std::fs::write(&store.config, sound).expect("its configuration");
        restart(&mut store).await;
        let put = kv(&["put", "more", "1"]);
        assert_eq!(put.code, Some(0), "{}", put.stderr);
        expect_refusal(&kv(&["get", "drop"]), 1, &["not found: drop"]);
    });
}

async fn restart(store: &mut Node) {
    store.stop();
    store.start();
    store.ready().await;
}

/// A port that nobody listens on, for the tests above to be sure of it.
#[test]
fn free_ports_are_free() {
    let address = ports::address();
    drop(TcpListener::bind(&address).expect("it is free"));
}
