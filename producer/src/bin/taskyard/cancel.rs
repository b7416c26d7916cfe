use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::output::Output;
use serde_json::Value;
use taskyard_model::TaskId;
use taskyard_producer::{Command, CommandAnswer};

/// The worst exit of answers so far, with this one.
pub(crate) fn judge(so_far: Exit, answer: &CommandAnswer) -> Exit {
    match (answer.ok, json::is_unknown(answer)) {
        (true, _) => so_far,
        (false, true) if so_far != Exit::NotSucceeded => Exit::NoSuchTask,
        (false, _) => Exit::NotSucceeded,
    }
}

/// Ends tasks.
pub(crate) async fn run(ids: &[TaskId], reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let commands = reach.commands().await?;
    let leaders = reach.leaders().await;
    let mut exit = Exit::Done;
    for id in ids {
        let answer = commands.ask(&Command::Cancel { id: id.clone() }, leaders).await?;
        exit = judge(exit, &answer);
        if output.is_json() {
            output.json(&json::Cancelled::new(id, &answer));
        } else if answer.ok {
            let what = match answer.details.get("state").and_then(Value::as_str) {
                Some("asked") => "runs; its worker is told to stop it",
                Some(state) => state,
                None => "cancelled",
            };
            output.line(&format!("{id} {what}"));
        } else {
            let why = answer.error.as_deref().unwrap_or("refused");
            output.error(&format!("{id} is not cancelled: {why}"), None);
        }
    }
    Ok(exit)
}
