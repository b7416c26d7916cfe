use super::Output;
use crate::program::Tail;
use taskyard_worker::{Bytes, TaskError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

/// Largest result in bytes: what one AMQP message can carry.
const RESULT_BYTES_MAX: usize = taskyard_model::PAYLOAD_BYTES_MAX;
/// Bytes of standard error that are read at once.
const CHUNK_BYTES: usize = 4 * 1024;

/// Writes the payload and closes.
pub(super) async fn feed(stdin: Option<ChildStdin>, payload: Bytes) {
    if let Some(mut stdin) = stdin {
        // A program need not read its input; how it ends says how it went.
        let _ = stdin.write_all(&payload).await;
    }
}

/// Reads both outputs to their ends.
///
/// # Errors
/// The result is too large.
pub(super) async fn read(
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
) -> Result<Output, TaskError> {
    let (result, error) = tokio::try_join!(read_result(stdout), read_end(stderr))?;
    Ok(Output { result: result.into(), error })
}

async fn read_result(stdout: Option<ChildStdout>) -> Result<Vec<u8>, TaskError> {
    let mut result = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(RESULT_BYTES_MAX as u64 + 1).read_to_end(&mut result).await?;
    }
    if result.len() > RESULT_BYTES_MAX {
        let text = format!("the result has more than {RESULT_BYTES_MAX} bytes");
        return Err(TaskError::permanent(text));
    }
    Ok(result)
}

async fn read_end(stderr: Option<ChildStderr>) -> Result<Tail, TaskError> {
    let (mut end, mut chunk) = (Tail::default(), [0; CHUNK_BYTES]);
    let Some(mut stderr) = stderr else { return Ok(end) };
    loop {
        let read = stderr.read(&mut chunk).await?;
        if read == 0 {
            return Ok(end);
        }
        end.push(&chunk[..read]);
    }
}
