use super::attempt::STARTED_AFTER;
use super::{Attempt, Engine, Fate, Incoming, Key, Now, Phase, Run, Running, Start};
use crate::error::TaskError;
use std::sync::Arc;
use std::time::Duration;
use taskyard_common::wire::{ReportKind, Task};
use tracing::{debug, error};

/// What was received and could not start for so long goes back: somebody else may be free.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

impl Engine {
    /// A delivery has come.
    pub(crate) fn delivered(&mut self, now: Now, incoming: Incoming) {
        let Incoming { tag, is_redelivered, tasks } = incoming;
        match tasks {
            Ok(tasks) => {
                self.deliveries.arrived(tag, tasks.len());
                for task in tasks {
                    self.received(now, tag, is_redelivered, task);
                }
                self.start_waiting(now);
            }
            Err(why) => {
                error!(why, "a message is neither a task nor a train of tasks; rejected");
                self.deliveries.arrived(tag, 1);
                self.deliveries.reject(tag);
            }
        }
    }

    fn received(&mut self, now: Now, tag: u64, is_redelivered: bool, task: Task) {
        let key = Key::of(&task.head);
        if let Some(attempt) = self.attempts.get_mut(&key) {
            debug!(id = %key.id, attempt = key.attempt, "came again while it is held");
            match attempt.is_held {
                true => self.deliveries.settle(tag),
                false => attempt.attach(tag),
            }
            return;
        }
        let fate = self.memory.recall(&key);
        match fate {
            Some(Fate::Ack) => return self.deliveries.settle(tag),
            Some(Fate::Nack) => return self.deliveries.reject(tag),
            Some(Fate::Unstarted) | None => {}
        }
        let attempt = Attempt {
            task: Arc::new(task),
            tag: Some(tag),
            more_tags: Vec::new(),
            phase: Phase::Waiting(now.instant),
            is_held: false,
        };
        self.attempts.insert(key.clone(), attempt);
        if is_redelivered && fate.is_none() {
            self.give_back(&key, true);
        } else if self.is_ending {
            self.give_back(&key, false);
        } else {
            self.waiting.push_back(key);
        }
    }

    /// Starts what waits, in order, as long as there are slots.
    pub(super) fn start_waiting(&mut self, now: Now) {
        while let Some(key) = self.waiting.front() {
            let Some(attempt) = self.attempts.get(key).filter(|attempt| attempt.is_waiting())
            else {
                self.waiting.pop_front();
                continue;
            };
            let slots = attempt.task.head.slots.clamp(1, self.settings.slots);
            if slots > self.free_slots {
                return;
            }
            let Some(key) = self.waiting.pop_front() else { return };
            self.take_up(now, &key, slots);
        }
    }

    /// Begins with an attempt, for which there are slots.
    fn take_up(&mut self, now: Now, key: &Key, slots: u32) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let head = &attempt.task.head;
        if head.start_by.is_some_and(|start_by| start_by < now.at) {
            return self.fail(key, &TaskError::expired(), None);
        }
        if self.settings.handlers.find(&head.kind).is_none() {
            // The dispatcher went by the heartbeat of an earlier process of this name.
            debug!(id = %key.id, kind = %head.kind, "no handler for this kind; returned");
            return self.give_back(key, false);
        }
        let is_suspect = head.is_suspect;
        self.free_slots -= slots;
        attempt.phase = Phase::Announced(slots);
        match is_suspect {
            true => {
                let report = self.report(ReportKind::Started, key);
                self.outbox.push(report);
            }
            false => self.start(now, key),
        }
    }

    /// Starts the handler of an attempt that has its slots.
    pub(super) fn start(&mut self, now: Now, key: &Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let Phase::Announced(slots) = attempt.phase else { return };
        let head = &attempt.task.head;
        let Some(handler) = self.settings.handlers.find(&head.kind).cloned() else { return };
        let run = Arc::new(Run::default());
        let limit = head.timeout_ms.map(Duration::from_millis);
        let ends_at = limit.map(|limit| now.at + limit);
        let deadline = ends_at.into_iter().chain(head.deadline).min();
        let mut running = Running::new(Arc::clone(&run), slots, now.instant);
        running.timeout_at = limit.and_then(|limit| now.instant.checked_add(limit));
        let has_limit = running.timeout_at.is_some();
        let is_reported = head.is_suspect;
        if is_reported {
            running.hold_at = now.instant.checked_add(self.settings.held_after);
        }
        attempt.phase = Phase::Running(running);
        let (task, logbook) = (Arc::clone(&attempt.task), Arc::clone(&self.logbook));
        self.starts.push(Start { handler, task, run, logbook, deadline });
        if !is_reported {
            self.young.push_back((now.instant + STARTED_AFTER, key.clone()));
        }
        if has_limit || is_reported {
            self.set_alarm(key);
        }
    }
}

impl Attempt {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// Another delivery of it, to be settled with it.
    fn attach(&mut self, tag: u64) {
        match self.tag {
            None => self.tag = Some(tag),
            Some(_) => self.more_tags.push(tag),
        }
    }
}
