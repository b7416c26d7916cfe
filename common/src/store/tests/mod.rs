//! The store against a real Redis: a private one for each test.

mod server;

mod transitions;

mod logs;
mod memory;
mod model;
mod outages;
mod rate;
mod secrets;
mod views;

use std::collections::BTreeMap;

use bytes::Bytes;
use redis::Value as Reply;
use taskyard_model::{State, TaskId, Transition};

use super::{Answer, Change, Op, Store};
use server::Server;

pub(super) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// A change to the transition's first state, or to none where it leaves the state as it is.
fn change(name: &str, transition: Transition) -> Change {
    Change::new(id(name), transition, transition.to().first().copied())
}

async fn store(server: &Server) -> Store {
    Store::connect(&server.settings(), "taskyard").await.unwrap()
}

async fn run_one(store: &Store, op: Op) -> Answer {
    store.run(&[op]).await.unwrap().remove(0)
}

async fn make(store: &Store, change: Change) -> Answer {
    run_one(store, Op::Change(change)).await
}

/// A command past the store's own ways.
async fn raw(store: &Store, args: &[&str]) -> Reply {
    let mut pipeline = redis::pipe();
    pipeline.cmd(args[0]).arg(&args[1..]);
    let reply = store.link.call(&pipeline).await.unwrap().remove(0);
    assert!(!matches!(reply, Reply::ServerError(_)), "{args:?}: {reply:?}");
    reply
}

/// A hash as it is in Redis.
async fn hash(store: &Store, key: &str) -> BTreeMap<String, Bytes> {
    let Reply::Array(parts) = raw(store, &["HGETALL", key]).await else { panic!("no hash: {key}") };
    let bytes = |reply: &Reply| match reply {
        Reply::BulkString(bytes) => Bytes::copy_from_slice(bytes),
        other => panic!("{other:?}"),
    };
    parts
        .chunks(2)
        .map(|pair| (String::from_utf8(bytes(&pair[0]).to_vec()).unwrap(), bytes(&pair[1])))
        .collect()
}

/// Puts a record into this state by hand, out of nothing.
async fn put(store: &Store, name: &str, state: State, attempt: u32) {
    let key = store.keys().task(&id(name));
    raw(store, &["DEL", &key]).await;
    let attempt = attempt.to_string();
    raw(store, &["HSET", &key, "state", state.as_str(), "attempt", &attempt, "kind", "echo"]).await;
}

/// Milliseconds until a key expires; -1 for never, -2 if it is not there.
async fn pttl(store: &Store, key: &str) -> i64 {
    match raw(store, &["PTTL", key]).await {
        Reply::Int(ms) => ms,
        other => panic!("{other:?}"),
    }
}

async fn stored_payload(store: &Store, name: &str) -> Option<Bytes> {
    match run_one(store, Op::Payload(id(name))).await {
        Answer::Payload(_, payload) => payload,
        other => panic!("{other:?}"),
    }
}
