use super::*;
use crate::program::Limits;
use crate::said::Said;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use taskyard_worker::ErrorKind;

fn sh(script: &str) -> Exec {
    of(&["sh", "-c", script])
}

fn of(exec: &[&str]) -> Exec {
    let program = Program {
        exec: exec.iter().map(ToString::to_string).collect(),
        dir: None,
        env: BTreeMap::new(),
        hidden: BTreeSet::new(),
        account: None,
        limits: Limits::default(),
    };
    Exec { program, timeout: None, warned: Once::new() }
}

async fn run(script: &str) -> Result<Reply, TaskError> {
    sh(script).run(Attempt::of("payload")).await
}

/// Whether a process that notes its number in a file has ended.
async fn wait_gone(file: &std::path::Path) {
    let begun = std::time::Instant::now();
    loop {
        let pid = std::fs::read_to_string(file).unwrap_or_default();
        let is_alive = pid.trim().parse().is_ok_and(|pid: i32| {
            // What nobody has waited for yet still has a number, but no longer a memory.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| status.contains("VmSize"))
        });
        if !pid.is_empty() && !is_alive {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{pid:?} is alive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A file that only one test writes to; gone with what is returned.
fn note() -> tempfile::TempPath {
    tempfile::NamedTempFile::new().unwrap().into_temp_path()
}

#[tokio::test]
async fn the_result_is_what_the_program_prints() {
    let reply = run("cat; printf -- \"-$TASKYARD_ID\"").await.unwrap();
    assert_eq!(reply.body(), "payload-t1");
    let mut exec = sh("printf \"$A $PWD $TASKYARD_DEADLINE_MS\"");
    exec.program.env.insert("A".into(), "b".into());
    exec.program.dir = Some("/".into());
    let attempt = Attempt { deadline_ms: Some(7), ..Attempt::of("") };
    assert_eq!(exec.run(attempt).await.unwrap().body(), "b / 7");
}

#[tokio::test]
async fn exit_codes_say_whether_to_retry() {
    let error = run("echo gone >&2; exit 1").await.unwrap_err();
    assert_eq!((error.text(), error.is_permanent()), ("gone", false));
    for (code, is_permanent) in [(63, false), (64, true), (78, true), (79, false)] {
        let error = run(&format!("exit {code}")).await.unwrap_err();
        assert_eq!(error.is_permanent(), is_permanent, "{code}");
        assert_eq!(error.text(), format!("exit code {code}"));
    }
    let error = run("kill -9 $$").await.unwrap_err();
    assert_eq!((error.text(), error.is_permanent()), ("killed by signal 9", false));
}

#[tokio::test]
async fn only_the_end_of_long_errors_is_kept() {
    let error = run("yes x | head -c 100000 >&2; printf 'end\\377' >&2; exit 1").await.unwrap_err();
    assert!(error.text().ends_with("end\u{fffd}"), "{}", error.text());
    assert!(error.text().len() < 5000);
}

#[tokio::test]
async fn a_program_need_not_read_its_payload() {
    let payload = vec![0; 4 << 20];
    let reply = sh("echo done").run(Attempt::of(payload)).await.unwrap();
    assert_eq!(reply.body(), "done\n");
}

#[tokio::test]
async fn a_large_payload_passes_through() {
    let payload = Bytes::from(vec![7; 8 << 20]);
    let reply = sh("cat").run(Attempt::of(payload.clone())).await.unwrap();
    assert!(*reply.body() == payload);
}

#[tokio::test]
async fn a_result_without_end_is_a_permanent_failure() {
    let error = run("yes").await.unwrap_err();
    assert!(error.is_permanent() && error.text().contains("16777216"), "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_retried() {
    let program = of(&["/none/such"]);
    assert!(!program.run(Attempt::of("")).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn its_own_limit_kills_the_whole_group() {
    let file = note();
    let mut program =
        sh(&format!("sh -c 'trap \"\" TERM; echo $$ > {}; sleep 600; :'", file.display()));
    program.timeout = Some(Duration::from_millis(500));
    let error = program.run(Attempt::of("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    wait_gone(&file).await;
}

/// Runs a script, and cancels it when it has written to the file.
async fn cancelled(script: &str, file: &std::path::Path) -> TaskError {
    let attempt = Attempt::of("");
    let (token, program) = (attempt.cancelled.clone(), sh(script));
    let run = tokio::spawn(async move { program.run(attempt).await });
    while std::fs::read(file).unwrap_or_default().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    token.cancel();
    run.await.unwrap().unwrap_err()
}

#[tokio::test]
async fn cancel_asks_first() {
    let file = note();
    let trap = "trap 'echo cleaned >&2; exit 64' TERM";
    let script = format!("{trap}; echo $$ > {}; while :; do sleep 0.05; done", file.display());
    let error = cancelled(&script, &file).await;
    assert!(error.text().contains("cleaned") && error.is_permanent(), "{error}");
}

#[tokio::test]
async fn cancel_kills_what_does_not_listen() {
    let file = note();
    let script = format!("trap '' TERM; echo $$ > {}; sleep 600; :", file.display());
    assert!(cancelled(&script, &file).await.text().starts_with("killed by signal"));
    wait_gone(&file).await;
}

#[tokio::test]
async fn dropping_kills_the_whole_group() {
    let file = note();
    let program = Arc::new(sh(&format!("sh -c 'echo $$ > {}; sleep 600; :'; :", file.display())));
    let run = tokio::spawn(async move { program.run(Attempt::of("")).await });
    while std::fs::read(&file).unwrap_or_default().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run.abort();
    wait_gone(&file).await;
}

#[tokio::test]
async fn what_is_left_behind_with_the_output_open_is_killed() {
    let file = note();
    let script = format!("sleep 600 & echo $! > {}; echo done", file.display());
    assert_eq!(run(&script).await.unwrap().body(), "done\n");
    wait_gone(&file).await;
}

#[tokio::test]
async fn what_it_says_while_it_runs_is_passed_on_in_order() {
    let script = r#"
        exec >&$TASKYARD_REPORT_FD
        echo '{"progress":40,"note":"reading"}'
        echo 'no JSON'
        echo '{"log":"a line"}'
        printf '{"log":"the last, without an end"}'
    "#;
    let (attempt, heard) = Attempt::of("").heard();
    sh(script).run(attempt).await.unwrap();
    let said: Vec<Said> = heard.iter().collect();
    let note = "reading".to_owned();
    assert_eq!(
        said,
        [
            Said::Progress { percent: 40, note },
            Said::Log("a line".to_owned()),
            Said::Log("the last, without an end".to_owned())
        ]
    );
}

#[tokio::test]
async fn what_was_left_behind_on_purpose_delays_nothing_and_lives_on() {
    let file = note();
    // It holds the reports, and not the output.
    let script = format!("sleep 600 >/dev/null 2>&1 & echo $! > {}; echo done", file.display());
    assert_eq!(run(&script).await.unwrap().body(), "done\n");
    let pid = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn variables_of_other_handlers_are_hidden_and_its_own_are_not() {
    let mut exec = sh("printf \"${CARGO_MANIFEST_DIR-gone} ${CARGO_PKG_NAME-gone}\"");
    exec.program.hidden.extend(["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"].map(String::from));
    exec.program.env.insert("CARGO_PKG_NAME".to_owned(), "own".to_owned());
    assert_eq!(exec.run(Attempt::of("")).await.unwrap().body(), "gone own");
}
