use crate::complaints::Complaints;
use crate::http;
use crate::intake::Intake;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::settings::Settings;
use crate::view::Board;
use std::collections::HashMap;
use std::sync::Arc;
use taskyard_common::amqp::AmqpSettings;
use taskyard_common::names::Names;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::store::{LogWriter, Reader, RedisSettings, Store, StoreError};
use taskyard_model::PoolName;
use taskyard_scheduler::Scheduler;
use tokio::net::TcpListener;
use tracing::{info, warn};

/// Why a dispatcher ends, or does not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Settings are wrong: mend them.
    #[error("settings:\n  {}", .0.join("\n  "))]
    Settings(Vec<String>),
    /// The address for health and metrics cannot be listened on.
    #[error("{0} cannot be listened on: choose another with --http")]
    Http(std::net::SocketAddr, #[source] std::io::Error),
    /// Redis is set up so that it would lose tasks' states.
    #[error("Redis is not fit:\n  {}", .0.join("\n  "))]
    Redis(Vec<String>),
    /// Redis refuses us.
    #[error("Redis")]
    Store(#[source] StoreError),
}

/// Serves a pool until shutdown.
///
/// Waits for RabbitMQ and Redis as long as it takes; a refusal is logged as an error and tried
/// again.
///
/// # Errors
/// What a person has to mend first.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), Failure> {
    let problems = settings.problems();
    if !problems.is_empty() {
        return Err(Failure::Settings(problems));
    }
    let checked = "settings are checked";
    let amqp = AmqpSettings {
        address: settings.amqp_url.parse().expect(checked),
        tls_ca: settings.tls_ca.clone(),
    };
    amqp.check().map_err(|error| Failure::Settings(vec![format!("tls_ca: {error}")]))?;
    let listener = TcpListener::bind(settings.http)
        .await
        .map_err(|error| Failure::Http(settings.http, error))?;
    let mut redis = RedisSettings::new(&settings.redis_url);
    // The file may be meant for RabbitMQ alone.
    redis.tls_ca = settings.tls_ca.clone().filter(|_| settings.redis_url.starts_with("rediss://"));
    let metrics = Arc::new(Metrics::new());
    let Some(store) = connect(&redis, &settings.namespace, &metrics, &shutdown).await? else {
        return Ok(());
    };
    let reader = Reader::new(&redis, &settings.namespace).map_err(Failure::Store)?;
    let logs = LogWriter::new(&redis, &settings.namespace).map_err(Failure::Store)?;
    info!(http = %settings.http, pool = settings.pool, "serving health and metrics");
    tokio::spawn(http::serve(listener, metrics.clone(), store.clone()));
    let name = PoolName::new(&settings.pool).expect(checked);
    let scheduler = Scheduler::new(settings.scheduler(rand::random()), taskyard_common::now());
    let names = Names::new(&settings.namespace);
    let settings = Arc::new(settings);
    let pool = Pool {
        board: Board::new(&store, name.clone()),
        logs: Logs::new(logs, metrics.clone()),
        intake: Intake::new(names.clone(), name.clone(), settings.clone()),
        names,
        name,
        settings,
        amqp,
        store,
        reader,
        metrics,
        scheduler,
        trains: HashMap::new(),
        complaints: Complaints::default(),
        garbled: Vec::new(),
        boot: uuid::Uuid::new_v4().simple().to_string(),
    };
    pool.run(shutdown).await;
    Ok(())
}

/// Waits for Redis, and looks whether it is fit; `None` if shutdown comes first.
async fn connect(
    redis: &RedisSettings,
    namespace: &str,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Option<Store>, Failure> {
    let mut has_warned = false;
    let store = loop {
        metrics.alive();
        match Store::connect(redis, namespace).await {
            Ok(store) => break store,
            Err(error) if error.is_transient() => {
                if !has_warned {
                    warn!(%error, url = redis.redacted_url(), "waiting for Redis");
                }
                has_warned = true;
            }
            Err(error) => return Err(Failure::Store(error)),
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            () = shutdown.drain.cancelled() => return Ok(None),
        }
    };
    let problems = store.problems().await.unwrap_or_default();
    for problem in &problems {
        warn!(problem = problem.what, remedy = problem.remedy, "Redis");
    }
    let fatal: Vec<String> = problems
        .iter()
        .filter(|problem| problem.is_fatal)
        .map(|problem| format!("{}: {}", problem.what, problem.remedy))
        .collect();
    match fatal.is_empty() {
        true => Ok(Some(store)),
        false => Err(Failure::Redis(fatal)),
    }
}
