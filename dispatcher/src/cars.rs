use bytes::Bytes;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;
use taskyard_common::amqp::{Acks, Properties, Settled};
use taskyard_common::wire::{Head, Report, ReportKind, Task};
use taskyard_scheduler::{CarId, HeadUpdate};

/// Which channel a delivery came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Track {
    /// Submissions.
    Submit,
    /// Our own copies that come back in.
    Again,
    /// Reports and dead letters.
    Outcomes,
    /// The backlog.
    Backlog,
}

impl Track {
    pub(crate) const ALL: [Track; 4] =
        [Track::Submit, Track::Again, Track::Outcomes, Track::Backlog];
}

/// A delivery: its channel and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    pub(crate) track: Track,
    pub(crate) tag: u64,
}

/// What a car carries.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    /// A copy of a task.
    Task(Task),
    /// A report.
    Report(Box<Report>),
    /// A submission that breaks a rule, as it came.
    Refused(Box<Refused>),
}

/// A message that is put among the rejected.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) properties: Properties,
    pub(crate) routing_key: String,
    pub(crate) body: Bytes,
    pub(crate) reason: Arc<str>,
}

impl Load {
    /// A report; where it carries the task along, it is a copy of the attempt that it speaks of.
    pub(crate) fn report(mut report: Report) -> Self {
        if let Some(head) = &mut report.task {
            head.attempt = report.attempt;
            if report.kind == ReportKind::Yielded {
                head.checkpoint_at = report.checkpoint_at;
            }
        }
        Load::Report(Box::new(report))
    }

    /// The copy of a task that it is, if it is one.
    pub(crate) fn copy(&self) -> Option<(&Head, &Bytes)> {
        match self {
            Load::Task(task) => Some((&task.head, &task.payload)),
            Load::Report(report) => Some((report.task.as_ref()?, &report.body)),
            Load::Refused(_) => None,
        }
    }

    pub(crate) fn copy_mut(&mut self) -> Option<(&mut Head, &Bytes)> {
        match self {
            Load::Task(task) => Some((&mut task.head, &task.payload)),
            Load::Report(report) => Some((report.task.as_mut()?, &report.body)),
            Load::Refused(_) => None,
        }
    }
}

/// One car and where it was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Car {
    pub(crate) ticket: Ticket,
    pub(crate) load: Load,
    /// The copy as a train of one car, as it was last written, and with which head; what is stored
    /// is also what is sent.
    pub(crate) written: Option<(HeadUpdate, Bytes)>,
}

/// Everything that is delivered and not settled: bytes by car, cars by delivery, acks by channel.
#[derive(Debug, Default)]
pub(crate) struct Cars {
    cars: HashMap<CarId, Car, RandomState>,
    open: HashMap<Ticket, usize, RandomState>,
    acks: HashMap<Track, Acks, RandomState>,
    next: u64,
    bytes: usize,
}

impl Cars {
    /// A message has been delivered; it is settled when all of its cars are.
    pub(crate) fn delivered(&mut self, ticket: Ticket, loads: Vec<Load>) -> Vec<CarId> {
        self.acks.entry(ticket.track).or_default().delivered(ticket.tag);
        if loads.is_empty() {
            self.acks.entry(ticket.track).or_default().settle(ticket.tag);
            return Vec::new();
        }
        self.open.insert(ticket, loads.len());
        let mut ids = Vec::with_capacity(loads.len());
        for load in loads {
            let id = CarId(self.next);
            self.next += 1;
            self.bytes += bytes_of(&load);
            self.cars.insert(id, Car { ticket, load, written: None });
            ids.push(id);
        }
        ids
    }

    pub(crate) fn get(&self, id: CarId) -> Option<&Car> {
        self.cars.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: CarId) -> Option<&mut Car> {
        self.cars.get_mut(&id)
    }

    /// Nothing is left to do for a car.
    pub(crate) fn settle(&mut self, id: CarId) {
        let Some(car) = self.cars.remove(&id) else { return };
        self.bytes -= bytes_of(&car.load);
        let Some(left) = self.open.get_mut(&car.ticket) else { return };
        *left -= 1;
        if *left == 0 {
            self.open.remove(&car.ticket);
            self.acks.entry(car.ticket.track).or_default().settle(car.ticket.tag);
        }
    }

    /// What can be acked on a channel now.
    pub(crate) fn take_acks(&mut self, track: Track) -> Settled {
        self.acks.entry(track).or_default().take()
    }

    /// Bytes of everything that is held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(load: &Load) -> usize {
    match load {
        Load::Task(task) => task.payload.len(),
        Load::Report(report) => report.body.len(),
        Load::Refused(refused) => refused.body.len(),
    }
}
