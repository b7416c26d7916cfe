use crate::broker::SessionId;
use crate::chance::Chance;
use crate::message::{Body, Message, Report};
use crate::plan::{Manners, Plan};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use taskyard_model::{ErrorKind, TaskId, WorkerId};
use taskyard_scheduler::{BeatFacts, Facts, Fault, Said};

/// One attempt of one task.
pub(crate) type Key = (TaskId, u32);

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failure {
        is_permanent: bool,
    },
    /// Takes the process with it.
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// Its start is reported before it runs.
    Announced,
    Running(End),
    Reported,
}

#[derive(Clone, Debug)]
struct Attempt {
    copy: Facts,
    tags: Vec<u64>,
    phase: Phase,
    is_held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Ack,
    Nack,
    Unstarted,
}

/// What is due about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It has waited long enough.
    GiveBack,
    /// It is reported as started.
    Started,
    /// The dispatcher takes over its copy.
    Hold,
    Timeout,
    End,
}

/// What a worker makes happen.
#[derive(Debug)]
pub(crate) enum Act {
    /// Publish the report of this number.
    Say(u64),
    Ack(u64),
    Reject(u64),
    Later(u64, Key, Due),
    Ran(Key),
    RanWell(TaskId),
    Die,
}

/// A worker process: `worker/src/engine` in small, or a foreign one.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) manners: Manners,
    pub(crate) boot: u64,
    pub(crate) is_alive: bool,
    /// Stopped for a while, as by a debugger or a hypervisor.
    pub(crate) is_frozen: bool,
    pub(crate) is_draining: bool,
    pub(crate) session: Option<SessionId>,
    /// Its queue was there.
    pub(crate) is_consuming: bool,
    attempts: BTreeMap<Key, Attempt>,
    waiting: VecDeque<Key>,
    used: u32,
    memory: BTreeMap<Key, Fate>,
    open: BTreeMap<u64, usize>,
    /// Reports that are not confirmed, by number.
    pub(crate) outbox: BTreeMap<u64, Report>,
    next_report: u64,
    pub(crate) acts: Vec<Act>,
}

impl Worker {
    pub(crate) fn new(number: usize, manners: Manners) -> Self {
        Self {
            id: format!("w{number}").parse().unwrap(),
            manners,
            boot: 0,
            is_alive: true,
            is_frozen: false,
            is_draining: false,
            session: None,
            is_consuming: false,
            attempts: BTreeMap::new(),
            waiting: VecDeque::new(),
            used: 0,
            memory: BTreeMap::new(),
            open: BTreeMap::new(),
            outbox: BTreeMap::new(),
            next_report: 0,
            acts: Vec::new(),
        }
    }

    /// A new process under the same name: it knows nothing.
    pub(crate) fn reborn(&mut self) {
        let boot = self.boot + 1;
        let number = self.id.as_str()[1..].parse().unwrap();
        *self = Self { boot, ..Self::new(number, self.manners.clone()) };
    }

    pub(crate) fn beat(&self) -> BeatFacts {
        BeatFacts {
            id: self.id.clone(),
            boot: Arc::from(format!("boot {}", self.boot)),
            kinds: self.manners.kinds.clone(),
            slots: self.manners.slots,
            labels: self.manners.labels.clone(),
            weight: self.manners.weight,
            is_draining: self.is_draining,
            takes_trains: !self.manners.is_foreign,
            holding: self.attempts.keys().cloned().collect(),
        }
    }

    /// What it has, for people.
    pub(crate) fn has(&self) -> String {
        let attempt = |(key, a): (&Key, &Attempt)| format!("{key:?} {:?}", a.phase);
        let attempts: Vec<_> = self.attempts.iter().map(attempt).collect();
        format!("{} {attempts:?} session {:?} says {:?}", self.id, self.session, self.outbox)
    }

