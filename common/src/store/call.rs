//! Ops as commands, and replies as answers.

use redis::{Cmd, Pipeline, Value as Reply};
use taskyard_model::{State, TaskId};

use super::error::is_noscript;
use super::fresh;
use super::keys::Keys;
use super::script::{self, Scripts, change_command, read_command, write_payload_key};
use super::{Answer, Change, Op, Record, StoreError};

/// Changes in one call of the script: what they share is paid once; Redis does nothing else
/// meanwhile, for less than half a millisecond.
const BATCH_MAX: usize = 64;
/// Bytes of a call from which on another one begins.
const BATCH_BYTES: usize = 64 * 1024;

/// How ops are carried out.
pub(super) enum Call<'a> {
    /// Changes of one sort, by the script.
    Batch(Vec<&'a Change>),
    /// A first record, by the short way.
    Fresh(&'a Change),
    Read(&'a TaskId),
    Payload(&'a TaskId),
}

/// What came of an op at first.
pub(super) enum First {
    Answered(Answer),
    /// It has to be asked of the script, now. Only these are repeated: the others were done, and
    /// would be refused the second time.
    Undecided {
        /// What Redis said.
        error: StoreError,
        /// Redis has forgotten the script.
        is_forgotten: bool,
        /// The short way is closed here.
        is_restore_refused: bool,
        /// The short way has stored its payload.
        has_stored: bool,
    },
}

impl First {
    /// The answer, where nothing more is asked.
    pub(super) fn answer(self) -> Answer {
        match self {
            First::Answered(answer) => answer,
            First::Undecided { error, .. } => Answer::Failed(error),
        }
    }
}

/// The calls that carry out `ops`, in their order.
pub(super) fn calls<'a>(ops: &[&'a Op], may_restore: bool) -> Vec<Call<'a>> {
    let mut calls: Vec<Call<'a>> = Vec::with_capacity(ops.len());
    let mut bytes = 0;
    for &op in ops {
        let change = match op {
            Op::Read(id) => {
                calls.push(Call::Read(id));
                continue;
            }
            Op::Payload(id) => {
                calls.push(Call::Payload(id));
                continue;
            }
            Op::Change(change) if may_restore && fresh::is_fresh(change) => {
                calls.push(Call::Fresh(change));
                continue;
            }
            Op::Change(change) => change,
        };
        let weight = script::weight(change);
        match calls.last_mut() {
            Some(Call::Batch(batch))
                if batch.len() < BATCH_MAX
                    && bytes + weight <= BATCH_BYTES
                    && script::is_alike(batch[0], change) =>
            {
                batch.push(change);
                bytes += weight;
            }
            _ => {
                calls.push(Call::Batch(vec![change]));
                bytes = weight;
            }
        }
    }
    calls
}

/// Appends the commands of a call.
pub(super) fn add(pipeline: &mut Pipeline, call: &Call<'_>, scripts: &Scripts, keys: &Keys) {
    match call {
        Call::Fresh(change) => {
            fresh::commands(change, keys).for_each(|cmd| {
                pipeline.add_command(cmd);
            });
        }
        Call::Batch(changes) => {
            pipeline.add_command(change_command(changes, scripts, keys));
        }
        Call::Read(id) => {
            pipeline.add_command(read_command(id, keys));
        }
        Call::Payload(id) => {
            let mut get = Cmd::with_capacity(2, 128);
            get.arg("GET");
            write_payload_key(&mut get, id, keys);
            pipeline.add_command(read_command(id, keys)).add_command(get);
        }
    }
}

