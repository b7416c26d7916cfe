use crate::context::Context;
use crate::error::TaskError;
use crate::handler::{Handler, Handlers, Json, Raw, Reply};
use crate::health::Health;
use crate::worker::Worker;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use taskyard_common::amqp::AmqpSettings;
use taskyard_common::names::Names;
use taskyard_common::settings;
use taskyard_model::Pattern;

/// Most slots that a worker may have.
const SLOTS_MAX: u32 = 100_000;
/// Largest weight.
const WEIGHT_MAX: u32 = 1_000_000;
/// Most kinds that a worker may list.
const KINDS_MAX: usize = 1_000;
/// Time that running handlers get when the worker is asked to end. With the seconds that it takes to
/// cancel the rest it fits the 30 s that containers get by default.
pub(crate) const GRACE: Duration = Duration::from_secs(25);
/// Run time from which the dispatcher is given a copy of its own: well below the 30 minutes after
/// which brokers close channels, and rare enough to cost nothing.
pub(crate) const HELD_AFTER: Duration = Duration::from_secs(300);

/// Describes a [`Worker`].
#[derive(Default)]
pub struct WorkerBuilder {
    amqp: Option<AmqpSettings>,
    namespace: Option<String>,
    pool: Option<String>,
    id: Option<String>,
    slots: Option<u32>,
    weight: Option<u32>,
    labels: Option<String>,
    grace: Option<Duration>,
    held_after: Option<Duration>,
    handlers: Vec<(String, Arc<dyn Handler>)>,
}

/// Why a worker cannot be built: everything that is wrong with what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker cannot be built: {}", .0.join("; "))]
pub struct BuildError(Vec<String>);

impl BuildError {
    /// Each problem, as a line for people.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl WorkerBuilder {
    /// How to reach the broker; required.
    #[must_use]
    pub fn amqp(mut self, settings: AmqpSettings) -> Self {
        self.amqp = Some(settings);
        self
    }

    /// First part of every name on the broker. Default: `taskyard`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Whose tasks it takes. Default: `default`.
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Its name: unique in the namespace, the same over restarts. Required.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// How many tasks it runs at once, 1 to 100,000. Default: the number of processors.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Its share under weighted routing, 1 to 1,000,000. Default: 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// What it offers: labels separated by commas (`gpu,zone=eu`). Default: none.
    #[must_use]
    pub fn labels(mut self, labels: impl Into<String>) -> Self {
        self.labels = Some(labels.into());
        self
    }

    /// How long running handlers may go on when the worker is asked to end. Default: 25 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// After how long a running task is handed over to the dispatcher's care, so that nothing stays
    /// unacked at the broker for long. Default: 5 minutes; above 30 minutes (the broker's
    /// `consumer_timeout`) long tasks break the connection.
    #[must_use]
    pub fn held_after(mut self, held_after: Duration) -> Self {
        self.held_after = Some(held_after);
        self
    }

    /// Runs tasks of a kind, or of all kinds of a pattern (`image.*`, `image.#`), whose payload and
    /// result are JSON. A payload that cannot be read is a permanent failure.
    ///
    /// A kind's own handler goes before patterns, and patterns in the order given.
    #[must_use]
    pub fn handler<F, Fut, P, R>(mut self, kind: impl Into<String>, function: F) -> Self
    where
        F: Fn(Context, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, TaskError>> + Send + 'static,
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.handlers.push((kind.into(), Arc::new(Json::new(function))));
        self
    }

    /// Runs tasks over bytes: nothing is read or written for the handler. What it returns becomes a
    /// [`Reply`].
    #[must_use]
    pub fn raw_handler<F, Fut, R>(mut self, kind: impl Into<String>, function: F) -> Self
    where
        F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, TaskError>> + Send + 'static,
        R: Into<Reply> + 'static,
    {
        self.handlers.push((kind.into(), Arc::new(Raw(function))));
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong or missing.
    pub fn build(self) -> Result<Worker, BuildError> {
        let mut problems = Vec::new();
        let mut handlers = Handlers::default();
        for (kind, handler) in self.handlers {
            match kind.parse::<Pattern>() {
                Ok(pattern) => {
                    if !handlers.add(pattern, handler) {
                        problems.push(format!("the kind {kind} has two handlers"));
                    }
                }
                Err(error) => problems.push(format!("the kind {kind:?}: {error}")),
            }
        }
        if handlers.kinds().is_empty() {
            problems.push("there is no handler".to_owned());
        }
        if handlers.kinds().len() > KINDS_MAX {
            problems.push(format!("there are more than {KINDS_MAX} handlers"));
        }
        if self.amqp.is_none() {
            problems.push("the broker's address is missing".to_owned());
        }
        let namespace = self.namespace.unwrap_or_else(settings::default_namespace);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=64).contains(&namespace.len()) || !namespace.chars().all(is_allowed) {
            problems
                .push(format!("the namespace {namespace:?} is not 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        let slots = self.slots.unwrap_or_else(processors);
        check_range("slots", slots, SLOTS_MAX, &mut problems);
        let weight = self.weight.unwrap_or(1);
        check_range("weight", weight, WEIGHT_MAX, &mut problems);
        let pool = self.pool.unwrap_or_else(settings::default_pool);
        let pool = parsed("pool", &pool, &mut problems);
        let id = match self.id {
            Some(id) => parsed("id", &id, &mut problems),
            None => {
                problems.push("the worker's id is missing".to_owned());
                None
            }
        };
        let labels = parsed("labels", &self.labels.unwrap_or_default(), &mut problems);
        match (self.amqp, pool, id, labels) {
            (Some(amqp), Some(pool), Some(id), Some(labels)) if problems.is_empty() => Ok(Worker {
                amqp,
                names: Names::new(&namespace),
                pool,
                id,
                slots,
                weight,
                labels,
                grace: self.grace.unwrap_or(GRACE),
                held_after: self.held_after.unwrap_or(HELD_AFTER),
                handlers: Arc::new(handlers),
                health: Health::default(),
            }),
            _ => Err(BuildError(problems)),
        }
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder").field("id", &self.id).finish_non_exhaustive()
    }
}

fn processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)
}

fn check_range(name: &str, n: u32, max: u32, problems: &mut Vec<String>) {
    if !(1..=max).contains(&n) {
        problems.push(format!("{name} must be 1 to {max}, not {n}"));
    }
}

fn parsed<T: FromStr<Err: Display>>(
    name: &str,
    text: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    text.parse().map_err(|error| problems.push(format!("{name} {text:?}: {error}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_together() {
        let echo = |_: Context, payload: Bytes| async { Ok(payload) };
        let error = Worker::builder()
            .raw_handler("a", echo)
            .raw_handler("a", echo)
            .raw_handler("b c", echo)
            .id("w 1")
            .slots(0)
            .weight(0)
            .pool("")
            .namespace("{x}")
            .labels("a,,b")
            .build()
            .unwrap_err();
        assert_eq!(error.problems().len(), 9, "{:#?}", error.problems());
        let error = Worker::builder().build().unwrap_err().to_string();
        for word in ["handler", "address", "id"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
