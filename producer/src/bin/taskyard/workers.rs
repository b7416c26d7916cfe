use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::table::{Cell, Table, brief};
use crate::{json, when};
use taskyard_common::store::WorkerView;
use taskyard_model::Timestamp;

/// What to say while there are none.
pub(crate) const NONE: &str = "no workers; start one: taskyard-worker --builtin";

/// Lists the workers.
pub(crate) async fn run(reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let pool = reach.pool()?;
    let mut workers = reach.reader()?.workers().await?;
    workers.retain(|worker| {
        pool.as_ref().is_none_or(|pool| worker.fields.text("pool") == pool.as_str())
    });
    if output.is_json() {
        workers.iter().for_each(|worker| output.json(&json::Worker::from(worker)));
        return Ok(Exit::Done);
    }
    let now = taskyard_common::now();
    let mut table = table();
    for worker in &workers {
        table.row(row(worker, now));
    }
    match table.is_empty() {
        true => output.note(NONE),
        false => output.table(&table),
    }
    Ok(Exit::Done)
}

/// A table of workers.
pub(crate) fn table() -> Table {
    Table::new(&[
        "ID", "STATE", "POOL", "BUSY", "WEIGHT", "KINDS", "LABELS", "HOST", "VERSION", "SEEN",
    ])
}

/// A worker's row in it.
pub(crate) fn row(worker: &WorkerView, now: Timestamp) -> Vec<Cell> {
    let fields = &worker.fields;
    let state = fields.text("state");
    let tone = match state {
        "up" => Tone::Good,
        "draining" => Tone::Busy,
        "suspect" => Tone::Odd,
        _ => Tone::Bad,
    };
    vec![
        worker.id.as_str().into(),
        Cell::toned(tone, state),
        fields.text("pool").into(),
        format!("{}/{}", fields.text("busy"), fields.text("slots")).into(),
        fields.text("weight").into(),
        brief(fields.text("kinds"), 40).into(),
        brief(fields.text("labels"), 40).into(),
        fields.text("host").into(),
        fields.text("version").into(),
        when::relative(worker.seen_at, now).into(),
    ]
}
