//! The store's pipeline: one task, a call with everything that waits, and the next while it runs.

use crate::pool::Input;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::time::Duration;
use taskyard_common::store::{Answer, Op, Store};
use taskyard_scheduler::OpId;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

/// Ops in one pipeline: beyond it nothing is gained, and answers come later.
const PIPELINE_MAX: usize = 1_024;
/// Calls under way: while Redis works on one, this process reads the answers to the other and prepares
/// the next. One alone would let each wait for the other.
const CALLS_MAX: usize = 2;
/// Wait before what Redis refused for now is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// An op that is asked until Redis answers it.
pub(crate) struct Asked {
    pub(crate) op: OpId,
    pub(crate) what: Op,
    pub(crate) is_repeated: bool,
}

/// Carries ops to Redis until the channel closes.
///
/// An answer that is lost means unknown: all of the call is repeated, which is safe, since every op
/// compares before it sets. What Redis refuses by itself (memory full) is repeated alone, so that
/// what ends tasks goes on while what takes them in waits.
pub(crate) async fn run(
    store: Store,
    mut asked: mpsc::UnboundedReceiver<Vec<Asked>>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut refused: Vec<Asked> = Vec::new();
    let mut again_at = Instant::now();
    let mut calls = FuturesUnordered::new();
    loop {
        let mut batch = Vec::new();
        let has_room = calls.len() < CALLS_MAX;
        let mut received = Vec::new();
        tokio::select! {
            biased;
            Some((answers, failed)) = next(&mut calls), if !calls.is_empty() => {
                if inputs.send(Input::Stored(answers)).is_err() {
                    return;
                }
                if !failed.is_empty() {
                    again_at = Instant::now() + AGAIN_AFTER;
                    refused.extend(failed);
                }
                continue;
            }
            () = tokio::time::sleep_until(again_at), if has_room && !refused.is_empty() => {
                batch.append(&mut refused);
            }
            n = asked.recv_many(&mut received, 64), if has_room => if n == 0 { return },
        }
        batch.extend(received.into_iter().flatten());
        while batch.len() < PIPELINE_MAX {
            match asked.try_recv() {
                Ok(more) => batch.extend(more),
                Err(_) => break,
            }
        }
        calls.push(call(&store, batch));
    }
}

async fn next<F: Future<Output = Called>>(calls: &mut FuturesUnordered<F>) -> Option<Called> {
    calls.next().await
}

/// The answers of a call, and what Redis refused by itself.
type Called = (Vec<(OpId, Answer, bool)>, Vec<Asked>);

/// One call, repeated until it gets through.
async fn call(store: &Store, asked: Vec<Asked>) -> Called {
    let mut is_down = false;
    let (ops, asked): (Vec<Op>, Vec<_>) =
        asked.into_iter().map(|one| (one.what, (one.op, one.is_repeated))).unzip();
    let answers = loop {
        match store.run(&ops).await {
            Ok(answers) => break answers,
            Err(error) => {
                if !is_down {
                    warn!(%error, "Redis does not answer: dispatch waits");
                }
                is_down = true;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    if is_down {
        info!("Redis answers again");
    }
    let mut done = Vec::with_capacity(asked.len());
    let mut refused = Vec::new();
    for ((what, (op, was_repeated)), answer) in ops.into_iter().zip(asked).zip(answers) {
        let is_repeated = was_repeated || is_down;
        match answer {
            Answer::Failed(error) => {
                warn!(%error, "Redis refuses a write for now");
                let is_repeated = is_repeated || !error.is_transient();
                refused.push(Asked { op, what, is_repeated });
            }
            answer => done.push((op, answer, is_repeated)),
        }
    }
    (done, refused)
}
