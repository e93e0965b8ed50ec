//! Import, verify and export together, against a cluster in a map.

use super::export::export;
use super::load::import;
use super::port::fake::FakePairs;
use super::progress::Progress;
use super::scheme::{CHUNK_SIZE, Manifest, Scheme};
use super::verify::{Findings, verify};
use bytes::Bytes;
use client::{Cause, Error, Incomplete};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use types::{Key, VALUE_SIZE_MAX};

const MEMORY_BYTES: usize = 4 << 20;

fn progress() -> Progress {
    Progress::new("testing", None)
}

fn scheme() -> Scheme {
    Scheme::new("p/".into())
}

/// A directory with all that is odd: empty, not UTF-8, deep, at the limit, over it.
fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir_all(root.join("a/deep/er")).unwrap();
    std::fs::write(root.join("a/deep/er/x"), "x").unwrap();
    std::fs::write(root.join("a-b"), "before a/").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join(OsStr::from_bytes(b"a/\xff\xfe")), b"\x00\xff").unwrap();
    std::fs::write(root.join("limit"), vec![1; VALUE_SIZE_MAX]).unwrap();
    // Not a multiple of the chunk, and one that is.
    std::fs::write(root.join("over"), large(VALUE_SIZE_MAX + 1)).unwrap();
    std::fs::write(root.join("over-more"), large(9 * CHUNK_SIZE as usize)).unwrap();
    std::os::unix::fs::symlink("a-b", root.join("link")).unwrap();
    directory
}

/// Bytes that differ from chunk to chunk.
fn large(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 1000) as u8).collect()
}

async fn imported(port: &FakePairs, root: &Path) -> super::load::Loaded {
    import(port, root, &scheme(), MEMORY_BYTES, &mut progress()).await.unwrap().0
}

async fn compared(port: &FakePairs, root: &Path) -> Findings {
    verify(port, root, &scheme(), MEMORY_BYTES, &mut progress()).await.unwrap().0
}

fn undetermined() -> Error {
    Error::Undetermined { cause: Cause::NotBootstrapped }
}

#[tokio::test]
async fn a_directory_goes_in_and_comes_out_the_same() {
    let (port, source) = (FakePairs::default(), sample());
    let (loaded, left_out) =
        import(&port, source.path(), &scheme(), MEMORY_BYTES, &mut progress()).await.unwrap();
    assert_eq!((loaded.files, loaded.files_cut), (7, 2));
    assert_eq!((left_out.links, left_out.special, left_out.unreadable), (1, 0, 0));
    assert_eq!(loaded.keys, port.pairs.lock().len() as u64);
    assert_eq!(port.pairs.lock()[&Key::from("p/a-b")], "before a/");
    let findings = compared(&port, source.path()).await;
    assert!(findings.is_clean(), "{findings:?}");
    assert_eq!(findings.keys_equal, loaded.keys);

    let target = tempfile::tempdir().unwrap();
    let exported = export(&port, target.path(), &scheme(), &mut progress()).await.unwrap();
    assert_eq!((exported.files, exported.left_out), (7, 0), "{exported:?}");
    assert_eq!(exported.bytes, loaded.bytes);
    let findings = compared(&port, target.path()).await;
    assert!(findings.is_clean(), "{findings:?}");
    // Nothing half written is left behind.
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 6);
}

#[tokio::test]
async fn verify_tells_missing_different_and_superfluous_apart() {
    let (port, source) = (FakePairs::default(), sample());
    imported(&port, source.path()).await;
    {
        let scheme = scheme();
        let mut pairs = port.pairs.lock();
        pairs.remove(&Key::from("p/a/deep/er/x"));
        pairs.remove(&scheme.chunk(b"over", 3));
        pairs.remove(&scheme.chunk(b"over", 4));
        pairs.insert("p/a-b".into(), "other".into());
        pairs.insert("p/zzz".into(), "".into());
        pairs.insert("p/a-b/c".into(), "".into());
        pairs.insert("outside".into(), "".into());
    }
    let findings = compared(&port, source.path()).await;
    assert_eq!(findings.missing.first, ["a/deep/er/x", "over"]);
    assert_eq!(findings.missing.count, 2);
    assert_eq!(findings.different.first, ["a-b"]);
    assert_eq!(findings.superfluous.first, ["p/a-b/c", "p/zzz"]);
}

