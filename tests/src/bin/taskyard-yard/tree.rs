//! The files of a folder tree, whatever they are called.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A regular file, and what it looked like when it was found.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl File {
    /// Whether it is no longer as it was found.
    pub(crate) fn has_changed(&self) -> bool {
        let now = fs::symlink_metadata(&self.path).ok();
        now.is_none_or(|now| now.len() != self.bytes || now.modified().ok() != self.modified)
    }
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Regular files, sorted by path.
    pub(crate) files: Vec<File>,
    /// What was left out: how many of each sort.
    pub(crate) left_out: BTreeMap<&'static str, u64>,
}

impl Tree {
    /// Looks through `folder` without following symbolic links; folders directly in it that are
    /// called as one of `skip` are left out.
    ///
    /// Only a `folder` that cannot be listed itself is an error.
    pub(crate) fn of(folder: &Path, skip: &[&str]) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut folders = tree.list(folder)?;
        folders.retain(|path| !skip.iter().any(|name| path.ends_with(name)));
        while let Some(folder) = folders.pop() {
            match tree.list(&folder) {
                Ok(found) => folders.extend(found),
                Err(_) => tree.leave_out("unreadable folders"),
            }
        }
        tree.files.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        Ok(tree)
    }

    /// All bytes together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Takes in one folder's files and returns its folders.
    fn list(&mut self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) if metadata.is_file() => self.take(path, &metadata),
                Ok(metadata) if metadata.is_symlink() => self.leave_out("symbolic links"),
                Ok(_) => self.leave_out("sockets, pipes and devices"),
                Err(_) => self.leave_out("files that vanished"),
            }
        }
        Ok(folders)
    }

    fn take(&mut self, path: PathBuf, metadata: &Metadata) {
        self.files.push(File { path, bytes: metadata.len(), modified: metadata.modified().ok() });
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }
}
