//! A RabbitMQ of one's own.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use lapin::{Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::tls::Certificates;
use crate::{EVENTUALLY, Process, ports::free_port, programs, wait::wait_until};

/// Virtual hosts are made so many at a time: the cost is that of the call (a second), not of the hosts.
const VHOSTS_AT_ONCE: u32 = 8;

/// Variables that lead a node, or Erlang under it, elsewhere.
const FOREIGN_VARIABLES: &[&str] = &["RABBITMQ_", "ERL_", "ELIXIR_ERL_"];

/// A RabbitMQ node with names, ports, cookie and port mapper of its own, so that nothing which runs on the
/// machine already is touched. Reachable from this machine only.
#[derive(Debug)]
pub struct RabbitMq {
    process: Process,
    /// Erlang's port mapper, which the node would otherwise leave behind as a daemon.
    epmd: Process,
    environment: Vec<(&'static str, String)>,
    scripts: PathBuf,
    folder: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    management_port: Option<u16>,
    vhosts: Mutex<Vhosts>,
}

/// What a node can be told before it starts.
pub(super) struct Options<'a> {
    pub(super) certificates: Option<&'a Certificates>,
    pub(super) has_management: bool,
    /// More lines of `rabbitmq.conf`.
    pub(super) conf: &'a [String],
}

#[derive(Debug, Default)]
struct Vhosts {
    ready: VecDeque<String>,
    made: u32,
}

impl RabbitMq {
    pub(super) fn prepare(folder: &Path, options: &Options<'_>) -> anyhow::Result<Self> {
        let &Options { certificates, has_management, conf } = options;
        let folder = folder.join("rabbitmq");
        for name in ["home", "data", "log"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let scripts = programs::rabbitmq_scripts()?;
        let port = free_port();
        let tls_port = certificates.map(|_| free_port());
        let mut lines = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{port}"),
            // The default, a gigabyte or more, would stop publishers on a small machine.
            "disk_free_limit.absolute = 50MB".to_owned(),
        ];
        lines.extend(tls_port.zip(certificates).iter().flat_map(|(port, files)| tls(*port, files)));
        let management_port = has_management.then(free_port);
        lines.extend(management_port.iter().flat_map(|port| management(*port, certificates)));
        lines.extend_from_slice(conf);
        std::fs::write(folder.join("rabbitmq.conf"), lines.join("\n") + "\n")?;
        let plugins = if has_management { "[rabbitmq_management].\n" } else { "[].\n" };
        std::fs::write(folder.join("enabled_plugins"), plugins)?;
        std::fs::write(folder.join("rabbitmq-env.conf"), "")?;

        let epmd_port = free_port();
        let environment = environment(&folder, epmd_port);
        let mut node = Command::new(scripts.join("rabbitmq-server"));
        programs::forget_variables(&mut node, FOREIGN_VARIABLES);
        node.current_dir(&folder).envs(environment.clone());
        let process = Process::new("rabbitmq", &folder.join("output.log"), node)?;
        let mut mapper = Command::new(programs::epmd()?);
        mapper.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        mapper.current_dir(&folder).env("HOME", folder.join("home"));
        let epmd = Process::new("epmd", &folder.join("epmd.log"), mapper)?;
        let vhosts = Mutex::default();
        Ok(Self {
            process,
            epmd,
            environment,
            scripts,
            folder,
            port,
            tls_port,
            management_port,
            vhosts,
        })
    }

