use super::*;
use crate::store::{PayloadOp, StoreError, Value};

async fn fill_up(store: &Store, is_full: bool) {
    raw(store, &["CONFIG", "SET", "maxmemory", if is_full { "1" } else { "0" }]).await;
}

#[tokio::test]
async fn when_memory_is_full_nothing_is_taken_in_and_all_else_goes_on() {
    let server = Server::start();
    let store = store(&server).await;
    let names: Vec<String> = (0..Transition::ALL.len()).map(|n| format!("t{n}")).collect();
    for (name, transition) in names.iter().zip(Transition::ALL) {
        if let taskyard_model::Origin::At(state) = transition.from()[transition.from().len() - 1] {
            put(&store, name, state, 1).await;
        }
    }
    fill_up(&store, true).await;
    let ops = names.iter().zip(Transition::ALL).map(|(name, &transition)| {
        let mut change = change(name, transition);
        change.payload = PayloadOp::Set(Bytes::from_static(b"payload"));
        change.fields = vec![("error", Value::Word("written"))];
        Op::Change(change)
    });
    let answers = store.run(&ops.collect::<Vec<_>>()).await.unwrap();
    for ((name, transition), answer) in names.iter().zip(Transition::ALL).zip(&answers) {
        use Transition::{Accept, AcceptDispatched, Readdress, Rebuild, Refuse, Replay};
        let takes_in = [Accept, AcceptDispatched, Refuse, Rebuild, Readdress, Replay];
        let fields = hash(&store, &store.keys().task(&id(name))).await;
        if takes_in.contains(transition) {
            let is_full =
                matches!(answer, Answer::Failed(error @ StoreError::Full) if error.is_transient());
            assert!(is_full, "{transition:?}: {answer:?}");
            assert!(!fields.contains_key("error"), "{transition:?} is half written");
            assert_eq!(stored_payload(&store, name).await, None, "{transition:?} is half written");
        } else {
            assert!(matches!(answer, Answer::Applied(None)), "{transition:?}: {answer:?}");
            assert_eq!(fields["error"], "written");
        }
    }
    fill_up(&store, false).await;
    let answer = make(&store, change("t0", Transition::Accept)).await;
    assert!(
        matches!(answer, Answer::Applied(None)),
        "it is taken in when there is room: {answer:?}"
    );
}

#[tokio::test]
async fn a_full_redis_ends_what_it_never_knew() {
    let server = Server::start();
    let store = store(&server).await;
    fill_up(&store, true).await;
    for transition in [Transition::Succeed, Transition::Expire] {
        raw(&store, &["DEL", "taskyard:task:t"]).await;
        let answer = make(&store, change("t", transition)).await;
        assert!(matches!(answer, Answer::Applied(None)), "{transition:?}: {answer:?}");
    }
}