    /// The connection is gone: what had not begun is as good as new.
    pub(crate) fn lost_session(&mut self) {
        self.session = None;
        self.is_consuming = false;
        self.open.clear();
        self.waiting.clear();
        self.attempts.values_mut().for_each(|attempt| attempt.tags.clear());
        let waiting = |(key, a): (&Key, &Attempt)| (a.phase == Phase::Waiting).then(|| key.clone());
        let unstarted: Vec<Key> = self.attempts.iter().filter_map(waiting).collect();
        for key in unstarted {
            self.attempts.remove(&key);
            self.memory.insert(key, Fate::Unstarted);
        }
    }

    pub(crate) fn delivered(&mut self, tag: u64, message: Message, plan: &Plan, c: &mut Chance) {
        let Body::Copies(copies) = message.body else { unreachable!("workers get tasks only") };
        self.open.insert(tag, copies.len());
        for copy in copies {
            self.received(tag, message.is_redelivered, copy);
        }
        self.start_waiting(plan, c);
    }

    fn received(&mut self, tag: u64, is_redelivered: bool, copy: Facts) {
        let key = (copy.id.clone(), copy.attempt);
        if let Some(attempt) = self.attempts.get_mut(&key) {
            match attempt.is_held {
                true => self.settle(tag),
                false => attempt.tags.push(tag),
            }
            return;
        }
        let fate = self.memory.get(&key).copied();
        match fate {
            Some(Fate::Ack) => return self.settle(tag),
            Some(Fate::Nack) => return self.reject(tag),
            Some(Fate::Unstarted) | None => {}
        }
        let attempt = Attempt { copy, tags: vec![tag], phase: Phase::Waiting, is_held: false };
        self.attempts.insert(key.clone(), attempt);
        if is_redelivered && fate.is_none() {
            self.give_back(&key, true);
        } else if self.is_draining {
            self.give_back(&key, false);
        } else {
            self.acts.push(Act::Later(1_000, key.clone(), Due::GiveBack));
            self.waiting.push_back(key);
        }
    }

    fn start_waiting(&mut self, plan: &Plan, chance: &mut Chance) {
        while let Some(key) = self.waiting.front().cloned() {
            let Some(attempt) = self.attempts.get_mut(&key) else {
                self.waiting.pop_front();
                continue;
            };
            if attempt.phase != Phase::Waiting {
                self.waiting.pop_front();
                continue;
            }
            if self.used + attempt.copy.slots > self.manners.slots.max(attempt.copy.slots) {
                return;
            }
            self.waiting.pop_front();
            self.used += attempt.copy.slots;
            if attempt.copy.is_suspect && !self.manners.is_foreign {
                attempt.phase = Phase::Announced;
                self.say(&key, Said::Started, None);
            } else {
                self.start(&key, plan, chance);
                self.acts.push(Act::Later(20, key.clone(), Due::Started));
            }
        }
    }

