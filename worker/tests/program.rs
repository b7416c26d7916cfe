//! The program's settings and exit codes, as far as they need no broker.
#![expect(clippy::unwrap_used, reason = "what cannot be is a failed test")]

use std::process::{Command, Output};

fn worker(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskyard-worker"));
    command.args(args).env_clear().envs(env.iter().copied());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.output().unwrap()
}

fn errors(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_worker_with_nothing_to_run_says_what_to_do() {
    let said = errors(&worker(&[], &[]));
    assert!(said.contains("--handlers") && said.contains("--builtin"), "{said}");
}

#[test]
fn wrong_settings_are_named() {
    let said = errors(&worker(&["--builtin", "--slots", "0", "--id", "a b"], &[]));
    assert!(said.contains("slots") && said.contains("a b"), "{said}");
    assert!(errors(&worker(&["--slotz"], &[])).contains("--slotz"));
    assert!(errors(&worker(&["--builtin", "--amqp-url", "http://x"], &[])).contains("amqp"));
    assert!(errors(&worker(&["--handlers", "/none"], &[])).contains("/none"));
    assert!(errors(&worker(&["--builtin", "--config", "/none"], &[])).contains("/none"));
}

#[test]
fn settings_print_as_a_file_without_secrets() {
    let env = [
        ("TASKYARD_AMQP_URL", "amqp://me:secret@host:1/v"),
        ("TASKYARD_REDIS_URL", "redis://ignored"),
        ("TASKYARD_BUILTIN", "1"),
        ("TASKYARD_WORKER_ID", "from-env"),
        ("TASKYARD_SLOTS", "3"),
    ];
    let output = worker(&["--print-config", "--id", "from-flag"], &env);
    let printed = String::from_utf8(output.stdout).unwrap();
    let table: toml::Table = printed.parse().unwrap();
    assert_eq!(table["amqp_url"].as_str(), Some("amqp://me:***@host:1/v"));
    assert_eq!(table["id"].as_str(), Some("from-flag"));
    assert_eq!(table["slots"].as_integer(), Some(3));
    assert_eq!(table["builtin"].as_bool(), Some(true));
    assert_eq!(table["grace_ms"].as_integer(), Some(25_000));
    assert!(!printed.contains("secret"));
}

#[test]
fn help_is_no_error() {
    let output = worker(&["--help"], &[]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("TASKYARD_WORKER_ID"));
}
