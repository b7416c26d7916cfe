use std::sync::Arc;
use std::time::Duration;
use taskyard_model::{
    CopyFacts, ErrorKind, Kind, Labels, Pattern, PoolName, State, TaskId, Timestamp, Transition,
    Wants, WorkerId,
};

use crate::facts::{CarId, Facts};

/// Ties an answer to the effect that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Everything that happens to the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This process leads from now on: every delivery of before is void and will come again.
    SessionBegan,
    /// The session is over: this process leads no longer, and hears nothing until the next.
    SessionEnded,
    /// A copy of a task was delivered.
    Arrived(Arrival),
    /// A submission that breaks a rule was delivered.
    Refused(RefusedSubmission),
    /// A worker's report was delivered.
    Reported(ReportFacts),
    /// A worker's heartbeat came.
    Beat(BeatFacts),
    /// The store has answered a write or a read.
    Wrote {
        /// Which.
        op: OpId,
        /// What it said.
        answer: Answer,
        /// Whether it was asked more than once, since an answer was lost: a refusal may be due to
        /// our own earlier write.
        is_repeated: bool,
    },
    /// The broker has answered a publish.
    Published {
        /// Which.
        op: OpId,
        /// What became of it.
        outcome: Outcome,
    },
    /// A marker has come through the outcomes queue.
    MarkerPassed(u64),
    /// The marker has come through the parked queue: it has been read once.
    ParkedPassed,
    /// An attempt is in flight, says the store (a new leader reads its books from there).
    FoundInFlight {
        /// The task.
        id: TaskId,
        /// Its record.
        record: Record,
    },
    /// The store has no payload for an attempt that was to be issued again.
    NothingToReissue {
        /// The task.
        id: TaskId,
        /// The attempt.
        attempt: u32,
    },
    /// An operator's command.
    Commanded(Command),
    /// Everything that had arrived has been handed in: decide.
    TurnEnded,
}

/// A copy as it arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Stands for its bytes.
    pub car: CarId,
    /// Attempt, source, whether redelivered.
    pub copy: CopyFacts,
    /// The task.
    pub facts: Box<Facts>,
    /// Whether it belongs here.
    pub destination: Destination,
    /// Which lane it was read from, if it was.
    pub lane: Option<u8>,
}

/// Whether a submission is for this pool as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// It is.
    Here,
    /// It had no id; it was given one and has to carry it before anything is written about it.
    Named,
    /// Its kind belongs to another pool.
    Elsewhere(PoolName),
}

/// A submission that breaks a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedSubmission {
    /// Stands for its bytes and the reason.
    pub car: CarId,
    /// Its id, where it is usable.
    pub id: Option<TaskId>,
    /// Why, in words.
    pub reason: Arc<str>,
    /// Where the refusal is to be told.
    pub reply: Option<ReplyTo>,
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It began.
    Started,
    /// How far it is.
    Progress,
    /// Done.
    Succeeded,
    /// Failed.
    Failed(Fault),
    /// Not started; whether the worker does not know it (an earlier life of it had it).
    Returned {
        /// It came back from a lost worker.
        is_orphan: bool,
    },
    /// Let go of with a checkpoint.
    Yielded,
    /// Still running; the copy is the dispatcher's from now on.
    Held,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Retrying cannot mend it.
    pub is_permanent: bool,
    /// Which kind of failure.
    pub error_kind: ErrorKind,
    /// How long the next attempt has to wait at least, where the worker knows.
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    /// A failure of which only the kind is known: retried after the task's backoff.
    #[must_use]
    pub fn of(error_kind: ErrorKind) -> Self {
        Self { is_permanent: false, error_kind, retry_after_ms: None }
    }
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportFacts {
    /// Stands for its bytes.
    pub car: CarId,
    /// The task.
    pub id: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// Who reports.
    pub worker: Option<WorkerId>,
    /// What.
    pub said: Said,
    /// How long the handler ran, in microseconds.
    pub ran_us: Option<u64>,
    /// How long the worker had it, waiting included, in microseconds.
    pub had_us: Option<u64>,
    /// The task, where the report carries its payload and so is a copy.
    pub copy: Option<Box<Facts>>,
    /// Where the end is to be told, where the report says so.
    pub reply: Option<ReplyTo>,
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct BeatFacts {
    /// Who.
    pub id: WorkerId,
    /// Which life.
    pub boot: Arc<str>,
    /// What it takes.
    pub kinds: Vec<Pattern>,
    /// How many at once.
    pub slots: u32,
    /// What it offers.
    pub labels: Labels,
    /// Its share.
    pub weight: u32,
    /// Whether it takes nothing new.
    pub is_draining: bool,
    /// Whether it takes several tasks in one message.
    pub takes_trains: bool,
    /// What it has received and not settled.
    pub holding: Vec<(TaskId, u32)>,
}

/// A task's record, as far as decisions need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its state.
    pub state: State,
    /// Its live attempt.
    pub attempt: u32,
    /// Failed attempts.
    pub failures: u32,
    /// Lost attempts.
    pub losses: u32,
    /// Failures at which it has failed for good.
    pub max_attempts: u32,
    /// Losses that it survives.
    pub max_losses: u32,
    /// Wait before the next attempt.
    pub backoff: taskyard_model::Backoff,
    /// Who has it.
    pub worker: Option<WorkerId>,
    /// When it is due.
    pub next_at: Option<Timestamp>,
    /// Where its end is (still) to be told.
    pub reply: Option<ReplyTo>,
    /// Whether its dead letter is still owed.
    pub owes_dead_letter: bool,
    /// Whether somebody asked to end it.
    pub is_cancel_asked: bool,
    /// How long its final state is to be remembered.
    pub keep_ms: Option<u64>,
    /// After which instant it must not be started for the first time, if any.
    pub start_by: Option<Timestamp>,
}

