use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use taskyard_tests::{EVENTUALLY, Place, Servers, ours, wait_until};
use tokio::process::Command;

/// Servers that a doctor looks at.
pub(super) struct Patient {
    pub(super) amqp_url: String,
    pub(super) redis_url: String,
    pub(super) management_url: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

/// What a doctor said, and how it ended.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) code: Option<i32>,
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) verdict: String,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) fix: Option<String>,
}

impl Patient {
    /// A virtual host and a database on servers.
    pub(super) fn at(servers: &Servers, place: &Place) -> Self {
        Self {
            amqp_url: place.amqp_url().to_owned(),
            redis_url: place.redis_url().to_owned(),
            management_url: servers.rabbitmq().management_url(),
            ca_file: None,
        }
    }

    /// What the doctor says at once; `input` goes to its standard input.
    pub(super) async fn examine(&self, args: &[&str], input: &str) -> anyhow::Result<Report> {
        let mut command = Command::new(ours("taskyard")?);
        command.env_clear().args(["doctor", "--json"]).args(args);
        command.env("TASKYARD_AMQP_URL", &self.amqp_url).env("TASKYARD_REDIS_URL", &self.redis_url);
        if let Some(url) = &self.management_url {
            command.env("TASKYARD_MANAGEMENT_URL", url);
        }
        if let Some(file) = &self.ca_file {
            command.env("TASKYARD_TLS_CA", file);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut doctor = command.kill_on_drop(true).spawn()?;
        let mut stdin = doctor.stdin.take().context("it was piped")?;
        // A doctor that does not read it may be gone already.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
        drop(stdin);
        let ran = tokio::time::timeout(EVENTUALLY * 2, doctor.wait_with_output()).await??;
        let (stdout, stderr) = (String::from_utf8(ran.stdout)?, String::from_utf8(ran.stderr)?);
        ensure!(!stderr.contains("panic"), "{stderr}");
        let read = |line| serde_json::from_str(line).with_context(|| format!("{stdout}{stderr}"));
        let findings: Vec<Finding> = stdout.lines().map(read).collect::<Result<_, _>>()?;
        ensure!(!findings.is_empty(), "it said nothing: {stderr}");
        Ok(Report { code: ran.status.code(), findings })
    }

    /// Waits until the doctor finds this, and returns what it said then.
    pub(super) async fn wait_for(
        &self,
        args: &[&str],
        input: &str,
        expected: Expected<'_>,
    ) -> anyhow::Result<Report> {
        wait_until(&format!("{expected:?}"), EVENTUALLY * 2, async || {
            let report = self.examine(args, input).await?;
            let Some(finding) = report.find(expected) else { bail!("{report:#?}") };
            ensure!(!finding.why.is_empty(), "{finding:?} has no reason");
            ensure!((finding.verdict == "ok") == finding.fix.is_none(), "{finding:?}");
            Ok(report)
        })
        .await
    }
}

/// A check, its verdict, and a part of what it says.
pub(super) type Expected<'a> = (&'a str, &'a str, &'a str);

impl Report {
    pub(super) fn find(&self, (check, verdict, part): Expected<'_>) -> Option<&Finding> {
        let fits = |f: &&Finding| f.check == check && f.verdict == verdict && f.what.contains(part);
        self.findings.iter().find(fits)
    }

    /// What is neither good nor unknown.
    pub(super) fn complaints(&self) -> Vec<(&str, &str, &str)> {
        let of = |f: &'_ Finding| f.verdict == "problem" || f.verdict == "warning";
        let complaints = self.findings.iter().filter(|f| of(f));
        complaints.map(|f| (f.check.as_str(), f.verdict.as_str(), f.what.as_str())).collect()
    }
}

/// Runs a command of Redis, which says OK or something else that is no error.
pub(super) async fn redis(url: &str, words: &[&str]) -> anyhow::Result<String> {
    let mut connection = ::redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut command = ::redis::Cmd::new();
    words.iter().for_each(|word| {
        command.arg(*word);
    });
    let answer: ::redis::Value = command.query_async(&mut connection).await?;
    Ok(match answer {
        ::redis::Value::BulkString(bytes) => String::from_utf8(bytes)?,
        other => format!("{other:?}"),
    })
}

/// A number of `INFO`.
pub(super) async fn redis_info(url: &str, name: &str) -> anyhow::Result<u64> {
    let info = redis(url, &["INFO"]).await?;
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.context("it is there")?.trim().parse()?)
}

/// One answer of `--list`.
pub(super) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
