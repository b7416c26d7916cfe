//! A temporary folder that is removed at the end, whatever the end is.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::watchdog::Watchdog;

/// Set to keep the folders of a run, to look at logs and data afterwards.
const KEEP: &str = "TASKYARD_KEEP";

/// A temporary folder, removed on drop and when the process dies, unless `TASKYARD_KEEP` is set.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Creates it; `purpose` becomes part of its name.
    pub(crate) fn create(purpose: &str) -> anyhow::Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("taskyard-{purpose}-"))
            .tempdir()
            .context("no temporary folder could be created")?
            .keep();
        let keep = std::env::var_os(KEEP).is_some();
        if !keep {
            Watchdog::of_this_process().remove_at_end(&path);
        }
        Ok(Self { path, keep })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // The watchdog tries again at the end of the process.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
