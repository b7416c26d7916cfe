use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use taskyard_model::{Origin, Wants};

use super::*;
use crate::store::record::RECORD_FIELDS;
use crate::store::{Expect, Keep, PayloadOp, Record, Value};

/// What the script does, in Rust and in the plainest way.
#[derive(Default)]
struct Model {
    tasks: BTreeMap<TaskId, Task>,
    payloads: BTreeMap<TaskId, Bytes>,
}

#[derive(Clone, Default)]
struct Task {
    fields: BTreeMap<String, Bytes>,
    expires: bool,
}

impl Task {
    fn state(&self) -> Option<State> {
        std::str::from_utf8(self.fields.get("state")?).ok()?.parse().ok()
    }

    fn attempt(&self) -> u32 {
        let text = self.fields.get("attempt").map_or("", |b| std::str::from_utf8(b).unwrap());
        text.parse().unwrap_or(0)
    }

    fn fresh(id: &TaskId) -> Self {
        let value = |name: &str| match name {
            "id" => Bytes::copy_from_slice(id.as_str().as_bytes()),
            "priority" | "attempt" | "failures" | "losses" | "max_attempts" | "max_losses"
            | "progress" => Bytes::from_static(b"0"),
            _ => Bytes::new(),
        };
        let fields = crate::store::FIELDS.iter().map(|&name| (name.to_owned(), value(name)));
        Self { fields: fields.collect(), expires: false }
    }
}

impl Model {
    fn record(&self, id: &TaskId) -> Option<Box<Record>> {
        let task = self.tasks.get(id)?;
        let value = |name: &&str| match task.fields.get(*name) {
            Some(bytes) => Reply::BulkString(bytes.to_vec()),
            None => Reply::Nil,
        };
        Record::parse(Reply::Array(RECORD_FIELDS.iter().map(value).collect())).unwrap()
    }

    fn run(&mut self, op: &Op) -> Answer {
        match op {
            Op::Change(change) => self.change(change),
            Op::Read(id) => Answer::Record(self.record(id)),
            Op::Payload(id) => Answer::Payload(self.record(id), self.payloads.get(id).cloned()),
        }
    }

    fn change(&mut self, change: &Change) -> Answer {
        let id = &change.id;
        let was = self.record(id);
        let task = self.tasks.get(id).cloned().unwrap_or_default();
        let origin = task.state().map_or(Origin::Absent, Origin::At);
        let is_expected = origin == Origin::Absent
            || match change.expect {
                Expect::Any => true,
                Expect::Exactly(attempt) => task.attempt() == attempt,
                Expect::Below(attempt) => task.attempt() < attempt,
            };
        if !change.transition.is_allowed(origin) || !is_expected {
            return Answer::Refused(was);
        }
        let is_fresh = origin == Origin::Absent
            || (origin == Origin::At(State::Rejected) && change.state.is_some());
        let mut task = if is_fresh { Task::fresh(id) } else { task };
        if is_fresh {
            self.payloads.remove(id);
        }
        if let Some(state) = change.state {
            task.fields.insert("state".to_owned(), Bytes::from(state.as_str()));
        }
        for (name, value) in &change.fields {
            let bytes = match value {
                Value::Int(number) => Bytes::from(number.to_string()),
                other => Bytes::copy_from_slice(other.as_bytes()),
            };
            task.fields.insert((*name).to_owned(), bytes);
        }
        match &change.payload {
            PayloadOp::Keep => {}
            PayloadOp::Set(bytes) => drop(self.payloads.insert(id.clone(), bytes.clone())),
            PayloadOp::Delete => drop(self.payloads.remove(id)),
        }
        match change.keep {
            Keep::Unchanged => {}
            Keep::For(_) => task.expires = true,
            Keep::Forever => task.expires = false,
        }
        self.tasks.insert(id.clone(), task);
        Answer::Applied(was.filter(|was| match change.wants {
            Wants::Nothing => false,
            Wants::ReplyAddress => !was.reply_to.is_empty(),
            Wants::Record => true,
        }))
    }
}

fn random_value(rng: &mut StdRng) -> Value {
    match rng.random_range(0..4) {
        0 => Value::Int(rng.random_range(0..4)),
        1 => Value::Word("w1"),
        2 => Value::Text("x".repeat(rng.random_range(0..100)).into()),
        _ => Value::Bytes(Bytes::from((0..rng.random_range(0..80)).collect::<Vec<u8>>())),
    }
}

/// Mostly something that is allowed, or little would ever be written.
fn random_transition(rng: &mut StdRng, model: &Model, id: &TaskId) -> Transition {
    let origin = model.record(id).map_or(Origin::Absent, |record| Origin::At(record.state));
    loop {
        let transition = Transition::ALL[rng.random_range(0..Transition::ALL.len())];
        if transition.is_allowed(origin) || rng.random_bool(0.05) {
            return transition;
        }
    }
}

