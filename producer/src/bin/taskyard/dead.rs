use crate::cancel::judge;
use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::json::Letter;
use crate::output::{Output, Tone};
use crate::table::{Cell, Table, brief};
use crate::{json, when};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use taskyard_model::{TaskId, Timestamp};
use taskyard_producer::{Command, CommandAnswer, Commands};

#[derive(clap::Subcommand)]
pub(crate) enum DeadVerb {
    /// List dead letters, the oldest first
    #[command(after_help = "\
--json prints an object for each (docs/json.md).")]
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
`payload_base64` (docs/json.md).")]
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

--json prints {\"replayed\":n} with --all, else an object for each id (docs/json.md).")]
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
    let mut answer = done(commands.ask(&Command::Dead { limit }, leaders).await?)?;
    let letters = answer.details.remove("dead").unwrap_or_default();
    let letters: Vec<Letter> = serde_json::from_value(letters).map_err(|e| strange(&e))?;
    if output.is_json() {
        letters.iter().for_each(|letter| output.json(letter));
        return Ok(Exit::Done);
    }
    let now = taskyard_common::now();
    let mut table = Table::new(&["ID", "KIND", "REASON", "ATTEMPT", "SUBMITTED", "BYTES", "ERROR"]);
    for letter in &letters {
        let submitted = letter.submitted_at.map(|ms| when::relative(Timestamp::from_ms(ms), now));
        table.row(vec![
            letter.id.as_str().into(),
            letter.kind.as_str().into(),
            Cell::toned(Tone::Bad, letter.reason.as_str()),
            letter.attempt.to_string().into(),
            submitted.unwrap_or_default().into(),
            letter.bytes.to_string().into(),
            Cell::toned(Tone::Faint, brief(&letter.error, 60)),
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
    let letter: Letter =
        serde_json::from_value(Value::Object(letter)).map_err(|error| strange(&error))?;
    match output.is_json() {
        true => output.json(&json::Opened::new(letter, &payload)),
        false => details(&letter, &payload, output),
    }
    Ok(Exit::Done)
}

/// All there is to say of a dead letter, for people.
fn details(letter: &Letter, payload: &[u8], output: &Output) {
    let (id, reason) =
        (output.paint(Tone::Head, &letter.id), output.paint(Tone::Bad, &letter.reason));
    output.line(&format!("{id}  {reason}"));
    let line = |name: &str, text: &str| {
        if !text.is_empty() {
            let name = output.paint(Tone::Faint, &format!("{name:<12}"));
            output.line(&format!("  {name} {text}"));
        }
    };
    line("kind", &letter.kind);
    line("error", &letter.error);
    line("attempt", &letter.attempt.to_string());
    line("failures", &letter.failures.to_string());
    line("losses", &letter.losses.to_string());
    if let Some(at) = letter.submitted_at.map(Timestamp::from_ms) {
        let relative = when::relative(at, taskyard_common::now());
        line("submitted", &format!("{relative:<12} {}", when::utc(at)));
    }
    line("bytes", &letter.bytes.to_string());
    match std::str::from_utf8(payload) {
        Ok(text) => line("payload", &brief(text, 2_000)),
        Err(_) => line("payload", "no text; print it with --payload"),
    }
}

fn strange(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Bug, format!("the dispatcher's answer is no dead letter: {error}"))
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
            output.json(&json::Replayed::new(id, &answer));
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
        true => output.json(&json::ReplayedAll { replayed }),
        false => output.line(&format!("{replayed} replayed")),
    }
    Ok(Exit::Done)
}
