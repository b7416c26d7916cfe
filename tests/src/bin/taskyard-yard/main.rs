//! `taskyard-yard demo` runs a real job on a private system and checks it; `taskyard-yard up` keeps one
//! running to play with. Both clean up after themselves, also after Ctrl-C.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

mod system;

mod demo;
mod up;

mod check;
mod job;
mod progress;
mod tree;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Wrong usage: no such folder, unknown flag.
const EXIT_USAGE: u8 = 64;
/// A dependency is out of reach: a server or a program is missing or does not start.
const EXIT_UNAVAILABLE: u8 = 69;
/// Our fault: a wrong or missing result.
const EXIT_SOFTWARE: u8 = 70;
/// Ended by Ctrl-C, as shells count it.
const EXIT_INTERRUPTED: u8 = 130;

/// A private Taskyard with RabbitMQ and Redis, in a temporary folder on free ports
#[derive(Parser)]
#[command(name = "taskyard-yard", version)]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Checksum every file of a folder through Taskyard, and compare with sha256sum
    Demo {
        /// The folder; without it the current one, leaving out .git and target
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Start the same system and keep it until Ctrl-C
    Up,
}

/// Why a command ended early.
enum Failure {
    Usage(anyhow::Error),
    Unavailable(anyhow::Error),
    Software(anyhow::Error),
    Interrupted,
}

impl Failure {
    fn report(self) -> ExitCode {
        let (code, error) = match self {
            Self::Interrupted => {
                eprintln!("\ninterrupted; everything is cleaned up");
                return ExitCode::from(EXIT_INTERRUPTED);
            }
            Self::Usage(error) => (EXIT_USAGE, error),
            Self::Unavailable(error) => (EXIT_UNAVAILABLE, error),
            Self::Software(error) => (EXIT_SOFTWARE, error),
        };
        eprintln!("error: {error:#}");
        ExitCode::from(code)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; where they cannot be printed, nothing can.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command {
        What::Demo { dir } => demo::run(dir).await,
        What::Up => up::run().await,
    };
    outcome.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
