//! The dispatcher: takes submissions from RabbitMQ, gives them to workers, keeps their state in
//! Redis.
//!
//! The decisions are `taskyard-scheduler`'s; here is what carries them out. One task owns a pool's
//! scheduler (`pool`); around it are tasks that own one thing each: a consumer, the publishing
//! channel, the store's pipeline.

mod settings;

mod lead;
mod pool;
mod session;
mod way;

mod cars;
mod gate;
mod intake;

mod carry;
mod change;
mod outbox;

mod beats;
mod complaints;
mod consumers;
mod post;
mod token;
mod writer;

mod books;
mod commands;
mod handover;
mod logs;
mod replies;
mod view;

mod http;
mod metrics;

mod run;

pub use run::{Failure, run};
pub use settings::{Flags, KindDefaults, PoolSettings, Settings};
