use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::task;
use taskyard_common::store::{Reader, TaskView};
use taskyard_model::{Kind, Pattern, State, TaskId, Timestamp};

/// Ids in a list at most: the dispatcher keeps no more. Of other states no more are looked for.
const LIST_MAX: u32 = 10_000;
/// Records read at once: each may have a result of 1 MiB.
const PAGE: usize = 100;

/// Which tasks to list.
pub(crate) struct Wanted {
    pub(crate) states: Vec<State>,
    pub(crate) kind: Option<Pattern>,
    pub(crate) limit: u32,
}

impl Wanted {
    fn takes(&self, states: &[State], view: &TaskView) -> bool {
        // A replay takes a task out of a final state, but not out of the list.
        let is_still_there = view.state().is_some_and(|state| states.contains(&state));
        let fits = |pattern: &Pattern| {
            Kind::new(view.fields.text("kind")).is_ok_and(|kind| pattern.matches(&kind))
        };
        is_still_there && self.kind.as_ref().is_none_or(fits)
    }
}

/// Lists tasks that reached a final state lately, and those in other states that were asked for.
pub(crate) async fn run(wanted: &Wanted, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let tasks = find(wanted, &reach.reader()?).await?;
    if output.is_json() {
        tasks.iter().for_each(|view| output.json(&task::json(view)));
        return Ok(Exit::Done);
    }
    let now = taskyard_common::now();
    let mut table = task::table();
    tasks.iter().for_each(|view| table.row(task::row(view, now)));
    match table.is_empty() {
        true => output.note("no such tasks"),
        false => output.table(&table),
    }
    Ok(Exit::Done)
}

async fn find(wanted: &Wanted, reader: &Reader) -> Result<Vec<TaskView>, Failure> {
    let all_final = || State::ALL.iter().copied().filter(|state| state.is_final()).collect();
    let states: Vec<State> =
        if wanted.states.is_empty() { all_final() } else { wanted.states.clone() };
    let (over, under_way): (Vec<State>, Vec<State>) =
        states.into_iter().partition(|state| state.is_final());
    // Filtering by kind may pass over any number.
    let depth = if wanted.kind.is_some() { LIST_MAX } else { wanted.limit.saturating_mul(2) };
    let depth = depth.min(LIST_MAX);
    let mut latest: Vec<(Timestamp, TaskId)> = Vec::new();
    for state in &over {
        let list = reader.recent(*state, depth).await?;
        latest.extend(list.into_iter().map(|(id, at)| (at, id)));
    }
    latest.sort_by(|a, b| b.cmp(a));
    let mut ids: Vec<TaskId> = latest.into_iter().map(|(_, id)| id).collect();
    if !under_way.is_empty() {
        // What has not ended comes first: it is what somebody may still do something about.
        let most = usize::try_from(depth).unwrap_or(usize::MAX);
        let waiting = reader.in_states(&under_way, most).await?;
        ids.splice(0..0, waiting);
    }
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let states = [over, under_way].concat();
    let mut found = Vec::new();
    for page in ids.chunks(PAGE) {
        let views = reader.tasks(page).await?;
        found.extend(views.into_iter().flatten().filter(|view| wanted.takes(&states, view)));
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}
