use super::*;
use crate::program::Limits;
use crate::said::Said;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use taskyard_worker::ErrorKind;

/// A resident in shell: it notes each start in a file, and does what the payload of a task says.
struct Stage {
    resident: Resident,
    folder: tempfile::TempDir,
}

/// Reads `id` and the command out of a line, without a parser of JSON.
const LOOP: &str = r#"
    echo "$$" >> started
    while IFS= read -r line; do
        id=${line#*\"id\":\"}; id=${id%%\"*}
        command=${line##*\"payload\":\"}; command=${command%%\"*}
        case $command in
        pid) echo "{\"id\":\"$id\",\"ok\":true,\"result\":\"$$\"}" ;;
        fail) echo "{\"id\":\"$id\",\"error\":\"no\",\"retryable\":false}" ;;
        say) echo "{\"id\":\"$id\",\"progress\":40,\"note\":\"half\"}"
             echo "{\"id\":\"$id\",\"log\":\"a line\"}"
             echo "{\"id\":\"$id\",\"ok\":true}" ;;
        die) echo "it hurts" >&2; exit 3 ;;
        babble) echo "hello" ;;
        sleep) sleep 600 & echo $! > child; wait ;;
        esac
    done
    echo "$$" >> ended
"#;

impl Stage {
    fn new(timeout: Option<Duration>, recycle_after: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Program {
            exec: ["sh", "-c", LOOP].map(String::from).to_vec(),
            dir: Some(folder.path().to_owned()),
            env: BTreeMap::new(),
            hidden: BTreeSet::new(),
            account: None,
            limits: Limits::default(),
        };
        Self { resident: Resident::new(program, timeout, recycle_after), folder }
    }

    async fn run(&self, command: &str) -> Result<Reply, TaskError> {
        self.resident.run(Attempt::of(command.to_owned())).await
    }