fn random_op(rng: &mut StdRng, model: &Model) -> Op {
    let id = id(&format!("t{}", rng.random_range(0..6)));
    match rng.random_range(0..20) {
        0 => return Op::Read(id),
        1 => return Op::Payload(id),
        _ => {}
    }
    let transition = random_transition(rng, model, &id);
    let to = transition.to();
    let state = (!to.is_empty()).then(|| to[rng.random_range(0..to.len())]);
    let attempt = rng.random_range(0..4);
    let names =
        ["worker", "failures", "next_at", "owed", "cancel", "result", "reply_to", "backoff", "own"];
    let mut fields: Vec<(&'static str, Value)> = (0..rng.random_range(0..5))
        .map(|_| (names[rng.random_range(0..names.len())], random_value(rng)))
        .collect();
    if rng.random_bool(0.3) {
        fields.push(("attempt", Value::Int(rng.random_range(0..4))));
    }
    Op::Change(Change {
        id,
        transition,
        expect: match rng.random_range(0..4) {
            0 => Expect::Exactly(attempt),
            1 => Expect::Below(attempt),
            _ => Expect::Any,
        },
        state,
        fields,
        payload: match rng.random_range(0..4) {
            0 => PayloadOp::Set(Bytes::from(vec![b'p'; rng.random_range(0..50)])),
            1 => PayloadOp::Delete,
            _ => PayloadOp::Keep,
        },
        keep: match rng.random_range(0..5) {
            0 => Keep::For(Duration::from_secs(3600)),
            1 => Keep::Forever,
            _ => Keep::Unchanged,
        },
        wants: match rng.random_range(0..4) {
            0 => Wants::Record,
            1 => Wants::ReplyAddress,
            _ => Wants::Nothing,
        },
    })
}

/// The same for another task, so that both share a call of the script.
fn alike(rng: &mut StdRng, change: &Change) -> Op {
    let attempt = rng.random_range(0..4);
    Op::Change(Change {
        id: id(&format!("t{}", rng.random_range(0..6))),
        expect: match change.expect {
            Expect::Exactly(_) => Expect::Exactly(attempt),
            Expect::Below(_) => Expect::Below(attempt),
            Expect::Any => Expect::Any,
        },
        fields: change.fields.iter().map(|&(name, _)| (name, random_value(rng))).collect(),
        payload: match &change.payload {
            PayloadOp::Set(_) => PayloadOp::Set(Bytes::from(vec![b'q'; rng.random_range(0..50)])),
            other => other.clone(),
        },
        ..change.clone()
    })
}

/// Something that somebody else did to a record, in Redis and in the model.
async fn tamper(store: &Store, model: &mut Model, rng: &mut StdRng) {
    let id = id(&format!("t{}", rng.random_range(0..6)));
    let key = store.keys().task(&id);
    match rng.random_range(0..4) {
        0 => {
            raw(store, &["DEL", &key]).await;
            model.tasks.remove(&id);
        }
        1 => {
            raw(store, &["HDEL", &key, "state"]).await;
            if let Some(task) = model.tasks.get_mut(&id) {
                task.fields.remove("state");
            }
        }
        2 => {
            raw(store, &["HSET", &key, "state", "odd"]).await;
            model.tasks.entry(id).or_default().fields.insert("state".to_owned(), "odd".into());
        }
        _ => {
            raw(store, &["HSET", &key, "attempt", "odd"]).await;
            model.tasks.entry(id).or_default().fields.insert("attempt".to_owned(), "odd".into());
        }
    }
}

async fn compare(store: &Store, model: &Model, seed: u64) {
    for n in 0..6 {
        let id = id(&format!("t{n}"));
        let key = store.keys().task(&id);
        let task = model.tasks.get(&id).cloned().unwrap_or_default();
        assert_eq!(hash(store, &key).await, task.fields, "seed {seed}");
        if !task.fields.is_empty() {
            assert_eq!(pttl(store, &key).await > 0, task.expires, "seed {seed}");
        }
        assert_eq!(
            stored_payload(store, id.as_str()).await.as_ref(),
            model.payloads.get(&id),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn ten_thousand_random_calls_do_what_the_model_does() {
    let server = Server::start();
    let store = store(&server).await;
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut left = 10_000;
    let mut applied = 0;
    while left > 0 {
        let mut ops: Vec<Op> = Vec::new();
        let mut expected = Vec::new();
        let mut taken_in: Vec<TaskId> = Vec::new();
        for _ in 0..rng.random_range(1..40) {
            let op = match ops.last() {
                Some(Op::Change(change)) if rng.random_bool(0.5) => alike(&mut rng, change),
                _ => random_op(&mut rng, &model),
            };
            let (Op::Change(Change { id, .. }) | Op::Read(id) | Op::Payload(id)) = &op;
            // A first record that is there already is decided after the rest of its call.
            if taken_in.contains(id) {
                break;
            }
            let has_none = !model.tasks.contains_key(id);
            let orphan = model.payloads.get(id).cloned().filter(|_| has_none);
            let answer = model.run(&op);
            if let (Op::Change(change), Answer::Applied(_), Some(orphan)) = (&op, &answer, orphan)
                && crate::store::fresh::is_fresh(change)
            {
                // Its hash was deleted by hand; the payload that is left is taken as it is.
                model.payloads.insert(id.clone(), orphan);
            }
            if let (Op::Change(change), Answer::Refused(Some(record))) = (&op, &answer)
                && crate::store::fresh::is_fresh(change)
                && matches!(record.state, State::Dispatched | State::Running)
                && let PayloadOp::Set(bytes) = &change.payload
            {
                model.payloads.entry(id.clone()).or_insert_with(|| bytes.clone());
            }
            if matches!(&op, Op::Change(change) if crate::store::fresh::is_fresh(change)) {
                taken_in.push(id.clone());
            }
            expected.push(answer);
            ops.push(op);
        }
        left -= ops.len().min(left);
        let answers = store.run(&ops).await.unwrap();
        for ((op, answer), expected) in ops.iter().zip(&answers).zip(&expected) {
            assert_eq!(format!("{answer:?}"), format!("{expected:?}"), "seed {seed}, {op:?}");
            applied += usize::from(matches!(answer, Answer::Applied(_)));
        }
        compare(&store, &model, seed).await;
        if rng.random_bool(0.3) {
            tamper(&store, &mut model, &mut rng).await;
        }
    }
    assert!(applied > 3_000, "seed {seed} tries too little: {applied}");
}
