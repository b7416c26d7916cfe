use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use taskyard_common::settings::{
    CommonFlags, default_amqp_url, default_namespace, default_pool, default_redis_url,
};
use taskyard_common::telemetry::LogFormat;
use taskyard_model::{Backoff, Kind, PAYLOAD_BYTES_MAX, PRIORITY_MAX, Pattern, PoolName};
use taskyard_scheduler::{Mode, OrderName, RouteName};

/// Takes submitted tasks from RabbitMQ, gives them to workers, keeps their state in Redis.
///
/// Start as many as you like: per pool one leads and the others stand by. Every option is also an
/// environment variable and a line of the configuration file, in this order of precedence.
#[derive(Clone, Debug, Default, clap::Parser, Serialize)]
#[command(name = "taskyard-dispatcher", version, about)]
pub struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "documented where it is defined; a text here would be help text"
    )]
    pub common: CommonFlags,
    /// Address for /healthz, /readyz and /metrics [default: 127.0.0.1:9477]
    #[arg(long, env = "TASKYARD_HTTP", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// Which task goes next: fcfs, priority [default: priority]
    #[arg(long, env = "TASKYARD_ORDER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Which worker gets it: weighted, least_loaded [default: weighted]
    #[arg(long, env = "TASKYARD_ROUTE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// How many a worker may have: passive (its slots), hybrid (and what will find a slot free)
    /// [default: hybrid]
    #[arg(long, env = "TASKYARD_MODE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Waiting this long counts as one priority more, in ms [default: 60000]
    #[arg(long, env = "TASKYARD_AGEING_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ageing_ms: Option<u64>,
    /// Tasks that are ranked in memory; more wait in lanes [default: 10000]
    #[arg(long, env = "TASKYARD_WINDOW_TASKS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_tasks: Option<usize>,
    /// Bytes of payloads held in memory [default: 268435456]
    #[arg(long, env = "TASKYARD_WINDOW_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_bytes: Option<usize>,
    /// Longest time that a message is held unacked, in ms; keep it below a third of the broker's
    /// consumer timeout [default: 600000]
    #[arg(long, env = "TASKYARD_HOLD_MAX_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_max_ms: Option<u64>,
    /// How long a dispatched message may lie untouched, in ms [default: 2000]
    #[arg(long, env = "TASKYARD_LIE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lie_ms: Option<u64>,
    /// How to write logs [default: text]
    #[arg(long, env = "TASKYARD_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// Print the settings in force as TOML, and exit
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
    /// Ask the dispatcher that runs here with these settings whether it is ready; exit code 0 if
    /// so, 1 if not
    #[arg(long)]
    #[serde(skip)]
    pub probe: bool,
}

/// The settings in force.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where RabbitMQ is.
    #[serde(default = "default_amqp_url")]
    pub amqp_url: String,
    /// Where Redis is.
    #[serde(default = "default_redis_url")]
    pub redis_url: String,
    /// Certificates (PEM) to trust besides the system's.
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    /// First part of every name.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The pool that this process serves.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// Address for health and metrics.
    #[serde(default = "default_http")]
    pub http: SocketAddr,
    /// Which task goes next.
    #[serde(default = "default_order")]
    pub order: String,
    /// Which worker gets it.
    #[serde(default = "default_route")]
    pub route: String,
    /// How many a worker may have.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Waiting this long counts as one priority more.
    #[serde(default = "default_ageing_ms")]
    pub ageing_ms: u64,
    /// Tasks ranked in memory.
    #[serde(default = "default_window_tasks")]
    pub window_tasks: usize,
    /// Bytes of payloads in memory.
    #[serde(default = "default_window_bytes")]
    pub window_bytes: usize,
    /// Longest time that a message is held unacked.
    #[serde(default = "default_hold_max_ms")]
    pub hold_max_ms: u64,
    /// How long a dispatched message may lie untouched.
    #[serde(default = "default_lie_ms")]
    pub lie_ms: u64,
    /// How to write logs.
    #[serde(default)]
    pub log_format: LogFormat,
    /// All pools of the namespace and their kinds, besides the default one.
    #[serde(default)]
    pub pools: Vec<PoolSettings>,
    /// Defaults for kinds; the first pattern that fits counts.
    #[serde(default)]
    pub kinds: Vec<KindDefaults>,
}

