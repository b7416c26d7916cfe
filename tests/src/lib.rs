//! Private servers and whole running systems for tests, the demo and benchmarks.
//!
//! Everything here is an outside client of Taskyard: it starts the real programs and speaks AMQP and
//! Redis to them, nothing else. Two entrances:
//!
//! - [`Servers`]: RabbitMQ and Redis of one's own, on free ports, in a temporary folder.
//! - [`Yard`]: such servers with dispatchers and workers around them.
//!
//! **Invariant:** nothing that is started here outlives the process that started it, however that
//! process ends: see the `watchdog` module.

mod watchdog;

mod folder;
mod ports;
mod process;
mod programs;
mod servers;
mod wait;
mod yard;

pub use ports::free_port;
pub use process::Process;
pub use programs::ours;
pub use servers::{Place, RabbitMq, Redis, Servers, ServersBuilder};
pub use wait::{EVENTUALLY, wait_until};
pub use yard::{Program, Ran, Submission, TaskHash, Worker, Yard, YardBuilder};

/// The README's snippets compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
