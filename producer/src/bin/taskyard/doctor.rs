//! What is wrong with the RabbitMQ and the Redis that Taskyard runs on or shall run on.
//!
//! Facts are gathered first (`broker`, `management`, `environment`, `redis`), then judged by the
//! checks, each of which is a function of the facts. **Invariant:** nothing is changed anywhere: what
//! exists is compared, what must be refused is asked for, and what is made is a queue of this
//! connection alone.

mod facts;
mod finding;
mod role;

mod broker;
mod environment;
mod management;
mod redis;

mod check;
mod checks;

pub(crate) use check::Check;
pub(crate) use finding::Finding;

use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::json::{Found, Listed};
use crate::output::Output;
use check::CHECKS;
use facts::{Asked, Facts};
use finding::Verdict;
use management::Management;
use role::Role;
use std::path::PathBuf;
use taskyard_model::WorkerId;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  taskyard doctor                                             as whoever --amqp-url and --redis-url say
  taskyard doctor --role worker --worker-id w1                on a worker's machine, as its user
  rabbitmqctl environment | taskyard doctor --rabbitmq-environment - \\
    --management-url http://user:password@rabbit:15672        everything that it can know

It changes nothing. Permissions are found out by asking for what RabbitMQ and Redis must refuse, so
RabbitMQ's log shows some closed channels. --role worker leaves Redis alone. --list prints the checks.

--json prints an object for each finding: check, verdict (ok, warning, problem, unknown), what, why,
fix (null where there is nothing to mend). Exits with 0 if there is no problem, 1 if there is one,
69 if RabbitMQ or Redis is out of reach.";

/// What is looked at, and how.
#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// Whose permissions to look at: operator, submitter, worker or dispatcher
    #[arg(long, value_name = "ROLE", value_enum, default_value = "operator")]
    role: Role,
    /// The worker whose queue --role worker has to be allowed to read
    #[arg(long, env = "TASKYARD_WORKER_ID", value_name = "ID")]
    worker_id: Option<WorkerId>,
    /// RabbitMQ's management API: http://user:password@host:15672
    #[arg(long, env = "TASKYARD_MANAGEMENT_URL", value_name = "URL", hide_env_values = true)]
    management_url: Option<String>,
    /// What `rabbitmqctl environment` printed; - is standard input
    #[arg(long, value_name = "FILE")]
    rabbitmq_environment: Option<PathBuf>,
    /// Print the checks and what each is about, look at nothing
    #[arg(long)]
    list: bool,
}

/// Gathers facts and prints what the checks find in them.
pub(crate) async fn run(args: DoctorArgs, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    if args.list {
        CHECKS.iter().for_each(|check| list(check, output));
        return Ok(Exit::Done);
    }
    let facts = gather(&args, reach).await?;
    let mut problems = 0;
    let mut warnings = 0;
    for check in CHECKS {
        for finding in (check.judge)(&facts) {
            print(check, &finding, output);
            problems += usize::from(finding.verdict == Verdict::Problem);
            warnings += usize::from(finding.verdict == Verdict::Warning);
        }
    }
    if !output.is_json() {
        output.note(&format!("problems: {problems}, warnings: {warnings}"));
    }
    Ok(match problems {
        _ if facts.is_out_of_reach() => Exit::OutOfReach,
        0 => Exit::Done,
        _ => Exit::NotSucceeded,
    })
}

async fn gather(args: &DoctorArgs, reach: &Reach) -> Result<Facts, Failure> {
    // What is wrong with the command line is said before anything is waited for.
    let environment = match &args.rabbitmq_environment {
        Some(file) => Some(environment::read(file)?),
        None => None,
    };
    let amqp = reach.amqp()?;
    let client = match &args.management_url {
        Some(url) => Some(management::Client::new(url, reach.tls_ca())?),
        None => None,
    };
    let redis = match args.role {
        Role::Worker => None,
        role => Some(redis::gather(&reach.reader()?, role).await),
    };
    let mut pools = redis.iter().flatten().flat_map(|redis| redis.pools()).collect::<Vec<_>>();
    pools.extend(reach.pool()?);
    let vhost = amqp.address.vhost();
    let management: Asked<Management> = match client {
        Some(client) => client.gather(&vhost).await,
        None => Err("--management-url is not given".to_owned()),
    };
    if let Ok(Management { queues: Ok(queues), .. }) = &management {
        pools.extend(queues.iter().filter_map(|queue| reach.names().pool_of_submit(&queue.name)));
    }
    let mut facts = Facts::new(args.role, reach.names(), pools);
    facts.broker = broker::gather(&amqp, &facts, args.worker_id.as_ref()).await;
    if facts.broker.is_ok() && args.role != Role::Worker {
        facts.answer = Some(broker::ask_leaders(reach).await);
    }
    facts.management = management;
    facts.environment = environment;
    facts.redis = redis;
    Ok(facts)
}

fn print(check: &Check, finding: &Finding, output: &Output) {
    let Finding { verdict, what, fix } = finding;
    if output.is_json() {
        return output.json(&Found::new(check, finding));
    }
    let verdict = output.paint(verdict.tone(), &format!("{:<8}", verdict.as_str()));
    output.line(&format!("{verdict} {:<20} {what}", check.name));
    if let Some(fix) = fix {
        output.line(&format!("{:9}why: {}", "", check.why));
        output.line(&format!("{:9}fix: {fix}", ""));
    }
}

fn list(check: &Check, output: &Output) {
    let Check { name, looks_at, why, mend, .. } = check;
    if output.is_json() {
        return output.json(&Listed::from(check));
    }
    output.line(name);
    output.line(&format!("  looks at: {looks_at}"));
    output.line(&format!("  why:      {why}"));
    output.line(&format!("  mend:     {mend}"));
}
