//! The library against a real RabbitMQ, with a stand-in for the dispatcher.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stand_in;

use stand_in::{StandIn, declare};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use taskyard_producer::{
    BulkTask, Command, CommandAnswer, CommandError, Commands, Producer, Settings, State,
    Submission, SubmitError, TaskId, WaitError,
};
use taskyard_tests::{Place, Servers};

const SOON: Duration = Duration::from_secs(30);

async fn place() -> Place {
    Servers::shared().await.unwrap().place().await.unwrap()
}

fn settings(place: &Place) -> Settings {
    Settings::new(place.amqp_url()).unwrap()
}

fn ids(tasks: &[(TaskId, bytes::Bytes)]) -> BTreeSet<TaskId> {
    tasks.iter().map(|(id, _)| id.clone()).collect()
}

#[tokio::test]
async fn a_submission_is_in_the_queue_when_it_is_accepted() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let id = producer.submit(Submission::new("echo").payload("hello")).await.unwrap();
    let named = producer.submit(Submission::new("a.b").id("mine")).await.unwrap();
    assert_eq!(named.as_str(), "mine");
    let tasks = StandIn::start(&place).await.take(2).await;
    assert_eq!(tasks, [(id, "hello".into()), (named, "".into())]);
}

#[tokio::test]
async fn without_any_dispatcher_the_error_says_so_at_once() {
    let place = place().await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let begun = Instant::now();
    let error = producer.submit("echo").await.unwrap_err();
    assert!(matches!(error, SubmitError::NotReady { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let commands = Commands::connect(settings(&place)).await.unwrap();
    let error = commands.ask(&Command::Dead { limit: 1 }, None).await.unwrap_err();
    assert!(matches!(error, CommandError::NobodyListens { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_once() {
    let place = place().await;
    let url = place.amqp_url().replacen("//", "//nobody:wrong@", 1);
    let url = match place.amqp_url().split_once('@') {
        Some((_, rest)) => format!("amqp://nobody:wrong@{rest}"),
        None => url,
    };
    let error = Producer::connect(Settings::new(&url).unwrap()).await.err().unwrap();
    assert!(!error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn who_may_not_publish_is_told_why_nobody_knows() {
    let place = place().await;
    declare(&place).await;
    let rabbitmq = Servers::shared().await.unwrap().rabbitmq();
    let (user, vhost) = (format!("reader-{}", place.vhost()), place.vhost());
    rabbitmq.rabbitmqctl(&["add_user", &user, "secret"]).await.unwrap();
    let allow = ["set_permissions", "-p", vhost, &user, "^amq.gen", "^amq.gen", ".*"];
    rabbitmq.rabbitmqctl(&allow).await.unwrap();
    let host = place.amqp_url().split_once('@').unwrap().1;
    let url = format!("amqp://{user}:secret@{host}");
    let producer = Producer::connect(Settings::new(&url).unwrap()).await.unwrap();
    let error = producer.submit("echo").await.unwrap_err();
    assert!(error.is_unknown() && error.to_string().contains("permission"), "{error}");
}

#[tokio::test]
async fn bulks_hold_a_thousand_and_large_tasks_go_alone() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let mut tasks: Vec<BulkTask> = (0..2_500).map(|n| n.to_string().into()).collect();
    tasks[7] = BulkTask::new(vec![b'x'; 2 * 1024 * 1024]).priority(3);
    let all = Submission::new("echo").max_attempts(2);
    let accepted = producer.submit_bulk(all, tasks).await.unwrap();
    assert_eq!(accepted.len(), 2_500);
    let mut stand_in = StandIn::start(&place).await;
    let received = stand_in.take(2_500).await;
    assert_eq!(ids(&received), accepted.iter().cloned().collect());
    assert_eq!(received.iter().find(|(id, _)| *id == accepted[7]).unwrap().1.len(), 2 << 20);
    assert_eq!(stand_in.messages, 5, "7 before the large one, it, and 1,000 a message after it");
}

#[tokio::test]
async fn a_wrong_task_of_a_bulk_harms_no_other() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let tasks = [BulkTask::new("a"), BulkTask::new("b").priority(12), BulkTask::new("c")];
    let error = producer.submit_bulk("echo", tasks).await.unwrap_err();
    assert_eq!((error.accepted.len(), error.failed.len()), (2, 1));
    let received = StandIn::start(&place).await.take(2).await;
    assert_eq!(ids(&received), error.accepted.iter().cloned().collect());
}

#[tokio::test]
async fn a_stream_settles_every_task() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let mut stream = producer.stream(100);
    let mut sent = BTreeSet::new();
    let mut settled = Vec::new();
    for n in 0..3_000 {
        sent.insert(stream.send(Submission::new("echo").payload(n.to_string())).await.unwrap());
        assert!(stream.under_way() <= 100);
        settled.extend(stream.settled());
    }
    assert!(stream.send(Submission::new("echo").slots(0)).await.is_err());
    settled.extend(stream.finish().await);
    assert!(settled.iter().all(|task| task.outcome.is_ok()));
    assert_eq!(settled.into_iter().map(|task| task.id).collect::<BTreeSet<_>>(), sent);
}

/// A broker that dies under a stream: what was accepted is there, and nothing is left open.
#[tokio::test]
async fn what_was_accepted_survives_the_death_of_the_broker() {
    let servers = Servers::start().await.unwrap();
    let place = servers.place().await.unwrap();
    declare(&place).await;
    servers.rabbitmq().settle(place.vhost()).await.unwrap();
    let producer =
        Producer::connect(settings(&place).patience(Duration::from_secs(60))).await.unwrap();
    let mut stream = producer.stream(50);
    let mut settled = Vec::new();
    for n in 0..2_000 {
        if n == 1_000 {
            servers.rabbitmq().kill9().unwrap();
            servers.rabbitmq().start().await.unwrap();
        }
        stream.send(Submission::new("echo").payload(n.to_string())).await.unwrap();
        settled.extend(stream.settled());
    }
    settled.extend(stream.finish().await);
    assert_eq!(settled.len(), 2_000);
    for task in &settled {
        assert!(task.outcome.is_ok(), "{:?}", task.outcome);
    }
    let mut missing: BTreeSet<_> = settled.into_iter().map(|task| task.id).collect();
    let mut stand_in = StandIn::start(&place).await;
    while !missing.is_empty() {
        for (id, _) in stand_in.take(1).await {
            missing.remove(&id);
        }
    }
}

#[tokio::test]
async fn an_outcome_comes_by_reply() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let mut stand_in = StandIn::start(&place).await;
    let answering = tokio::spawn(async move { stand_in.answer(2).await });
    let one = producer.submit_and_wait(Submission::new("echo").payload("hello"), SOON);
    let two = producer.submit_and_wait(Submission::new("fail").payload("no"), SOON);
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.state, &*one.result, one.attempt), (State::Succeeded, &b"hello"[..], 1));
    assert_eq!((two.state, two.error.as_deref()), (State::Failed, Some("no")));
    answering.await.unwrap();
}

#[tokio::test]
async fn a_lost_session_costs_no_reply() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let mut ticket = producer.submit_awaited(Submission::new("echo").payload("x")).await.unwrap();
    let rabbitmq = Servers::shared().await.unwrap().rabbitmq();
    let close = ["close_all_connections", "--vhost", place.vhost(), "a test"];
    rabbitmq.rabbitmqctl(&close).await.unwrap();
    let mut stand_in = StandIn::start(&place).await;
    // The first reply goes to a queue that is gone; the second submission brings the new one.
    let answering = tokio::spawn(async move { stand_in.answer(2).await });
    let outcome = ticket.outcome(SOON).await.unwrap();
    assert_eq!(outcome.result, "x");
    assert_eq!(answering.await.unwrap(), BTreeSet::from([ticket.id().clone()]));
}

#[tokio::test]
async fn waiting_ends_in_time_and_may_go_on() {
    let place = place().await;
    declare(&place).await;
    let producer = Producer::connect(settings(&place)).await.unwrap();
    let mut ticket = producer.submit_awaited("echo").await.unwrap();
    let error = ticket.outcome(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(&error, WaitError::TimedOut { id, .. } if id == ticket.id()), "{error:?}");
    StandIn::start(&place).await.answer(1).await;
    assert!(ticket.outcome(SOON).await.unwrap().is_success());
    let taken = producer.submit_awaited(Submission::new("echo").reply_to("elsewhere")).await;
    assert!(taken.err().unwrap().to_string().contains("not accepted"));
}

#[tokio::test]
async fn a_command_gets_the_answer_that_counts() {
    let place = place().await;
    declare(&place).await;
    let commands = Commands::connect(settings(&place)).await.unwrap();
    let cancel = Command::Cancel { id: TaskId::new("t1").unwrap() };
    let error = commands.ask(&cancel, None).await.unwrap_err();
    assert!(matches!(error, CommandError::NoAnswer(_)), "{error:?}");
    let mut unknown = CommandAnswer::refused("no such task");
    unknown.details.insert("unknown".to_owned(), true.into());
    let done = CommandAnswer::done(serde_json::json!({"state": "cancelled"}));
    stand_in::answer_commands(&place, vec![unknown.clone(), done.clone()]).await;
    assert_eq!(commands.ask(&cancel, Some(2)).await.unwrap(), done);
    stand_in::answer_commands(&place, vec![unknown.clone()]).await;
    assert_eq!(commands.ask(&cancel, None).await.unwrap(), unknown);
}
