use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::store::RedisSettings;

/// A Redis of a test's own, in a folder of its own; both are gone when it is dropped.
pub(super) struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
    args: Vec<String>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// With more arguments, which may name files in the folder that they are given.
    pub(super) fn start_with(args: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = std::env::temp_dir().join(format!("taskyard-store-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        let args = args(&dir);
        let port = free_port();
        let child = spawn(port, &dir, &args);
        Self { child, port, dir, args }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn settings(&self) -> RedisSettings {
        RedisSettings::new(&format!("redis://127.0.0.1:{}", self.port))
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew after [`Server::kill`], empty, at the same address.
    pub(super) fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.args);
    }

    /// Freezes it (`STOP`) or lets it go on (`CONT`).
    pub(super) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead or already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until it says that it is ready, which it does only when it holds the port.
fn spawn(port: u16, dir: &Path, args: &[String]) -> Child {
    let log = dir.join("log");
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(dir)
        .args(args)
        .stdout(File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server 7.0 or newer is needed (Debian: apt-get install redis-server)");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("Ready to accept connections") {
            return child;
        }
        assert!(child.try_wait().unwrap().is_none(), "redis-server ended: {said}");
        assert!(Instant::now() < deadline, "redis-server does not get ready: {said}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