/// A pool and the kinds that belong to it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSettings {
    /// Its name.
    pub name: String,
    /// Its kinds, as topic patterns; pools share none. The default pool has what nobody else has.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Priority of its tasks where neither the submitter nor the kind says, 0 to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// What tasks of a kind get where the submitter says nothing.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KindDefaults {
    /// Which kinds, as a topic pattern.
    pub kind: String,
    /// 0 to 9.
    #[serde(default)]
    pub priority: Option<u8>,
    /// 1 to 100.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// 0 to 100.
    #[serde(default)]
    pub max_losses: Option<u32>,
    /// As in `x-task-backoff`.
    #[serde(default)]
    pub backoff: Option<String>,
    /// Limit of one attempt in ms.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

fn default_http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9477))
}

fn default_order() -> String {
    OrderName::Priority.to_string()
}

fn default_route() -> String {
    RouteName::Weighted.to_string()
}

fn default_mode() -> String {
    Mode::Hybrid.to_string()
}

fn default_ageing_ms() -> u64 {
    60_000
}

fn default_window_tasks() -> usize {
    taskyard_scheduler::Settings::default().window_tasks
}

fn default_window_bytes() -> usize {
    taskyard_scheduler::Settings::default().window_bytes
}

fn default_hold_max_ms() -> u64 {
    600_000
}

fn default_lie_ms() -> u64 {
    2_000
}

/// Window sizes that make sense: one task, and what a prefetch can name.
/// The largest payload has to fit in.
const WINDOW_BYTES_MIN: usize = PAYLOAD_BYTES_MAX;
const WINDOW_TASKS: std::ops::RangeInclusive<usize> = 1..=50_000;

impl Settings {
    /// Everything that is wrong, one sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |result: Result<(), String>| problems.extend(result.err());
        check(
            self.amqp_url
                .parse::<taskyard_common::amqp::Address>()
                .map(drop)
                .map_err(|e| format!("amqp_url: {e}")),
        );
        check(PoolName::new(&self.pool).map(drop).map_err(|e| format!("pool: {e}")));
        check(PoolName::new(&self.namespace).map(drop).map_err(|e| format!("namespace: {e}")));
        check(self.order.parse::<OrderName>().map(drop).map_err(|e| format!("order: {e}")));
        check(self.route.parse::<RouteName>().map(drop).map_err(|e| format!("route: {e}")));
        check(self.mode.parse::<Mode>().map(drop).map_err(|e| format!("mode: {e}")));
        let is_in = WINDOW_TASKS.contains(&self.window_tasks);
        check(
            is_in
                .then_some(())
                .ok_or_else(|| format!("window_tasks: {} is not 1 to 50000", self.window_tasks)),
        );
        let has_room = self.window_bytes >= WINDOW_BYTES_MIN;
        check(has_room.then_some(()).ok_or_else(|| {
            format!("window_bytes: {} is less than {WINDOW_BYTES_MIN}", self.window_bytes)
        }));
        let is_long = self.hold_max_ms >= 5_000 && self.lie_ms >= 100;
        check(
            is_long
                .then_some(())
                .ok_or_else(|| "hold_max_ms is at least 5000, lie_ms at least 100".to_owned()),
        );
        for pool in &self.pools {
            check(PoolName::new(&pool.name).map(drop).map_err(|e| format!("pools: {e}")));
            if pool.kinds.is_empty() && pool.name != PoolName::default_pool().as_str() {
                check(Err(format!(
                    "pools: {:?} has no kinds, so no task would reach it",
                    pool.name
                )));
            }
            if pool.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
                check(Err(format!("pools: priority of {:?} is 0 to 9", pool.name)));
            }
            for kind in &pool.kinds {
                check(Pattern::new(kind).map(drop).map_err(|e| format!("pools: {kind:?}: {e}")));
            }
        }
        let is_listed = self.pool == PoolName::default_pool().as_str()
            || self.pools.iter().any(|pool| pool.name == self.pool);
        if !self.pools.is_empty() && !is_listed {
            check(Err(format!("pool: {:?} is not in the list of pools", self.pool)));
        }
        for (at, pool) in self.pools.iter().enumerate() {
            for other in &self.pools[..at] {
                check(pool.apart_from(other));
            }
        }
        for kind in &self.kinds {
            check(kind.check().map_err(|e| format!("kinds: {:?}: {e}", kind.kind)));
        }
        problems
    }

    /// How the scheduler is to decide.
    ///
    /// # Panics
    /// If [`Settings::problems`] found any.
    #[must_use]
    pub fn scheduler(&self, seed: u64) -> taskyard_scheduler::Settings {
        let checked = "settings are checked at the start";
        taskyard_scheduler::Settings {
            order: self.order.parse().expect(checked),
            route: self.route.parse().expect(checked),
            mode: self.mode.parse().expect(checked),
            ageing: Duration::from_millis(self.ageing_ms),
            window_tasks: self.window_tasks,
            window_bytes: self.window_bytes,
            hold_max: Duration::from_millis(self.hold_max_ms),
            lie: Duration::from_millis(self.lie_ms),
            seed,
            ..Default::default()
        }
    }

    /// The pool that a kind belongs to.
    #[must_use]
    pub fn pool_of(&self, kind: &Kind) -> Option<PoolName> {
        let takes = |pool: &&PoolSettings| {
            pool.kinds
                .iter()
                .any(|text| Pattern::new(text).is_ok_and(|pattern| pattern.matches(kind)))
        };
        let pool = self.pools.iter().find(takes)?;
        PoolName::new(&pool.name).ok()
    }
}

