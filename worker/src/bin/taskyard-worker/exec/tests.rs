use super::*;
use std::sync::Arc;
use taskyard_worker::ErrorKind;

fn sh(script: &str) -> Program {
    let exec = ["sh", "-c", script].map(String::from).to_vec();
    Program { exec, timeout: None, dir: None, env: BTreeMap::new() }
}

fn attempt(payload: impl Into<Bytes>) -> Attempt {
    Attempt {
        payload: payload.into(),
        env: vec![("TASKYARD_ID", "t1".to_owned())],
        deadline_ms: None,
        cancelled: CancellationToken::new(),
        reason: Box::new(|| Some(CancelReason::Command)),
    }
}

async fn run(script: &str) -> Result<Bytes, TaskError> {
    sh(script).run(attempt("payload")).await
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
    assert_eq!(run("cat; printf -- \"-$TASKYARD_ID\"").await.unwrap(), "payload-t1");
    let mut program = sh("printf \"$A $PWD $TASKYARD_DEADLINE_MS\"");
    program.env.insert("A".into(), "b".into());
    program.dir = Some("/".into());
    let mut attempt = attempt("");
    attempt.deadline_ms = Some(7);
    assert_eq!(program.run(attempt).await.unwrap(), "b / 7");
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
    assert_eq!(sh("echo done").run(attempt(payload)).await.unwrap(), "done\n");
}

#[tokio::test]
async fn a_large_payload_passes_through() {
    let payload = Bytes::from(vec![7; 8 << 20]);
    assert!(sh("cat").run(attempt(payload.clone())).await.unwrap() == payload);
}

#[tokio::test]
async fn a_result_without_end_is_a_permanent_failure() {
    let error = run("yes").await.unwrap_err();
    assert!(error.is_permanent() && error.text().contains("16777216"), "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_retried() {
    let exec = vec!["/none/such".to_owned()];
    let program = Program { exec, timeout: None, dir: None, env: BTreeMap::new() };
    assert!(!program.run(attempt("")).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn its_own_limit_kills_the_whole_group() {
    let file = note();
    let mut program =
        sh(&format!("sh -c 'trap \"\" TERM; echo $$ > {}; sleep 600; :'", file.display()));
    program.timeout = Some(Duration::from_millis(500));
    let error = program.run(attempt("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    wait_gone(&file).await;
}

/// Runs a script, and cancels it when it has written to the file.
async fn cancelled(script: &str, file: &std::path::Path) -> TaskError {
    let attempt = attempt("");
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
    let run = tokio::spawn(async move { program.run(attempt("")).await });
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
    assert_eq!(run(&script).await.unwrap(), "done\n");
    wait_gone(&file).await;
}