/// What came of each op, out of the replies to all commands.
pub(super) fn firsts(calls: &[Call<'_>], replies: Vec<Reply>) -> Vec<First> {
    let mut replies = replies.into_iter();
    let mut firsts = Vec::with_capacity(replies.len());
    for call in calls {
        match call {
            Call::Batch(changes) => batch(changes.len(), next(&mut replies), &mut firsts),
            Call::Fresh(change) => {
                let mut has_stored = false;
                for reply in replies.by_ref().take(fresh::count(change) - 1) {
                    has_stored = matches!(reply, Reply::Okay);
                }
                firsts.push(restored(next(&mut replies), has_stored));
            }
            Call::Read(_) => {
                let record = next(&mut replies).and_then(good).and_then(Record::parse);
                firsts.push(First::Answered(record.map_or_else(Answer::Failed, Answer::Record)));
            }
            Call::Payload(_) => {
                let (record, bytes) = (next(&mut replies), next(&mut replies));
                let answer = payload(record, bytes).unwrap_or_else(Answer::Failed);
                firsts.push(First::Answered(answer));
            }
        }
    }
    firsts
}

/// The next reply, errors of Redis among them.
fn next(replies: &mut impl Iterator<Item = Reply>) -> Result<Reply, StoreError> {
    replies.next().ok_or(StoreError::Strange { what: "an answer to every command" })
}

fn good(reply: Reply) -> Result<Reply, StoreError> {
    match reply {
        Reply::ServerError(error) => Err(StoreError::from_server(&error)),
        reply => Ok(reply),
    }
}

/// What the script returned: for each task 1 or 0, alone or followed by the record.
fn batch(count: usize, reply: Result<Reply, StoreError>, firsts: &mut Vec<First>) {
    let error = match reply {
        Ok(Reply::Array(answers)) if answers.len() == count => {
            let answers =
                answers.into_iter().map(|one| changed(one).unwrap_or_else(Answer::Failed));
            return firsts.extend(answers.map(First::Answered));
        }
        Ok(Reply::ServerError(error)) if is_noscript(&error) => {
            let forgotten = || First::Undecided {
                error: StoreError::from_server(&error),
                is_forgotten: true,
                is_restore_refused: false,
                has_stored: false,
            };
            return firsts.extend(std::iter::repeat_with(forgotten).take(count));
        }
        Ok(Reply::ServerError(error)) => StoreError::from_server(&error),
        Ok(_) => StoreError::Strange { what: "the results of transitions" },
        Err(error) => error,
    };
    firsts.extend((0..count).map(|_| First::Answered(Answer::Failed(error.clone()))));
}

fn changed(reply: Reply) -> Result<Answer, StoreError> {
    let (flag, record) = match reply {
        Reply::Int(flag) => (flag, None),
        Reply::Array(parts) => match <[Reply; 2]>::try_from(parts) {
            Ok([Reply::Int(flag), record]) => (flag, Record::parse(record)?),
            _ => return Err(StoreError::Strange { what: "a flag and a record" }),
        },
        _ => return Err(StoreError::Strange { what: "the result of a transition" }),
    };
    Ok(if flag == 1 { Answer::Applied(record) } else { Answer::Refused(record) })
}

/// What `RESTORE` said. What became of the payload otherwise does not matter: it is a second copy.
fn restored(reply: Result<Reply, StoreError>, has_stored: bool) -> First {
    First::Answered(match reply {
        Ok(Reply::Okay) => Answer::Applied(None),
        Ok(Reply::ServerError(error)) => match fresh::is_undecided(&error) {
            Some(is_restore_refused) => {
                let error = StoreError::from_server(&error);
                return First::Undecided {
                    error,
                    is_forgotten: false,
                    is_restore_refused,
                    has_stored,
                };
            }
            None => Answer::Failed(StoreError::from_server(&error)),
        },
        Ok(_) => Answer::Failed(StoreError::Strange { what: "the result of a first record" }),
        Err(error) => Answer::Failed(error),
    })
}

fn payload(
    record: Result<Reply, StoreError>,
    bytes: Result<Reply, StoreError>,
) -> Result<Answer, StoreError> {
    let record = Record::parse(good(record?)?)?;
    match good(bytes?)? {
        Reply::BulkString(bytes) => Ok(Answer::Payload(record, Some(bytes.into()))),
        Reply::Nil => Ok(Answer::Payload(record, None)),
        _ => Err(StoreError::Strange { what: "a payload" }),
    }
}

/// Whether the script refused, and no worker has the task: then no payload is kept.
pub(super) fn is_without_payload(answer: &Answer) -> bool {
    match answer {
        Answer::Refused(record) => !record
            .as_ref()
            .is_some_and(|record| matches!(record.state, State::Dispatched | State::Running)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_model::Transition;

    fn op(transition: Transition, state: State, fields: &[&'static str]) -> Op {
        let id = TaskId::new("t").unwrap();
        let mut change = Change::new(id, transition, Some(state));
        change.fields = fields.iter().map(|&name| (name, super::super::Value::EMPTY)).collect();
        Op::Change(change)
    }

    #[test]
    fn only_changes_of_one_sort_share_a_call() {
        let start = op(Transition::Start, State::Running, &["started_at"]);
        let other = op(Transition::Start, State::Running, &["worker"]);
        let fail = op(Transition::Fail, State::Failed, &["started_at"]);
        let read = Op::Read(TaskId::new("t").unwrap());
        let ops = [&start, &start, &other, &fail, &fail, &read, &fail];
        let calls = calls(&ops, true);
        let sizes: Vec<usize> = calls
            .iter()
            .map(|call| match call {
                Call::Batch(changes) => changes.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(sizes, [2, 1, 2, 0, 1]);
    }

    #[test]
    fn a_call_has_its_limit() {
        let start = op(Transition::Start, State::Running, &["started_at"]);
        let ops = vec![&start; 2 * BATCH_MAX + 1];
        assert_eq!(calls(&ops, true).len(), 3);
    }
}
