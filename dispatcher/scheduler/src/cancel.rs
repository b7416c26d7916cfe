//! Ending a task on demand.

use crate::entry::Phase;
use crate::event::{
    Answer, CommandReply, Effect, Expect, Field, Note, Payload, Record, ReplyBody, Write,
};
use crate::facts::CarId;
use crate::scheduler::{Pending, Scheduler};
use taskyard_model::{ErrorKind, State, TaskId, Transition, Wants};

/// How far a cancel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The record is being read.
    Look,
    /// The end is being recorded.
    Cancel,
    /// The wish is being recorded: a worker has the task.
    Ask,
}

impl Scheduler {
    pub(crate) fn cancel_asked(&mut self, ask: u64, id: TaskId) {
        self.read(id.clone(), Pending::Cancel { ask, id, step: Step::Look });
    }

    pub(crate) fn cancel_answered(&mut self, ask: u64, id: TaskId, step: Step, answer: Answer) {
        match (step, answer) {
            (Step::Look, Answer::Applied(record) | Answer::Refused(record)) => {
                self.cancel_looked(ask, id, record);
            }
            (Step::Cancel, Answer::Applied(before)) => {
                self.effect(Effect::Answer { ask, reply: CommandReply::Cancelled });
                self.cancelled(&id, before);
            }
            (Step::Ask, Answer::Applied(_)) => {
                self.ask_cancel(&id);
                self.effect(Effect::Answer { ask, reply: CommandReply::Asked });
            }
            // It went on meanwhile: look again.
            (Step::Cancel | Step::Ask, Answer::Refused(_)) => self.cancel_asked(ask, id),
        }
    }

    fn cancel_looked(&mut self, ask: u64, id: TaskId, record: Option<Record>) {
        let Some(record) = record else {
            let fresh = self.entries.of(&id).find(|(_, e)| e.is_new && waits(&e.phase));
            if let Some(car) = fresh.map(|(car, _)| car) {
                // It has just come: on record first, then it is looked at again.
                self.accept_waiting(car);
                return self.cancel_asked(ask, id);
            }
            return self.effect(Effect::Answer { ask, reply: CommandReply::Unknown });
        };
        let expect = Expect::Exactly(record.attempt);
        match record.state {
            state if state.is_final() => {
                self.effect(Effect::Answer { ask, reply: CommandReply::Final(state) });
            }
            State::Dispatched | State::Running => {
                let fields = vec![Field::CancelAsked];
                let write = Write::new(&id, Transition::AskCancel, expect, record.state, fields);
                self.write(write, Pending::Cancel { ask, id, step: Step::Ask });
            }
            _ => {
                let write = self.cancellation(&id, expect, record.keep_ms, record.next_at);
                self.write(write, Pending::Cancel { ask, id, step: Step::Cancel });
            }
        }
    }

    fn cancellation(
        &self,
        id: &TaskId,
        expect: Expect,
        keep_ms: Option<u64>,
        next_at: Option<taskyard_model::Timestamp>,
    ) -> Write {
        let fields = vec![
            Field::FinishedAt(self.now),
            Field::ErrorKind(ErrorKind::Cancelled),
            Field::NextAt(None),
        ];
        let mut write = Write::new(id, Transition::Cancel, expect, State::Cancelled, fields);
        write.payload = Payload::Delete;
        // Its copies may wait in a delay until then.
        write.keep = self.keep(State::Cancelled, keep_ms, next_at);
        write.wants = Wants::Record;
        write
    }

    /// On record: copies that wait here are done with; those elsewhere meet the record.
    fn cancelled(&mut self, id: &TaskId, before: Option<Record>) {
        self.note(Note::Finished { id: id.clone(), state: State::Cancelled, kind: None });
        let waiting = |is_new: bool| -> Vec<CarId> {
            let copies = self.entries.of(id).filter(|(_, e)| waits(&e.phase) && e.is_new == is_new);
            copies.map(|(car, _)| car).collect()
        };
        let (held, new) = (waiting(false), waiting(true));
        // Not recorded yet: a second submission, which meets the end and is told of it.
        new.into_iter().for_each(|car| self.accept_waiting(car));
        held.iter().for_each(|car| self.unwait(*car));
        // One of them stays until the reply is out: whoever comes after this process meets it again.
        let mut held = held.into_iter();
        if let Some(to) = before.and_then(|record| record.reply) {
            let keeper = held.next();
            if let Some(entry) = keeper.and_then(|car| self.entries.get_mut(car)) {
                entry.phase = Phase::Checking;
            }
            self.reply(keeper, id, to, ReplyBody::Stored, true);
        }
        held.for_each(|car| self.release(car));
    }

    /// A copy came back that somebody had asked to end.
    pub(crate) fn cancel_copy(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let (id, attempt, keep_ms) =
            (entry.facts.id.clone(), entry.facts.attempt, entry.facts.keep_ms);
        let write = self.cancellation(&id, Expect::Exactly(attempt), keep_ms, None);
        self.write(write, Pending::Ended { car: Some(car), id, state: State::Cancelled });
    }
}

/// Whether a copy waits here, with nothing being decided about it.
fn waits(phase: &Phase) -> bool {
    matches!(phase, Phase::Waiting { .. } | Phase::Holding { .. })
}
