use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::table::{Cell, Table, brief};
use crate::when;
use taskyard_common::store::TaskView;
use taskyard_model::{State, TaskId, Timestamp};

/// How a state looks to those who see colours.
pub(crate) fn tone(state: Option<State>) -> Tone {
    match state {
        Some(State::Succeeded) => Tone::Good,
        Some(State::Dispatched | State::Running) => Tone::Busy,
        Some(State::Retrying | State::Cancelled | State::Expired) => Tone::Odd,
        Some(State::Failed | State::Rejected) => Tone::Bad,
        Some(State::Blocked | State::Delayed | State::Queued) | None => Tone::Plain,
    }
}

/// What to say when there is no record of a task.
pub(crate) fn unknown(id: &TaskId) -> Failure {
    Failure::new(Exit::NoSuchTask, format!("no such task: {id}")).hint(
        "ids are remembered for 1 h after success and 7 d after any other end; a new one is known \
         as soon as a dispatcher has taken it in",
    )
}

/// What somebody may want to do who sees this task.
pub(crate) fn hint(view: &TaskView) -> Option<&'static str> {
    match view.state()? {
        // All reasons that a dispatcher gives are of workers that do not take it.
        State::Queued | State::Delayed | State::Retrying
            if view.fields.text("reason").contains("worker") =>
        {
            Some("`taskyard workers` shows which there are and what they take")
        }
        State::Failed => Some("mend the cause, and `taskyard dead replay` gives it another life"),
        State::Expired => {
            Some("it was not started within its --expires: more workers, or a longer time")
        }
        _ => None,
    }
}

/// A table of tasks.
pub(crate) fn table() -> Table {
    Table::new(&["ID", "STATE", "KIND", "ATTEMPT", "WORKER", "SINCE", "NOTE"])
}

/// A task's row in it.
pub(crate) fn row(view: &TaskView, now: Timestamp) -> Vec<Cell> {
    let fields = &view.fields;
    let since = ["finished_at", "started_at", "dispatched_at", "submitted_at"];
    let since = since.iter().find_map(|name| fields.instant(name));
    vec![
        view.id.as_str().into(),
        Cell::toned(tone(view.state()), fields.text("state")),
        fields.text("kind").into(),
        fields.text("attempt").into(),
        fields.text("worker").into(),
        since.map_or(String::new(), |at| when::relative(at, now)).into(),
        Cell::toned(Tone::Faint, brief(note(view), 60)),
    ]
}

/// A table of tasks with nothing left out.
pub(crate) fn long_table() -> Table {
    Table::new(&[
        "ID",
        "STATE",
        "KIND",
        "POOL",
        "TENANT",
        "PRIORITY",
        "ATTEMPT",
        "FAILURES",
        "LOSSES",
        "WORKER",
        "SUBMITTED",
        "STARTED",
        "FINISHED",
        "RAN",
        "NOTE",
    ])
}

/// A task's row in it.
pub(crate) fn long_row(view: &TaskView) -> Vec<Cell> {
    let fields = &view.fields;
    let at = |name| fields.instant(name).map_or(String::new(), when::utc);
    let ran = fields.instant("started_at").zip(fields.instant("finished_at"));
    let mut row: Vec<Cell> =
        vec![view.id.as_str().into(), Cell::toned(tone(view.state()), fields.text("state"))];
    let texts = ["kind", "pool", "tenant", "priority", "attempt", "failures", "losses", "worker"];
    row.extend(texts.map(|name| fields.text(name).into()));
    row.extend(["submitted_at", "started_at", "finished_at"].map(|name| at(name).into()));
    row.push(ran.map_or(String::new(), |(from, to)| when::rough(to.since(from))).into());
    row.push(Cell::toned(Tone::Faint, brief(note(view), usize::MAX)));
    row
}

/// What there is to say of a task in one line.
fn note(view: &TaskView) -> &str {
    let notes = ["error", "reason", "progress_note"].map(|name| view.fields.text(name));
    notes.into_iter().find(|note| !note.is_empty()).unwrap_or_default()
}

/// The row of a task that there is no record of.
pub(crate) fn unknown_row(id: &TaskId) -> Vec<Cell> {
    let note = Cell::toned(Tone::Faint, "no such task");
    vec![id.as_str().into(), "".into(), "".into(), "".into(), "".into(), "".into(), note]
}

/// All there is to say of one task, for people.
pub(crate) fn details(view: &TaskView, now: Timestamp, output: &Output) {
    let fields = &view.fields;
    let state = output.paint(tone(view.state()), fields.text("state"));
    output.line(&format!("{}  {state}", output.paint(Tone::Head, view.id.as_str())));
    let line = |name: &str, text: &str| {
        if !text.is_empty() {
            let name = output.paint(Tone::Faint, &format!("{name:<12}"));
            output.line(&format!("  {name} {text}"));
        }
    };
    line("kind", fields.text("kind"));
    line("pool", fields.text("pool"));
    line("tenant", fields.text("tenant"));
    line("priority", fields.text("priority"));
    line("attempts", &attempts(view));
    line("worker", fields.text("worker"));
    line("waits", fields.text("reason"));
    line("progress", &progress(view));
    let instants = ["submitted", "dispatched", "started", "finished", "next"];
    for name in instants {
        if let Some(at) = fields.instant(&format!("{name}_at")) {
            let (relative, utc) = (when::relative(at, now), when::utc(at));
            // Its time has come, and it waits for a worker like any other.
            let name = if name == "next" && at <= now { "due" } else { name };
            line(name, &format!("{relative:<12} {}", output.paint(Tone::Faint, &utc)));
        }
    }
    if let (Some(from), Some(to)) = (fields.instant("started_at"), fields.instant("finished_at")) {
        line("ran", &when::rough(to.since(from)));
    }
    line("error", &error(view));
    line("result", &result(view));
}

fn attempts(view: &TaskView) -> String {
    // Failures are what is limited: an attempt that never began, or that a replay has forgotten,
    // does not count.
    let mut text = view.attempt().to_string();
    if view.failures() > 0 {
        let most = view.fields.text("max_attempts");
        text += &format!(", {} failed of at most {most}", view.failures());
    }
    if view.losses() > 0 {
        text += &format!(", {} lost with their worker", view.losses());
    }
    text
}

fn progress(view: &TaskView) -> String {
    let percent = view.fields.number::<u8>("progress").filter(|&percent| percent > 0);
    let note = view.fields.text("progress_note");
    match percent {
        Some(percent) if note.is_empty() => format!("{percent} %"),
        Some(percent) => format!("{percent} %, {note}"),
        None => note.to_owned(),
    }
}

fn error(view: &TaskView) -> String {
    match (view.error(), view.fields.text("error_kind")) {
        ("", kind) => kind.to_owned(),
        (error, kind) if error == kind => error.to_owned(),
        (error, "") => error.to_owned(),
        (error, kind) => format!("{error} ({kind})"),
    }
}

fn result(view: &TaskView) -> String {
    let result = view.result();
    match std::str::from_utf8(&result) {
        Ok(text) if !text.is_empty() => brief(text, 200),
        Ok(_) => String::new(),
        Err(_) => format!("{} bytes; print them with taskyard result", result.len()),
    }
}
