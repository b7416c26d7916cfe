//! What Taskyard's processes must agree on: names, wire formats, the broker, the store, settings.
//!
//! Nothing is admitted here because two crates happen to need a helper.

pub mod names;
pub mod wire;

pub mod amqp;
pub mod store;
pub mod tls;

pub mod probe;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

mod clock;

pub use clock::now;
