use std::time::Duration;

use taskyard_model::{PoolName, Timestamp, WorkerId};

use super::*;
use crate::store::{Inflight, PayloadOp, Reader, View, WorkerRow, WorkerState};

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);

fn row(name: &str, seen_at: Timestamp) -> WorkerRow {
    WorkerRow {
        id: WorkerId::new(name).unwrap(),
        state: WorkerState::Draining,
        pool: PoolName::default_pool(),
        kinds: "echo,image.#".to_owned(),
        slots: 4,
        busy: 3,
        weight: 2,
        labels: "gpu,zone=eu".to_owned(),
        host: "h1".to_owned(),
        version: "0.1.0".to_owned(),
        seen_at,
    }
}

#[tokio::test]
async fn recent_tasks_are_listed_newest_first_and_capped() {
    let server = Server::start();
    let store = store(&server).await;
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    let mut view = View::new(&store);
    for n in 0..1_500 {
        view.finished(State::Failed, &id(&format!("t{n}")), at(n));
    }
    view.flush(NOW).await.unwrap();
    let recent = reader.recent(State::Failed, 3).await.unwrap();
    let expected: Vec<_> = [1499, 1498, 1497].map(|n| (id(&format!("t{n}")), at(n))).into();
    assert_eq!(recent, expected);
    assert_eq!(reader.recent(State::Failed, u32::MAX).await.unwrap().len(), 1_000);
    assert!(reader.recent(State::Failed, 0).await.unwrap().is_empty());
    assert!(reader.recent(State::Succeeded, 9).await.unwrap().is_empty());

    for round in 0..11 {
        for n in 0..1_000 {
            view.finished(
                State::Failed,
                &id(&format!("r{round}-{n}")),
                at(2_000 + round * 1_000 + n),
            );
        }
        view.flush(NOW).await.unwrap();
    }
    let all = reader.recent(State::Failed, u32::MAX).await.unwrap();
    assert_eq!(all.len(), 10_000);
    assert_eq!(all[9_999].0, id("r1-0"), "the oldest left");
}

#[tokio::test]
async fn counts_add_up_and_gauges_are_replaced() {
    let server = Server::start();
    let store = store(&server).await;
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    let (pool, other) = (PoolName::default_pool(), PoolName::new("video").unwrap());
    let mut view = View::new(&store);
    for n in [5, 7] {
        view.moved(&pool, State::Succeeded, 1);
        view.moved(&pool, State::Succeeded, n);
        view.gauge(&pool, "waiting", n as u64);
        view.gauge(&other, "waiting", 1);
        view.flush(NOW).await.unwrap();
    }
    view.flush(NOW).await.unwrap();
    let stats = reader.stats(&pool).await.unwrap();
    assert_eq!(
        stats.into_iter().collect::<Vec<_>>(),
        [("succeeded".to_owned(), 14), ("waiting".to_owned(), 7)]
    );
    assert_eq!(reader.pools().await.unwrap(), [pool, other]);
}

#[tokio::test]
async fn workers_are_shown_until_nobody_has_seen_them_for_a_week() {
    let server = Server::start();
    let store = store(&server).await;
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    let mut view = View::new(&store);
    let now = crate::now();
    let (old, young) = (now - Duration::from_secs(6 * 86_400), now);
    view.worker(row("old", old));
    view.worker(row("young", now - Duration::from_secs(2)));
    view.worker(row("young", young));
    view.flush(now).await.unwrap();
    let workers = reader.workers().await.unwrap();
    let seen: Vec<_> = workers.iter().map(|w| (w.id.as_str(), w.seen_at)).collect();
    assert_eq!(seen, [("young", young), ("old", old)]);
    let fields: Vec<_> = workers[0].fields.iter().map(|(name, _)| name).collect();
    for name in [
        "state", "pool", "kinds", "slots", "busy", "weight", "labels", "host", "version", "seen_at",
    ] {
        assert!(fields.contains(&name), "{name}");
    }
    assert_eq!(workers[0].fields.text("state"), "draining");
    assert_eq!(workers[0].fields.number("busy"), Some(3));
    let left_ms = pttl(&store, "taskyard:worker:old").await;
    assert!((1..=86_400_000).contains(&left_ms), "{left_ms}");

    view.flush(now + Duration::from_secs(2 * 86_400)).await.unwrap();
    let workers = reader.workers().await.unwrap();
    assert_eq!(workers.len(), 1, "{workers:?}");
}

#[tokio::test]
async fn what_could_not_be_sent_is_written_later() {
    let mut server = Server::start();
    let store = store(&server).await;
    server.kill();
    store.ping().await.unwrap_err();
    let pool = PoolName::default_pool();
    let mut view = View::new(&store);
    view.moved(&pool, State::Failed, 3);
    view.flush(NOW).await.unwrap_err();
    server.restart();
    while view.flush(NOW).await.is_err() {}
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    assert_eq!(reader.stats(&pool).await.unwrap()["failed"], 3);
}

