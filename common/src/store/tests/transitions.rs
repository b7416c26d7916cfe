use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taskyard_model::{Origin, State, Transition, Wants};

use super::*;
use crate::store::{Expect, FIELDS, Keep, PayloadOp, Value};

#[tokio::test]
async fn every_transition_from_every_state_is_as_the_table_says() {
    let server = Server::start();
    let store = store(&server).await;
    let origins = State::ALL.iter().map(|&state| Origin::At(state)).chain([Origin::Absent]);
    for origin in origins {
        for &transition in Transition::ALL {
            let targets: Vec<Option<State>> = match transition.to() {
                [] => vec![None],
                to => to.iter().copied().map(Some).collect(),
            };
            for target in targets {
                match origin {
                    Origin::At(state) => put(&store, "t", state, 3).await,
                    Origin::Absent => {
                        raw(&store, &["DEL", "taskyard:task:t"]).await;
                    }
                }
                let before = hash(&store, "taskyard:task:t").await;
                let answer = make(&store, Change::new(id("t"), transition, target)).await;
                let after = hash(&store, "taskyard:task:t").await;
                let what = format!("{transition:?} from {origin:?} to {target:?}");
                match (transition.is_allowed(origin), answer, origin) {
                    (true, Answer::Applied(None), _) => {
                        let state = target.map(|state| Bytes::from(state.as_str()));
                        assert_eq!(
                            after.get("state"),
                            state.as_ref().or(before.get("state")),
                            "{what}"
                        );
                    }
                    (false, Answer::Refused(None), Origin::Absent) => {
                        assert_eq!(before, after, "{what}")
                    }
                    (false, Answer::Refused(Some(record)), Origin::At(state)) => {
                        assert_eq!((record.state, record.attempt), (state, 3), "{what}");
                        assert_eq!(before, after, "{what}");
                    }
                    (_, answer, _) => panic!("{what}: {answer:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn attempts_are_compared_as_asked() {
    let server = Server::start();
    let store = store(&server).await;
    for (expect, is_made) in [
        (Expect::Any, true),
        (Expect::Exactly(9), false),
        (Expect::Exactly(10), true),
        (Expect::Exactly(11), false),
        (Expect::Below(9), false),
        (Expect::Below(10), false),
        (Expect::Below(11), true),
        (Expect::Below(100), true),
    ] {
        put(&store, "t", State::Dispatched, 10).await;
        let answer = make(&store, Change { expect, ..change("t", Transition::Start) }).await;
        assert_eq!(matches!(answer, Answer::Applied(None)), is_made, "{expect:?}: {answer:?}");
        assert_eq!(matches!(answer, Answer::Refused(Some(_))), !is_made, "{expect:?}: {answer:?}");
    }
    for expect in [Expect::Exactly(4), Expect::Below(0)] {
        raw(&store, &["DEL", "taskyard:task:t"]).await;
        let answer = make(&store, Change { expect, ..change("t", Transition::Succeed) }).await;
        assert!(matches!(answer, Answer::Applied(None)), "no record, no attempt: {answer:?}");
    }
}

#[tokio::test]
async fn a_fresh_record_has_every_field() {
    let server = Server::start();
    let store = store(&server).await;
    let name = "a:task:x";
    let mut accept = change(name, Transition::Accept);
    accept.fields = vec![("kind", Value::Word("echo")), ("priority", Value::Int(7))];
    assert!(matches!(make(&store, accept).await, Answer::Applied(None)));
    let fields = hash(&store, &store.keys().task(&id(name))).await;
    let mut expected: Vec<_> = FIELDS.iter().map(|&name| name.to_owned()).collect();
    expected.sort();
    assert_eq!(fields.keys().cloned().collect::<Vec<_>>(), expected);
    for (field, value) in &fields {
        let expected = match field.as_str() {
            "state" => State::Delayed.as_str(),
            "id" => name,
            "kind" => "echo",
            "priority" => "7",
            "attempt" | "failures" | "losses" | "max_attempts" | "max_losses" | "progress" => "0",
            _ => "",
        };
        assert_eq!(value, expected, "{field}");
    }
}

#[tokio::test]
async fn a_fresh_record_is_the_same_where_restore_is_forbidden() {
    let server = Server::start();
    let store = store(&server).await;
    let usual = change("t", Transition::Accept);
    make(&store, usual.clone()).await;
    let fields = hash(&store, "taskyard:task:t").await;
    for odd in [&["DEL", "taskyard:task:t"][..], &["HSET", "taskyard:task:t", "state", "odd"]] {
        raw(&store, odd).await;
        raw(&store, &["ACL", "SETUSER", "default", "-restore"]).await;
        assert!(matches!(make(&store, usual.clone()).await, Answer::Applied(None)));
        assert_eq!(hash(&store, "taskyard:task:t").await, fields);
    }
}

/// Values at every border of the forms that a listpack has for numbers and texts.
#[tokio::test]
async fn a_first_record_is_the_same_by_restore_and_by_script() {
    let server = Server::start();
    let store = store(&server).await;
    let scripted = Store { is_restore_refused: Arc::new(true.into()), ..store.clone() };
    let numbers = [0, 127, 128, 4_095, 4_096, 32_767, 32_768, 8_388_607, 8_388_608, 2_147_483_647];
    let large = [2_147_483_648, 1_767_225_600_000, u64::MAX];
    let lengths = [0, 1, 63, 64, 125, 126, 127, 128, 500, 1_024, 1_025, 5_000];
    let values = numbers.into_iter().chain(large).map(Value::Int);
    let values = values.chain(lengths.map(|n| Value::Text("x".repeat(n).into())));
    for (n, value) in values.enumerate() {
        let mut change = change("t", Transition::AcceptDispatched);
        change.fields = vec![
            ("kind", "echo".into()),
            ("attempt", 1_u32.into()),
            ("tenant", value.clone()),
            ("submitted_at", 1_u64.into()),
            ("submitted_at", value.clone()),
            ("reply_to", value.clone()),
            ("owed", "".into()),
        ];
        change.payload = PayloadOp::Set(Bytes::from_static(b"payload"));
        change.keep = if n % 2 == 0 { Keep::Unchanged } else { Keep::For(Duration::from_secs(60)) };
        let mut hashes = Vec::new();
        for (store, name) in [(&store, format!("short-{n}")), (&scripted, format!("long-{n}"))] {
            change.id = id(&name);
            assert!(matches!(make(store, change.clone()).await, Answer::Applied(None)));
            assert!(matches!(make(store, change.clone()).await, Answer::Refused(Some(_))));
            let key = store.keys().task(&change.id);
            let mut hash = hash(store, &key).await;
            assert_eq!(hash.remove("id"), Some(Bytes::from(name)));
            let lives = raw(store, &["PTTL", &key]).await;
            let lives = matches!(lives, Reply::Int(ms) if ms > 0);
            let payload = raw(store, &["GET", &store.keys().payload(&change.id)]).await;
            hashes.push((hash, lives, payload));
        }
        assert_eq!(hashes[0], hashes[1], "{value:?}");
    }
}

/// A second submission leaves no payload behind beside a record that has none.
#[tokio::test]
async fn a_second_submission_of_what_has_ended_stores_nothing() {
    let server = Server::start();
    let store = store(&server).await;
    let mut first = change("t", Transition::AcceptDispatched);
    first.payload = PayloadOp::Set(Bytes::from_static(b"payload"));
    let mut end = change("t", Transition::Succeed);
    end.payload = PayloadOp::Delete;
    let ops = [first.clone(), end, first].map(Op::Change);
    let answers = store.run(&ops).await.unwrap();
    assert!(matches!(&answers[2], Answer::Refused(Some(r)) if r.state == State::Succeeded));
    assert_eq!(raw(&store, &["GET", &store.keys().payload(&id("t"))]).await, Reply::Nil);
}

#[tokio::test]
async fn a_rejected_id_starts_afresh() {
    let server = Server::start();
    let store = store(&server).await;
    let mut refuse = change("t", Transition::Refuse);
    refuse.fields = vec![("error", Value::Word("bad")), ("odd", Value::Word("1"))];
    refuse.payload = PayloadOp::Set(Bytes::from_static(b"old"));
    refuse.keep = Keep::For(Duration::from_secs(60));
    assert!(matches!(make(&store, refuse).await, Answer::Applied(None)));
    assert!(pttl(&store, "taskyard:task:t").await > 0);

    let settled = make(&store, change("t", Transition::Settle)).await;
    assert!(matches!(settled, Answer::Applied(None)));
    assert_eq!(hash(&store, "taskyard:task:t").await["error"], "bad", "still the same record");

    let accept = Change { wants: Wants::Record, ..change("t", Transition::Accept) };
    let answer = make(&store, accept).await;
    assert!(
        matches!(&answer, Answer::Applied(Some(was)) if was.state == State::Rejected),
        "{answer:?}"
    );
    let fields = hash(&store, "taskyard:task:t").await;
    assert_eq!(fields["error"], "");
    assert!(!fields.contains_key("odd"));
    assert_eq!(pttl(&store, "taskyard:task:t").await, -1);
    assert_eq!(stored_payload(&store, "t").await, None);
}

#[tokio::test]
async fn payloads_are_kept_set_and_deleted() {
    let server = Server::start();
    let store = store(&server).await;
    let payload = Bytes::from((0..=255).collect::<Vec<u8>>());
    let mut accept = change("t", Transition::AcceptDispatched);
    accept.payload = PayloadOp::Set(payload.clone());
    make(&store, accept).await;
    assert_eq!(stored_payload(&store, "t").await, Some(payload.clone()));
    make(&store, change("t", Transition::Start)).await;
    assert_eq!(stored_payload(&store, "t").await, Some(payload));
    let succeed = Change { payload: PayloadOp::Delete, ..change("t", Transition::Succeed) };
    make(&store, succeed).await;
    assert_eq!(stored_payload(&store, "t").await, None);
}

#[tokio::test]
async fn records_are_kept_as_long_as_asked() {
    let server = Server::start();
    let store = store(&server).await;
    let key = "taskyard:task:t";
    make(&store, change("t", Transition::AcceptDispatched)).await;
    assert_eq!(pttl(&store, key).await, -1);
    let keep = Keep::For(Duration::from_secs(3600));
    make(&store, Change { keep, ..change("t", Transition::Fail) }).await;
    assert!((3_500_000..=3_600_000).contains(&pttl(&store, key).await));
    make(&store, change("t", Transition::Settle)).await;
    assert!((3_500_000..=3_600_000).contains(&pttl(&store, key).await), "unchanged");
    make(&store, Change { keep: Keep::Forever, ..change("t", Transition::Replay) }).await;
    assert_eq!(pttl(&store, key).await, -1);
    for keep in [Keep::For(Duration::ZERO), Keep::For(Duration::MAX)] {
        put(&store, "t", State::Running, 1).await;
        let answer = make(&store, Change { keep, ..change("t", Transition::Succeed) }).await;
        assert!(matches!(answer, Answer::Applied(None)), "{keep:?}: {answer:?}");
    }
    assert!(pttl(&store, key).await > 1_000_000_000);
}

#[tokio::test]
async fn a_repeated_change_is_refused_and_shows_what_was_done() {
    let server = Server::start();
    let store = store(&server).await;
    put(&store, "t", State::Queued, 4).await;
    let mut dispatch = change("t", Transition::Dispatch);
    dispatch.expect = Expect::Exactly(4);
    dispatch.fields = vec![("attempt", Value::Int(5)), ("worker", Value::Word("w1"))];
    let ops = [Op::Change(dispatch.clone()), Op::Change(dispatch)];
    let answers = store.run(&ops).await.unwrap();
    assert!(matches!(answers[0], Answer::Applied(None)));
    let Answer::Refused(Some(record)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!((record.state, record.attempt), (State::Dispatched, 5));
    assert_eq!(record.worker.as_ref().map(|w| w.as_str()), Some("w1"));
}

#[tokio::test]
async fn damaged_records_are_built_anew() {
    let server = Server::start();
    let store = store(&server).await;
    for state in ["", "dancing", "queue", "\u{ff}"] {
        raw(&store, &["DEL", "taskyard:task:t"]).await;
        raw(&store, &["HSET", "taskyard:task:t", "state", state, "attempt", "many"]).await;
        let read = run_one(&store, Op::Read(id("t"))).await;
        assert!(matches!(read, Answer::Record(None)), "{state:?}: {read:?}");
        let refused = make(&store, change("t", Transition::Start)).await;
        assert!(matches!(refused, Answer::Refused(None)), "{state:?}: {refused:?}");
        let rebuilt = make(&store, change("t", Transition::Rebuild)).await;
        assert!(matches!(rebuilt, Answer::Applied(None)), "{state:?}: {rebuilt:?}");
        assert_eq!(hash(&store, "taskyard:task:t").await.len(), FIELDS.len());
    }
}

#[tokio::test]
async fn a_key_of_another_type_fails_alone() {
    let server = Server::start();
    let store = store(&server).await;
    raw(&store, &["SET", "taskyard:task:odd", "x"]).await;
    let ops = [
        Op::Change(change("a", Transition::Accept)),
        Op::Change(change("odd", Transition::Accept)),
        Op::Payload(id("odd")),
        Op::Read(id("odd")),
        Op::Read(id("a")),
    ];
    let answers = store.run(&ops).await.unwrap();
    assert!(matches!(answers[0], Answer::Applied(None)), "{answers:?}");
    for answer in &answers[1..4] {
        let Answer::Failed(error) = answer else { panic!("{answer:?}") };
        assert!(!error.is_transient(), "{error}");
    }
    assert!(
        matches!(&answers[4], Answer::Record(Some(r)) if r.state == State::Delayed),
        "{answers:?}"
    );
}

#[tokio::test]
async fn what_the_table_does_not_have_is_not_sent() {
    let server = Server::start();
    let store = store(&server).await;
    let good = Op::Change(change("a", Transition::Accept));
    let bad = Op::Change(Change::new(id("b"), Transition::Accept, Some(State::Succeeded)));
    let error = store.run(&[good, bad]).await.unwrap_err();
    assert!(matches!(&error, crate::store::StoreError::Misuse { .. }), "{error}");
    assert!(!error.is_transient());
    assert!(hash(&store, "taskyard:task:a").await.is_empty());
    assert!(store.run(&[]).await.unwrap().is_empty());
}
