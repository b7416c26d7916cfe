//! Endpoints as processes. They are there before the worker that asks them, as in life.

use std::{path::Path, process::Command};

use anyhow::Context;
use taskyard_tests::{EVENTUALLY, Process, wait_until};
use tempfile::TempDir;

/// A running endpoint in Python.
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    pub(crate) process: Process,
    folder: TempDir,
}

impl Endpoint {
    /// Starts a script that takes a port, 0 for any, and prints the one that it got.
    pub(crate) async fn start(script: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = process(script, 0, args, folder.path())?;
        process.start()?;
        let port = wait_until("the endpoint", EVENTUALLY, async || {
            let log = process.log();
            let line = log.lines().find_map(|line| line.strip_prefix("listening on port "));
            line.with_context(|| log.clone())?.parse::<u16>().context("no port")
        })
        .await?;
        Ok(Self { port, process, folder })
    }

    /// Another one in the place of this, which has ended.
    pub(crate) fn again(self, script: &Path) -> anyhow::Result<Self> {
        let process = process(script, self.port, &[], self.folder.path())?;
        process.start()?;
        Ok(Self { process, ..self })
    }
}

fn process(script: &Path, port: u16, args: &[&str], folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new("python3");
    command.arg(script).arg(port.to_string()).args(args);
    Process::new("endpoint", &folder.join("endpoint.log"), command)
}
