//! Submit tasks to Taskyard from Rust, and wait for what becomes of them.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use taskyard_producer::{Producer, Settings, Submission};
//!
//! let producer = Producer::connect(Settings::new("amqp://guest:guest@127.0.0.1:5672/%2f")?).await?;
//!
//! let resize = Submission::new("image.resize")
//!     .json(&serde_json::json!({ "file": "a.png", "width": 320 }))?
//!     .priority(7)
//!     .delay(Duration::from_secs(30))
//!     .max_attempts(3);
//! let id = producer.submit(resize).await?; // RabbitMQ has it: it will end in exactly one final state
//! println!("accepted as {id}");
//! # Ok(())
//! # }
//! ```
//!
//! A submission is *accepted* when RabbitMQ has confirmed its message. Every task gets its id here
//! (a UUIDv7 unless you give one), so what nobody knows the outcome of (the session broke before
//! the confirm) is sent again with the same id: the dispatcher takes one of them.
//!
//! | you want | use |
//! | --- | --- |
//! | one task, accepted | [`Producer::submit`] |
//! | one task, and its result | [`Producer::submit_and_wait`], [`Producer::submit_awaited`] |
//! | very many small tasks of one kind | [`Producer::submit_bulk`] |
//! | a flow of tasks, each confirmed, many under way | [`Producer::stream`] |
//! | cancel, dead letters | [`Commands::ask`] |

mod settings;
mod submission;

mod channels;
mod error;
mod post;

mod bulk;
mod flow;
mod stream;

mod outcome;
mod replies;
mod ticket;

mod commands;
mod producer;

pub use bulk::{BulkError, BulkStream, BulkTask};
pub use commands::{CommandError, Commands};
pub use error::SubmitError;
pub use flow::Settled;
pub use outcome::Outcome;
pub use producer::Producer;
pub use settings::{Settings, SettingsError};
pub use stream::SubmitStream;
pub use submission::{HeaderValue, Submission, SubmissionError};
pub use taskyard_common::amqp::AmqpError;
pub use taskyard_common::wire::{Command, CommandAnswer};
pub use taskyard_model::{Backoff, ErrorKind, Kind, Labels, PoolName, State, TaskId};
pub use ticket::{Ticket, WaitError};
