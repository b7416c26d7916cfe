//! Logs: fields, not prose, on standard error.

use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How to write logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log to standard error; `RUST_LOG` overrides the level (`info`, `taskyard=debug`, …).
///
/// Colours only on a terminal. A second call changes nothing.
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(format!("{level},lapin=off,async_rs=off")))
        .unwrap_or_else(|_| EnvFilter::new("info,lapin=off,async_rs=off"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that somebody (a test) has begun to log already.
    let _ = match format {
        LogFormat::Json => builder.json().try_init().is_ok(),
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init().is_ok()
        }
    };
}