#[tokio::test]
async fn tasks_are_read_with_all_their_fields_in_order() {
    let server = Server::start();
    let store = store(&server).await;
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    let mut accept = change("a", Transition::AcceptDispatched);
    accept.fields = vec![
        ("zeta", "own".into()),
        ("attempt", 3u32.into()),
        ("worker", WorkerId::new("w1").unwrap().into()),
        ("error", "x".repeat(200).into()),
        ("finished_at", NOW.into()),
    ];
    make(&store, accept).await;
    let tasks = reader.tasks(&[id("none"), id("a")]).await.unwrap();
    assert_eq!(tasks[0], None);
    let task = tasks[1].as_ref().unwrap();
    assert_eq!(task.state(), Some(State::Dispatched));
    assert_eq!((task.attempt(), task.failures(), task.losses()), (3, 0, 0));
    assert_eq!(task.worker().unwrap().as_str(), "w1");
    assert_eq!((task.error().len(), task.result().len()), (200, 0));
    assert_eq!(task.finished_at(), Some(NOW));
    let names: Vec<_> = task.fields.iter().map(|(name, _)| name).collect();
    assert_eq!(&names[..crate::store::FIELDS.len()], crate::store::FIELDS);
    assert_eq!(names.last(), Some(&"zeta"));
}

#[tokio::test]
async fn a_glance_shows_all_but_the_result() {
    let server = Server::start();
    let store = store(&server).await;
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    let mut accept = change("a", Transition::AcceptDispatched);
    accept.fields = vec![("result", "x".repeat(2_000).into()), ("error", "odd".into())];
    make(&store, accept).await;
    let glances = reader.glances(&[id("none"), id("a")]).await.unwrap();
    assert_eq!(glances[0], None);
    let glance = glances[1].as_ref().unwrap();
    assert_eq!((glance.state(), glance.error()), (Some(State::Dispatched), "odd"));
    assert_eq!(glance.fields.value("result"), None);
    let names: Vec<_> = glance.fields.iter().map(|(name, _)| name).collect();
    let all = crate::store::FIELDS.iter().copied().filter(|name| *name != "result");
    assert_eq!(names, all.collect::<Vec<_>>());
}

#[tokio::test]
async fn readers_outlive_a_restart() {
    let mut server = Server::start();
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    assert_eq!(reader.task(&id("a")).await.unwrap(), None);
    server.kill();
    assert!(reader.task(&id("a")).await.unwrap_err().is_transient());
    assert!(reader.task(&id("a")).await.unwrap_err().is_transient());
    server.restart();
    assert_eq!(reader.task(&id("a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_new_leader_finds_what_is_in_flight() {
    let server = Server::start();
    let store = Store::connect(&server.settings(), "ya[r]d*").await.unwrap();
    let mut ops = Vec::new();
    for n in 0..3_000 {
        let mut accept = change(&format!("t{n}"), Transition::AcceptDispatched);
        if n % 3 == 0 {
            accept.payload = PayloadOp::Set(Bytes::from_static(b"p"));
        }
        ops.push(Op::Change(accept));
    }
    store.run(&ops).await.unwrap();
    for foreign in
        ["{yard:task:x}:payload", "{ya[r]d*:task:a b}:payload", "{ya[r]d*:task:}:payload"]
    {
        raw(&store, &["SET", foreign, "x"]).await;
    }
    raw(&store, &["DEL", "ya[r]d*:task:t9"]).await;
    let mut inflight = Inflight::new(&store);
    let mut found = BTreeMap::new();
    let mut pages = 0;
    while let Some(page) = inflight.next_page().await.unwrap() {
        found.extend(page);
        pages += 1;
    }
    assert!(pages > 2, "{pages}");
    assert_eq!(found.len(), 1_000);
    assert_eq!(found[&id("t9")], None);
    assert_eq!(found[&id("t0")].as_ref().unwrap().state, State::Dispatched);
    assert!(inflight.next_page().await.unwrap().is_none());
}

#[tokio::test]
async fn the_search_begins_again_after_a_new_connection() {
    let mut server = Server::start();
    let store = store(&server).await;
    let fill = |count: usize| {
        let accept = |n| Change {
            payload: PayloadOp::Set(Bytes::new()),
            ..change(&format!("t{n}"), Transition::AcceptDispatched)
        };
        (0..count).map(|n| Op::Change(accept(n))).collect::<Vec<_>>()
    };
    store.run(&fill(2_000)).await.unwrap();
    let mut inflight = Inflight::new(&store);
    inflight.next_page().await.unwrap();
    server.kill();
    server.restart();
    while store.run(&fill(3)).await.is_err() {}
    let page = inflight.next_page().await.unwrap().unwrap();
    assert_eq!(page.len(), 3);
    assert!(inflight.next_page().await.unwrap().is_none());
}

#[tokio::test]
async fn an_evicting_redis_is_a_problem() {
    let server = Server::start();
    let store = store(&server).await;
    store.ping().await.unwrap();
    assert_eq!(store.problems().await.unwrap(), []);
    raw(&store, &["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]).await;
    let problems = store.problems().await.unwrap();
    assert!(
        matches!(&problems[..], [p] if p.is_fatal && p.to_string().contains("allkeys-lru")),
        "{problems:?}"
    );
    raw(&store, &["ACL", "SETUSER", "default", "-config"]).await;
    assert_eq!(store.problems().await.unwrap(), problems, "INFO knows it too");
    raw(&store, &["ACL", "SETUSER", "default", "-info"]).await;
    assert!(store.problems().await.unwrap().iter().all(|p| !p.is_fatal));
}
