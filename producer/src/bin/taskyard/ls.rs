use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{json, task, when};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use taskyard_common::store::{Reader, TaskView};
use taskyard_model::{Kind, Pattern, PoolName, State, TaskId, Timestamp, WorkerId};

/// Ids in a list at most: the dispatcher keeps no more. Of other states no more are looked for.
const LIST_MAX: u32 = 10_000;
/// Records read at once: each may have a result of 1 MiB.
const PAGE: usize = 100;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  taskyard ls --state failed --since 1h
  taskyard ls --state queued,running --pool mail
  taskyard ls --kind 'image.#' --worker w1 --limit 100 --long
  taskyard ls --tenant shop --json

A kind's pattern is one of AMQP: * is one word, # any number of words. --json prints what
`status --json` prints.

The lists hold the latest 10,000 tasks of each final state, and of more than 1,000 that end within a
second the last 1,000. Of the other states there is no list: the records in Redis are looked
through until enough are found (with filters, at most 10,000 in these states), in no order. Where
such a limit may have left something out, a line on stderr says so.";

#[derive(clap::Args)]
pub(crate) struct LsArgs {
    /// Only tasks in this state; several separated by commas [default: all final states]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = state())]
    states: Vec<State>,
    /// Only tasks whose kind fits the pattern
    #[arg(long, value_name = "PATTERN")]
    kind: Option<Pattern>,
    /// Only tasks that were last given to this worker
    #[arg(long, value_name = "ID")]
    worker: Option<WorkerId>,
    /// Only this tenant's tasks
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only tasks that ended (or, if they have not, were submitted) within this time, or after this
    /// instant
    #[arg(long, value_name = "DURATION", value_parser = when::since)]
    since: Option<Timestamp>,
    /// How many at most
    #[arg(long, value_name = "N", default_value = "20")]
    limit: u32,
    /// More columns, and notes in full
    #[arg(short, long, conflicts_with = "json")]
    long: bool,
}

/// Reads the name of a state, and names all of them where there is no such state.
fn state() -> impl TypedValueParser<Value = State> {
    let names = State::ALL.iter().map(|state| state.as_str());
    PossibleValuesParser::new(names)
        .map(|name| name.parse().expect("the possible names are theirs"))
}

/// Which tasks to list.
struct Filter<'a> {
    args: &'a LsArgs,
    states: Vec<State>,
    pool: Option<PoolName>,
}

impl Filter<'_> {
    /// Whether it looks at more than states, so that it may pass over any number of tasks.
    fn is_choosy(&self) -> bool {
        let LsArgs { kind, worker, tenant, since, .. } = self.args;
        self.pool.is_some()
            || kind.is_some()
            || worker.is_some()
            || tenant.is_some()
            || since.is_some()
    }

    fn takes(&self, view: &TaskView) -> bool {
        let LsArgs { kind, worker, tenant, since, .. } = self.args;
        let fields = &view.fields;
        // A replay takes a task out of a final state, but not out of the list.
        let is_still_there = view.state().is_some_and(|state| self.states.contains(&state));
        let fits = |pattern: &Pattern| {
            Kind::new(fields.text("kind")).is_ok_and(|kind| pattern.matches(&kind))
        };
        let is = |name, wanted: &str| fields.text(name) == wanted;
        let at = fields.instant("finished_at").or(fields.instant("submitted_at"));
        is_still_there
            && kind.as_ref().is_none_or(fits)
            && self.pool.as_ref().is_none_or(|pool| is("pool", pool.as_str()))
            && worker.as_ref().is_none_or(|worker| is("worker", worker.as_str()))
            && tenant.as_ref().is_none_or(|tenant| is("tenant", tenant))
            && since.is_none_or(|since| at.is_some_and(|at| at >= since))
    }
}

/// Tasks, and what may be missing.
#[derive(Default)]
struct Found {
    tasks: Vec<TaskView>,
    has_more: bool,
    /// Where something may have been left out.
    limits: Vec<String>,
}

