use std::sync::LazyLock;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, RedisWrite, Value as Reply};
use taskyard_model::{TaskId, Transition, Wants};

use super::change::{allowed, takes_in};
use super::keys::{Keys, PAYLOAD_SUFFIX};
use super::record::RECORD_FIELDS;
use super::{Change, Expect, Keep, PayloadOp, StoreError, Value};

/// For what takes something in: refused as a whole when memory is full.
const TAKES_IN: &str = concat!("#!lua\n", include_str!("transition.lua"));
/// For all else, so that memory becomes free again.
const CARRIES_ON: &str = concat!("#!lua flags=allow-oom\n", include_str!("transition.lua"));

/// Lines of logs, which a full Redis refuses.
const LOG: &str = concat!("#!lua\n", include_str!("log.lua"));

/// The names that Redis gave our scripts.
pub(super) struct Scripts {
    takes_in: String,
    carries_on: String,
    pub(super) log: String,
}

/// Loads all scripts.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<Scripts, StoreError> {
    let mut pipeline = redis::pipe();
    for text in [TAKES_IN, CARRIES_ON, LOG] {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    let replies = connection.req_packed_commands(&pipeline, 0, 3).await;
    let mut names = Vec::with_capacity(3);
    for reply in replies.map_err(StoreError::connecting)? {
        match reply {
            Reply::BulkString(name) => names.push(String::from_utf8_lossy(&name).into_owned()),
            Reply::ServerError(error) => return Err(StoreError::from_server(&error)),
            _ => return Err(StoreError::Strange { what: "the name of a script" }),
        }
    }
    match <[String; 3]>::try_from(names) {
        Ok([takes_in, carries_on, log]) => Ok(Scripts { takes_in, carries_on, log }),
        Err(_) => Err(StoreError::Strange { what: "the names of three scripts" }),
    }
}

/// Room for a key of usual length.
const KEY_BYTES: usize = 96;
/// `EVALSHA`, the script's name, the number of keys, and the arguments before the names of fields.
const FIXED_ARGS: usize = 8;
/// What these take in bytes, the allowed states included, roughly.
const FIXED_BYTES: usize = 300;

/// The states that each transition may start from, by its place in [`Transition::ALL`].
static ALLOWED: LazyLock<Vec<String>> =
    LazyLock::new(|| Transition::ALL.iter().map(|&transition| allowed(transition)).collect());

/// The call of the script for changes of one sort (see [`is_alike`]); see `transition.lua` for the
/// arguments.
pub(super) fn change_command(changes: &[&Change], scripts: &Scripts, keys: &Keys) -> Cmd {
    let first = changes[0];
    let bytes: usize = changes.iter().map(|change| weight(change)).sum();
    let args = FIXED_ARGS + first.fields.len() + changes.len() * (4 + first.fields.len());
    let mut cmd = Cmd::with_capacity(args, FIXED_BYTES + changes.len() * 2 * KEY_BYTES + bytes);
    let script = if takes_in(first.transition) { &scripts.takes_in } else { &scripts.carries_on };
    cmd.arg("EVALSHA").arg(script.as_str()).arg(2 * changes.len());
    for change in changes {
        write_task_key(&mut cmd, &change.id, keys);
        write_payload_key(&mut cmd, &change.id, keys);
    }
    cmd.arg(ALLOWED[first.transition as usize].as_str());
    let expect = match first.expect {
        Expect::Any => b'*',
        Expect::Exactly(_) => b'=',
        Expect::Below(_) => b'<',
    };
    let payload = match first.payload {
        PayloadOp::Keep => b'k',
        PayloadOp::Set(_) => b's',
        PayloadOp::Delete => b'd',
    };
    let answer = match first.wants {
        Wants::Nothing => b'-',
        Wants::ReplyAddress => b'a',
        Wants::Record => b'r',
    };
    cmd.write_arg(&[expect, payload, answer]);
    match first.keep {
        Keep::Unchanged => cmd.arg(""),
        Keep::For(duration) => cmd.arg(Keep::ms(duration)),
        Keep::Forever => cmd.arg("p"),
    };
    cmd.arg(first.state.map_or("", |state| state.as_str()));
    cmd.arg(first.fields.len());
    for (name, _) in &first.fields {
        cmd.arg(*name);
    }
    for change in changes {
        cmd.arg(match change.expect {
            Expect::Any => 0,
            Expect::Exactly(attempt) | Expect::Below(attempt) => attempt,
        });
        if let PayloadOp::Set(bytes) = &change.payload {
            cmd.write_arg(bytes);
        }
        for (_, value) in &change.fields {
            match value {
                Value::Int(number) => cmd.arg(*number),
                other => cmd.arg(other.as_bytes()),
            };
        }
    }
    cmd
}

