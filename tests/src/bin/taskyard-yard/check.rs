//! Is what came back right? Compared with `sha256sum` itself, run over the same files one by one.

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{
    job::{Done, Task},
    tree::File,
};

/// Files per call of `sha256sum`: far below the limit for arguments even with the longest paths.
const FILES_PER_CALL: usize = 200;
/// Length of a checksum in hexadecimal, and of the separator between it and the path.
const SUM_AND_SEPARATOR: usize = 64 + 2;

/// How the comparison went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Results that are byte for byte what `sha256sum` printed.
    pub(crate) equal: usize,
    /// Tasks that failed for good on files that `sha256sum` could not read either.
    pub(crate) unreadable: usize,
    /// Files that were changed while we worked: nothing can be said about them.
    pub(crate) changed: usize,
    /// Tasks made to fail at first, that did, and were tried again.
    pub(crate) retried: usize,
    /// Everything that is wrong, a line each.
    pub(crate) wrong: Vec<String>,
}

/// Line by line what `sha256sum -z` prints for these files, nothing where it cannot read one.
pub(crate) fn sequentially(files: &[File]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
    let mut lines = HashMap::new();
    for files in files.chunks(FILES_PER_CALL) {
        let output = Command::new("sha256sum")
            .args(["-z", "--"])
            .args(files.iter().map(|file| &file.path))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .context("cannot run sha256sum")?;
        for line in output.stdout.split_inclusive(|byte| *byte == 0) {
            ensure!(line.len() > SUM_AND_SEPARATOR, "sha256sum printed {line:?}");
            lines.insert(line[SUM_AND_SEPARATOR..line.len() - 1].to_vec(), line.to_vec());
        }
    }
    Ok(files.iter().map(|file| lines.remove(file.path.as_os_str().as_bytes())).collect())
}

/// Compares; the three lists belong together, element by element.
pub(crate) fn compare(
    files: &[File],
    tasks: &[Task],
    done: &[Done],
    expected: &[Option<Vec<u8>>],
) -> Report {
    let mut report = Report::default();
    for (((file, task), done), expected) in files.iter().zip(tasks).zip(done).zip(expected) {
        match (done.state.as_str(), expected) {
            ("succeeded", Some(line)) if *line == done.result => report.equal += 1,
            ("failed", None) => report.unreadable += 1,
            _ if file.has_changed() => report.changed += 1,
            (state, expected) => report.wrong.push(format!(
                "{} ({:?}): {state} with {:?} {:?}, but sha256sum printed {:?}",
                task.id,
                file.path,
                String::from_utf8_lossy(&done.result),
                done.error,
                expected.as_deref().map(String::from_utf8_lossy),
            )),
        }
        if task.is_flaky && done.failures > 0 {
            report.retried += 1;
        } else if task.is_flaky {
            report.wrong.push(format!("{} did not fail at its first attempt", task.id));
        } else if done.failures > 0 && done.state == "succeeded" {
            report.wrong.push(format!("{} failed {} times, unasked", task.id, done.failures));
        }
    }
    report
}
