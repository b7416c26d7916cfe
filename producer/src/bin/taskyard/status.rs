use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{json, task};
use taskyard_model::TaskId;

/// Shows where tasks are: one in full, several as a table.
pub(crate) async fn run(ids: &[TaskId], reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let views = reach.reader()?.tasks(ids).await?;
    let now = taskyard_common::now();
    let exit = match views.iter().all(Option::is_some) {
        true => Exit::Done,
        false => Exit::NoSuchTask,
    };
    if output.is_json() {
        for (id, view) in ids.iter().zip(&views) {
            output.json(&view.as_ref().map_or_else(|| json::Task::unknown(id), json::Task::from));
        }
        return Ok(exit);
    }
    if let [view] = &views[..] {
        let view = view.as_ref().ok_or_else(|| task::unknown(&ids[0]))?;
        task::details(view, now, output);
        if let Some(hint) = task::hint(view) {
            output.hint(hint);
        }
        return Ok(exit);
    }
    let mut table = task::table();
    for (id, view) in ids.iter().zip(&views) {
        table.row(view.as_ref().map_or_else(|| task::unknown_row(id), |view| task::row(view, now)));
    }
    output.table(&table);
    Ok(exit)
}