/// Whether two changes differ only in what the script takes for each task.
pub(super) fn is_alike(one: &Change, other: &Change) -> bool {
    let is_same_expect = matches!(
        (one.expect, other.expect),
        (Expect::Any, Expect::Any)
            | (Expect::Exactly(_), Expect::Exactly(_))
            | (Expect::Below(_), Expect::Below(_))
    );
    let is_same_payload = matches!(
        (&one.payload, &other.payload),
        (PayloadOp::Keep, PayloadOp::Keep)
            | (PayloadOp::Set(_), PayloadOp::Set(_))
            | (PayloadOp::Delete, PayloadOp::Delete)
    );
    one.transition == other.transition
        && one.state == other.state
        && one.keep == other.keep
        && one.wants == other.wants
        && is_same_expect
        && is_same_payload
        && one.fields.iter().map(|(name, _)| name).eq(other.fields.iter().map(|(name, _)| name))
}

/// Bytes that a change adds to a call, besides its keys, roughly.
pub(super) fn weight(change: &Change) -> usize {
    let stored = match &change.payload {
        PayloadOp::Set(bytes) => bytes.len(),
        PayloadOp::Keep | PayloadOp::Delete => 0,
    };
    stored + change.fields.iter().map(|(name, value)| name.len() + value.bytes()).sum::<usize>()
}

pub(super) fn read_command(id: &TaskId, keys: &Keys) -> Cmd {
    let mut cmd = Cmd::with_capacity(RECORD_FIELDS.len() + 2, 3 * KEY_BYTES);
    cmd.arg("HMGET");
    write_task_key(&mut cmd, id, keys);
    for field in RECORD_FIELDS {
        cmd.arg(*field);
    }
    cmd
}

pub(super) fn write_task_key(cmd: &mut Cmd, id: &TaskId, keys: &Keys) {
    write_parts(cmd, &[keys.task_prefix(), id.as_str()]);
}

pub(super) fn write_payload_key(cmd: &mut Cmd, id: &TaskId, keys: &Keys) {
    write_parts(cmd, &[keys.payload_prefix(), id.as_str(), PAYLOAD_SUFFIX]);
}

/// One argument out of several texts, without putting them together elsewhere first.
fn write_parts(cmd: &mut Cmd, parts: &[&str]) {
    let mut arg = cmd.writer_for_next_arg();
    for part in parts {
        std::io::Write::write_all(&mut arg, part.as_bytes())
            .expect("a command is memory, which takes any write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_are_numbered_as_listed() {
        for (n, &transition) in Transition::ALL.iter().enumerate() {
            assert_eq!(transition as usize, n);
        }
    }

    /// The texts between single quotes after `from`, up to the first line that ends the call.
    fn quoted(from: &str) -> Vec<&'static str> {
        let script = include_str!("transition.lua");
        let start = script.find(from).unwrap();
        let call = &script[start..start + script[start..].find("')\n").unwrap_or(usize::MAX) + 1];
        call.split('\'').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_script_answers_with_the_fields_of_a_record() {
        assert_eq!(quoted("'state', 'attempt', 'failures'"), RECORD_FIELDS);
    }
}
