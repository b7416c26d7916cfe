use std::sync::LazyLock;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisWrite, Value as Reply};
use taskyard_model::{State, TaskId, Transition};

use super::change::{allowed, takes_in};
use super::error::is_noscript;
use super::fresh;
use super::keys::{Keys, PAYLOAD_SUFFIX};
use super::record::RECORD_FIELDS;
use super::{Answer, Change, Expect, Keep, Op, PayloadOp, Record, StoreError, Value};

/// For what takes something in: refused as a whole when memory is full.
const TAKES_IN: &str = concat!("#!lua\n", include_str!("transition.lua"));
/// For all else, so that memory becomes free again.
const CARRIES_ON: &str = concat!("#!lua flags=allow-oom\n", include_str!("transition.lua"));

/// The names that Redis gave our scripts.
pub(super) struct Scripts {
    takes_in: String,
    carries_on: String,
}

/// Loads both scripts.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<Scripts, StoreError> {
    let mut pipeline = redis::pipe();
    for text in [TAKES_IN, CARRIES_ON] {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    let replies = connection.req_packed_commands(&pipeline, 0, 2).await;
    let mut names = Vec::with_capacity(2);
    for reply in replies.map_err(StoreError::connecting)? {
        match reply {
            Reply::BulkString(name) => names.push(String::from_utf8_lossy(&name).into_owned()),
            Reply::ServerError(error) => return Err(StoreError::from_server(&error)),
            _ => return Err(StoreError::Strange { what: "the name of a script" }),
        }
    }
    match <[String; 2]>::try_from(names) {
        Ok([takes_in, carries_on]) => Ok(Scripts { takes_in, carries_on }),
        Err(_) => Err(StoreError::Strange { what: "the names of two scripts" }),
    }
}

/// How an op is carried out.
#[derive(Clone, Copy)]
pub(super) enum Call<'a> {
    /// As its commands, a change by the script.
    Plain(&'a Op),
    /// A first record, by the short way.
    Fresh(&'a Op, &'a Change),
}

impl<'a> Call<'a> {
    pub(super) fn of(op: &'a Op, may_restore: bool) -> Self {
        match op {
            Op::Change(change) if may_restore && fresh::is_fresh(change) => Call::Fresh(op, change),
            op => Call::Plain(op),
        }
    }

    /// Commands, and so replies.
    fn count(self) -> usize {
        match self {
            Call::Fresh(_, change) => fresh::count(change),
            Call::Plain(Op::Change(_) | Op::Read(_)) => 1,
            Call::Plain(Op::Payload(_)) => 2,
        }
    }
}

/// Appends the commands of a call.
pub(super) fn add(pipeline: &mut Pipeline, call: &Call, scripts: &Scripts, keys: &Keys) {
    match *call {
        Call::Fresh(_, change) => {
            fresh::commands(change, keys).for_each(|cmd| {
                pipeline.add_command(cmd);
            });
        }
        Call::Plain(Op::Change(change)) => {
            pipeline.add_command(change_command(change, scripts, keys));
        }
        Call::Plain(Op::Read(id)) => {
            pipeline.add_command(read_command(id, keys));
        }
        Call::Plain(Op::Payload(id)) => {
            let mut get = Cmd::with_capacity(2, KEY_BYTES);
            get.arg("GET");
            write_payload_key(&mut get, id, keys);
            pipeline.add_command(read_command(id, keys)).add_command(get);
        }
    }
}

/// An op that has to be asked of the script, now. Only these are repeated: the others were done, and
/// would be refused the second time.
pub(super) struct Undecided<'a> {
    /// The place of its reply.
    pub(super) at: usize,
    pub(super) op: &'a Op,
    /// Redis has forgotten the script.
    pub(super) is_forgotten: bool,
    /// The short way is closed here.
    pub(super) is_restore_refused: bool,
    /// The short way has stored its payload.
    pub(super) has_stored: bool,
}

pub(super) fn undecided<'a>(calls: &[Call<'a>], replies: &[Reply]) -> Vec<Undecided<'a>> {
    let mut end = 0;
    let mut found = Vec::new();
    for call in calls {
        let begin = end;
        end += call.count();
        let Some(replies) = replies.get(begin..end) else { break };
        match call {
            Call::Plain(op) => {
                let is_forgotten =
                    matches!(replies, [Reply::ServerError(error), ..] if is_noscript(error));
                if is_forgotten {
                    found.push(Undecided {
                        at: begin,
                        op,
                        is_forgotten,
                        is_restore_refused: false,
                        has_stored: false,
                    });
                }
            }
            Call::Fresh(op, _) => {
                let Some(Reply::ServerError(error)) = replies.last() else { continue };
                if let Some(is_restore_refused) = fresh::is_undecided(error) {
                    found.push(Undecided {
                        at: end - 1,
                        op,
                        is_forgotten: false,
                        is_restore_refused,
                        has_stored: matches!(replies, [Reply::Okay, _]),
                    });
                }
            }
        }
    }
    found
}

