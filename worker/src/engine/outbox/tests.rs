use super::*;
use crate::engine::Key;
use crate::logbook::Logbook;
use std::sync::Arc;
use taskyard_common::wire::read_reports;
use taskyard_model::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);

fn report(id: usize, body_bytes: usize) -> Report {
    let id = format!("t{id}").parse().unwrap();
    let mut report = Report::new(ReportKind::Succeeded, id, 1, None);
    report.body = vec![0; body_bytes].into();
    report
}

fn ids(batch: &Batch) -> Vec<String> {
    let reports = read_reports(&batch.properties, &batch.body).unwrap();
    reports.into_iter().map(|report| report.id.to_string()).collect()
}

/// An outbox, and the book of its lines.
fn with_logbook() -> (Outbox, Arc<Logbook>) {
    let logbook = Arc::new(Logbook::default());
    (Outbox::new(Logs::new(Arc::clone(&logbook), "w".parse().unwrap())), logbook)
}

fn log(logbook: &Logbook, id: &str, text: &str) {
    let key = Key { id: id.parse().unwrap(), attempt: 1 };
    logbook.write(&key, Timestamp::from_ms(7), text);
}

#[test]
fn a_message_takes_what_is_there() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    assert!(outbox.next_batch(now).is_none());
    outbox.push(report(1, 1));
    assert_eq!(ids(&outbox.next_batch(now).unwrap()), ["t1"]);
    outbox.push(report(2, 1));
    outbox.push(report(3, 1));
    let second = outbox.next_batch(now).unwrap();
    assert_eq!(ids(&second), ["t2", "t3"]);
    outbox.push(report(4, 1));
    assert!(outbox.next_batch(now).is_none(), "two small ones are under way");
    assert_eq!(outbox.confirmed(second.number).len(), 2);
    assert_eq!(ids(&outbox.next_batch(now).unwrap()), ["t4"]);
}

#[test]
fn messages_are_bounded_in_reports_and_bytes() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    (0..CARS_MAX + 1).for_each(|id| outbox.push(report(id, 1)));
    assert_eq!(ids(&outbox.next_batch(now).unwrap()).len(), CARS_MAX);
    let mut outbox = Outbox::default();
    outbox.push(report(1, 2 * BYTES_MAX));
    outbox.push(report(2, BYTES_MAX / 2));
    outbox.push(report(3, BYTES_MAX / 2));
    let sizes: Vec<_> =
        std::iter::from_fn(|| outbox.next_batch(now)).map(|batch| ids(&batch).len()).collect();
    assert_eq!(sizes, [1, 1]);
}

#[test]
fn what_is_lost_goes_out_again_in_order() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    for id in 1..=2 {
        outbox.push(report(id, 1));
        outbox.next_batch(now).unwrap();
    }
    outbox.push(report(3, 1));
    outbox.lost();
    assert_eq!(ids(&outbox.next_batch(now).unwrap()), ["t1", "t2", "t3"]);
}

#[test]
fn what_is_refused_waits_a_while() {
    let now = Instant::now();
    let mut outbox = Outbox::default();
    outbox.push(report(1, 1));
    let batch = outbox.next_batch(now).unwrap();
    outbox.refused(batch.number, now + REFUSED_WAIT);
    assert!(outbox.next_batch(now).is_none());
    assert_eq!(outbox.deadline(), Some(now + REFUSED_WAIT));
    assert_eq!(ids(&outbox.next_batch(now + REFUSED_WAIT).unwrap()), ["t1"]);
}

#[test]
fn lines_share_a_message_with_what_is_there() {
    let now = Instant::now();
    let (mut outbox, logbook) = with_logbook();
    log(&logbook, "a", "one\ntwo");
    log(&logbook, "b", "three");
    outbox.push(report(1, 1));
    let batch = outbox.next_batch(now).unwrap();
    let reports = read_reports(&batch.properties, &batch.body).unwrap();
    assert_eq!(ids(&batch), ["t1", "a", "b"]);
    assert_eq!((reports[1].kind, &reports[1].body[..]), (ReportKind::Log, &b"one\ntwo\n"[..]));
    assert_eq!(reports[1].logged_at_ms, [7, 7]);
    assert_eq!(reports[1].worker, Some("w".parse().unwrap()));
}

#[test]
fn lines_are_in_nobodys_way() {
    let now = Instant::now();
    let (mut outbox, logbook) = with_logbook();
    log(&logbook, "a", "alone");
    let lines = outbox.next_batch(now).unwrap();
    for id in 1..=SMALL_MAX {
        log(&logbook, "a", "later");
        outbox.push(report(id, 1));
        assert_eq!(ids(&outbox.next_batch(now).unwrap()).len(), 1, "others are under way");
    }
    outbox.confirmed(lines.number);
    outbox.push(report(3, 1));
    assert!(outbox.next_batch(now + MINUTE).is_none(), "they wait for what is before them");
}

#[test]
fn lines_keep_to_their_rate() {
    let begun = Instant::now();
    let mut now = begun;
    let (mut outbox, logbook) = with_logbook();
    let mut lines = 0;
    while now < begun + MINUTE {
        log(&logbook, "a", &"x\n".repeat(1_000));
        let batch = outbox.next_batch(now).unwrap();
        let reports = read_reports(&batch.properties, &batch.body).unwrap();
        lines += reports.iter().map(|report| report.logged_at_ms.len()).sum::<usize>();
        outbox.confirmed(batch.number);
        assert!(outbox.next_batch(now).is_none());
        now = outbox.deadline().expect("more of it waits");
    }
    // 512 KiB a second, of which each line takes about 100 bytes.
    assert!((290_000..=320_000).contains(&lines), "{lines} lines a minute");
}

#[test]
fn at_the_end_lines_wait_for_no_rate() {
    let now = Instant::now();
    let (mut outbox, logbook) = with_logbook();
    log(&logbook, "a", &"x\n".repeat(1_000));
    let first = outbox.next_batch(now).unwrap();
    outbox.confirmed(first.number);
    assert!(outbox.next_batch(now).is_none());
    assert!(!outbox.end_logs(now));
    assert_eq!(outbox.deadline(), Some(now));
    let second = outbox.next_batch(now).unwrap();
    outbox.confirmed(second.number);
    assert!(outbox.end_logs(now));
}

#[test]
fn lines_that_were_not_stored_go_out_again_behind_the_rest() {
    let now = Instant::now();
    let (mut outbox, logbook) = with_logbook();
    log(&logbook, "a", "one");
    outbox.push(report(1, 1));
    outbox.next_batch(now).unwrap();
    outbox.lost();
    outbox.push(report(2, 1));
    log(&logbook, "a", "two");
    let batch = outbox.next_batch(now + MINUTE).unwrap();
    assert_eq!(ids(&batch), ["t1", "t2", "a"]);
    outbox.confirmed(batch.number);
    let batch = outbox.next_batch(now + 2 * MINUTE).unwrap();
    let reports = read_reports(&batch.properties, &batch.body).unwrap();
    assert_eq!(&reports[0].body[..], b"two\n");
    assert!(!outbox.end_logs(now), "it is not confirmed");
    outbox.confirmed(batch.number);
    assert!(outbox.end_logs(now));
}
