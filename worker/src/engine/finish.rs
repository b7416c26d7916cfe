use super::attempt::Due;
use super::{Attempt, Ended, Engine, Fate, Key, Now, Phase, REFUSED_WAIT, native};
use crate::context::CancelReason;
use crate::error::TaskError;
use crate::handler::Reply;
use taskyard_common::wire::{Report, ReportKind, Task};
use taskyard_model::{ErrorKind, PAYLOAD_BYTES_MAX};
use tracing::{debug, error};

/// Longest content type in bytes: AMQP's short string.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

impl Engine {
    /// A handler has ended.
    pub(crate) fn ended(&mut self, now: Now, key: &Key, ended: Ended, ran_us: u64) {
        if let Some(slots) = self.stuck.remove(key) {
            self.free_slots += slots;
        } else if let Some(Attempt { phase: Phase::Running(running), .. }) =
            self.attempts.get_mut(key)
        {
            let reason = running.run.reason();
            self.free_slots += running.slots;
            if let Some(alarm) = running.alarm.take() {
                self.alarms.remove(&(alarm, key.clone()));
            }
            self.settle_end(key, reason, ended, Some(ran_us));
        }
        self.start_waiting(now);
    }

    /// Reports how an attempt ended, as the reason for which it was asked to end demands.
    fn settle_end(
        &mut self,
        key: &Key,
        reason: Option<CancelReason>,
        ended: Ended,
        ran_us: Option<u64>,
    ) {
        match (reason, ended) {
            (Some(CancelReason::Timeout), _) => {
                let limit = self.attempts.get(key).and_then(|a| a.task.head.timeout_ms);
                let text = format!("it ran longer than {} ms", limit.unwrap_or_default());
                self.fail(key, &TaskError::timed_out(text), ran_us);
            }
            (_, Ended::Done(reply)) => self.succeed(key, reply, ran_us),
            (Some(CancelReason::Command), _) => self.fail(key, &TaskError::cancelled(), ran_us),
            (Some(CancelReason::Shutdown), _) => self.give_back(key, false),
            (None, Ended::Failed(error)) => self.fail(key, &error, ran_us),
            (None, Ended::Dropped) => {
                self.fail(key, &TaskError::retryable("the handler was dropped"), ran_us);
            }
        }
    }

    fn succeed(&mut self, key: &Key, reply: Reply, ran_us: Option<u64>) {
        if reply.body.len() > PAYLOAD_BYTES_MAX {
            let text = format!("the result has {} bytes, more than 16 MiB", reply.body.len());
            return self.fail(key, &TaskError::permanent(text), ran_us);
        }
        let mut report = self.report(ReportKind::Succeeded, key);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.phase = Phase::Reported;
        let head = &attempt.task.head;
        report.ran_us = ran_us;
        report.content_type =
            reply.content_type.filter(|given| given.len() <= CONTENT_TYPE_BYTES_MAX);
        report.task_kind = Some(head.kind.clone());
        report.reply_to.clone_from(&head.reply_to);
        report.correlation_id.clone_from(&head.correlation_id);
        report.body = reply.body;
        self.outbox.push(report);
    }

    pub(super) fn fail(&mut self, key: &Key, error: &TaskError, ran_us: Option<u64>) {
        debug!(id = %key.id, attempt = key.attempt, %error, "failed");
        let mut report = self.report(ReportKind::Failed, key);
        report.error = Some(error.text().to_owned());
        report.error_kind = Some(error.kind()).filter(|&kind| kind != ErrorKind::Failed);
        report.is_permanent = error.is_permanent();
        report.retry_after_ms =
            error.retry_after().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        report.ran_us = ran_us;
        self.report_with_task(key, report);
    }

    /// Gives an attempt back: somebody else shall have it.
    pub(super) fn give_back(&mut self, key: &Key, is_orphan: bool) {
        let mut report = self.report(ReportKind::Returned, key);
        report.is_orphan = is_orphan;
        self.report_with_task(key, report);
    }

    /// The last report of an attempt that did not succeed: it is the copy that goes on.
    fn report_with_task(&mut self, key: &Key, mut report: Report) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if let Phase::Announced(slots) = std::mem::replace(&mut attempt.phase, Phase::Reported) {
            self.free_slots += slots;
        }
        carry(&mut report, &attempt.task);
        self.outbox.push(report);
    }

    /// A message of reports is stored.
    pub(crate) fn confirmed(&mut self, now: Now, number: u64) {
        for report in self.outbox.confirmed(number) {
            let key = Key { id: report.id.clone(), attempt: report.attempt };
            match report.kind {
                ReportKind::Succeeded
                | ReportKind::Failed
                | ReportKind::Returned
                | ReportKind::Yielded => self.settled(key, &report),
                ReportKind::Started => self.start(now, &key),
                ReportKind::Held => self.held_elsewhere(&key),
                ReportKind::Progress | ReportKind::Log => {}
            }
        }
    }

    /// A message of reports was not stored.
    pub(crate) fn refused(&mut self, now: Now, number: u64) {
        self.outbox.refused(number, now.instant + REFUSED_WAIT);
    }

    /// The last report of an attempt is confirmed.
    fn settled(&mut self, key: Key, report: &Report) {
        let Some(attempt) = self.attempts.remove(&key) else { return };
        let is_copy = native::needs_nack(report) && !attempt.is_held;
        self.memory.remember(key, if is_copy { Fate::Nack } else { Fate::Ack });
        let mut tags = attempt.tag.into_iter().chain(attempt.more_tags);
        // One copy goes on, whatever the number of deliveries.
        if is_copy && let Some(tag) = tags.next() {
            self.deliveries.reject(tag);
        }
        tags.for_each(|tag| self.deliveries.settle(tag));
    }

    /// The dispatcher has a copy of its own: the deliveries are needed no more.
    fn held_elsewhere(&mut self, key: &Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.is_held = true;
        for tag in attempt.tag.take().into_iter().chain(attempt.more_tags.drain(..)) {
            self.deliveries.settle(tag);
        }
    }

    /// Does what is due about a running attempt.
    pub(super) fn due(&mut self, now: Now, key: &Key, due: Due) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let task = &attempt.task;
        let Phase::Running(running) = &mut attempt.phase else { return };
        match due {
            Due::Progress => {
                running.progressed(now.instant);
                if let Some((percent, note)) = running.run.take_progress() {
                    let mut report = self.report(ReportKind::Progress, key);
                    report.progress = Some(percent);
                    report.note = Some(note).filter(|note| !note.is_empty());
                    self.outbox.push(report);
                }
            }
            Due::Hold => {
                let task = std::sync::Arc::clone(task);
                let mut report = self.report(ReportKind::Held, key);
                carry(&mut report, &task);
                self.outbox.push(report);
            }
            Due::Timeout => running.cancel(CancelReason::Timeout, now.instant),
            Due::Abort => running.abort(now.instant),
            Due::GiveUp => {
                error!(
                    id = %key.id, kind = %task.head.kind, slots = running.slots,
                    "a handler blocks its thread; its slots are lost until it returns"
                );
                self.stuck.insert(key.clone(), running.slots);
                let reason = running.run.reason();
                self.settle_end(key, reason, Ended::Dropped, None);
            }
        }
    }
}

/// Makes a report the copy of its task.
fn carry(report: &mut Report, task: &Task) {
    report.task = Some(task.head.clone());
    report.body = task.payload.clone();
}
