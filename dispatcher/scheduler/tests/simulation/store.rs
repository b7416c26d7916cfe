use std::collections::BTreeMap;
use std::time::Duration;
use taskyard_model::{Backoff, Origin, State, TaskId, Transition, Wants};
use taskyard_scheduler::{Answer, Expect, Facts, Field, Keep, Record, Write};

/// What becomes of the stored payload.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Keep,
    Set(Box<Facts>),
    Delete,
}

/// A write as it goes to the store: what stood for bytes is resolved.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) write: Write,
    /// What `Field::All` stands for.
    pub(crate) all: Option<Facts>,
    pub(crate) payload: Stored,
}

#[derive(Clone, Debug)]
struct Row {
    record: Record,
    expires_at: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    rows: BTreeMap<TaskId, Row>,
    payloads: BTreeMap<TaskId, Facts>,
}

/// A change of state that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) id: TaskId,
    pub(crate) transition: Transition,
    pub(crate) before: Option<Record>,
    pub(crate) after: Record,
}

/// Redis as `transition.lua` makes it: one compare-and-set a write, driven by the model's table.
#[derive(Debug, Default)]
pub(crate) struct Store {
    now: Contents,
    snapshot: Contents,
    /// Payloads that went since somebody looked.
    pub(crate) lost_a_payload: Vec<TaskId>,
    pub(crate) made: Vec<Made>,
}

impl Store {
    pub(crate) fn run(&mut self, now: u64, asked: &Asked) -> Answer {
        let Asked { write, all, payload } = asked;
        let is_over = |row: &Row| row.expires_at.is_some_and(|at| at <= now);
        if self.now.rows.get(&write.id).is_some_and(is_over) {
            self.now.rows.remove(&write.id);
        }
        let before = self.now.rows.get(&write.id).cloned();
        let record = before.as_ref().map(|row| row.record.clone());
        let Some(transition) = write.transition else { return Answer::Refused(record) };
        let is_at = |attempt: u32| match write.expect {
            Expect::Any => true,
            Expect::Exactly(expected) => attempt == expected,
            Expect::Below(bound) => attempt < bound,
        };
        let origin = record.as_ref().map_or(Origin::Absent, |r| Origin::At(r.state));
        let is_allowed =
            transition.is_allowed(origin) && record.as_ref().is_none_or(|r| is_at(r.attempt));
        if !is_allowed {
            return Answer::Refused(record);
        }
        let is_fresh = match &record {
            None => true,
            Some(r) => r.state == State::Rejected && write.state.is_some(),
        };
        let mut row = match before {
            Some(row) if !is_fresh => row,
            _ => Row { record: blank(), expires_at: None },
        };
        match write.state {
            Some(state) => {
                assert!(transition.to().contains(&state), "{transition:?} to {state}");
                row.record.state = state;
            }
            None => assert!(transition.to().is_empty(), "{transition:?} without a state"),
        }
        for field in &write.fields {
            set(&mut row.record, field, all.as_ref());
        }
        match write.keep {
            Keep::Unchanged => {}
            Keep::For(time) => row.expires_at = Some(now + ms(time)),
        }
        match payload {
            Stored::Set(facts) => {
                self.now.payloads.insert(write.id.clone(), (**facts).clone());
            }
            Stored::Delete => self.forget_payload(&write.id),
            Stored::Keep if is_fresh => self.forget_payload(&write.id),
            Stored::Keep => {}
        }
        let after = row.record.clone();
        self.now.rows.insert(write.id.clone(), row);
        let id = write.id.clone();
        self.made.push(Made { id, transition, before: record.clone(), after });
        Answer::Applied(record.filter(|record| match write.wants {
            Wants::Nothing => false,
            Wants::ReplyAddress => record.reply.is_some(),
            Wants::Record => true,
        }))
    }

    fn forget_payload(&mut self, id: &TaskId) {
        if self.now.payloads.remove(id).is_some() {
            self.lost_a_payload.push(id.clone());
        }
    }

    pub(crate) fn record(&self, id: &TaskId) -> Option<&Record> {
        self.now.rows.get(id).map(|row| &row.record)
    }

    pub(crate) fn payload(&self, id: &TaskId) -> Option<&Facts> {
        self.now.payloads.get(id)
    }

    /// Tasks whose payloads are kept: what is in flight.
    pub(crate) fn in_flight(&self) -> Vec<TaskId> {
        self.now.payloads.keys().cloned().collect()
    }

    pub(crate) fn take_snapshot(&mut self) {
        self.snapshot = self.now.clone();
    }

    /// Redis comes back with what it had a while ago.
    pub(crate) fn roll_back(&mut self) {
        self.lost_a_payload.extend(self.now.payloads.keys().cloned());
        self.now = self.snapshot.clone();
    }

    /// Redis comes back with nothing.
    pub(crate) fn forget(&mut self) {
        self.lost_a_payload.extend(self.now.payloads.keys().cloned());
        self.now = Contents::default();
        self.snapshot = Contents::default();
    }
}

fn blank() -> Record {
    Record {
        state: State::Queued,
        attempt: 0,
        failures: 0,
        losses: 0,
        max_attempts: taskyard_model::MAX_ATTEMPTS_DEFAULT,
        max_losses: taskyard_model::MAX_LOSSES_DEFAULT,
        backoff: Backoff::default(),
        worker: None,
        next_at: None,
        reply: None,
        owes_dead_letter: false,
        is_cancel_asked: false,
        keep_ms: None,
        start_by: None,
    }
}

fn set(record: &mut Record, field: &Field, all: Option<&Facts>) {
    match field {
        Field::Attempt(attempt) => record.attempt = *attempt,
        Field::Failures(failures) => record.failures = *failures,
        Field::Losses(losses) => record.losses = *losses,
        Field::Worker(worker) => record.worker = Some(worker.clone()),
        Field::NextAt(at) => record.next_at = *at,
        Field::OwesDeadLetter(is_owed) => record.owes_dead_letter = *is_owed,
        Field::Reply(reply) => record.reply.clone_from(reply),
        Field::CancelAsked => record.is_cancel_asked = true,
        Field::All(_) => {
            let facts = all.expect("a copy stands behind `All`");
            record.max_attempts = facts.max_attempts;
            record.max_losses = facts.max_losses;
            record.backoff = facts.backoff;
            record.keep_ms = facts.keep_ms;
            record.start_by = facts.start_by;
            if facts.attempt > 0 {
                record.attempt = facts.attempt;
                record.failures = facts.failures;
                record.losses = facts.losses;
            }
            if facts.reply.is_some() {
                record.reply.clone_from(&facts.reply);
            }
        }
        _ => {}
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}
