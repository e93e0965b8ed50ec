//! The files below a directory, in the order of their keys.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Something below the directory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where, relative to the directory, with single slashes.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What an entry is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A file.
    File,
    /// A symbolic link, whatever it leads to.
    Link,
    /// A socket, a pipe, a device.
    Special,
    /// A directory that could not be read, or something whose kind could not be told.
    Unreadable(io::Error),
}

/// Walks the files below a directory by the bytes of their paths, ascending. Follows no symbolic link. Holds the names of
/// the directories on the way, and no more.
#[derive(Debug)]
pub(crate) struct Walk {
    root: PathBuf,
    /// For each directory on the way what is left of it, the next one last.
    stack: Vec<Vec<Pending>>,
}

#[derive(Debug)]
struct Pending {
    path: Vec<u8>,
    kind: PendingKind,
}

#[derive(Debug)]
enum PendingKind {
    Directory,
    Other(Kind),
}

impl Walk {
    /// A walk through `root`.
    ///
    /// # Errors
    /// If the directory itself cannot be listed.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let mut walk = Self { root: root.to_owned(), stack: Vec::new() };
        let first = walk.list(&[])?;
        walk.stack.push(first);
        Ok(walk)
    }

    fn list(&self, directory: &[u8]) -> io::Result<Vec<Pending>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(absolute(&self.root, directory))? {
            let entry = entry?;
            let mut path = directory.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(entry.file_name().as_bytes());
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_dir() => PendingKind::Directory,
                Ok(kind) if kind.is_symlink() => PendingKind::Other(Kind::Link),
                Ok(kind) if kind.is_file() => PendingKind::Other(Kind::File),
                Ok(_) => PendingKind::Other(Kind::Special),
                Err(error) => PendingKind::Other(Kind::Unreadable(error)),
            };
            entries.push(Pending { path, kind });
        }
        // What lies in the directory `a` comes as `a/…`, and so after the file `a-b`.
        let order = |pending: &Pending| {
            let mut order = pending.path.clone();
            if matches!(pending.kind, PendingKind::Directory) {
                order.push(b'/');
            }
            order
        };
        entries.sort_by_cached_key(|pending| std::cmp::Reverse(order(pending)));
        Ok(entries)
    }
}

impl Iterator for Walk {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let Some(Pending { path, kind }) = self.stack.last_mut()?.pop() else {
                self.stack.pop();
                continue;
            };
            match kind {
                PendingKind::Other(kind) => return Some(Entry { path, kind }),
                PendingKind::Directory => match self.list(&path) {
                    Ok(entries) => self.stack.push(entries),
                    Err(error) => return Some(Entry { path, kind: Kind::Unreadable(error) }),
                },
            }
        }
    }
}

/// Where a relative path lies.
pub(crate) fn absolute(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

/// A path for people.
pub(crate) fn show_path(path: &[u8]) -> String {
    OsString::from_vec(path.to_vec()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_whole_paths() {
        // In a listing by names `a` comes before `a-b`; by paths `a-b` comes before `a/x`.
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("a/deep/er")).unwrap();
        std::fs::create_dir_all(root.join("empty")).unwrap();
        for name in ["a-b", "a/x", "a/deep/er/z", "aa", "B", ".hidden"] {
            std::fs::write(root.join(name), b"").unwrap();
        }
        std::fs::write(root.join(OsStr::from_bytes(b"\xff\xfe")), b"").unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        let entries: Vec<Entry> = Walk::new(root).unwrap().collect();
        let paths: Vec<&[u8]> = entries.iter().map(|entry| &entry.path[..]).collect();
        let expected: [&[u8]; 9] =
            [b".hidden", b"B", b"a-b", b"a/deep/er/z", b"a/x", b"aa", b"socket", b"up", b"\xff\xfe"];
        assert_eq!(paths, expected);
        assert!(paths.is_sorted());
        assert!(matches!(entries[6].kind, Kind::Special));
        assert!(matches!(entries[7].kind, Kind::Link));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Walk::new(&directory.path().join("none")).is_err());
    }
}
