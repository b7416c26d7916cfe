use std::time::Duration;

use taskyard_model::Timestamp;

use super::*;
use crate::store::{Keep, LogLine, LogLines, LogPlace, LogWriter, Reader};

/// A store with a record of the task `a`, and both ends of logs.
async fn begin(server: &Server) -> (Store, LogWriter, Reader) {
    let store = store(server).await;
    make(&store, change("a", Transition::AcceptDispatched)).await;
    let writer = LogWriter::new(&server.settings(), "taskyard").unwrap();
    let reader = Reader::new(&server.settings(), "taskyard").unwrap();
    (store, writer, reader)
}

fn lines<T: Into<String>>(name: &str, texts: impl IntoIterator<Item = T>) -> LogLines {
    let lines = texts.into_iter().map(|text| (Timestamp::from_ms(7), text.into())).collect();
    LogLines { id: id(name), attempt: 2, worker: Some("w1".parse().unwrap()), lines }
}

async fn read(reader: &Reader, behind: &LogPlace) -> Vec<LogLine> {
    reader.log(&id("a"), behind, Duration::ZERO).await.unwrap()
}

/// What is kept, as texts.
async fn kept(reader: &Reader) -> Vec<String> {
    read(reader, &LogPlace::start()).await.into_iter().map(|line| line.text).collect()
}

const KEY: &str = "{taskyard:task:a}:log";
const WEEK_MS: i64 = 7 * 86_400_000;

#[tokio::test]
async fn lines_are_read_as_they_were_written() {
    let server = Server::start();
    let (_, writer, reader) = begin(&server).await;
    let mut unnamed = lines("a", ["", "tab\there", "café"]);
    unnamed.worker = None;
    writer.write(&[lines("a", ["one", "two"]), unnamed]).await.unwrap();
    let log = read(&reader, &LogPlace::start()).await;
    let texts: Vec<_> = log.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "", "tab\there", "café"]);
    assert_eq!((log[0].attempt, log[0].worker.as_str(), log[0].at.as_ms()), (2, "w1", 7));
    assert_eq!(log[2].worker, "");
    assert_eq!(read(&reader, &log[2].place).await, log[3..]);
    assert_eq!(read(&reader, &log[4].place).await, []);
}

#[tokio::test]
async fn whoever_waits_for_lines_gets_them_when_they_come() {
    let server = Server::start();
    let (_, writer, reader) = begin(&server).await;
    let waiting = tokio::spawn(async move {
        loop {
            let wait = Duration::from_secs(1);
            let lines = reader.log(&id("a"), &LogPlace::start(), wait).await.unwrap();
            if !lines.is_empty() {
                return lines;
            }
        }
    });
    writer.write(&[lines("a", ["here"])]).await.unwrap();
    assert_eq!(waiting.await.unwrap()[0].text, "here");
}

#[tokio::test]
async fn unknown_tasks_get_no_log() {
    let server = Server::start();
    let (store, writer, reader) = begin(&server).await;
    writer.write(&[lines("nobody", ["x"]), lines("a", ["y"])]).await.unwrap();
    assert_eq!(pttl(&store, "{taskyard:task:nobody}:log").await, -2);
    assert_eq!(kept(&reader).await, ["y"]);
}

#[tokio::test]
async fn a_log_is_capped_in_lines() {
    let server = Server::start();
    let (_, writer, reader) = begin(&server).await;
    for from in (0..2_500).step_by(100) {
        let texts = (from..from + 100).map(|n: u32| n.to_string());
        writer.write(&[lines("a", texts)]).await.unwrap();
    }
    let kept = kept(&reader).await;
    assert_eq!((kept.len(), kept[0].as_str(), kept[999].as_str()), (1_000, "1500", "2499"));
}

#[tokio::test]
async fn a_log_is_capped_in_bytes() {
    let server = Server::start();
    let (_, writer, reader) = begin(&server).await;
    let text = |n: usize| format!("{n:03}{}", "x".repeat(4_096 - 3));
    writer.write(&[lines("a", (0..64).map(text))]).await.unwrap();
    assert_eq!(kept(&reader).await.len(), 64, "all that fits is kept");
    writer.write(&[lines("a", ["x"])]).await.unwrap();
    assert!(kept(&reader).await[0].starts_with("001"));
    writer.write(&[lines("a", (100..400).map(text))]).await.unwrap();
    let full = kept(&reader).await;
    assert_eq!((full.len(), &full[0][..3], &full[63][..3]), (64, "336", "399"));
    // Small lines again: the large ones leave one by one.
    writer.write(&[lines("a", (0..5_000).map(|_| "y".repeat(200)))]).await.unwrap();
    assert_eq!(kept(&reader).await, vec!["y".repeat(200); 1_000]);
}

#[tokio::test]
async fn a_log_expires_with_its_task() {
    let server = Server::start();
    let (store, writer, _) = begin(&server).await;
    writer.write(&[lines("a", ["while it runs"])]).await.unwrap();
    let left_ms = pttl(&store, KEY).await;
    assert!((WEEK_MS - 60_000..=WEEK_MS).contains(&left_ms), "{left_ms}");

    let mut succeed = change("a", Transition::Succeed);
    succeed.keep = Keep::For(Duration::from_secs(3_600));
    make(&store, succeed).await;
    writer.write(&[lines("a", [""; 0])]).await.unwrap();
    let (task_ms, log_ms) = (pttl(&store, "taskyard:task:a").await, pttl(&store, KEY).await);
    assert!(task_ms <= 3_600_000 && (task_ms - 60_000..=3_600_000).contains(&log_ms), "{log_ms}");
    writer.write(&[lines("a", ["after its end"])]).await.unwrap();
    assert!(pttl(&store, KEY).await <= 3_600_000);
}

#[tokio::test]
async fn the_end_of_a_task_without_a_log_makes_none() {
    let server = Server::start();
    let (store, writer, _) = begin(&server).await;
    writer.write(&[lines("a", [""; 0])]).await.unwrap();
    assert_eq!(pttl(&store, KEY).await, -2);
}

#[tokio::test]
async fn a_redis_that_has_forgotten_the_script_is_given_it_again() {
    let server = Server::start();
    let (store, writer, reader) = begin(&server).await;
    writer.write(&[lines("a", ["before"])]).await.unwrap();
    raw(&store, &["SCRIPT", "FLUSH"]).await;
    writer.write(&[lines("a", ["after"])]).await.unwrap();
    assert_eq!(kept(&reader).await, ["before", "after"]);
}

#[tokio::test]
async fn a_full_redis_refuses_lines() {
    let server = Server::start();
    let (store, writer, _) = begin(&server).await;
    writer.write(&[lines("a", ["before"])]).await.unwrap();
    raw(&store, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = writer.write(&[lines("a", ["x"])]).await.unwrap_err();
    assert!(matches!(refused, crate::store::StoreError::Full), "{refused:?}");
}
