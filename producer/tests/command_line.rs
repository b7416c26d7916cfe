//! The program `taskyard` where no RabbitMQ and no Redis is needed, or none is there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// A port that nobody listens on: reserved, and bound by nobody.
const NOWHERE: [&str; 4] =
    ["--amqp-url", "amqp://127.0.0.1:1/%2f", "--redis-url", "redis://127.0.0.1:1"];

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskyard"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn nowhere(args: &[&str]) -> Output {
    run(&[args, &NOWHERE].concat())
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn assert_usage_error(args: &[&str], word: &str) {
    let output = nowhere(args);
    assert_eq!(output.status.code(), Some(64), "{args:?}: {}", stderr(&output));
    assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn wrong_usage_ends_with_64_before_anything_is_connected() {
    assert_usage_error(&[], "Usage");
    assert_usage_error(&["frobnicate"], "frobnicate");
    assert_usage_error(&["submit"], "KIND");
    assert_usage_error(&["submit", "a b"], "kind");
    assert_usage_error(&["submit", "echo", "--priority", "10"], "priority");
    assert_usage_error(&["submit", "echo", "--priority", "high"], "--priority");
    assert_usage_error(&["submit", "echo", "--id", "a b"], "id");
    assert_usage_error(&["submit", "echo", "--delay", "soon"], "30s");
    assert_usage_error(&["submit", "echo", "--delay", "1s", "--eta", "+1s"], "--eta");
    assert_usage_error(&["submit", "echo", "--eta", "tomorrow"], "instant");
    assert_usage_error(&["submit", "echo", "--backoff", "often"], "fixed");
    assert_usage_error(&["submit", "echo", "--max-attempts", "101"], "max_attempts");
    assert_usage_error(&["submit", "echo", "--timeout", "0"], "timeout");
    assert_usage_error(&["submit", "echo", "--header", "novalue"], "NAME=VALUE");
    assert_usage_error(&["submit", "echo", "--header", "x-task-delay=1"], "x-task-delay");
    assert_usage_error(&["submit", "echo", "--data", "a", "--file", "b"], "--file");
    assert_usage_error(&["submit", "echo", "--file", "/nowhere/file"], "/nowhere/file");
    assert_usage_error(&["submit", "--ndjson", "/nowhere/file"], "/nowhere/file");
    assert_usage_error(&["submit", "echo", "--ndjson", "-", "--slots", "0"], "slots");
    assert_usage_error(&["submit", "echo", "--id-prefix", "a"], "--ndjson");
    assert_usage_error(&["submit", "echo", "--skip", "1"], "--csv");
    assert_usage_error(&["submit", "--csv", "/nowhere/file"], "/nowhere/file");
    assert_usage_error(&["submit", "--csv", "-", "--ndjson", "-"], "--ndjson");
    assert_usage_error(&["submit", "--csv", "-", "--delimiter", "ab"], "character");
    assert_usage_error(&["submit", "--ndjson", "-", "--delimiter", ";"], "--ndjson");
    assert_usage_error(&["submit", "echo", "--wait", "--reply-to", "q"], "--reply-to");
    assert_usage_error(&["status"], "ID");
    assert_usage_error(&["status", "a b"], "id");
    assert_usage_error(&["ls", "--state", "done"], "succeeded");
    assert_usage_error(&["ls", "--since", "yesterday"], "2h");
    assert_usage_error(&["stats", "--pool", "a b"], "--pool");
    assert_usage_error(&["watch", "--interval", "1ms"], "100ms");
    assert_usage_error(&["top"], "terminal");
    assert_usage_error(&["dead", "replay"], "ID");
    assert_usage_error(&["dead", "replay", "a", "--all"], "--all");
    assert_usage_error(&["completion", "tcl"], "tcl");
    assert_usage_error(&["workers", "--config", "/nowhere/file.toml"], "/nowhere/file.toml");
}

#[test]
fn wrong_addresses_end_with_64() {
    let output = run(&["submit", "echo", "--amqp-url", "localhost"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--amqp-url"), "{}", stderr(&output));
    let output = run(&["workers", "--redis-url", "localhost"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}

#[test]
fn what_is_out_of_reach_ends_with_69_and_a_hint() {
    let commands: [&[&str]; 4] =
        [&["submit", "echo"], &["cancel", "a"], &["dead", "ls"], &["submit", "echo", "--wait"]];
    for args in commands {
        let output = nowhere(args);
        assert_eq!(output.status.code(), Some(69), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--amqp-url"), "{}", stderr(&output));
    }
    let lookups: [&[&str]; 6] =
        [&["status", "a"], &["result", "a"], &["workers"], &["ls"], &["stats"], &["watch"]];
    for args in lookups {
        let output = nowhere(args);
        assert_eq!(output.status.code(), Some(69), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--redis-url"), "{}", stderr(&output));
    }
}

#[test]
fn a_password_is_never_printed() {
    let output = run(&["submit", "echo", "--amqp-url", "amqp://me:s3cret@127.0.0.1:1/%2f"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
    let output = run(&["workers", "-vv", "--redis-url", "redis://me:s3cret@127.0.0.1:1"]);
    assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
    let help = command(&["submit", "--help"])
        .env("TASKYARD_AMQP_URL", "amqp://me:s3cret@127.0.0.1:1/%2f")
        .output()
        .unwrap();
    assert!(!stdout(&help).contains("s3cret"));
}

#[test]
fn help_teaches() {
    for args in [&["--help"][..], &["help"], &["submit", "--help"], &["help", "dead", "replay"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains("Example"), "{args:?}: {}", stdout(&output));
        assert!(stdout(&output).lines().all(|line| line.chars().count() <= 110), "{args:?}");
    }
    assert!(stdout(&run(&["--help"])).contains("Exit codes"));
    assert!(stdout(&run(&["--version"])).starts_with("taskyard "));
}

#[test]
fn every_option_of_a_submission_has_a_flag() {
    let help = run(&["submit", "--help"]);
    for flag in [
        "--id",
        "--priority",
        "--delay",
        "--eta",
        "--expires",
        "--timeout",
        "--max-attempts",
        "--backoff",
        "--max-losses",
        "--tenant",
        "--requires",
        "--slots",
        "--deadline",
        "--estimate",
        "--keep",
        "--content-type",
        "--header",
        "--traceparent",
        "--wait",
        "--ndjson",
    ] {
        assert!(
            stdout(&help).contains(&format!("{flag} "))
                || stdout(&help).contains(&format!("{flag}\n")),
            "{flag}"
        );
    }
}

#[test]
fn completion_scripts_name_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("submit") && stdout(&output).contains("amqp-url"));
        // The other two do not complete values.
        let knows_states = stdout(&output).contains("retrying");
        assert!(knows_states || ["elvish", "powershell"].contains(&shell), "{shell}");
    }
    assert_eq!(run(&["completions", "bash"]).stdout, run(&["completion", "bash"]).stdout);
}

#[test]
fn manual_pages_are_printed_and_written() {
    let page = run(&["man"]);
    assert_eq!(page.status.code(), Some(0));
    assert!(stdout(&page).contains(".TH taskyard 1"), "{}", stdout(&page));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("share/man1");
    let output = run(&["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for (name, word) in [
        ("taskyard", "Exit codes"),
        ("taskyard-submit", "delimiter"),
        ("taskyard-dead-replay", "amqp"),
        ("taskyard-top", "interval"),
    ] {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {name} 1")) && page.contains(word), "{name}: {page}");
    }
    let names: Vec<_> =
        std::fs::read_dir(&pages).unwrap().map(|page| page.unwrap().path()).collect();
    assert_eq!(stdout(&output).lines().count(), names.len());
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("help")), "{names:?}");
    let output = run(&["man", "--dir", "/dev/null/pages"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/dev/null/pages"), "{}", stderr(&output));
}

#[test]
fn connection_flags_may_come_before_or_after_the_verb() {
    for args in [[&["workers"][..], &NOWHERE].concat(), [&NOWHERE[..], &["workers"]].concat()] {
        assert_eq!(run(&args).status.code(), Some(69));
    }
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "redis_url = \"nonsense-of-the-file\"\n[pools.default]\nslots = 1").unwrap();
    let path = file.path().to_str().unwrap();
    let with = |env: &str, args: &[&str]| {
        let mut command = command(&[&["workers", "--config", path], args].concat());
        if !env.is_empty() {
            command.env("TASKYARD_REDIS_URL", env);
        }
        command.output().unwrap().status.code()
    };
    assert_eq!(with("", &[]), Some(64), "the file's address is none");
    assert_eq!(with("redis://127.0.0.1:1", &[]), Some(69));
    assert_eq!(with("nonsense", &["--redis-url", "redis://127.0.0.1:1"]), Some(69));
}

#[test]
fn who_closes_stdout_early_causes_no_panic() {
    let mut child =
        command(&["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

/// Only Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&["completion", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("stdout"), "{}", stderr(&output));
}

#[test]
fn no_colour_reaches_a_pipe() {
    for args in
        [&["frobnicate"][..], &["--help"], &["submit", "echo", "--amqp-url", "amqp://127.0.0.1:1"]]
    {
        let output = command(args).env("CLICOLOR", "1").output().unwrap();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{args:?}");
    }
}
