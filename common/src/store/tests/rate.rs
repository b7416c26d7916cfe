use std::time::{Duration, Instant};

use super::*;
use crate::store::{Expect, Keep, PayloadOp, Value};

/// Tasks of a round: enough for a steady rate, short enough for every test run.
const TASKS: usize = 4_000;
/// The best of these counts: others share the machine.
const ROUNDS: usize = 3;

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

/// Takes tasks in and ends them, in pipelines of `batch` transitions.
async fn round(store: &Store, name: &str, batch: usize) {
    let payload = Bytes::from(vec![b'x'; 100]);
    let ids: Vec<TaskId> = (0..TASKS).map(|n| id(&format!("0198c0de-{name}-{n:012}"))).collect();
    for ids in ids.chunks(batch / 2) {
        let taken = ids.iter().map(|id| accepted(id.clone(), &payload));
        let done = ids.iter().map(|id| succeeded(id.clone()));
        let ops: Vec<Op> = taken.chain(done).collect();
        let answers = store.run(&ops).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Applied(None))));
    }
}

/// What Redis itself says that a script took, in microseconds.
async fn script_us(store: &Store) -> String {
    let stats = crate::store::record::text(raw(store, &["INFO", "commandstats"]).await);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha")).unwrap_or_default();
    let us = line.split("usec_per_call=").nth(1).and_then(|rest| rest.split(',').next());
    us.unwrap_or("?").to_owned()
}

/// Two calls a task; one pipeline under way at a time, then two.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the rate is what this test is for; seen with --nocapture")]
async fn the_rate_of_transitions_is_measured() {
    let server = Server::start();
    let store = store(&server).await;
    for (batch, lanes) in [(64, 1), (256, 1), (1000, 1), (64, 2), (256, 2), (1000, 2)] {
        let mut best: f64 = 0.0;
        for round_no in 0..ROUNDS {
            raw(&store, &["FLUSHALL"]).await;
            raw(&store, &["CONFIG", "RESETSTAT"]).await;
            let began = Instant::now();
            let names: Vec<String> = (0..lanes).map(|lane| format!("{round_no}-{lane}")).collect();
            let rounds = names.iter().map(|name| round(&store, name, batch));
            futures_util::future::join_all(rounds).await;
            best = best.max((2 * TASKS * lanes) as f64 / began.elapsed().as_secs_f64());
        }
        let us = script_us(&store).await;
        println!(
            "pipelines of {batch}, {lanes} under way: {best:.0} transitions/s, {us} us a script"
        );
    }
}
