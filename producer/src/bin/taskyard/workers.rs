use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::table::{Cell, Table, brief};
use crate::when;
use serde_json::{Map, Value};
use taskyard_common::store::WorkerView;
use taskyard_model::Timestamp;

const TEXTS: [&str; 6] = ["state", "pool", "kinds", "labels", "host", "version"];
const NUMBERS: [&str; 3] = ["slots", "busy", "weight"];

/// Lists the workers.
pub(crate) async fn run(reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let pool = reach.pool()?;
    let mut workers = reach.reader()?.workers().await?;
    workers.retain(|worker| {
        pool.as_ref().is_none_or(|pool| worker.fields.text("pool") == pool.as_str())
    });
    if output.is_json() {
        workers.iter().for_each(|worker| output.json(&json(worker)));
        return Ok(Exit::Done);
    }
    let now = taskyard_common::now();
    let mut table =
        Table::new(&["ID", "STATE", "POOL", "BUSY", "KINDS", "LABELS", "HOST", "VERSION", "SEEN"]);
    for worker in &workers {
        table.row(row(worker, now));
    }
    match table.is_empty() {
        true => output.note("no workers; start one: taskyard-worker --builtin"),
        false => output.table(&table),
    }
    Ok(Exit::Done)
}

fn json(worker: &WorkerView) -> Value {
    let mut object = Map::new();
    object.insert("id".to_owned(), worker.id.as_str().into());
    for name in TEXTS {
        let text = worker.fields.text(name);
        let value = if text.is_empty() { Value::Null } else { text.into() };
        object.insert(name.to_owned(), value);
    }
    for name in NUMBERS {
        object.insert(name.to_owned(), worker.fields.number::<u64>(name).into());
    }
    object.insert("seen_at".to_owned(), worker.seen_at.as_ms().into());
    Value::Object(object)
}

fn row(worker: &WorkerView, now: Timestamp) -> Vec<Cell> {
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
        brief(fields.text("kinds"), 40).into(),
        brief(fields.text("labels"), 40).into(),
        fields.text("host").into(),
        fields.text("version").into(),
        when::relative(worker.seen_at, now).into(),
    ]
}
