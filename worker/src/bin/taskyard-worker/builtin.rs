//! Three kinds for trials and tests.

use serde::Deserialize;
use std::time::Duration;
use taskyard_worker::{Bytes, Context, TaskError, WorkerBuilder};

/// Adds `echo`, `sleep` and `fail`.
pub(crate) fn add(builder: WorkerBuilder) -> WorkerBuilder {
    builder
        .raw_handler("echo", |_ctx, payload| async move { Ok(payload) })
        .raw_handler("sleep", sleep)
        .raw_handler("fail", fail)
}

#[derive(Deserialize)]
struct Sleep {
    ms: u64,
    /// Lines for its log.
    #[serde(default)]
    log: Vec<String>,
}

async fn sleep(ctx: Context, payload: Bytes) -> Result<Bytes, TaskError> {
    let Sleep { ms, log } = read(&payload)?;
    log.iter().for_each(|line| ctx.log(line));
    wait(&ctx, ms).await?;
    Ok(payload)
}

/// How to fail; see the README.
#[derive(Deserialize)]
struct Fail {
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    permanent: bool,
    #[serde(default)]
    panic: bool,
    #[serde(default)]
    abort: bool,
    #[serde(default)]
    ms: u64,
}

async fn fail(ctx: Context, payload: Bytes) -> Result<Bytes, TaskError> {
    let Fail { failures, permanent, panic, abort, ms } = read(&payload)?;
    wait(&ctx, ms).await?;
    if abort {
        // The whole process, as a defect in native code would.
        std::process::abort();
    }
    assert!(!panic, "this task panics because it was told to");
    if permanent {
        return Err(TaskError::permanent("fails for good, as it was told to"));
    }
    if ctx.failures() < failures {
        let text = format!("failure {} of {failures}, as it was told to", ctx.failures() + 1);
        return Err(TaskError::retryable(text));
    }
    Ok(payload)
}

/// Waits, unless somebody cancels it.
async fn wait(ctx: &Context, ms: u64) -> Result<(), TaskError> {
    if ms == 0 {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(()),
        () = ctx.cancelled().cancelled() => Err(TaskError::retryable("asked to end")),
    }
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, TaskError> {
    serde_json::from_slice(payload)
        .map_err(|error| TaskError::permanent(format!("the payload cannot be read: {error}")))
}
