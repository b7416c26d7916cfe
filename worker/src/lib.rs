//! Run Taskyard tasks: a library for handlers in Rust, and a worker for programs.
//!
//! A [`Worker`] takes tasks of the kinds that it has handlers for, runs them, and reports what
//! becomes of each. Execution is *at least once*: a task may run again where a worker or the broker
//! dies at the wrong moment, so handlers should bear being run twice.
//!
//! Inside: `engine` holds all rules and does no I/O; `driver` is the task that owns it; `session`
//! is the life on the broker; `run` runs one handler.
//!
//! **Invariant:** nothing in here knows Redis; a worker has credentials for RabbitMQ alone.

mod builder;
mod worker;

mod context;
mod error;
mod handler;
mod health;

mod engine;
mod run;

mod driver;
mod machine;
mod session;

pub use builder::{BuildError, WorkerBuilder};
pub use bytes::Bytes;
pub use context::{CancelReason, Context};
pub use error::TaskError;
pub use handler::Reply;
pub use health::Health;
pub use taskyard_common::amqp::{Address, AmqpSettings, Headers};
pub use taskyard_common::shutdown::Shutdown;
pub use taskyard_model::{ErrorKind, Kind, TaskId, Timestamp, WorkerId};
pub use worker::{RunError, Worker};