    async fn pid(&self) -> String {
        String::from_utf8(self.run("pid").await.unwrap().body().to_vec()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn starts(&self) -> usize {
        lines(&self.file("started"))
    }
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the process that noted its number in a file lives.
fn is_alive(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
    // What nobody has waited for yet still has a number, but no longer a memory.
    status.is_ok_and(|status| status.contains("VmSize"))
}

#[tokio::test]
async fn a_process_is_started_when_needed_and_stays() {
    let stage = Stage::new(None, None);
    assert_eq!(stage.starts(), 0);
    let first = stage.pid().await;
    assert_eq!((stage.pid().await, stage.pid().await), (first.clone(), first));
    assert_eq!(stage.starts(), 1);
}

#[tokio::test]
async fn as_many_processes_as_tasks_at_once() {
    let stage = Stage::new(None, None);
    let (a, b) = tokio::join!(stage.pid(), stage.pid());
    assert_ne!(a, b);
    tokio::join!(stage.pid(), stage.pid());
    assert_eq!(stage.starts(), 2);
}

#[tokio::test]
async fn an_error_is_the_tasks_and_the_process_stays() {
    let stage = Stage::new(None, None);
    let pid = stage.pid().await;
    let error = stage.run("fail").await.unwrap_err();
    assert_eq!((error.text(), error.is_permanent()), ("no", true));
    assert_eq!(stage.pid().await, pid);
}

#[tokio::test]
async fn what_it_says_while_it_runs_is_passed_on() {
    let stage = Stage::new(None, None);
    let (attempt, heard) = Attempt::of("say").heard();
    stage.resident.run(attempt).await.unwrap();
    let said: Vec<Said> = heard.iter().collect();
    let progress = Said::Progress { percent: 40, note: "half".to_owned() };
    assert_eq!(said, [progress, Said::Log("a line".to_owned())]);
}

#[tokio::test]
async fn its_death_fails_the_task_with_its_last_words_and_another_is_started() {
    let stage = Stage::new(None, None);
    let error = stage.run("die").await.unwrap_err();
    assert_eq!(error.text(), "the program ended without an answer: exit code 3: it hurts");
    assert!(!error.is_permanent());
    stage.pid().await;
    assert_eq!(stage.starts(), 2);
}

#[tokio::test]
async fn one_that_died_while_it_waited_costs_no_task() {
    let stage = Stage::new(None, None);
    let pid = stage.pid().await;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    // Its end is noticed by the same way as all that happens to pipes.
    wait_until("its end", || match stage.resident.take_idle() {
        Some(process) => {
            stage.resident.idle.lock().unwrap().push(process);
            false
        }
        None => true,
    })
    .await;
    assert_ne!(stage.pid().await, pid);
}

#[tokio::test]
async fn a_broken_answer_costs_the_process() {
    let stage = Stage::new(None, None);
    let error = stage.run("babble").await.unwrap_err();
    assert!(error.text().starts_with("a broken answer: expected value"), "{error}");
    let file = stage.file("started");
    wait_until("its end", || !is_alive(&file)).await;
    stage.pid().await;
    assert_eq!(stage.starts(), 2);
}

#[tokio::test]
async fn its_limit_kills_the_whole_group() {
    let stage = Stage::new(Some(Duration::from_millis(500)), None);
    let error = stage.run("sleep").await.unwrap_err();
    assert_eq!((error.kind(), error.text()), (ErrorKind::Timeout, "it ran longer than 500 ms"));
    let (parent, child) = (stage.file("started"), stage.file("child"));
    wait_until("the end of both", || !is_alive(&parent) && !is_alive(&child)).await;
}

#[tokio::test]
async fn cancel_ends_the_process_and_its_group() {
    let stage = Arc::new(Stage::new(None, None));
    let attempt = Attempt::of("sleep");
    let (token, staged) = (attempt.cancelled.clone(), Arc::clone(&stage));
    let run = tokio::spawn(async move { staged.resident.run(attempt).await });
    let (parent, child) = (stage.file("started"), stage.file("child"));
    wait_until("the task", || lines(&child) == 1).await;
    token.cancel();
    assert!(run.await.unwrap().unwrap_err().text().contains("killed by signal 15"));
    wait_until("the end of both", || !is_alive(&parent) && !is_alive(&child)).await;
}

#[tokio::test]
async fn dropping_the_task_kills_the_whole_group() {
    let stage = Arc::new(Stage::new(None, None));
    let staged = Arc::clone(&stage);
    let run = tokio::spawn(async move { staged.run("sleep").await });
    let (parent, child) = (stage.file("started"), stage.file("child"));
    wait_until("the task", || lines(&child) == 1).await;
    run.abort();
    wait_until("the end of both", || !is_alive(&parent) && !is_alive(&child)).await;
}

#[tokio::test]
async fn it_is_replaced_after_so_many_tasks_and_ends_in_peace() {
    let stage = Stage::new(None, Some(2));
    let pids = [stage.pid().await, stage.pid().await, stage.pid().await];
    assert_eq!(pids[0], pids[1]);
    assert_ne!(pids[1], pids[2]);
    wait_until("its own end", || lines(&stage.file("ended")) == 1).await;
    assert_eq!(std::fs::read_to_string(stage.file("ended")).unwrap().trim(), pids[0]);
}

#[tokio::test]
async fn waiting_processes_end_with_the_worker() {
    let stage = Stage::new(None, None);
    stage.pid().await;
    let Stage { resident, folder } = stage;
    let file = folder.path().join("started");
    assert!(is_alive(&file));
    drop(resident);
    wait_until("its end", || !is_alive(&file)).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_retried() {
    let mut stage = Stage::new(None, None);
    stage.resident.program.exec = vec!["/none/such".to_owned()];
    let error = stage.run("pid").await.unwrap_err();
    assert!(!error.is_permanent() && error.text().contains("cannot be run"), "{error}");
}
