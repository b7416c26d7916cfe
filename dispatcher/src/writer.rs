//! The store's pipeline: one task, one call at a time, everything that waits in it.

use crate::pool::Input;
use std::time::Duration;
use taskyard_common::store::{Answer, Op, Store};
use taskyard_scheduler::OpId;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Ops in one pipeline: beyond it nothing is gained, and answers come later.
const PIPELINE_MAX: usize = 2_048;
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
    let mut waiting: Vec<Asked> = Vec::new();
    let mut batch: Vec<Asked> = Vec::new();
    loop {
        let pause = tokio::time::sleep(AGAIN_AFTER);
        let mut received = Vec::new();
        tokio::select! {
            n = asked.recv_many(&mut received, 64) => if n == 0 { return },
            () = pause, if !waiting.is_empty() => batch.append(&mut waiting),
        }
        batch.extend(received.into_iter().flatten());
        while batch.len() < PIPELINE_MAX {
            match asked.try_recv() {
                Ok(more) => batch.extend(more),
                Err(_) => break,
            }
        }
        let ops = std::mem::take(&mut batch);
        let answers = call(&store, ops, &mut waiting).await;
        if inputs.send(Input::Stored(answers)).is_err() {
            return;
        }
    }
}

/// One call, repeated until it gets through.
async fn call(
    store: &Store,
    asked: Vec<Asked>,
    waiting: &mut Vec<Asked>,
) -> Vec<(OpId, Answer, bool)> {
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
    for ((what, (op, was_repeated)), answer) in ops.into_iter().zip(asked).zip(answers) {
        let is_repeated = was_repeated || is_down;
        match answer {
            Answer::Failed(error) => {
                warn!(%error, "Redis refuses a write for now");
                let is_repeated = is_repeated || !error.is_transient();
                waiting.push(Asked { op, what, is_repeated });
            }
            answer => done.push((op, answer, is_repeated)),
        }
    }
    done
}
