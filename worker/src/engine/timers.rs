use super::intake::WAIT_MAX;
use super::{Engine, Key, Now, Phase};
use std::time::Instant;
use taskyard_common::wire::ReportKind;

impl Engine {
    /// Does everything that is due.
    pub(crate) fn tick(&mut self, now: Now) {
        self.return_overdue(now.instant);
        self.report_started(now.instant);
        while let Some((at, _)) = self.alarms.first()
            && *at <= now.instant
            && let Some((_, key)) = self.alarms.pop_first()
        {
            self.look_at(now, &key);
        }
    }

    /// When something is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|key| match self.attempts.get(key) {
            Some(attempt) => match attempt.phase {
                Phase::Waiting(since) => Some(since + WAIT_MAX),
                _ => None,
            },
            None => None,
        });
        let young = self.young.front().map(|(at, _)| *at);
        let alarm = self.alarms.first().map(|(at, _)| *at);
        waiting.flatten().into_iter().chain(young).chain(alarm).chain(self.outbox.deadline()).min()
    }

    /// A running attempt has progress to fetch.
    pub(crate) fn noted(&mut self, now: Now, key: &Key) {
        if let Some(attempt) = self.attempts.get_mut(key)
            && let Phase::Running(running) = &mut attempt.phase
        {
            running.noted(now.instant);
            self.set_alarm(key);
        }
    }

    /// What waited for too long goes back.
    fn return_overdue(&mut self, now: Instant) {
        while let Some(key) = self.waiting.front() {
            match self.attempts.get(key).map(|attempt| &attempt.phase) {
                Some(Phase::Waiting(since)) if *since + WAIT_MAX > now => return,
                Some(Phase::Waiting(_)) => {
                    let key = key.clone();
                    self.give_back(&key, false);
                }
                _ => {}
            }
            self.waiting.pop_front();
        }
    }

    /// What has run for a while is reported as started.
    fn report_started(&mut self, now: Instant) {
        while let Some((at, _)) = self.young.front()
            && *at <= now
            && let Some((_, key)) = self.young.pop_front()
        {
            let held_after = self.settings.held_after;
            if let Some(attempt) = self.attempts.get_mut(&key)
                && let Phase::Running(running) = &mut attempt.phase
            {
                running.hold_at = running.began_at.checked_add(held_after);
                let report = self.report(ReportKind::Started, &key);
                self.outbox.push(report);
                self.set_alarm(&key);
            }
        }
    }

    fn look_at(&mut self, now: Now, key: &Key) {
        if let Some(attempt) = self.attempts.get_mut(key)
            && let Phase::Running(running) = &mut attempt.phase
        {
            running.alarm = None;
        }
        while let Some(attempt) = self.attempts.get_mut(key)
            && let Phase::Running(running) = &mut attempt.phase
            && let Some(due) = running.take_due(now.instant)
        {
            self.due(now, key, due);
        }
        self.set_alarm(key);
    }

    /// Makes the engine look at a running attempt when something is due next.
    pub(super) fn set_alarm(&mut self, key: &Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let Phase::Running(running) = &mut attempt.phase else { return };
        let next = running.next_at();
        if next == running.alarm {
            return;
        }
        if let Some(alarm) = std::mem::replace(&mut running.alarm, next) {
            self.alarms.remove(&(alarm, key.clone()));
        }
        if let Some(next) = next {
            self.alarms.insert((next, key.clone()));
        }
    }
}
