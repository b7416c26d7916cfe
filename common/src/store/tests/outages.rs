use std::time::{Duration, Instant};

use super::*;
use crate::store::StoreError;
use crate::store::link::Patience;

const IMPATIENT: Patience =
    Patience { response_timeout: Duration::from_millis(200), timeouts_max: 3 };

async fn impatient(server: &Server) -> Store {
    Store::open(&server.settings(), "taskyard", IMPATIENT).await.unwrap()
}

async fn state_of(store: &Store, name: &str) -> Option<State> {
    match run_one(store, Op::Read(id(name))).await {
        Answer::Record(record) => record.map(|record| record.state),
        other => panic!("{other:?}"),
    }
}

/// Repeats a call until it succeeds; the errors on the way must all be transient.
async fn insist(store: &Store, op: Op) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match store.run(std::slice::from_ref(&op)).await {
            Ok(mut answers) => return answers.remove(0),
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                assert!(Instant::now() < deadline, "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let server = Server::start();
    let store = store(&server).await;
    make(&store, change("a", Transition::AcceptDispatched)).await;
    raw(&store, &["SCRIPT", "FLUSH"]).await;
    let ops = [
        Op::Payload(id("a")),
        Op::Change(change("a", Transition::Succeed)),
        Op::Read(id("b")),
        Op::Change(change("b", Transition::Refuse)),
        Op::Read(id("b")),
    ];
    let answers = store.run(&ops).await.unwrap();
    assert!(matches!(answers[1], Answer::Applied(None)), "{answers:?}");
    assert!(matches!(answers[3], Answer::Applied(None)), "{answers:?}");
    assert_eq!(state_of(&store, "a").await, Some(State::Succeeded));
    assert_eq!(state_of(&store, "b").await, Some(State::Rejected));
    assert_eq!(store.link.generation(), 1);
}

#[tokio::test]
async fn a_redis_that_died_is_a_transient_error_and_then_works_again() {
    let mut server = Server::start();
    let store = store(&server).await;
    make(&store, change("a", Transition::Accept)).await;
    server.kill();
    let errors: Vec<StoreError> = {
        let mut errors = Vec::new();
        for _ in 0..3 {
            errors.push(store.run(&[Op::Read(id("a"))]).await.unwrap_err());
        }
        errors
    };
    assert!(errors.iter().all(StoreError::is_transient), "{errors:?}");
    assert!(matches!(errors[2], StoreError::Unreachable(_)), "nothing was sent: {errors:?}");
    server.restart();
    let answer = insist(&store, Op::Change(change("a", Transition::Rebuild))).await;
    assert!(matches!(answer, Answer::Applied(None)), "it came back empty: {answer:?}");
    assert_eq!(store.link.generation(), 2);
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_attempt_to_connect() {
    let mut server = Server::start();
    let store = store(&server).await;
    server.kill();
    store.run(&[Op::Read(id("a"))]).await.unwrap_err();
    let began = Instant::now();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.run(&[Op::Read(id("a"))]).await.map(|_| ()) })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn answers_that_come_late_go_to_nobody_else() {
    let server = Server::start();
    let patience = Patience { timeouts_max: 100, ..IMPATIENT };
    let store = Store::open(&server.settings(), "taskyard", patience).await.unwrap();
    for (name, state) in [("a", State::Queued), ("b", State::Running), ("c", State::Failed)] {
        put(&store, name, state, 1).await;
    }
    raw(&store, &["CLIENT", "PAUSE", "600", "ALL"]).await;
    let error = store.run(&[Op::Read(id("a")), Op::Read(id("a"))]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown(_)) && error.is_transient(), "{error:?}");
    let late = Op::Change(change("c", Transition::Replay));
    let error = store.run(&[late]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown(_)), "{error:?}");

    let answer = insist(&store, Op::Read(id("b"))).await;
    assert!(matches!(&answer, Answer::Record(Some(r)) if r.state == State::Running), "{answer:?}");
    assert_eq!(state_of(&store, "c").await, Some(State::Queued), "it happened, only unknown");
    assert_eq!(store.link.generation(), 1, "it was the same connection all the time");
}

#[tokio::test]
async fn a_connection_that_stays_silent_is_given_up() {
    let server = Server::start();
    let store = impatient(&server).await;
    server.signal("STOP");
    for _ in 0..IMPATIENT.timeouts_max {
        let error = store.run(&[Op::Read(id("a"))]).await.unwrap_err();
        assert!(matches!(error, StoreError::Unknown(_)), "{error:?}");
    }
    server.signal("CONT");
    insist(&store, Op::Read(id("a"))).await;
    assert_eq!(store.link.generation(), 2);
}

#[tokio::test]
async fn a_replica_is_a_transient_error_and_ends_the_connection() {
    let server = Server::start();
    let store = store(&server).await;
    raw(&store, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let answer = make(&store, change("a", Transition::Accept)).await;
    let Answer::Failed(error) = answer else { panic!("{answer:?}") };
    assert!(error.is_transient(), "{error:?}");
    raw(&store, &["REPLICAOF", "NO", "ONE"]).await;
    let answer = make(&store, change("a", Transition::Accept)).await;
    assert!(matches!(answer, Answer::Applied(None)), "{answer:?}");
}

#[tokio::test]
async fn a_task_lies_in_one_slot_of_a_cluster() {
    let server = Server::start_with(|_| vec!["--cluster-enabled".into(), "yes".into()]);
    let store = store(&server).await;
    raw(&store, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let mut accept = change("a", Transition::AcceptDispatched);
    accept.payload = crate::store::PayloadOp::Set(Bytes::from_static(b"p"));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match make(&store, accept.clone()).await {
            Answer::Applied(None) => break,
            Answer::Failed(error) if error.is_transient() => {
                assert!(Instant::now() < deadline, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(stored_payload(&store, "a").await, Some(Bytes::from_static(b"p")));
    assert!(store.problems().await.unwrap().iter().any(|problem| problem.is_fatal));
}
