use crate::{Command, CommandAnswer};
use serde_json::Value;

/// The best answer so far, and who may still answer.
pub(super) struct Verdict {
    leaders: Option<usize>,
    is_shared: bool,
    heard: usize,
    /// What is known by now.
    pub(super) answer: Option<CommandAnswer>,
}

/// What follows from an answer.
pub(super) enum Hearing {
    Over(CommandAnswer),
    GoOn,
    Grace,
}

impl Verdict {
    pub(super) fn new(command: &Command, leaders: Option<usize>) -> Self {
        // All leaders reach into the one queue of dead letters, and each sees what the others have
        // not taken out at that moment.
        let is_shared = matches!(command, Command::Dead { .. } | Command::Replay { all: true, .. });
        Self { leaders, is_shared, heard: 0, answer: None }
    }

    pub(super) fn hear(&mut self, answer: CommandAnswer) -> Hearing {
        self.heard += 1;
        let knows_nothing = answer.details.get("unknown") == Some(&Value::Bool(true));
        let is_last_word = if answer.ok { !self.is_shared } else { !knows_nothing };
        if is_last_word {
            return Hearing::Over(answer);
        }
        let so_far = match self.answer.take() {
            Some(so_far) => together(so_far, answer),
            None => answer,
        };
        if self.leaders.is_some_and(|leaders| self.heard >= leaders) {
            return Hearing::Over(so_far);
        }
        self.answer = Some(so_far);
        if self.leaders.is_some() { Hearing::GoOn } else { Hearing::Grace }
    }
}

/// Puts two parts together: counts are added, lists joined (one row for each id). Who knows wins
/// over who does not.
fn together(one: CommandAnswer, other: CommandAnswer) -> CommandAnswer {
    let (mut one, other) = match (one.ok, other.ok) {
        (true, true) => (one, other),
        (false, true) => return other,
        (_, false) => return one,
    };
    for (name, value) in other.details {
        match (one.details.get_mut(&name), value) {
            (Some(Value::Array(rows)), Value::Array(more)) => {
                for row in more {
                    if row.get("id").is_none_or(|id| rows.iter().all(|r| r.get("id") != Some(id))) {
                        rows.push(row);
                    }
                }
            }
            (Some(Value::Number(n)), Value::Number(more)) => {
                *n = (n.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0)).into();
            }
            (None, value) => drop(one.details.insert(name, value)),
            (Some(_), _) => {}
        }
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cancel(leaders: Option<usize>) -> Verdict {
        let id = "t1".parse().unwrap();
        Verdict::new(&Command::Cancel { id }, leaders)
    }

    fn unknown() -> CommandAnswer {
        let mut answer = CommandAnswer::refused("no such task");
        answer.details.insert("unknown".to_owned(), true.into());
        answer
    }

    #[track_caller]
    fn over(hearing: Hearing) -> CommandAnswer {
        match hearing {
            Hearing::Over(answer) => answer,
            Hearing::GoOn | Hearing::Grace => panic!("not over"),
        }
    }

    #[test]
    fn who_knows_wins_over_who_does_not() {
        let mut verdict = cancel(Some(3));
        assert!(matches!(verdict.hear(unknown()), Hearing::GoOn));
        let done = CommandAnswer::done(json!({"state": "cancelled"}));
        assert_eq!(over(verdict.hear(done.clone())), done);
    }

    #[test]
    fn a_refusal_that_knows_why_counts_at_once() {
        let refused = CommandAnswer::refused("it has succeeded");
        assert_eq!(over(cancel(None).hear(refused.clone())), refused);
    }

    #[test]
    fn when_nobody_knows_it_is_unknown() {
        let mut verdict = cancel(Some(2));
        verdict.hear(unknown());
        assert_eq!(over(verdict.hear(unknown())), unknown());
        assert!(matches!(cancel(None).hear(unknown()), Hearing::Grace));
    }

    #[test]
    fn parts_are_put_together() {
        let mut verdict = Verdict::new(&Command::Dead { limit: 9 }, Some(3));
        let part = |ids: &[&str]| {
            let rows: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
            CommandAnswer::done(json!({ "dead": rows }))
        };
        verdict.hear(part(&["a", "b"]));
        verdict.hear(part(&[]));
        assert_eq!(over(verdict.hear(part(&["b", "c"]))), part(&["a", "b", "c"]));
        let mut verdict = Verdict::new(&Command::Replay { id: None, all: true }, Some(2));
        verdict.hear(CommandAnswer::done(json!({"replayed": 2})));
        let all = over(verdict.hear(CommandAnswer::done(json!({"replayed": 3}))));
        assert_eq!(all, CommandAnswer::done(json!({"replayed": 5})));
    }
}