/// Whether the script refused, and no worker has the task: then no payload is kept.
pub(super) fn is_without_payload(reply: &Reply) -> bool {
    match changed(reply.clone()) {
        Ok(Answer::Refused(record)) => {
            !record.is_some_and(|r| matches!(r.state, State::Dispatched | State::Running))
        }
        _ => false,
    }
}

/// Room for a key of usual length.
const KEY_BYTES: usize = 96;
/// `EVALSHA`, the script's name, the number of keys, the keys, and the arguments before the fields.
const FIXED_ARGS: usize = 10;
/// What these take in bytes, the allowed states and both keys included, roughly.
const FIXED_BYTES: usize = 400;

/// The states that each transition may start from, by its place in [`Transition::ALL`].
static ALLOWED: LazyLock<Vec<String>> =
    LazyLock::new(|| Transition::ALL.iter().map(|&transition| allowed(transition)).collect());

/// The call of the script; see `transition.lua` for the arguments.
fn change_command(change: &Change, scripts: &Scripts, keys: &Keys) -> Cmd {
    let stored = match &change.payload {
        PayloadOp::Set(bytes) => bytes.len(),
        PayloadOp::Keep | PayloadOp::Delete => 0,
    };
    let fields: usize = change.fields.iter().map(|(name, value)| name.len() + value.bytes()).sum();
    let args = FIXED_ARGS + 2 * (change.fields.len() + 1);
    let mut cmd = Cmd::with_capacity(args, FIXED_BYTES + stored + fields);
    let script = if takes_in(change.transition) { &scripts.takes_in } else { &scripts.carries_on };
    cmd.arg("EVALSHA").arg(script.as_str()).arg("2");
    write_task_key(&mut cmd, &change.id, keys);
    write_payload_key(&mut cmd, &change.id, keys);
    cmd.arg(ALLOWED[change.transition as usize].as_str());
    let (expect, attempt) = match change.expect {
        Expect::Any => (b'*', 0),
        Expect::Exactly(attempt) => (b'=', attempt),
        Expect::Below(attempt) => (b'<', attempt),
    };
    let (payload, bytes): (u8, &[u8]) = match &change.payload {
        PayloadOp::Keep => (b'k', &[]),
        PayloadOp::Set(bytes) => (b's', bytes),
        PayloadOp::Delete => (b'd', &[]),
    };
    let answer = if change.wants_record { b'r' } else { b'-' };
    cmd.write_arg(&[expect, payload, answer]);
    cmd.arg(attempt);
    cmd.write_arg(bytes);
    match change.keep {
        Keep::Unchanged => cmd.arg(""),
        Keep::For(duration) => cmd.arg(Keep::ms(duration)),
        Keep::Forever => cmd.arg("p"),
    };
    if let Some(state) = change.state {
        cmd.arg("state").arg(state.as_str());
    }
    for (name, value) in &change.fields {
        cmd.arg(*name);
        match value {
            Value::Int(number) => cmd.arg(*number),
            other => cmd.arg(other.as_bytes()),
        };
    }
    cmd
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

/// The answer to a call out of the replies to its commands.
pub(super) fn answer(call: &Call, replies: &mut impl Iterator<Item = Reply>) -> Answer {
    let op = match *call {
        Call::Plain(op) => op,
        Call::Fresh(op, change) => {
            // What became of the payload does not matter: it is a second copy.
            replies.by_ref().take(fresh::count(change) - 1).for_each(drop);
            op
        }
    };
    let mut next = || match replies.next() {
        Some(Reply::ServerError(error)) => Err(StoreError::from_server(&error)),
        Some(reply) => Ok(reply),
        None => Err(StoreError::Strange { what: "an answer to every command" }),
    };
    let answer = match op {
        Op::Change(_) => next().and_then(changed),
        Op::Read(_) => next().and_then(Record::parse).map(Answer::Record),
        Op::Payload(_) => {
            let (record, payload) = (next(), next());
            record.and_then(Record::parse).and_then(|record| match payload? {
                Reply::BulkString(bytes) => Ok(Answer::Payload(record, Some(bytes.into()))),
                Reply::Nil => Ok(Answer::Payload(record, None)),
                _ => Err(StoreError::Strange { what: "a payload" }),
            })
        }
    };
    answer.unwrap_or_else(Answer::Failed)
}

/// What the script returned: 1 or 0, alone or followed by the record; or that a record was restored.
fn changed(reply: Reply) -> Result<Answer, StoreError> {
    let (flag, record) = match reply {
        Reply::Okay => (1, None),
        Reply::Int(flag) => (flag, None),
        Reply::Array(parts) => match <[Reply; 2]>::try_from(parts) {
            Ok([Reply::Int(flag), record]) => (flag, Record::parse(record)?),
            _ => return Err(StoreError::Strange { what: "a flag and a record" }),
        },
        _ => return Err(StoreError::Strange { what: "the result of a transition" }),
    };
    Ok(if flag == 1 { Answer::Applied(record) } else { Answer::Refused(record) })
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