    fn start(&mut self, key: &Key, plan: &Plan, chance: &mut Chance) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let (ms, end) = plan.draw_run(&attempt.copy, chance);
        attempt.phase = Phase::Running(end);
        let limit = attempt.copy.timeout_ms.filter(|_| !self.manners.is_foreign);
        self.acts.push(Act::Ran(key.clone()));
        self.acts.push(Act::Later(ms, key.clone(), Due::End));
        if let Some(limit) = limit {
            self.acts.push(Act::Later(limit, key.clone(), Due::Timeout));
        }
        if !self.manners.is_foreign {
            self.acts.push(Act::Later(plan.held_after_ms, key.clone(), Due::Hold));
        }
    }

    pub(crate) fn due(&mut self, key: &Key, due: Due, plan: &Plan, chance: &mut Chance) {
        let Some(attempt) = self.attempts.get(key) else { return };
        match (due, attempt.phase) {
            (Due::GiveBack, Phase::Waiting) => self.give_back(key, false),
            (Due::Started, Phase::Running(_)) => drop(self.say(key, Said::Started, None)),
            (Due::Hold, Phase::Running(_)) => self.say_with_copy(key, Said::Held),
            (Due::Timeout, Phase::Running(_)) => self.fail(key, false, ErrorKind::Timeout),
            (Due::End, Phase::Running(End::Crash)) => self.acts.push(Act::Die),
            (Due::End, Phase::Running(End::Failure { is_permanent })) => {
                self.fail(key, is_permanent, ErrorKind::Failed);
            }
            (Due::End, Phase::Running(End::Success)) => {
                self.acts.push(Act::RanWell(key.0.clone()));
                self.ended(key);
                self.say(key, Said::Succeeded, Some(1_000));
            }
            _ => {}
        }
        self.start_waiting(plan, chance);
    }

    /// Told to end an attempt.
    pub(crate) fn cancel(&mut self, key: &Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        if matches!(attempt.phase, Phase::Running(_)) && !self.manners.is_foreign {
            self.fail(key, true, ErrorKind::Cancelled);
        }
    }

    fn ended(&mut self, key: &Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if matches!(attempt.phase, Phase::Running(_) | Phase::Announced) {
            self.used -= attempt.copy.slots;
        }
        attempt.phase = Phase::Reported;
    }

    fn fail(&mut self, key: &Key, is_permanent: bool, error_kind: ErrorKind) {
        self.ended(key);
        self.say_with_copy(key, Said::Failed(Fault { is_permanent, ..Fault::of(error_kind) }));
    }

    fn give_back(&mut self, key: &Key, is_orphan: bool) {
        self.ended(key);
        self.say_with_copy(key, Said::Returned { is_orphan });
    }

    /// A report that is the copy; a foreign worker nacks its delivery instead.
    fn say_with_copy(&mut self, key: &Key, said: Said) {
        let number = self.say(key, said, None);
        let is_foreign = self.manners.is_foreign;
        if let (Some(attempt), Some(report)) =
            (self.attempts.get(key).filter(|_| !is_foreign), self.outbox.get_mut(&number))
        {
            report.copy = Some(attempt.copy.clone());
        }
    }

    fn say(&mut self, key: &Key, said: Said, ran_us: Option<u64>) -> u64 {
        let reply = self.attempts.get(key).and_then(|attempt| attempt.copy.reply.clone());
        let (id, attempt, worker) = (key.0.clone(), key.1, self.id.clone());
        let report = Report { id, attempt, worker, said, ran_us, copy: None, reply };
        self.next_report += 1;
        self.outbox.insert(self.next_report, report);
        self.acts.push(Act::Say(self.next_report));
        self.next_report
    }

    /// A report is stored.
    pub(crate) fn confirmed(&mut self, number: u64, plan: &Plan, chance: &mut Chance) {
        let Some(report) = self.outbox.remove(&number) else { return };
        let key = (report.id.clone(), report.attempt);
        match report.said {
            Said::Started => {
                if self.attempts.get(&key).is_some_and(|a| a.phase == Phase::Announced) {
                    self.start(&key, plan, chance);
                }
            }
            Said::Progress => {}
            Said::Held => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.is_held = true;
                    let tags = std::mem::take(&mut attempt.tags);
                    tags.into_iter().for_each(|tag| self.settle(tag));
                }
            }
            Said::Succeeded | Said::Failed(_) | Said::Returned { .. } | Said::Yielded => {
                let Some(attempt) = self.attempts.remove(&key) else { return };
                let is_copy = self.manners.is_foreign && report.said != Said::Succeeded;
                self.memory.insert(key, if is_copy { Fate::Nack } else { Fate::Ack });
                let mut tags = attempt.tags.into_iter();
                if is_copy && let Some(tag) = tags.next() {
                    self.reject(tag);
                }
                tags.for_each(|tag| self.settle(tag));
            }
        }
    }

    fn settle(&mut self, tag: u64) {
        let Some(left) = self.open.get_mut(&tag) else { return };
        *left -= 1;
        if *left == 0 {
            self.open.remove(&tag);
            self.acts.push(Act::Ack(tag));
        }
    }

    /// Only ever of a message that carries one task.
    fn reject(&mut self, tag: u64) {
        if self.open.remove(&tag).is_some() {
            self.acts.push(Act::Reject(tag));
        }
    }
}
