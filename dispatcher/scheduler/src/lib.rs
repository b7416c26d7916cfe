//! The scheduler of Taskyard: decisions without I/O.
//!
//! One state machine, [`Scheduler::handle`]: an event goes in, effects come out. No clock, no
//! entropy, no broker, no store, no payload bytes (a [`CarId`] stands for a delivered copy or
//! report), so that a whole run can be repeated from its events, and a simulation runs the very
//! code that production runs.

mod event;
mod facts;
mod settings;

mod order;
mod route;

mod class;
mod entry;
mod flight;
mod worker;

mod scheduler;

mod cancel;
mod dispatch;
mod intake;
mod judge;
mod report;
mod reservoir;
mod retry;
mod vanish;

mod rng;

pub use event::{
    Answer, Arrival, BeatFacts, Command, CommandReply, Destination, Effect, Event, Expect, Fault,
    Field, HeadUpdate, Keep, Note, OpId, Outcome, Payload, Place, Record, RefusedSubmission,
    ReplyBody, ReplyTo, ReportFacts, Reservoir, Said, Write,
};
pub use facts::{CarId, Facts};
pub use order::{Order, Rank};
pub use route::{Candidate, Route};
pub use scheduler::{Gauges, Scheduler};
pub use settings::{Mode, OrderName, RouteName, Settings, UnknownPolicy};
