//! `taskyard-worker`: runs tasks with programs and HTTP endpoints.

mod settings;

mod attempt;
mod said;

mod gate;
mod lines;
mod program;

mod endpoint;
mod exec;
mod resident;

mod builtin;
mod handlers;
mod http;

use anyhow::Context;
use clap::Parser;
use settings::{Flags, Settings};
use std::process::ExitCode;
use std::time::Duration;
use taskyard_common::{probe::probe, shutdown::Shutdown, telemetry};
use taskyard_worker::{AmqpSettings, RunError, Worker};
use tokio::net::TcpListener;
use tracing::error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Usage or configuration is wrong.
const USAGE: u8 = 64;
/// A dependency is out of reach.
const UNAVAILABLE: u8 = 69;
/// How long handlers may take to be dropped.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// What to log. The AMQP library calls it an error when a queue does not exist yet, or the broker
/// goes away; what that means is said by whoever asked.
const LOG: &str = "info,lapin::channel=off,lapin::channels=off,lapin::io_loop=off";
/// Our bug.
const SOFTWARE: u8 = 70;

fn main() -> ExitCode {
    if let Some(failed) = program::become_program() {
        return failed;
    }
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Without a terminal or a reader nobody sees it: nothing more to do.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let prepared = Settings::read(&flags).and_then(|settings| {
        let printed = flags.print_config.then(|| settings.print()).transpose()?;
        Ok((settings, printed))
    });
    let (settings, printed) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return wrong(&error),
    };
    if let Some(printed) = printed {
        #[expect(clippy::print_stdout, reason = "that is what was asked for")]
        {
            print!("{printed}");
        }
        return ExitCode::SUCCESS;
    }
    if flags.probe {
        return match settings.http {
            Some(address) => probe(address),
            None => wrong(&anyhow::anyhow!("--probe asks the worker at --http ADDR: say which")),
        };
    }
    match build(&settings) {
        Ok(worker) => run(worker, &settings),
        Err(error) => wrong(&error),
    }
}

/// Puts the worker together from its settings.
fn build(settings: &Settings) -> anyhow::Result<Worker> {
    let address = settings.amqp_url.parse().context("amqp_url")?;
    let amqp = AmqpSettings { address, tls_ca: settings.tls_ca.clone() };
    amqp.check().context("tls_ca")?;
    let mut builder = Worker::builder()
        .amqp(amqp)
        .namespace(&settings.namespace)
        .pool(&settings.pool)
        .id(&settings.id)
        .slots(settings.slots)
        .weight(settings.weight)
        .labels(&settings.labels)
        .grace(Duration::from_millis(settings.grace_ms))
        .held_after(Duration::from_millis(settings.held_after_ms));
    if settings.handlers.is_none() && !settings.builtin {
        anyhow::bail!(
            "there is nothing to run: name a file of handlers with --handlers FILE, or try \
             --builtin, which adds the kinds echo, sleep and fail"
        );
    }
    if let Some(file) = &settings.handlers {
        builder = handlers::add(builder, file, settings.tls_ca.as_deref())?;
    }
    if settings.builtin {
        builder = builtin::add(builder);
    }
    Ok(builder.build()?)
}

/// Runs it to its end.
fn run(worker: Worker, settings: &Settings) -> ExitCode {
    telemetry::init(settings.log_format, LOG);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "no threads for handlers");
            return UNAVAILABLE.into();
        }
    };
    if let Some(address) = settings.http {
        match runtime.block_on(TcpListener::bind(address)) {
            Ok(listener) => drop(runtime.spawn(http::serve(listener, worker.health()))),
            Err(error) => {
                error!(%error, "{address} cannot be listened on: choose another with --http");
                return USAGE.into();
            }
        }
    }
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(RunError::Threads)?;
        worker.run(shutdown).await
    });
    // Handlers that still run are dropped, which kills their programs; one that blocks its thread is
    // not waited for.
    runtime.shutdown_timeout(LEAVE_WITHIN);
    let Err(error) = ended else { return ExitCode::SUCCESS };
    let code = match &error {
        RunError::Refused(_) | RunError::Unreported(_) | RunError::Threads(_) => UNAVAILABLE,
        RunError::Replaced { .. } => USAGE,
        _ => SOFTWARE,
    };
    error!(error = format!("{:#}", anyhow::Error::from(error)), "ended");
    code.into()
}

/// Says what is wrong with the settings.
#[expect(clippy::print_stderr, reason = "the log has not begun")]
fn wrong(error: &anyhow::Error) -> ExitCode {
    eprintln!("taskyard-worker: {error:#}");
    USAGE.into()
}
