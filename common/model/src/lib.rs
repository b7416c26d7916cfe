//! Ids, states and the transition table of Taskyard tasks.
//!
//! What every process agrees on before a byte is sent. No dependencies, no I/O, no clock: the
//! scheduler, the store and the simulation are all driven by the same tables.

mod time;

mod id;
mod kind;
mod labels;

mod backoff;
mod state;

mod copy;
mod transition;

pub use backoff::{Backoff, BackoffError};
pub use copy::{Books, CopyFacts, Live, Source, Verdict, judge};
pub use id::{IdError, PoolName, TaskId, WorkerId};
pub use kind::{Kind, KindError, Pattern};
pub use labels::{Labels, LabelsError};
pub use state::{ErrorKind, State, UnknownName};
pub use time::Timestamp;
pub use transition::{Origin, Transition, Wants};

/// The lowest and highest priority; 9 goes first.
pub const PRIORITY_MAX: u8 = 9;
/// Attempts that a task gets when nobody says otherwise.
pub const MAX_ATTEMPTS_DEFAULT: u32 = 5;
/// Losses (attempts whose worker died under them) that a task survives when nobody says otherwise.
pub const MAX_LOSSES_DEFAULT: u32 = 5;
/// Largest payload of one task in bytes; RabbitMQ 4 refuses larger messages by default.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
