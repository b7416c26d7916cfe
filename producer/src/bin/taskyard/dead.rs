use crate::cancel::{json as answer_json, judge};
use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::table::{Cell, Table, brief};
use crate::{task, when};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use taskyard_model::{TaskId, Timestamp};
use taskyard_producer::{Command, CommandAnswer, Commands};

#[derive(clap::Subcommand)]
pub(crate) enum DeadVerb {
    /// List dead letters, the oldest first
    #[command(after_help = "\
--json prints an object for each: id, kind, reason, error, attempt, failures, losses, submitted_at
(ms since 1970), bytes (of the payload).")]
    Ls {
        /// How many at most
        #[arg(long, value_name = "N", default_value = "100")]
        limit: u32,
    },
    /// Show a dead letter and its payload
    #[command(after_help = "\
Example:
  taskyard dead show report-2024-02 --payload > payload.json

--json prints what `dead ls --json` prints and the payload: in `payload` if it is UTF-8, else in
`payload_base64`.")]
    Show {
        /// The task
        #[arg(value_name = "ID")]
        id: TaskId,
        /// Print the payload alone, as it is
        #[arg(long, conflicts_with = "json")]
        payload: bool,
    },
    /// Put dead letters back, with their failures and losses forgotten
    #[command(after_help = "\
Examples:
  taskyard dead replay report-2024-02
  taskyard dead replay --all

--json prints {\"replayed\":n} with --all, else an object for each id: {\"id\",\"ok\",\"replayed\"} or
{\"id\",\"ok\",\"error\"}.")]
    Replay {
        /// The tasks
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<TaskId>,
        /// Every dead letter there is
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Looks at dead letters, or puts them back.
pub(crate) async fn run(verb: DeadVerb, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let commands = reach.commands().await?;
    let leaders = reach.leaders().await;
    match verb {
        DeadVerb::Ls { limit } => ls(&commands, leaders, limit, output).await,
        DeadVerb::Show { id, payload } => show(&commands, leaders, id, payload, output).await,
        DeadVerb::Replay { ids, all: false } => replay(&commands, leaders, &ids, output).await,
        DeadVerb::Replay { all: true, .. } => replay_all(&commands, leaders, output).await,
    }
}

/// The answer, if it is that it was done.
fn done(answer: CommandAnswer) -> Result<CommandAnswer, Failure> {
    if answer.ok {
        return Ok(answer);
    }
    let what = answer.error.clone().unwrap_or_else(|| "refused".to_owned());
    Err(Failure::new(judge(Exit::Done, &answer), what))
}

async fn ls(
    commands: &Commands,
    leaders: Option<usize>,
    limit: u32,
    output: &Output,
) -> Result<Exit, Failure> {
    let answer = done(commands.ask(&Command::Dead { limit }, leaders).await?)?;
    let none = Vec::new();
    let letters = answer.details.get("dead").and_then(Value::as_array).unwrap_or(&none);
    if output.is_json() {
        letters.iter().for_each(|letter| output.json(letter));
        return Ok(Exit::Done);
    }
    let now = taskyard_common::now();
    let mut table = Table::new(&["ID", "KIND", "REASON", "ATTEMPT", "SUBMITTED", "BYTES", "ERROR"]);
    for letter in letters {
        table.row(vec![
            text(letter, "id").into(),
            text(letter, "kind").into(),
            Cell::toned(Tone::Bad, text(letter, "reason")),
            text(letter, "attempt").into(),
            instant(letter, "submitted_at")
                .map_or(String::new(), |at| when::relative(at, now))
                .into(),
            text(letter, "bytes").into(),
            Cell::toned(Tone::Faint, brief(&text(letter, "error"), 60)),
        ]);
    }
    match table.is_empty() {
        true => output.note("no dead letters"),
        false => output.table(&table),
    }
    Ok(Exit::Done)
}

async fn show(
    commands: &Commands,
    leaders: Option<usize>,
    id: TaskId,
    wants_payload: bool,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut answer = done(commands.ask(&Command::DeadShow { id }, leaders).await?)?;
    let Some(Value::Object(mut letter)) = answer.details.remove("task") else {
        return Err(Failure::new(Exit::Bug, "the dispatcher's answer has no task in it"));
    };
    let payload = take_payload(&mut letter)?;
    if wants_payload {
        output.bytes(&payload);
        return Ok(Exit::Done);
    }
    if output.is_json() {
        task::put_bytes(&mut letter, "payload", &payload);
        output.json(&letter);
        return Ok(Exit::Done);
    }
    let letter = Value::Object(letter);
    output.line(&format!(
        "{}  {}",
        output.paint(Tone::Head, &text(&letter, "id")),
        output.paint(Tone::Bad, &text(&letter, "reason"))
    ));
    let now = taskyard_common::now();
    let known = ["kind", "error", "attempt", "failures", "losses", "submitted_at", "bytes"];
    let others = letter.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let others = others.filter(|name| !["id", "reason"].contains(name) && !known.contains(name));
    for name in known.into_iter().chain(others) {
        match (name.strip_suffix("_at"), instant(&letter, name)) {
            (Some(name), Some(at)) => {
                line(name, &format!("{:<12} {}", when::relative(at, now), when::utc(at)), output);
            }
            _ => line(name, &text(&letter, name), output),
        }
    }
    match std::str::from_utf8(&payload) {
        Ok(text) => line("payload", &brief(text, 2_000), output),
        Err(_) => line("payload", "no text; print it with --payload", output),
    }
    Ok(Exit::Done)
}

fn line(name: &str, text: &str, output: &Output) {
    if !text.is_empty() {
        let name = output.paint(Tone::Faint, &format!("{name:<12}"));
        output.line(&format!("  {name} {text}"));
    }
}

fn take_payload(letter: &mut Map<String, Value>) -> Result<Vec<u8>, Failure> {
    let base64 = letter.remove("payload_base64");
    let base64 = base64.as_ref().and_then(Value::as_str).unwrap_or_default();
    STANDARD
        .decode(base64)
        .map_err(|error| Failure::new(Exit::Bug, format!("the payload is no base64: {error}")))
}

async fn replay(
    commands: &Commands,
    leaders: Option<usize>,
    ids: &[TaskId],
    output: &Output,
) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for id in ids {
        let command = Command::Replay { id: Some(id.clone()), all: false };
        let answer = commands.ask(&command, leaders).await?;
        exit = judge(exit, &answer);
        if output.is_json() {
            output.json(&answer_json(id, &answer));
        } else if answer.ok {
            output.line(&format!("{id} replayed"));
        } else {
            let why = answer.error.as_deref().unwrap_or("refused");
            output.error(&format!("{id} is not replayed: {why}"), None);
        }
    }
    Ok(exit)
}

async fn replay_all(
    commands: &Commands,
    leaders: Option<usize>,
    output: &Output,
) -> Result<Exit, Failure> {
    let command = Command::Replay { id: None, all: true };
    let answer = done(commands.ask(&command, leaders).await?)?;
    let replayed = answer.details.get("replayed").and_then(Value::as_u64).unwrap_or(0);
    match output.is_json() {
        true => output.json(&json!({ "replayed": replayed })),
        false => output.line(&format!("{replayed} replayed")),
    }
    Ok(Exit::Done)
}

/// A field as a person reads it.
fn text(letter: &Value, name: &str) -> String {
    match letter.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn instant(letter: &Value, name: &str) -> Option<Timestamp> {
    letter.get(name).and_then(Value::as_u64).map(Timestamp::from_ms)
}
