//! The handlers file: what runs which kind. `docs/handlers.md` describes every key.
//!
//! ```toml
//! [[handler]]
//! kind = "image.resize"              # or a pattern: image.*, image.#
//! exec = ["convert", "-", "-resize", "200x", "-"]
//! timeout_ms = 60000                 # optional, besides the task's own limit
//! ```

mod endpoint;
mod keys;
mod program;
#[cfg(test)]
mod tests;

use crate::attempt::Attempt;
use crate::endpoint::Http;
use crate::exec::Exec;
use crate::gate::Gate;
use crate::program::Program;
use crate::resident::Resident;
use anyhow::Context as _;
use keys::Keys;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;
use taskyard_worker::{Context, Reply, TaskError, WorkerBuilder};

/// What a handler may do; it does one of them.
const ACTIONS: [&str; 3] = ["exec", "http", "resident"];

/// What runs the tasks of a kind.
struct Handler {
    kind: String,
    gate: Gate,
    action: Action,
}

enum Action {
    Exec(Exec),
    Http(Http),
    Resident(Resident),
}

impl Handler {
    async fn run(&self, attempt: Attempt) -> Result<Reply, TaskError> {
        let _place = self.gate.enter(&attempt.cancelled).await?;
        match &self.action {
            Action::Exec(exec) => exec.run(attempt).await,
            Action::Http(http) => http.run(attempt).await,
            Action::Resident(resident) => resident.run(attempt).await,
        }
    }
}

/// Adds a handler for each entry of the file.
pub(crate) fn add(
    mut builder: WorkerBuilder,
    file: &Path,
    tls_ca: Option<&Path>,
) -> anyhow::Result<WorkerBuilder> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the handlers file {} cannot be read", file.display()))?;
    let client = || crate::endpoint::client(tls_ca).context("a client for HTTP");
    let handlers =
        parse(&text, client).with_context(|| format!("the handlers file {}", file.display()))?;
    for handler in handlers {
        let handler = Arc::new(handler);
        builder = builder.raw_handler(handler.kind.clone(), move |ctx: Context, payload| {
            let handler = Arc::clone(&handler);
            async move { handler.run(Attempt::new(&ctx, payload)).await }
        });
    }
    Ok(builder)
}

/// A handler that was read, and is not put together yet.
struct Draft {
    kind: String,
    timeout: Option<Duration>,
    concurrency: Option<u32>,
    task: DraftAction,
}

enum DraftAction {
    Exec(Program),
    Http(endpoint::Endpoint),
    Resident(Program, Option<u64>),
}

/// Reads and checks all entries.
///
/// # Errors
/// All that is wrong with any of them.
fn parse(
    text: &str,
    client: impl FnOnce() -> anyhow::Result<reqwest::Client>,
) -> anyhow::Result<Vec<Handler>> {
    let mut file: toml::Table = toml::from_str(text)?;
    let (mut drafts, mut problems, mut secrets) = (Vec::new(), Vec::new(), BTreeSet::new());
    match file.remove("handler").map(toml::Value::try_into::<Vec<toml::Table>>) {
        None => problems.push("there is no [[handler]]".to_owned()),
        Some(Err(_)) => problems.push("handler is no list: write [[handler]]".to_owned()),
        Some(Ok(tables)) => {
            for (number, table) in (1..).zip(tables) {
                let mut keys = Keys::of(number, table);
                drafts.extend(draft(&mut keys));
                problems.append(&mut keys.problems);
                secrets.append(&mut keys.secrets);
            }
        }
    }
    problems.extend(file.keys().map(|key| format!("there is no key {key}; write [[handler]]")));
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    let has_endpoints = drafts.iter().any(|draft| matches!(draft.task, DraftAction::Http(_)));
    let client = if has_endpoints { Some(client()?) } else { None };
    Ok(drafts.into_iter().filter_map(|draft| draft.finish(&secrets, client.as_ref())).collect())
}

/// Reads one entry; `None` where something is missing. All that is wrong is in `keys` then.
fn draft(keys: &mut Keys) -> Option<Draft> {
    let kind = keys.take::<String>("kind");
    match &kind {
        None if !keys.has_problems() => keys.problem("kind is missing"),
        None => {}
        Some(kind) => {
            if let Err(error) = taskyard_model::Pattern::new(kind) {
                keys.problem(error.to_string());
            }
        }
    }
    let timeout = keys.number("timeout_ms").map(Duration::from_millis);
    let concurrency = keys.small_number("concurrency");
    let task = match ACTIONS.into_iter().filter(|name| keys.has(name)).collect::<Vec<_>>()[..] {
        ["exec"] => program::read("exec", keys).map(DraftAction::Exec),
        ["http"] => endpoint::read(keys).map(DraftAction::Http),
        ["resident"] => {
            let recycle_after = keys.number("recycle_after");
            program::read("resident", keys).map(|p| DraftAction::Resident(p, recycle_after))
        }
        [] => {
            keys.problem("what is it to do? Say exec, http or resident");
            return None;
        }
        [..] => {
            keys.problem("exec, http and resident exclude each other: make it several handlers");
            return None;
        }
    };
    keys.refuse_the_rest();
    Some(Draft { kind: kind?, timeout, concurrency, task: task? })
}

impl Draft {
    /// `None` only where an endpoint has no client, which is made where there is one.
    fn finish(
        self,
        secrets: &BTreeSet<String>,
        client: Option<&reqwest::Client>,
    ) -> Option<Handler> {
        let Self { kind, timeout, concurrency, task } = self;
        // What was given to one handler is that one's alone.
        let hide = |program| Program { hidden: secrets.clone(), ..program };
        let action = match task {
            DraftAction::Exec(program) => {
                Action::Exec(Exec { program: hide(program), timeout, warned: Once::new() })
            }
            DraftAction::Resident(program, recycle_after) => {
                Action::Resident(Resident::new(hide(program), timeout, recycle_after))
            }
            DraftAction::Http(endpoint) => {
                let endpoint::Endpoint { url, headers } = endpoint;
                Action::Http(Http { client: client?.clone(), url, headers, timeout })
            }
        };
        Some(Handler { kind, gate: Gate::new(concurrency), action })
    }
}
