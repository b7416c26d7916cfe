//! Parts that are made from the code.

use crate::{read, root};
use std::collections::BTreeMap;
use std::fmt::Write;
use taskyard_common::amqp::{QueueKind, Value};
use taskyard_common::names::Names;
use taskyard_model::{
    Books, CopyFacts, Live, Origin, PoolName, Source, State, Transition, Verdict, WorkerId, judge,
};

#[test]
fn generated_parts_are_as_the_code_makes_them() {
    let architecture = read("ARCHITECTURE.md");
    let fresh = with_block(&architecture, "copies", &copies());
    let fresh = with_block(&fresh, "queues", &queues());
    compare("ARCHITECTURE.md", &fresh);
    compare("docs/transitions.md", &transitions());
}

/// Fails where a document is not what the code makes of it; writes it anew where that is asked for.
pub(super) fn compare(path: &str, fresh: &str) {
    let is_stale = std::fs::read_to_string(root().join(path)).ok().as_deref() != Some(fresh);
    if is_stale && std::env::var_os("TASKYARD_WRITE_DOCS").is_some() {
        std::fs::write(root().join(path), fresh).expect("it is there");
    } else {
        assert!(
            !is_stale,
            "{path} is stale; TASKYARD_WRITE_DOCS=1 cargo test --release --workspace --test docs \
             writes:\n{fresh}"
        );
    }
}

/// The text with the part between the markers replaced.
fn with_block(text: &str, name: &str, block: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&begin).expect("the marker is there");
    let (_, after) = rest.split_once("<!-- end -->").expect("the marker is there");
    format!("{before}{begin}{block}<!-- end -->{after}")
}

/// The state machine: a picture of where tasks go, and every transition.
fn transitions() -> String {
    let mut text = String::from(
        "# States and transitions\n\n\
         Generated from `common/model/src/transition.rs`; `tests/tests/docs.rs` compares and says how \
         to write it anew.\n\n\
         | state | | leaves by |\n| --- | --- | --- |\n",
    );
    for &state in State::ALL {
        let leaves = |t: &&Transition| t.is_allowed(Origin::At(state)) && !t.to().is_empty();
        let ways: Vec<String> = Transition::ALL
            .iter()
            .filter(leaves)
            .map(|t| format!("{t:?} -> {}", list(t.to().iter().map(|s| format!("`{s}`")))))
            .collect();
        let last = if state.is_final() { "final" } else { "" };
        writeln!(text, "| `{state}` | {last} | {} |", ways.join("; "))
            .expect("a text takes everything");
    }
    text.push_str(
        "\n## Transitions\n\nThe only changes of a task's record there are. *none*: there is no record, \
         never was, or Redis lost it.\n\n\
         | transition | from | to |\n| --- | --- | --- |\n",
    );
    for t in Transition::ALL {
        let from = t.from().iter().map(|origin| match origin {
            Origin::Absent => "*none*".to_owned(),
            Origin::At(state) => format!("`{state}`"),
        });
        let to = match t.to() {
            [] => "as it was".to_owned(),
            to => list(to.iter().map(|state| format!("`{state}`"))),
        };
        writeln!(text, "| {t:?} | {} | {to} |", list(from)).expect("a text takes everything");
    }
    text
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// What a copy is, by the state of its task.
fn copies() -> String {
    let columns: [(&str, Source, bool, u32); 5] = [
        ("older (k < a)", Source::Again, false, 1),
        ("k = a, submitted", Source::Submit, false, 2),
        ("k = a, expired in submit", Source::SubmitExpired, false, 2),
        ("k = a, any other", Source::Again, false, 2),
        ("newer (k > a)", Source::Again, false, 3),
    ];
    let mut text = String::from("| state |");
    columns
        .iter()
        .for_each(|(name, ..)| write!(text, " {name} |").expect("a text takes everything"));
    text.push_str("\n| --- | --- | --- | --- | --- | --- |\n");
    let mut rows: BTreeMap<Vec<String>, Vec<State>> = BTreeMap::new();
    let mut order = Vec::new();
    for &state in State::ALL {
        let cells: Vec<String> = columns
            .iter()
            .map(|&(_, source, is_redelivered, attempt)| {
                let live = Live { state, attempt: 2, has_start_by: true };
                cell(CopyFacts { attempt, source, is_redelivered }, live)
            })
            .collect();
        if !rows.contains_key(&cells) {
            order.push(cells.clone());
        }
        rows.entry(cells).or_default().push(state);
    }
    for cells in order {
        let states = list(rows[&cells].iter().map(|state| format!("`{state}`")));
        writeln!(text, "| {states} | {} |", cells.join(" | ")).expect("a text takes everything");
    }
    text
}

fn cell(copy: CopyFacts, live: Live) -> String {
    let ask = |books: Books| judge(copy, Some(live), books);
    let plain = ask(Books::default());
    let mut text = format!("{plain:?}");
    let mut unless = |verdict: Verdict, when: &str| {
        if verdict != plain {
            write!(text, "; {when}: {verdict:?}").expect("a text takes everything");
        }
    };
    unless(ask(Books { holds_another: true, ..Books::default() }), "another is held");
    let endless = Live { has_start_by: false, ..live };
    unless(judge(copy, Some(endless), Books::default()), "it has no start-by");
    unless(
        ask(Books { is_dispatch_confirmed: true, ..Books::default() }),
        "the dispatch was confirmed here",
    );
    text
}

/// Every queue and what it is declared with.
fn queues() -> String {
    let names = Names::new("taskyard");
    let pool = PoolName::new("POOL").expect("it follows the rule");
    let worker = WorkerId::new("ID").expect("it follows the rule");
    let to_outcomes = |is_worker| QueueKind::ToOutcomes { pool: &pool, is_worker };
    let all = [
        (names.submit(&pool), to_outcomes(false), "submissions"),
        (names.worker(&worker), to_outcomes(true), "what a worker is given"),
        (names.outcomes_queue(&pool), QueueKind::Plain, "reports, dead letters of the two above"),
        (names.again_queue(&pool), QueueKind::Plain, "our own copies, on their way back in"),
        (names.lane(&pool, 0).replace(".0", ".0` to `9"), QueueKind::Plain, "backlog by priority"),
        (names.parked(&pool), QueueKind::Plain, "what no worker takes"),
        (
            names.delay(0).replace(".0", ".0` to `23"),
            QueueKind::Delay { level: 0 },
            "copies that are due later",
        ),
        (names.leader(&pool), QueueKind::Leader, "the token"),
        (names.commands_queue(&pool), QueueKind::Commands, "commands for the leader"),
        (names.dead(), QueueKind::Plain, "tasks that ended failed"),
        (names.rejected(), QueueKind::Rejected, "submissions that were not understood"),
    ];
    let mut text = String::from("| queue | holds | arguments |\n| --- | --- | --- |\n");
    for (name, kind, holds) in all {
        let table = kind.arguments(&names);
        let show = |value: &Value| match value {
            Value::LongString(text) => text.to_string(),
            Value::LongLongInt(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            other => format!("{other:?}"),
        };
        let shared = ["x-queue-type", "x-delivery-limit"];
        let own = (&table).into_iter().filter(|(name, _)| !shared.contains(&name.as_str()));
        let own = own.map(|(name, value)| format!("`{name}` = {}", show(value)));
        writeln!(text, "| `{name}` | {holds} | {} |", list(own)).expect("a text takes everything");
    }
    text
}
