use taskyard_model::{Source, State, TaskId, WorkerId};
use taskyard_scheduler::{Facts, ReplyTo, Said};

/// A queue of the simulated broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queue {
    Submit,
    Outcomes,
    Again,
    Lane(u8),
    Parked,
    Delay(u32),
    Worker(usize),
    Dead,
    Rejected,
    Replies,
}

/// What a worker says of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) id: TaskId,
    pub(crate) attempt: u32,
    pub(crate) worker: WorkerId,
    pub(crate) said: Said,
    pub(crate) ran_us: Option<u64>,
    /// The task, where the report is a copy of it.
    pub(crate) copy: Option<Facts>,
    pub(crate) reply: Option<ReplyTo>,
}

/// What a message carries. A payload is not modelled: who has the facts has the task.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "few are alive at a time")]
pub(crate) enum Body {
    Submission {
        facts: Facts,
        /// Whether the submitter gave it an id; else whoever takes it in does.
        is_named: bool,
        delay_ms: Option<u64>,
        /// Its start-by, counted from intake.
        start_within_ms: Option<u64>,
    },
    /// A submission that breaks a rule.
    Broken {
        id: Option<TaskId>,
    },
    Copies(Vec<Facts>),
    Reports(Vec<Report>),
    /// Shows the process of this boot how far its queue has been read.
    Marker {
        boot: u64,
        number: u64,
    },
    Reply {
        id: TaskId,
        state: Option<State>,
    },
}

impl Body {
    /// The tasks that this message keeps from being lost.
    pub(crate) fn holds(&self) -> Vec<TaskId> {
        match self {
            Body::Submission { facts, .. } => vec![facts.id.clone()],
            Body::Copies(copies) => copies.iter().map(|facts| facts.id.clone()).collect(),
            Body::Reports(reports) => {
                let is_end = |r: &&Report| r.copy.is_some() || r.said == Said::Succeeded;
                reports.iter().filter(is_end).map(|r| r.id.clone()).collect()
            }
            Body::Broken { .. } | Body::Marker { .. } | Body::Reply { .. } => Vec::new(),
        }
    }
}

/// A message as the broker keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) body: Body,
    /// When it leaves its queue by itself.
    pub(crate) expires_at: Option<u64>,
    pub(crate) is_redelivered: bool,
    /// How it came to be dead-lettered.
    pub(crate) death: Option<Source>,
}

impl Message {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, expires_at: None, is_redelivered: false, death: None }
    }
}
