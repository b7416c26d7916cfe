//! A Redis of one's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::tls::Certificates;
use crate::{EVENTUALLY, Process, ports::free_port, programs, wait::wait_until};

/// Databases that the server has, one per test of a process.
pub(super) const DATABASES: u32 = 4_096;

/// A Redis server as the documentation recommends it: append-only file synced every second, `noeviction`.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    folder: PathBuf,
}

impl Redis {
    pub(super) fn prepare(
        folder: &Path,
        certificates: Option<&Certificates>,
        args: &[String],
    ) -> anyhow::Result<Self> {
        let folder = folder.join("redis");
        std::fs::create_dir(&folder)?;
        let port = free_port();
        let mut command = Command::new(programs::redis_server()?);
        command.current_dir(&folder).args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--databases",
            &DATABASES.to_string(),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--maxmemory-policy",
            "noeviction",
            // Results up to 1 KiB stay in the compact form of their hash: 0.9 KB instead of 1.5 KB a task.
            "--hash-max-listpack-value",
            "1024",
            "--daemonize",
            "no",
        ]);
        let tls_port = certificates.map(|files| listen_with_tls(&mut command, files));
        command.args(args);
        let process = Process::new("redis", &folder.join("redis.log"), command)?;
        Ok(Self { process, port, tls_port, folder })
    }

    /// Starts it (again, on the same port, with the data it had), and waits until it has read its data.
    ///
    /// # Errors
    ///
    /// When it does not come up; the error holds the end of its log.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.process.start()?;
        let client = ::redis::Client::open(self.url(0))?;
        let answers = wait_until("answer of redis", EVENTUALLY, async || {
            let mut connection = client.get_multiplexed_async_connection().await?;
            ::redis::cmd("PING").query_async::<String>(&mut connection).await
        });
        answers.await.map(drop).with_context(|| self.process.log_tail(20))
    }

    /// `kill -9`: what was not yet written to the append-only file is lost.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.process.kill9_group()
    }

    /// Removes the data; only while it does not run.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn lose_data(&self) -> anyhow::Result<()> {
        let append_only = self.folder.join("appendonlydir");
        for path in [append_only, self.folder.join("appendonly.aof")] {
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The process, to freeze it or read its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The address of one of its databases.
    pub fn url(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    /// The address of one of its databases over TLS, when that was asked for.
    pub fn tls_url(&self, database: u32) -> Option<String> {
        self.tls_port.map(|port| format!("rediss://127.0.0.1:{port}/{database}"))
    }

    /// The port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn listen_with_tls(command: &mut Command, files: &Certificates) -> u16 {
    let port = free_port();
    command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
    command.arg("--tls-cert-file").arg(&files.certificate);
    command.arg("--tls-key-file").arg(&files.key);
    command.arg("--tls-ca-cert-file").arg(&files.ca);
    port
}