impl PoolSettings {
    /// A kind of two pools would be delivered to both, and run twice.
    fn apart_from(&self, other: &Self) -> Result<(), String> {
        let (name, of) = (&self.name, &other.name);
        if name == of {
            return Err(format!("pools: {name:?} is there twice; put its kinds together"));
        }
        let patterns = |pool: &Self| -> Vec<Pattern> {
            pool.kinds.iter().filter_map(|kind| kind.parse().ok()).collect()
        };
        let others = patterns(other);
        for kind in patterns(self) {
            if let Some(shared) = others.iter().find(|pattern| pattern.overlaps(&kind)) {
                return Err(format!(
                    "pools: a kind that fits {kind} of {name:?} may also fit {shared} of {of:?}: \
                     pools share none"
                ));
            }
        }
        Ok(())
    }
}

impl KindDefaults {
    fn check(&self) -> Result<(), String> {
        Pattern::new(&self.kind).map_err(|e| e.to_string())?;
        if let Some(backoff) = &self.backoff {
            backoff.parse::<Backoff>().map_err(|e| e.to_string())?;
        }
        let is_in = |value: Option<u32>, low: u32, high: u32| {
            value.is_none_or(|n| (low..=high).contains(&n))
        };
        match () {
            () if self.priority.is_some_and(|p| p > PRIORITY_MAX) => {
                Err("priority is 0 to 9".to_owned())
            }
            () if !is_in(self.max_attempts, 1, 100) => Err("max_attempts is 1 to 100".to_owned()),
            () if !is_in(self.max_losses, 0, 100) => Err("max_losses is 0 to 100".to_owned()),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &str) -> Vec<String> {
        toml::from_str::<Settings>(config).unwrap().problems()
    }

    #[test]
    fn pools_share_no_kind() {
        let two = |one: &str, other: &str| {
            format!(
                "[[pools]]\nname = \"mail\"\nkinds = [{one:?}]\n\
                 [[pools]]\nname = \"other\"\nkinds = [{other:?}]\n"
            )
        };
        assert_eq!(problems(&two("mail.#", "image.#")), [""; 0]);
        let shared = problems(&two("mail.#", "*.send"));
        assert!(shared[0].contains("*.send") && shared[0].contains("mail.#"), "{shared:?}");
        let twice = problems(&two("a", "b").replace("other", "mail"));
        assert!(twice[0].contains("twice"), "{twice:?}");
    }

    #[test]
    fn a_pool_is_in_the_list_and_has_kinds() {
        let empty = problems("[[pools]]\nname = \"mail\"");
        assert!(empty[0].contains("no kinds"), "{empty:?}");
        let foreign = problems("pool = \"x\"\n[[pools]]\nname = \"mail\"\nkinds = [\"a\"]");
        assert!(foreign[0].contains("not in the list"), "{foreign:?}");
        assert_eq!(problems("pool = \"x\""), [""; 0]);
    }

    #[test]
    fn logs_are_a_line_of_the_file() {
        let settings: Settings = toml::from_str("log_format = \"json\"").unwrap();
        assert_eq!(settings.log_format, LogFormat::Json);
        assert!(toml::from_str::<Settings>("log_format = \"xml\"").is_err());
    }
}
