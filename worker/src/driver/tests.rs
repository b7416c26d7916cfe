use super::*;
use crate::context::Context;
use crate::engine::{EngineSettings, Incoming};
use crate::handler::{Handlers, Raw};
use std::sync::{Arc, Mutex};
use taskyard_common::wire::{Head, Task};
use tokio::runtime::Runtime;

/// A driver without a session, and the ends of its channels.
struct Hand {
    events: mpsc::Sender<SessionEvent>,
    beats: watch::Receiver<Bytes>,
    shutdown: Shutdown,
    driver: tokio::task::JoinHandle<Ending>,
}

/// Begins to drive one slot, with a handler that runs on a runtime of its own.
fn drive(
    handlers: &Runtime,
    handler: impl Fn(Context, Bytes) -> Result<Bytes, crate::TaskError> + Send + Sync + 'static,
) -> Hand {
    let mut all = Handlers::default();
    let raw = Raw(move |ctx, payload| {
        let result = handler(ctx, payload);
        async move { result }
    });
    all.add("x".parse().unwrap(), Arc::new(raw));
    let worker: taskyard_model::WorkerId = "w".parse().unwrap();
    let beat = br#"{"id":"w","boot":"b","kinds":["x"],"slots":1}"#;
    let (events, receiver) = mpsc::channel(8);
    let (beats_sender, beats) = watch::channel(Bytes::new());
    let shutdown = Shutdown::new();
    let driver = Driver {
        engine: Engine::new(EngineSettings {
            worker,
            boot: "b".to_owned(),
            slots: 1,
            held_after: Duration::from_secs(300),
            handlers: Arc::new(all),
        }),
        beat: Heartbeat::read(beat).unwrap(),
        names: Names::new("taskyard"),
        pool: PoolName::default_pool(),
        grace: Duration::ZERO,
        handlers: handlers.handle().clone(),
        words: mpsc::unbounded_channel(),
        events: receiver,
        beats: beats_sender,
        draining: CancellationToken::new(),
        shutdown: shutdown.clone(),
        health: Health::default(),
        state: DriverState::default(),
    };
    let driver = tokio::spawn(driver.run());
    Hand { events, beats, shutdown, driver }
}

impl Hand {
    async fn deliver(&self, timeout_ms: u64) {
        let mut head = Head::new("t".parse().unwrap(), "x".parse().unwrap());
        head.attempt = 1;
        head.timeout_ms = Some(timeout_ms);
        let tasks = Ok(vec![Task { head: Box::new(head), payload: Bytes::new() }]);
        let incoming = Incoming { tag: 1, is_redelivered: false, tasks };
        self.events.send(SessionEvent::Delivered(incoming)).await.unwrap();
    }

    /// Waits for a heartbeat.
    async fn beat(&mut self, holds: impl Fn(&Heartbeat) -> bool) {
        let holds = |body: &Bytes| Heartbeat::read(body).is_ok_and(|beat| holds(&beat));
        let wait = self.beats.wait_for(holds);
        drop(tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_costs_its_slots_until_it_returns() {
    let handlers = Runtime::new().unwrap();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let mut hand = drive(&handlers, move |_, payload| {
        // An error means that the test has failed before.
        let _ = blocked.lock().unwrap().recv();
        Ok(payload)
    });
    hand.deliver(10).await;
    hand.beat(|beat| !beat.holding.is_empty()).await;
    hand.beat(|beat| beat.state == WorkerState::Draining).await;
    unblock.send(()).unwrap();
    hand.beat(|beat| beat.state == WorkerState::Up).await;
    handlers.shutdown_background();
}

#[tokio::test]
async fn a_worker_without_a_session_ends_when_it_holds_nothing() {
    let handlers = Runtime::new().unwrap();
    let hand = drive(&handlers, |_, payload| Ok(payload));
    hand.shutdown.drain.cancel();
    assert_eq!(hand.driver.await.unwrap(), Ending::Done);
    handlers.shutdown_background();
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let handlers = Runtime::new().unwrap();
    let mut hand = drive(&handlers, |_, payload| Ok(payload));
    hand.deliver(60_000).await;
    hand.beat(|beat| !beat.holding.is_empty()).await;
    // What it holds cannot be reported without a session.
    hand.shutdown.drain.cancel();
    hand.shutdown.now.cancel();
    assert_eq!(hand.driver.await.unwrap(), Ending::Done);
    handlers.shutdown_background();
}

#[tokio::test]
async fn a_replaced_worker_is_silent() {
    let handlers = Runtime::new().unwrap();
    let hand = drive(&handlers, |_, payload| Ok(payload));
    let stop = br#"{"do":"stop","boot":"b","why":"two"}"#;
    let control = serde_json::from_slice(stop).unwrap();
    hand.events.send(SessionEvent::Control(control)).await.unwrap();
    assert_eq!(hand.driver.await.unwrap(), Ending::Replaced("two".to_owned()));
    let last = Heartbeat::read(&hand.beats.borrow()).map(|beat| beat.state);
    assert!(last.is_err() || last == Ok(WorkerState::Up));
    handlers.shutdown_background();
}