/// What the store answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Written. The record before, where it was asked for.
    Applied(Option<Record>),
    /// Not written: this is what is there; `None` is nothing.
    Refused(Option<Record>),
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Confirmed,
    /// No such queue.
    Returned,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// End a task.
    Cancel {
        /// Ties the answer to the question.
        ask: u64,
        /// The task.
        id: TaskId,
    },
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandReply {
    /// It is ended.
    Cancelled,
    /// A worker has it and is being told.
    Asked,
    /// It had ended before, so.
    Final(State),
    /// There is no such task.
    Unknown,
}

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The queue.
    pub queue: Arc<str>,
    /// Comes back with it.
    pub correlation_id: Option<Arc<str>>,
}

/// Everything that the scheduler makes happen. The shell carries effects out in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Change or read a record; answered by [`Event::Wrote`].
    Write {
        /// Ties the answer to it.
        op: OpId,
        /// What.
        write: Write,
    },
    /// Give a copy to a worker; answered by [`Event::Published`].
    Send {
        /// Ties the answer to it.
        op: OpId,
        /// The copy.
        car: CarId,
        /// To whom.
        worker: WorkerId,
        /// What its head says now.
        update: HeadUpdate,
        /// Whether it may share a message with others.
        may_share: bool,
    },
    /// Publish a copy elsewhere; answered by [`Event::Published`].
    Move {
        /// Ties the answer to it.
        op: OpId,
        /// The copy.
        car: CarId,
        /// Where to.
        to: Place,
        /// What its head says now.
        update: HeadUpdate,
    },
    /// Tell the end of a task; answered by [`Event::Published`].
    Reply {
        /// Ties the answer to it.
        op: OpId,
        /// The task.
        id: TaskId,
        /// Where to.
        to: ReplyTo,
        /// What.
        body: ReplyBody,
    },
    /// Nothing is left to do for a delivered copy or report: ack it.
    Release(CarId),
    /// Publish the stored payload of an attempt to the way back in.
    Reissue {
        /// The task.
        id: TaskId,
        /// The attempt that the copy carries.
        attempt: u32,
    },
    /// Publish a marker to our own outcomes queue.
    Mark(u64),
    /// Declare a worker's queue.
    DeclareWorker(WorkerId),
    /// Begin or cease to read a reservoir.
    Fill {
        /// Which.
        from: Reservoir,
        /// Whether to read.
        is_on: bool,
    },
    /// Ask a worker to end an attempt.
    AskCancel {
        /// Who.
        worker: WorkerId,
        /// The task.
        id: TaskId,
        /// The attempt.
        attempt: u32,
    },
    /// What was stored for a worker did not reach it: ask it to consume anew.
    AskConsume(WorkerId),
    /// Two processes have one id: ask the newer to stop.
    AskStop {
        /// Who.
        worker: WorkerId,
        /// The newer life.
        boot: Arc<str>,
        /// The older life.
        other: Arc<str>,
    },
    /// Answer a command.
    Answer {
        /// Which.
        ask: u64,
        /// What.
        reply: CommandReply,
    },
    /// Something worth counting or logging.
    Note(Note),
}

/// A backlog that is read when there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reservoir {
    /// A lane, 0 to 9.
    Lane(u8),
    /// What no worker could take.
    Parked,
}