/// Lists tasks that reached a final state lately, and those in other states that were asked for.
pub(crate) async fn run(args: &LsArgs, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let states = match &args.states[..] {
        [] => State::ALL.iter().copied().filter(|state| state.is_final()).collect(),
        states => states.to_vec(),
    };
    let filter = Filter { args, states, pool: reach.pool()? };
    let found = find(&filter, &reach.reader()?, output.is_json()).await?;
    if output.is_json() {
        found.tasks.iter().for_each(|view| output.json(&json::Task::from(view)));
    } else {
        print(&found, args, output);
    }
    if found.tasks.len() < args.limit as usize {
        found.limits.iter().for_each(|limit| output.note(limit));
    }
    Ok(Exit::Done)
}

fn print(found: &Found, args: &LsArgs, output: &Output) {
    let now = taskyard_common::now();
    let mut table = if args.long { task::long_table() } else { task::table() };
    for view in &found.tasks {
        table.row(if args.long { task::long_row(view) } else { task::row(view, now) });
    }
    match table.is_empty() {
        true => output.note("no such tasks"),
        false => output.table(&table),
    }
    if found.has_more {
        output.note(&format!("there are more; --limit {} shows them", args.limit.max(5) * 10));
    }
}

/// Results, which may be large, are read only where they are printed.
async fn find(filter: &Filter<'_>, reader: &Reader, with_results: bool) -> Result<Found, Failure> {
    let wanted = filter.args.limit;
    let depth = if filter.is_choosy() { LIST_MAX } else { wanted.saturating_mul(2).min(LIST_MAX) };
    let (over, under_way): (Vec<State>, Vec<State>) =
        filter.states.iter().partition(|state| state.is_final());
    let mut found = Found::default();
    let mut ids = Vec::new();
    if !under_way.is_empty() {
        // What has not ended comes first: it is what somebody may still do something about.
        let most = usize::try_from(depth).unwrap_or(usize::MAX);
        ids = reader.in_states(&under_way, most).await?;
        if ids.len() == LIST_MAX as usize {
            let limit = "of the tasks that have not ended, 10,000 were looked at: there are more";
            found.limits.push(limit.to_owned());
        }
    }
    ids.extend(latest(&over, depth, filter.args.since, reader, &mut found.limits).await?);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    for page in ids.chunks(PAGE) {
        let views = match with_results {
            true => reader.tasks(page).await?,
            false => reader.glances(page).await?,
        };
        found.tasks.extend(views.into_iter().flatten().filter(|view| filter.takes(view)));
        if found.tasks.len() > wanted {
            found.has_more = true;
            found.tasks.truncate(wanted);
            break;
        }
    }
    Ok(found)
}

/// The latest tasks to reach one of these final states, the latest first.
async fn latest(
    states: &[State],
    depth: u32,
    since: Option<Timestamp>,
    reader: &Reader,
    limits: &mut Vec<String>,
) -> Result<Vec<TaskId>, Failure> {
    let mut latest: Vec<(Timestamp, TaskId)> = Vec::new();
    for state in states {
        let mut list = reader.recent(*state, depth).await?;
        let is_full = list.len() == LIST_MAX as usize;
        let before = list.len();
        // What is listed is the instant at which the dispatcher wrote it, a moment after the end.
        list.retain(|(_, at)| since.is_none_or(|since| *at >= since));
        if let Some((_, oldest)) = list.last().filter(|_| is_full && list.len() == before) {
            let oldest = when::utc(*oldest);
            limits.push(format!(
                "the list of {state} tasks is full: those that ended before {oldest} are not in it"
            ));
        }
        latest.extend(list.into_iter().map(|(id, at)| (at, id)));
    }
    latest.sort_by(|a, b| b.cmp(a));
    Ok(latest.into_iter().map(|(_, id)| id).collect())
}