    /// Starts it (again, on the same port, with the messages it had), and waits until it takes
    /// connections and says that its start is complete (it takes connections a little earlier).
    ///
    /// # Errors
    ///
    /// When it does not come up; the error holds the end of its output.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.epmd.start()?;
        let starts_before = self.starts_completed();
        self.process.start()?;
        let url = self.url("/");
        let answers = wait_until("answer of rabbitmq", EVENTUALLY, async || {
            if !self.process.is_running()? {
                // Ended on its own: no use to wait.
                return Ok(Err(anyhow::anyhow!("rabbitmq-server ended")));
            }
            ensure!(self.starts_completed() > starts_before, "starting");
            let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
            Ok(Ok(connection.close(200, "only looking".into()).await?))
        });
        let answered = answers.await.and_then(|ended| ended);
        answered.with_context(|| self.process.log_tail(30))
    }

    /// How often its output says so; asking `rabbitmqctl` would take a second.
    fn starts_completed(&self) -> usize {
        self.process.log().matches(" completed with ").count()
    }

    /// `kill -9` to the whole node: what was confirmed is on disk, in queues that are old enough: see
    /// [`Self::settle`].
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.process.kill9_group()
    }

    /// Waits until the quorum queues of a virtual host are registered on disk.
    ///
    /// RabbitMQ 3.10.8 keeps that register in a table that is written after half a second without changes.
    /// A node that is killed within a second of a queue's *declaration* starts that queue anew: confirmed
    /// messages are gone, and `basic.consume` hangs for 60 s, then closes the connection with 541.
    ///
    /// # Errors
    ///
    /// When the queues cannot be listed, or are never registered.
    pub async fn settle(&self, vhost: &str) -> anyhow::Result<()> {
        let args = ["list_queues", "-p", vhost, "--no-table-headers", "name", "type"];
        let listing = self.rabbitmqctl(&args).await?;
        let of_kind = |line: &str| Some(line.strip_suffix("\tquorum")?.to_owned());
        let names: Vec<String> = listing.lines().filter_map(of_kind).collect();
        let register =
            self.folder.join("data/taskyard@localhost/quorum/taskyard@localhost/names.dets");
        wait_until("queues in the register on disk", EVENTUALLY, async || {
            let register = std::fs::read(&register)?;
            for name in &names {
                let needle = format!("_{name}");
                let found = register.windows(needle.len()).any(|part| part == needle.as_bytes());
                ensure!(found, "{name} is not in it");
            }
            Ok(())
        })
        .await
    }

    /// Shuts it down in order, as a package upgrade does.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.rabbitmqctl(&["stop"]).await?;
        self.process.wait_exit(EVENTUALLY).await?;
        Ok(())
    }

    /// Freezes the node: connections stay open, nothing answers.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal_group(Signal::SIGSTOP)
    }

    /// Ends [`Self::freeze`].
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal_group(Signal::SIGCONT)
    }

    /// Runs `rabbitmqctl` on this node (a second each) and returns what it printed.
    ///
    /// # Errors
    ///
    /// When the command fails; the error holds what it said.
    pub async fn rabbitmqctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.scripts.join("rabbitmqctl"));
        programs::forget_variables(&mut command, FOREIGN_VARIABLES);
        let output = tokio::process::Command::from(command)
            .arg("--quiet")
            .args(args)
            .envs(self.environment.iter().cloned())
            .current_dir(&self.folder)
            .kill_on_drop(true)
            .output()
            .await
            .context("rabbitmqctl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rabbitmqctl {args:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A virtual host that nobody else has been given; the user `guest` may do everything in it.
    ///
    /// # Errors
    ///
    /// When RabbitMQ does not make it.
    pub async fn take_vhost(&self) -> anyhow::Result<String> {
        let mut vhosts = self.vhosts.lock().await;
        if vhosts.ready.is_empty() {
            let (from, to) = (vhosts.made + 1, vhosts.made + VHOSTS_AT_ONCE);
            // `rabbitmqctl add_vhost` and `set_permissions` would be two seconds for each.
            let make = format!(
                "[begin
                   V = list_to_binary([\"test-\", integer_to_list(N)]),
                   ok = rabbit_vhost:add(V, <<\"tests\">>),
                   All = <<\".*\">>,
                   ok = rabbit_auth_backend_internal:set_permissions(
                          <<\"guest\">>, V, All, All, All, <<\"tests\">>)
                 end || N <- lists:seq({from}, {to})]."
            );
            self.rabbitmqctl(&["eval", &make]).await?;
            vhosts.made = to;
            vhosts.ready = (from..=to).map(|number| format!("test-{number}")).collect();
        }
        vhosts.ready.pop_front().context("some were just made")
    }

    /// The process, to read its log or send it signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The last `lines` lines of its log at level error or above: for failed tests to show.
    ///
    /// A queue that is asked for before it exists is no error of anybody.
    pub fn complaints(&self, lines: usize) -> String {
        let files = std::fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten();
        let logs = files.filter_map(|file| std::fs::read(file.path()).ok());
        let logs: Vec<String> =
            logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect();
        let bad: Vec<&str> = logs
            .iter()
            .flat_map(|log| log.lines())
            .filter(|line| line.contains("[error]") || line.contains("[critical]"))
            .filter(|line| !line.contains("Channel error on") && !line.contains("not_found"))
            .collect();
        bad[bad.len().saturating_sub(lines)..].join("\n")
    }

    /// The address of a virtual host (`/` is the default one), user `guest`.
    pub fn url(&self, vhost: &str) -> String {
        let vhost = vhost.replace('/', "%2f");
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.port)
    }

    /// The same over TLS, when that was asked for.
    pub fn tls_url(&self, vhost: &str) -> Option<String> {
        let vhost = vhost.replace('/', "%2f");
        self.tls_port.map(|port| format!("amqps://guest:guest@localhost:{port}/{vhost}"))
    }

    /// The address of the management API, when that was asked for; with TLS where the servers speak it.
    pub fn management_url(&self) -> Option<String> {
        let scheme = if self.tls_port.is_some() { "https" } else { "http" };
        self.management_port.map(|port| format!("{scheme}://guest:guest@localhost:{port}"))
    }

    /// The port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn management(port: u16, certificates: Option<&Certificates>) -> Vec<String> {
    let Some(files) = certificates else {
        return vec![
            format!("management.tcp.port = {port}"),
            "management.tcp.ip = 127.0.0.1".to_owned(),
        ];
    };
    vec![
        format!("management.ssl.port = {port}"),
        "management.ssl.ip = 127.0.0.1".to_owned(),
        format!("management.ssl.cacertfile = {}", files.ca.display()),
        format!("management.ssl.certfile = {}", files.certificate.display()),
        format!("management.ssl.keyfile = {}", files.key.display()),
    ]
}

fn tls(port: u16, files: &Certificates) -> [String; 6] {
    [
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", files.ca.display()),
        format!("ssl_options.certfile = {}", files.certificate.display()),
        format!("ssl_options.keyfile = {}", files.key.display()),
        "ssl_options.verify = verify_none".to_owned(),
        "ssl_options.fail_if_no_peer_cert = false".to_owned(),
    ]
}

/// Everything by which a node could meet another one, for the server and for `rabbitmqctl`.
fn environment(folder: &Path, epmd_port: u16) -> Vec<(&'static str, String)> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        ("HOME", file("home")),
        ("ERL_EPMD_PORT", epmd_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODENAME", "taskyard@localhost".to_owned()),
        ("RABBITMQ_DIST_PORT", free_port().to_string()),
        ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
        ("RABBITMQ_FEATURE_FLAGS_FILE", file("feature_flags")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", file("config")),
        ("RABBITMQ_MNESIA_BASE", file("data")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_PID_FILE", file("pid")),
        // Don't spin when idle: several nodes and the programs under test share the processors. Listen for
        // other nodes on the loopback interface only.
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
                .to_owned(),
        ),
    ]
}