/// The client never repeats a write of unknown outcome. The import does: the bytes are the same.
#[tokio::test]
async fn a_batch_of_unknown_outcome_is_put_again() {
    let (port, source) = (FakePairs::default(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "c"] {
        std::fs::write(source.path().join(name), name).unwrap();
    }
    let incomplete = Incomplete {
        written: vec!["p/a".into()],
        undetermined: vec!["p/b".into()],
        not_written: vec!["p/c".into()],
        cause: undetermined(),
    };
    port.answers.lock().extend([undetermined(), Error::Incomplete(Box::new(incomplete))]);
    let loaded = imported(&port, source.path()).await;
    assert_eq!(loaded.files, 3);
    assert_eq!(*port.puts.lock(), [3, 3, 2]);
    assert!(compared(&port, source.path()).await.is_clean());
}

#[tokio::test]
async fn a_definite_error_ends_the_import_with_its_own_exit_code() {
    let (port, source) = (FakePairs::default(), sample());
    port.answers.lock().push_back(Error::DiskFull);
    let result = import(&port, source.path(), &scheme(), MEMORY_BYTES, &mut progress()).await;
    let error = result.unwrap_err();
    assert_eq!(crate::outcome::code_of(&error), 3);
    assert!(format!("{error:#}").contains("run it again"), "{error:#}");
}

/// A file that was small and grew, or shrank again, must come out as it was last.
#[tokio::test]
async fn the_form_of_a_file_may_change_between_imports() {
    let (port, source) = (FakePairs::default(), tempfile::tempdir().unwrap());
    let file = source.path().join("f");
    let target = tempfile::tempdir().unwrap();
    for size in [10, 11 << 20, 9 << 20, 20] {
        std::fs::write(&file, large(size)).unwrap();
        imported(&port, source.path()).await;
        let exported = export(&port, target.path(), &scheme(), &mut progress()).await.unwrap();
        assert_eq!((exported.files, exported.left_out), (1, 0), "{size}");
        assert!(std::fs::read(target.path().join("f")).unwrap() == large(size), "{size}");
        let findings = compared(&port, source.path()).await;
        // Chunks that a whole file has replaced are not in the way, but they are superfluous.
        assert_eq!(findings.is_clean(), size != 20, "{size}: {findings:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_goes_on() {
    let (port, source) = (FakePairs::default(), tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("fine"), "fine").unwrap();
    // Too long a prefix for this file alone.
    let prefix = vec![b'p'; types::KEY_SIZE_MAX - 10];
    std::fs::write(source.path().join("toolongname"), "").unwrap();
    let scheme = Scheme::new(prefix.into());
    let (loaded, left_out) =
        import(&port, source.path(), &scheme, MEMORY_BYTES, &mut progress()).await.unwrap();
    assert_eq!(loaded.files, 1);
    assert_eq!(left_out.unreadable, 1);
    assert!(left_out.unreadable_first[0].starts_with("toolongname: "), "{left_out:?}");
}

#[tokio::test]
async fn export_leaves_out_what_would_escape_and_what_is_not_whole() {
    let port = FakePairs::default();
    let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), target.path().join("way-out")).unwrap();
    let scheme = scheme();
    let manifest = |size| Manifest { size, chunk_size: 4 }.encode();
    let chunk = Bytes::from_static(b"1234");
    port.pairs.lock().extend([
        ("p/../evil".into(), Bytes::new()),
        ("p//absolute".into(), Bytes::new()),
        ("p/way-out/evil".into(), Bytes::new()),
        ("p/fine".into(), chunk.clone()),
        ("p/fine/but-a-file".into(), Bytes::new()),
        (scheme.manifest(b"gap"), manifest(12)),
        (scheme.chunk(b"gap", 0), chunk.clone()),
        (scheme.chunk(b"gap", 2), chunk.clone()),
        (scheme.manifest(b"short"), manifest(8)),
        (scheme.chunk(b"short", 0), chunk.clone()),
        (scheme.chunk(b"orphan", 0), chunk.clone()),
        (scheme.chunk(b"orphan", 1), chunk.clone()),
        (scheme.manifest(b"damaged"), Bytes::from_static(b"?")),
        (scheme.manifest(b"whole"), manifest(6)),
        (scheme.chunk(b"whole", 0), chunk.clone()),
        (scheme.chunk(b"whole", 1), Bytes::from_static(b"56")),
    ]);
    let exported = export(&port, target.path(), &scheme, &mut progress()).await.unwrap();
    assert_eq!(exported.files, 2, "{exported:?}");
    assert_eq!(exported.left_out, 8, "{exported:?}");
    assert_eq!(std::fs::read(target.path().join("whole")).unwrap(), b"123456");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let mut names: Vec<_> =
        std::fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["fine", "way-out", "whole"]);
}

/// A file cannot say that it is to be gone some time: what ends is no file, and not what an import has written.
#[tokio::test]
async fn what_ends_is_left_out_of_an_export_and_differs_for_a_comparison() {
    let (port, source) = (FakePairs::default(), tempfile::tempdir().unwrap());
    std::fs::write(source.path().join("ends"), "1").unwrap();
    std::fs::write(source.path().join("stays"), "2").unwrap();
    imported(&port, source.path()).await;
    port.ending.lock().insert(scheme().whole(b"ends"));
    assert_eq!(compared(&port, source.path()).await.different.count, 1);
    let target = tempfile::tempdir().unwrap();
    let exported = export(&port, target.path(), &scheme(), &mut progress()).await.unwrap();
    assert_eq!((exported.files, exported.left_out), (1, 1), "{exported:?}");
    assert!(exported.left_out_first[0].contains("ends in 900 ms"), "{exported:?}");
    assert!(!target.path().join("ends").exists());
}
