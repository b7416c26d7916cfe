use std::time::{Duration, Instant};

use super::*;
use crate::store::{Expect, Keep, PayloadOp, Value};

/// Tasks of a round: enough for a steady rate, short enough for every test run.
const TASKS: usize = 10_000;

fn accepted(id: TaskId, payload: &Bytes) -> Op {
    Op::Change(Change {
        fields: vec![
            ("kind", Value::Word("image.resize")),
            ("pool", Value::Word("default")),
            ("priority", Value::Int(3)),
            ("tenant", Value::Word("default")),
            ("attempt", Value::Int(1)),
            ("max_attempts", Value::Int(5)),
            ("max_losses", Value::Int(5)),
            ("worker", Value::Word("worker-17")),
            ("submitted_at", Value::Int(1_767_225_600_000)),
            ("dispatched_at", Value::Int(1_767_225_600_001)),
            ("reply_to", Value::Word("amq.rabbitmq.reply-to.g1h2")),
            ("correlation_id", Value::Word("42")),
            ("keep_ms", Value::Int(3_600_000)),
            ("backoff", Value::Word("exponential:1000:600000")),
        ],
        payload: PayloadOp::Set(payload.clone()),
        ..Change::new(id, Transition::AcceptDispatched, Some(State::Dispatched))
    })
}

fn succeeded(id: TaskId) -> Op {
    Op::Change(Change {
        expect: Expect::Exactly(1),
        fields: vec![
            ("finished_at", Value::Int(1_767_225_600_050)),
            ("result", Value::Bytes(Bytes::from_static(b"{\"ok\":true}"))),
            ("result_type", Value::Word("application/json")),
            ("owed", Value::Word("reply")),
        ],
        payload: PayloadOp::Delete,
        keep: Keep::For(Duration::from_secs(3600)),
        ..Change::new(id, Transition::Succeed, Some(State::Succeeded))
    })
}

/// Two calls a task, one pipeline under way at a time, as the dispatcher's turns are.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the rate is what this test is for; seen with --nocapture")]
async fn the_rate_of_transitions_is_measured() {
    let server = Server::start();
    let store = store(&server).await;
    let payload = Bytes::from(vec![b'x'; 100]);
    for batch in [64, 256, 1000] {
        let ids: Vec<TaskId> =
            (0..TASKS).map(|n| id(&format!("{batch}-0198c0de-{n:012}"))).collect();
        let began = Instant::now();
        for ids in ids.chunks(batch / 2) {
            let taken = ids.iter().map(|id| accepted(id.clone(), &payload));
            let done = ids.iter().map(|id| succeeded(id.clone()));
            let ops: Vec<Op> = taken.chain(done).collect();
            let answers = store.run(&ops).await.unwrap();
            assert!(answers.iter().all(|answer| matches!(answer, Answer::Applied(None))));
        }
        let rate = 2.0 * ids.len() as f64 / began.elapsed().as_secs_f64();
        println!("pipelines of {batch}: {rate:.0} transitions/s");
    }
}