/// Where a copy is moved.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// The backlog of this rank.
    Lane(u8),
    /// What no worker can take.
    Parked,
    /// A delay that ends at or before this instant.
    Later(Timestamp),
    /// The way back in.
    Again,
    /// The submissions of another pool.
    Pool(PoolName),
    /// Dead letters.
    Dead,
    /// Submissions that break a rule.
    Rejected,
}

/// What changes in a copy's head when it is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadUpdate {
    /// Its attempt.
    pub attempt: u32,
    /// Its failures.
    pub failures: u32,
    /// Its losses.
    pub losses: u32,
    /// When it is due.
    pub due_at: Option<Timestamp>,
    /// Whether the attempt before may have killed its worker.
    pub is_suspect: bool,
    /// How often it has come back while its attempt was still listed.
    pub rounds: u32,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// What the report says.
    Report {
        /// The report.
        car: CarId,
        /// The final state.
        state: State,
    },
    /// What the record says.
    Stored,
}

/// Which attempt the record must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Any.
    Any,
    /// This one.
    Exactly(u32),
    /// One before this.
    Below(u32),
}

/// What becomes of the payload that the store keeps while an attempt is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Stays as it is.
    Keep,
    /// Is this car's, with the head as this update says.
    Store(CarId, HeadUpdate),
    /// Goes.
    Delete,
}

/// How long the record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As before.
    Unchanged,
    /// So long.
    For(Duration),
}

/// A field of a record and its new value.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// The live attempt.
    Attempt(u32),
    /// Failed attempts.
    Failures(u32),
    /// Lost attempts.
    Losses(u32),
    /// Who has it.
    Worker(WorkerId),
    /// When it was last given to a worker.
    DispatchedAt(Timestamp),
    /// When the attempt began.
    StartedAt(Timestamp),
    /// When it ended.
    FinishedAt(Timestamp),
    /// When it is due; empty when it is no longer.
    NextAt(Option<Timestamp>),
    /// Why it did not succeed, from the report.
    ErrorOf(CarId),
    /// Why it did not succeed.
    Error(Arc<str>),
    /// The kind of error.
    ErrorKind(ErrorKind),
    /// Why it waits.
    Reason(&'static str),
    /// No error any more.
    NoError,
    /// The result, from the report.
    ResultOf(CarId),
    /// How far it is, from the report.
    ProgressOf(CarId),
    /// Whether its dead letter is owed.
    OwesDeadLetter(bool),
    /// Where its end is to be told; nobody waits any more when empty.
    Reply(Option<ReplyTo>),
    /// Somebody asked to end it.
    CancelAsked,
    /// Everything that a submission or a copy says of itself.
    All(CarId),
}

/// A change of a record, or a look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The task.
    pub id: TaskId,
    /// Which change; `None` only looks.
    pub transition: Option<Transition>,
    /// Which attempt the record must have.
    pub expect: Expect,
    /// The new state; `None` where it stays.
    pub state: Option<State>,
    /// The new values.
    pub fields: Vec<Field>,
    /// What becomes of the payload.
    pub payload: Payload,
    /// How long it is kept.
    pub keep: Keep,
    /// Whether the record before is wanted also when the change is applied.
    pub wants: Wants,
}

/// Something worth counting or logging.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Taken in.
    Accepted(TaskId),
    /// A rule was broken.
    Refused(Option<TaskId>),
    /// Submitted again.
    Repeated(TaskId),
    /// Given to a worker.
    Dispatched(TaskId),
    /// Ended, in this state; how long since acceptance, where known.
    Finished {
        /// The task.
        id: TaskId,
        /// How.
        state: State,
        /// Its kind, where known.
        kind: Option<Kind>,
    },
    /// Failed and will be tried again.
    Retrying(TaskId),
    /// Its worker was lost while it ran.
    Lost(TaskId, Option<WorkerId>),
    /// Came back without having run.
    CameBack(TaskId),
    /// A report came too late to count.
    LateReport(TaskId),
    /// Nobody could be told the end: the queue of its reply is gone.
    ReplyDropped(TaskId),
    /// The record was lost and has been written anew.
    Rebuilt(TaskId),
    /// An attempt has vanished and is issued again: somebody deleted or purged a queue.
    Vanished(TaskId, WorkerId),
    /// Moved to the backlog.
    Spilled(u8),
    /// Nobody can take its class.
    Parked(TaskId),
    /// A worker is here, in a new life or again.
    WorkerUp(WorkerId),
    /// A worker is silent and gets nothing new.
    WorkerSuspect(WorkerId),
    /// A worker is silent for so long that what it ran is lost.
    WorkerLost(WorkerId),
    /// Two processes have one worker id.
    TwoWorkers(WorkerId),
}
