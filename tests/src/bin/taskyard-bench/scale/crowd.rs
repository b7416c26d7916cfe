//! Many workers in one process, each with connections and threads of its own as a real one has.

use anyhow::Context;
use taskyard_worker::{AmqpSettings, Shutdown, Worker};
use tokio::task::JoinSet;

/// Options of `taskyard-bench crowd`.
#[derive(Debug, clap::Args)]
pub(crate) struct CrowdOptions {
    /// How many
    #[arg(long)]
    count: u32,
    /// Slots of each
    #[arg(long)]
    slots: u32,
    /// The broker
    #[arg(long, env = "TASKYARD_AMQP_URL", hide_env_values = true)]
    amqp_url: String,
}

/// Runs them until a signal.
pub(crate) async fn crowd(options: &CrowdOptions) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let amqp = AmqpSettings { address: options.amqp_url.parse()?, tls_ca: None };
    let mut workers = JoinSet::new();
    for number in 1..=options.count {
        let worker = Worker::builder()
            .amqp(amqp.clone())
            .id(format!("crowd-{number}"))
            .slots(options.slots)
            .raw_handler("echo", |_context, payload| async move { Ok(payload) })
            .build()?;
        workers.spawn(worker.run(shutdown.clone()));
    }
    while let Some(ended) = workers.join_next().await {
        ended?.context("a worker has ended")?;
    }
    Ok(())
}
