//! The system that both commands start: servers, a dispatcher with a standby, three workers.

use std::{future::Future, thread::available_parallelism};

use taskyard_tests::{Servers, Yard};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// Ids and weights of the workers: the first is to get three times as much as the last.
pub(crate) const WORKERS: [(&str, u32); 3] = [("worker-a", 3), ("worker-b", 2), ("worker-c", 1)];

/// What the workers run. The path comes on standard input as raw bytes, so that any file name will do;
/// `$(cat)` alone would cut newlines off its end.
const SCRIPT: &str = r#"
case "$TASKYARD_ID/$TASKYARD_FAILURES" in
*-flaky/0) echo "fails at its first attempt, to be tried again" >&2; exit 1 ;;
esac
path=$(cat; printf x)
path=${path%x}
[ -r "$path" ] || { echo "cannot be read" >&2; exit 77; } # from 64 on a failure is final
exec sha256sum -z -- "$path"
"#;

/// The workers' handlers file.
fn handlers() -> String {
    format!(
        "[[handler]]\nkind = \"file.sha256\"\ntimeout_ms = 600000\n\
         exec = [\"sh\", \"-c\", '''{SCRIPT}''']\n"
    )
}

/// Starts everything, telling what happens. The caller ends it by dropping or finishing the yard.
pub(crate) async fn start() -> Result<Yard, Failure> {
    println!("Starting RabbitMQ and Redis, private ones on free ports ...");
    let servers = until_interrupted(Servers::start()).await?.map_err(Failure::Unavailable)?;
    println!("  in {}", servers.folder().display());
    println!("Starting a dispatcher, a standby, and workers of weight 3, 2 and 1 ...");
    let slots = available_parallelism().map_or(2, |cores| cores.get().max(2));
    let slots = u32::try_from(slots).unwrap_or(2);
    let mut builder = Yard::builder().on(servers).dispatchers(2);
    for (id, weight) in WORKERS {
        builder = builder.worker(|worker| {
            worker.id(id).weight(weight).slots(slots).builtin().handlers(&handlers())
        });
    }
    let starting = builder.start_without_waiting();
    let yard = until_interrupted(starting).await?.map_err(Failure::Unavailable)?;
    match until_interrupted(yard.wait_ready()).await {
        Ok(Ok(())) => Ok(yard),
        Ok(Err(error)) => Err(Failure::Unavailable(error)),
        Err(interrupted) => {
            yard.discard();
            Err(interrupted)
        }
    }
}

/// Does the work unless Ctrl-C or SIGTERM comes first.
pub(crate) async fn until_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut terminated = signal(SignalKind::terminate())
        .map_err(|error| Failure::Software(anyhow::Error::new(error)))?;
    tokio::select! {
        done = work => Ok(done),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        _ = terminated.recv() => Err(Failure::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        io::Write,
        os::unix::ffi::OsStrExt,
        process::{Command, Output, Stdio},
    };

    use super::SCRIPT;
    use crate::{check, tree::Tree};

    fn handle(id: &str, failures: u32, payload: &[u8]) -> Output {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("TASKYARD_ID", id)
            .env("TASKYARD_FAILURES", failures.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A handler that fails at once does not read it.
        let _ = child.stdin.take().unwrap().write_all(payload);
        child.wait_with_output().unwrap()
    }

    #[test]
    fn handler_prints_what_sha256sum_does_for_odd_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            [&b"two words"[..], b"-n", b"new\nline\n", b"back\\slash", b"\xff\xfe", b"$x`y'"]
        {
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        let tree = Tree::of(folder.path(), &[]).unwrap();
        assert_eq!(tree.files.len(), 6);
        assert_eq!(tree.left_out.get("symbolic links"), Some(&1));
        let expected = check::sequentially(&tree.files).unwrap();
        for (file, expected) in tree.files.iter().zip(expected) {
            let output = handle("x-1", 0, file.path.as_os_str().as_bytes());
            assert!(output.status.success());
            assert_eq!(Some(output.stdout), expected, "{:?}", file.path);
        }
    }

    #[test]
    fn handler_fails_marked_tasks_once_and_unreadable_files_for_good() {
        assert_eq!(handle("x-1-flaky", 0, b"/").status.code(), Some(1));
        assert_eq!(handle("x-1-flaky", 1, b"/no/such/file").status.code(), Some(77));
    }
}
