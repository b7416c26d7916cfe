//! `taskyard`: submit tasks, look after them, and command the dispatchers.

mod exit;
mod json;
mod output;
mod table;
mod when;

mod args;
mod connect;

mod batch;
mod line;
mod options;
mod submit;

mod cancel;
mod dead;
mod doctor;
mod logs;
mod ls;
mod result;
mod status;
mod task;
mod workers;

mod counts;
mod stats;
mod top;
mod watch;

mod man;

use args::{Args, Verb};
use clap::{CommandFactory, FromArgMatches};
use connect::Reach;
use exit::{Exit, Failure};
use output::Output;
use std::process::ExitCode;
use taskyard_common::telemetry::{self, LogFormat};

fn main() -> ExitCode {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::exit(Exit::Bug.code().into());
    }));
    let args = match parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to stdout, usage errors to stderr; nobody there is fine.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return exit.into();
        }
    };
    if let Some(level) = args.log_level() {
        telemetry::init(LogFormat::Text, level);
    }
    let output = Output::new(args.json);
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Bug, format!("no runtime: {error}")))
        .and_then(|runtime| runtime.block_on(run(args, &output)));
    let exit = done.unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit
    });
    output.flush();
    match exit {
        Exit::Done if output.has_lost() => Exit::NotSucceeded.into(),
        exit => exit.into(),
    }
}

/// The command line; the flags that every verb knows may come before or after it.
fn command() -> clap::Command {
    let command = Args::command().mut_args(|arg| arg.global(true));
    // A task's kind decides its pool, and dead letters are in one queue.
    command.mut_arg("pool", |arg| {
        arg.help("Only this pool, in `ls`, `workers`, `stats`, `watch` and `top`")
    })
}

fn parse(line: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Args, clap::Error> {
    Args::from_arg_matches(&command().try_get_matches_from(line)?)
}

async fn run(args: Args, output: &Output) -> Result<Exit, Failure> {
    let reach = Reach::new(&args.common)?;
    match args.verb {
        Verb::Submit(submit) => submit::run(*submit, &reach, output).await,
        Verb::Status { ids } => status::run(&ids, &reach, output).await,
        Verb::Result { id, wait, wait_timeout } => {
            let patience = wait.then_some(wait_timeout);
            result::run(&id, patience, &reach, output).await
        }
        Verb::Logs(args) => logs::run(&args, &reach, output).await,
        Verb::Workers => workers::run(&reach, output).await,
        Verb::Ls(ls) => ls::run(&ls, &reach, output).await,
        Verb::Stats => stats::run(&reach, output).await,
        Verb::Watch(watch) => watch::run(&watch, &reach, output).await,
        Verb::Top(top) => top::run(&top, &reach, output).await,
        Verb::Cancel { ids } => cancel::run(&ids, &reach, output).await,
        Verb::Dead { verb } => dead::run(verb, &reach, output).await,
        Verb::Doctor(doctor) => doctor::run(*doctor, &reach, output).await,
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "taskyard", &mut script);
            output.bytes(&script);
            Ok(Exit::Done)
        }
        Verb::Man(man) => man::run(&man, &command(), output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
