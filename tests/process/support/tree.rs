//! Directories full of files, odd ones among them.

use env::{Dice as _, SplitMix};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// What was made.
#[derive(Default, Debug)]
pub(crate) struct Tree {
    /// Regular files.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Symbolic links.
    pub(crate) links: u64,
    /// Pipes and sockets.
    pub(crate) special: u64,
}

/// Names that something might trip over.
const ODD_NAMES: [&[u8]; 12] = [
    b" leading space",
    b"new\nline",
    b"-rf",
    b"--help",
    b"quote\"s and 'more'",
    b"back\\slash",
    b"hex:00ff",
    b"\xff\xfe not text",
    "füße und ägypten 🚢".as_bytes(),
    b"%00%s",
    b"...",
    b"\x01\x7f",
];

/// Fills a directory with about `bytes` bytes.
pub(crate) fn grow(root: &Path, bytes: u64, dice: &SplitMix) -> Tree {
    let mut dice = dice.fork("tree");
    let mut tree = Tree::default();
    for (name, number) in ODD_NAMES.iter().zip(0..) {
        tree.file(&root.join("odd").join(OsStr::from_bytes(name)), number * 100, &mut dice);
    }
    for (path, size) in [
        ("empty", 0),
        ("one byte", 1),
        // Longer than a value may be, so it is cut.
        ("large", types::VALUE_SIZE_MAX as u64 + 123_457),
        ("a/b/c/d/e/f/g/h/deep", 10),
        // These sort differently as names and as paths.
        ("a-b", 3),
        ("a/x", 4),
    ] {
        tree.file(&root.join(path), size, &mut dice);
    }
    let mut number = 0;
    while tree.bytes < bytes {
        let path = root.join(format!("many/{}/{number:05}", number % 7));
        let size = 1 + dice.below(160 << 10);
        tree.file(&path, size, &mut dice);
        number += 1;
    }
    fs::create_dir_all(root.join("nothing in here")).expect("a directory");
    for (name, target) in
        [("to a file", "empty"), ("to a directory", "a"), ("to nothing", "none"), ("loop", "loop")]
    {
        symlink(target, root.join(name)).expect("a link");
        tree.links += 1;
    }
    drop(UnixListener::bind(root.join("socket")).expect("a socket"));
    tree.special += 1;
    tree
}

impl Tree {
    fn file(&mut self, path: &Path, size: u64, dice: &mut SplitMix) {
        fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        let words = size.div_ceil(8);
        let mut content: Vec<u8> = (0..words).flat_map(|_| dice.next_u64().to_le_bytes()).collect();
        content.truncate(usize::try_from(size).expect("it fits memory"));
        fs::write(path, content).expect("a file");
        self.files += 1;
        self.bytes += size;
    }
}

/// All regular files below a directory, with their contents, by relative path.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("its kind");
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path().strip_prefix(root).expect("below the root").to_owned();
                files.insert(path, fs::read(entry.path()).expect("its content"));
            }
        }
    }
    files
}
