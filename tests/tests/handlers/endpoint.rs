//! The example of an endpoint, and one of another make, as processes.

use std::{path::Path, process::Command};

use anyhow::Context;
use taskyard_tests::{EVENTUALLY, Process, wait_until};

/// A running endpoint.
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    pub(crate) process: Process,
}

impl Endpoint {
    /// Starts a script that takes a port and prints the one that it got.
    pub(crate) async fn start(script: &Path, folder: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new("python3");
        command.arg(script).arg("0").args(args);
        let process = Process::new("endpoint", &folder.join("endpoint.log"), command)?;
        process.start()?;
        let port = wait_until("the endpoint", EVENTUALLY, async || {
            let log = process.log();
            let line = log.lines().find_map(|line| line.strip_prefix("listening on port "));
            line.with_context(|| log.clone())?.parse::<u16>().context("no port")
        })
        .await?;
        Ok(Self { port, process })
    }
}
