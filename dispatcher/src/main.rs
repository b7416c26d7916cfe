//! The program `taskyard-dispatcher`.

use clap::Parser;
use std::process::ExitCode;
use taskyard_common::probe::probe;
use taskyard_common::settings::layered;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::telemetry;
use taskyard_dispatcher::{Failure, Flags, Settings, run};
use tracing::error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Usage or configuration.
const EXIT_USAGE: u8 = 64;
/// A dependency is out of reach.
const EXIT_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Help goes to standard output, mistakes to standard error; a closed pipe is no mistake.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let settings: Settings = match layered(&flags, flags.common.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            telemetry::init(flags.log_format.unwrap_or_default(), "info");
            error!("settings: {}", said(&error));
            return EXIT_USAGE.into();
        }
    };
    if flags.probe {
        return probe(settings.http);
    }
    telemetry::init(settings.log_format, "info");
    if flags.print_config {
        return print_config(settings);
    }
    // One thread: what passes between engine, writer and publisher wakes nobody up.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs a poller");
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().expect("signals can be caught");
        let now = shutdown.now.clone();
        tokio::select! {
            outcome = run(settings, shutdown) => outcome,
            () = now.cancelled() => Ok(()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{}", said(&failure));
            match failure {
                Failure::Settings(_) | Failure::Http(..) => EXIT_USAGE.into(),
                _ => EXIT_UNAVAILABLE.into(),
            }
        }
    }
}

/// An error and its causes, each said once.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn print_config(mut settings: Settings) -> ExitCode {
    settings.redis_url =
        taskyard_common::store::RedisSettings::new(&settings.redis_url).redacted_url();
    if let Ok(address) = settings.amqp_url.parse::<taskyard_common::amqp::Address>() {
        settings.amqp_url = address.to_string();
    }
    match toml::to_string_pretty(&settings) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, "the settings cannot be written as TOML");
            ExitCode::from(70)
        }
    }
}
