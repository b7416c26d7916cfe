use crate::dead::DeadVerb;
use crate::doctor::DoctorArgs;
use crate::logs::LogsArgs;
use crate::ls::LsArgs;
use crate::man::ManArgs;
use crate::submit::SubmitArgs;
use crate::top::TopArgs;
use crate::watch::WatchArgs;
use crate::when;
use std::time::Duration;
use taskyard_common::settings::CommonFlags;
use taskyard_model::TaskId;

const LONG_ABOUT: &str = "\
Submit tasks to Taskyard, look after them, and command its dispatchers.

RabbitMQ carries every task, Redis shows every task's state. `submit` and the commands need
RabbitMQ, everything that only looks needs Redis.";

const AFTER_HELP: &str = "\
Examples:
  taskyard submit image.resize --data '{\"file\":\"a.png\"}'     prints the task's id
  taskyard submit echo --data hello --wait                    prints the result
  taskyard status ID                                          where it is and why
  taskyard logs -f ID                                         what it writes, until it ends
  taskyard ls --state failed --limit 5                        what failed last
  taskyard watch                                              how much comes and goes, line by line
  taskyard top                                                the same and more, on the full screen
  seq 1000 | taskyard submit echo --ndjson -                  a task for each line
  taskyard dead replay --all                                  failed tasks, once more

Exit codes:
  0   done; the task succeeded
  1   the task did not succeed (failed, cancelled, expired, rejected), or a part was not done
  2   the task is not final yet, or --wait was not long enough
  3   no such task: never submitted, not taken in yet, or forgotten
  64  wrong usage or settings
  69  RabbitMQ, Redis or a dispatcher is out of reach
  70  a defect of this program

Durations are written 250ms, 30s, 5m, 2h, 7d or 1h30m (a number alone is milliseconds), instants
+5m (from now), 2024-02-29T12:00:00Z, or milliseconds since 1970. NO_COLOR is respected.";

/// Submit tasks to Taskyard, look after them, and command its dispatchers
#[derive(clap::Parser)]
#[command(name = "taskyard", version, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
#[command(max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Print JSON, one object a line
    #[arg(long, help_heading = "General")]
    pub(crate) json: bool,
    /// Say more about what goes on, on stderr (twice: everything)
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "General")]
    verbose: u8,
    #[command(flatten, next_help_heading = "Connection")]
    pub(crate) common: CommonFlags,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Args {
    /// Which logs to write; none unless somebody asks, since what goes wrong is said in the end.
    pub(crate) fn log_level(&self) -> Option<&'static str> {
        match self.verbose {
            0 => std::env::var_os("RUST_LOG").map(|_| "info"),
            1 => Some("info"),
            _ => Some("debug"),
        }
    }
}

#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Submit a task, or one for each line of a file
    #[command(after_help = crate::submit::AFTER_HELP)]
    Submit(Box<SubmitArgs>),
    /// Show where tasks are
    #[command(after_help = "\
Example:
  taskyard status 0190a8c4-7f3e-7cc1-9a52-3f1e3a7d2b11

--json prints an object for each id with all fields of the task's record (docs/json.md): instants
in ms since 1970, null where nothing is known. `state` is null if there is no such task. The result
is in `result` if it is UTF-8, else in `result_base64`.")]
    Status {
        /// The tasks
        #[arg(required = true, value_name = "ID")]
        ids: Vec<TaskId>,
    },
    /// Print a task's result as it is, and exit by its state
    #[command(after_help = "\
Examples:
  taskyard result report-2024-02 > report.pdf
  taskyard result report-2024-02 --wait --wait-timeout 1h > report.pdf

Exits with 0 if it succeeded, 1 if it did not (its error goes to stderr), 2 if it is not final
yet, 3 if there is no such task. --json prints an object: id, state, attempt, error, error_kind,
content_type, and the result in `result` if it is UTF-8, else in `result_base64`.")]
    Result {
        /// The task
        #[arg(value_name = "ID")]
        id: TaskId,
        /// Wait for its end
        #[arg(long)]
        wait: bool,
        /// How long to wait at most
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = when::duration)]
        wait_timeout: Duration,
    },
    /// Print a task's log: what its handlers wrote, with time, attempt and worker
    #[command(after_help = "\
Examples:
  taskyard logs report-2024-02 --tail 20
  taskyard logs -f report-2024-02

The last 1,000 lines of a task are kept, up to 256 KiB, as long as its record. Lines are best effort
and may be missing where much is written. With --follow the exit code is that of `result`, and
stderr says how the task ended.

--json prints an object for each line: {\"at\":MS_SINCE_1970,\"attempt\":1,\"worker\":\"w1\",\"text\":…}.")]
    Logs(LogsArgs),
    /// List the workers
    #[command(after_help = "\
--json prints an object for each worker: id, state (up, draining, suspect, lost), pool, kinds,
slots, busy, weight, labels, host, version, seen_at. With --pool only that pool's.")]
    Workers,
    /// List tasks: those that reached a final state lately, the latest first, or those in any state
    #[command(after_help = crate::ls::AFTER_HELP)]
    Ls(LsArgs),
    /// Count tasks by pool
    #[command(after_help = "\
Counts since the beginning: `accepted` and each final state. And of the last second: `waiting` (tasks
that the leader ranks in memory; what is beyond its window waits in RabbitMQ and is not counted
here), `in_flight` (dispatched and not ended), `workers` and `slots` (of those that take tasks),
`busy` (slots given out; with short tasks more than there are, since some are sent ahead).

--json prints an object for each pool (docs/json.md). With --pool only that pool.")]
    Stats,
    /// Count tasks by pool again and again, with how many come and go a second
    #[command(after_help = crate::watch::AFTER_HELP)]
    Watch(WatchArgs),
    /// Look at everything on the full screen: pools, workers, queues, tasks
    #[command(after_help = crate::top::AFTER_HELP)]
    Top(TopArgs),
    /// End tasks, wherever they are
    #[command(after_help = "\
A task that waits ends at once, one that runs when its worker has stopped it. --json prints an
object for each id: id, ok, state (`asked`: its worker was told), error, unknown.")]
    Cancel {
        /// The tasks
        #[arg(required = true, value_name = "ID")]
        ids: Vec<TaskId>,
    },
    /// Look at tasks that ended failed, and give them another life
    Dead {
        #[command(subcommand)]
        verb: DeadVerb,
    },
    /// Look for what is wrong with the RabbitMQ and the Redis that Taskyard runs on
    #[command(after_help = crate::doctor::AFTER_HELP)]
    Doctor(Box<DoctorArgs>),
    /// Print a completion script for a shell
    #[command(
        visible_alias = "completions",
        after_help = "\
Examples:
  taskyard completion bash > ~/.local/share/bash-completion/completions/taskyard
  taskyard completion zsh > ~/.zfunc/_taskyard
  taskyard completion fish > ~/.config/fish/completions/taskyard.fish"
    )]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands into a folder
    #[command(after_help = crate::man::AFTER_HELP)]
    Man(ManArgs),
}
