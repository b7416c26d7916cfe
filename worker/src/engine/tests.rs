use super::*;
use crate::context::Context;
use crate::handler::Raw;
use bytes::Bytes;
use taskyard_common::amqp::Settled;
use taskyard_common::wire::{Head, read_reports};
use taskyard_model::{ErrorKind, PAYLOAD_BYTES_MAX};

/// An engine of two slots, moved by hand, with a clock of its own.
struct Hand {
    engine: Engine,
    now: Now,
    tag: u64,
}

impl Hand {
    fn new() -> Self {
        let mut handlers = Handlers::default();
        let echo = Raw(|_: Context, payload: Bytes| async { Ok(payload) });
        handlers.add("echo".parse().unwrap(), Arc::new(echo));
        let engine = Engine::new(EngineSettings {
            worker: "w".parse().unwrap(),
            boot: "b".to_owned(),
            slots: 2,
            held_after: Duration::from_secs(300),
            handlers: Arc::new(handlers),
        });
        let now = Now { instant: Instant::now(), at: Timestamp::from_ms(1_000_000) };
        Self { engine, now, tag: 0 }
    }

    /// Delivers tasks in one message; its tag.
    fn deliver(&mut self, heads: impl IntoIterator<Item = Head>) -> u64 {
        self.deliver_as(false, heads)
    }

    fn redeliver(&mut self, heads: impl IntoIterator<Item = Head>) -> u64 {
        self.deliver_as(true, heads)
    }

    fn deliver_as(&mut self, again: bool, heads: impl IntoIterator<Item = Head>) -> u64 {
        self.tag += 1;
        let task = |head| Task { head: Box::new(head), payload: Bytes::from("payload") };
        let tasks = Ok(heads.into_iter().map(task).collect());
        let incoming = Incoming { tag: self.tag, is_redelivered: again, tasks };
        self.engine.delivered(self.now, incoming);
        self.tag
    }

    fn started(&mut self) -> Vec<String> {
        self.engine.take_starts().iter().map(|start| start.task.head.id.to_string()).collect()
    }

    fn end(&mut self, id: &str, ended: Ended) {
        self.engine.ended(self.now, &key(id), ended, 7);
    }

    fn done(&mut self, id: &str) {
        self.end(id, Ended::Done(Reply::from("result")));
    }

    fn pass(&mut self, ms: u64) {
        let wait = Duration::from_millis(ms);
        self.now = Now { instant: self.now.instant + wait, at: self.now.at + wait };
        self.engine.tick(self.now);
    }

    /// Publishes what there is; the messages.
    fn publish(&mut self) -> Vec<(u64, Vec<Report>)> {
        std::iter::from_fn(|| self.engine.next_batch(self.now))
            .map(|batch| (batch.number, read_reports(&batch.properties, &batch.body).unwrap()))
            .collect()
    }

    /// Publishes what there is, and has it confirmed; the reports.
    fn confirm(&mut self) -> Vec<Report> {
        let mut all = Vec::new();
        loop {
            let batches = self.publish();
            if batches.is_empty() {
                return all;
            }
            for (number, reports) in batches {
                self.engine.confirmed(self.now, number);
                all.extend(reports);
            }
        }
    }

    /// The same, as words.
    fn said(&mut self) -> Vec<String> {
        let word = |report: Report| format!("{} {}", report.kind.as_str(), report.id);
        self.confirm().into_iter().map(word).collect()
    }

    fn acked(&mut self) -> Vec<u64> {
        let mut acked = Vec::new();
        for settle in self.engine.take_settles() {
            let Settle::Ack(Settled { up_to, single }) = settle else { panic!("{settle:?}") };
            acked.extend(up_to.into_iter().chain(single));
        }
        acked
    }

    fn control(&mut self, errand: Errand, id: &str) -> Order {
        let id = Some(id.parse().unwrap());
        let control = Control { errand, id, attempt: Some(1), boot: None, why: None };
        self.engine.control(self.now, control)
    }
}

fn head(id: &str) -> Head {
    let mut head = Head::new(id.parse().unwrap(), "echo".parse().unwrap());
    head.attempt = 1;
    head
}

fn key(id: &str) -> Key {
    Key { id: id.parse().unwrap(), attempt: 1 }
}

#[test]
fn a_success_is_acked_after_its_confirm_and_not_before() {
    let mut hand = Hand::new();
    let tag = hand.deliver([head("a")]);
    assert_eq!(hand.started(), ["a"]);
    hand.done("a");
    let batches = hand.publish();
    assert_eq!(hand.acked(), [0; 0]);
    assert_eq!(hand.engine.holding().len(), 1);
    let report = &batches[0].1[0];
    assert_eq!(
        (report.kind, &report.body[..], report.ran_us),
        (ReportKind::Succeeded, &b"result"[..], Some(7))
    );
    hand.engine.confirmed(hand.now, batches[0].0);
    assert_eq!(hand.acked(), [tag]);
    assert!(hand.engine.is_idle());
}

#[test]
fn a_train_waits_for_its_last_car() {
    let mut hand = Hand::new();
    let tag = hand.deliver([head("a"), head("b"), head("c")]);
    assert_eq!(hand.started(), ["a", "b"]);
    hand.done("a");
    assert_eq!(hand.started(), ["c"]);
    hand.end("b", Ended::Failed(TaskError::retryable("no")));
    assert_eq!(hand.said(), ["succeeded a", "failed b"]);
    assert_eq!(hand.acked(), [0; 0]);
    hand.done("c");
    assert_eq!(hand.said(), ["succeeded c"]);
    assert_eq!(hand.acked(), [tag]);
}

#[test]
fn a_wide_task_is_not_overtaken() {
    let mut hand = Hand::new();
    let mut wide = head("wide");
    wide.slots = 9;
    hand.deliver([head("a"), wide, head("b")]);
    assert_eq!(hand.started(), ["a"]);
    hand.done("a");
    assert_eq!(hand.started(), ["wide"]);
    hand.done("wide");
    assert_eq!(hand.started(), ["b"]);
}

#[test]
fn what_waits_for_a_second_goes_back_with_its_payload() {
    let mut hand = Hand::new();
    hand.deliver([head("a"), head("b"), head("c")]);
    hand.pass(999);
    assert_eq!(hand.said(), ["started a", "started b"]);
    hand.pass(1);
    let report = hand.confirm().remove(0);
    assert_eq!((report.kind, &report.body[..]), (ReportKind::Returned, &b"payload"[..]));
    assert_eq!((report.task.unwrap().id, report.is_orphan), (key("c").id, false));
    hand.done("a");
    assert_eq!(hand.started(), ["a", "b"]);
}

#[test]
fn only_what_runs_for_a_while_is_reported_started() {
    let mut hand = Hand::new();
    hand.deliver([head("quick"), head("slow")]);
    hand.pass(19);
    hand.done("quick");
    hand.pass(1);
    assert_eq!(hand.said(), ["succeeded quick", "started slow"]);
}

#[test]
fn what_is_too_late_to_start_is_refused() {
    let mut hand = Hand::new();
    let (mut late, mut due) = (head("late"), head("due"));
    late.start_by = Some(hand.now.at - Duration::from_millis(1));
    due.start_by = Some(hand.now.at);
    hand.deliver([late, due]);
    assert_eq!(hand.started(), ["due"]);
    let report = hand.confirm().remove(0);
    assert_eq!((report.error_kind, report.is_permanent), (Some(ErrorKind::Expired), true));
}

#[test]
fn a_kind_without_a_handler_goes_back() {
    let mut hand = Hand::new();
    let mut other = head("a");
    other.kind = "other".parse().unwrap();
    hand.deliver([other]);
    assert_eq!(hand.said(), ["returned a"]);
}

#[test]
fn a_suspect_runs_only_after_its_started_is_confirmed() {
    let mut hand = Hand::new();
    let mut suspect = head("a");
    suspect.is_suspect = true;
    hand.deliver([suspect]);
    let batches = hand.publish();
    assert_eq!(batches[0].1[0].kind, ReportKind::Started);
    hand.pass(5000);
    assert_eq!(hand.started(), [""; 0]);
    hand.engine.confirmed(hand.now, batches[0].0);
    assert_eq!(hand.started(), ["a"]);
    hand.pass(100);
    assert_eq!(hand.said(), [""; 0], "it was reported started already");
    hand.pass(300_000);
    assert_eq!(hand.said(), ["held a"]);
}

#[test]
fn what_runs_goes_on_without_a_session_and_is_acked_under_its_newer_tag() {
    let mut hand = Hand::new();
    hand.deliver([head("a")]);
    hand.engine.disconnected();
    let tag = hand.redeliver([head("a")]);
    assert_eq!(hand.started(), ["a"], "once");
    hand.done("a");
    assert_eq!(hand.said(), ["succeeded a"]);
    assert_eq!(hand.acked(), [tag]);
}

#[test]
fn a_report_that_was_not_confirmed_goes_out_again() {
    let mut hand = Hand::new();
    hand.deliver([head("a")]);
    hand.done("a");
    assert_eq!(hand.publish().len(), 1);
    hand.engine.disconnected();
    assert_eq!(hand.said(), ["succeeded a"]);
    assert_eq!(hand.acked(), [0; 0], "its delivery is not of this session");
    let tag = hand.redeliver([head("a")]);
    assert_eq!(hand.acked(), [tag]);
    assert_eq!(hand.started(), ["a"], "once");
}

#[test]
fn an_unknown_redelivery_is_an_orphan() {
    let mut hand = Hand::new();
    let tag = hand.redeliver([head("a"), head("b")]);
    assert_eq!(hand.started(), [""; 0]);
    let reports = hand.confirm();
    let is_orphan = |report: &Report| report.is_orphan && report.task.is_some();
    assert!(reports.len() == 2 && reports.iter().all(is_orphan));
    assert_eq!(hand.acked(), [tag]);
}

#[test]
fn what_had_not_begun_when_the_session_was_lost_is_as_good_as_new() {
    let mut hand = Hand::new();
    hand.deliver([head("a"), head("b"), head("c")]);
    hand.engine.disconnected();
    assert_eq!(hand.engine.holding().len(), 2);
    hand.done("a");
    hand.redeliver([head("a"), head("b"), head("c")]);
    assert_eq!(hand.started(), ["a", "b", "c"]);
}

#[test]
fn a_duplicate_is_settled_with_the_first() {
    let mut hand = Hand::new();
    let first = hand.deliver([head("a")]);
    let second = hand.deliver([head("a")]);
    assert_eq!(hand.started(), ["a"]);
    hand.done("a");
    hand.confirm();
    assert_eq!(hand.acked(), [second]);
    assert!(first < second, "the ack is cumulative");
    let third = hand.deliver([head("a")]);
    assert_eq!(hand.acked(), [third]);
}

#[test]
fn a_long_task_is_handed_over_and_acked_and_runs_on() {
    let mut hand = Hand::new();
    let tag = hand.deliver([head("a")]);
    hand.pass(20);
    hand.pass(300_000);
    let reports = hand.confirm();
    assert_eq!((reports[1].kind, &reports[1].body[..]), (ReportKind::Held, &b"payload"[..]));
    assert_eq!(hand.acked(), [tag]);
    assert_eq!(hand.engine.holding().len(), 1);
    let again = hand.redeliver([head("a")]);
    assert_eq!(hand.acked(), [again], "the dispatcher has it");
    hand.done("a");
    assert_eq!(hand.said(), ["succeeded a"]);
    assert!(hand.engine.is_idle());
}

#[test]
fn a_timeout_asks_drops_and_gives_up() {
    let mut hand = Hand::new();
    let mut limited = head("a");
    limited.timeout_ms = Some(10);
    let tag = hand.deliver([limited]);
    let run = hand.engine.take_starts().remove(0).run;
    hand.pass(9);
    assert_eq!(run.reason(), None);
    hand.pass(1);
    assert_eq!(run.reason(), Some(CancelReason::Timeout));
    hand.pass(1000);
    assert_eq!(hand.said(), ["started a"]);
    // It was dropped, and still blocks its thread.
    hand.pass(1000);
    let report = hand.confirm().remove(0);
    assert_eq!((report.kind, report.error_kind), (ReportKind::Failed, Some(ErrorKind::Timeout)));
    assert_eq!(hand.acked(), [tag]);
    assert!(hand.engine.is_idle());
    assert_eq!((hand.engine.slots(), hand.engine.free_slots), (1, 1));
    hand.done("a");
    assert_eq!((hand.engine.slots(), hand.engine.free_slots), (2, 2));
    assert_eq!(hand.said(), [""; 0]);
}

#[test]
fn a_success_after_the_limit_is_a_timeout() {
    let mut hand = Hand::new();
    let mut limited = head("a");
    limited.timeout_ms = Some(10);
    hand.deliver([limited]);
    hand.pass(10);
    hand.done("a");
    assert_eq!(hand.confirm()[0].error_kind, Some(ErrorKind::Timeout));
}

#[test]
fn cancel_ends_what_runs_waits_or_is_announced() {
    let mut hand = Hand::new();
    let mut suspect = head("announced");
    suspect.is_suspect = true;
    hand.deliver([head("runs"), suspect, head("waits")]);
    let run = hand.engine.take_starts().remove(0).run;
    for id in ["runs", "waits", "announced", "unknown"] {
        assert_eq!(hand.control(Errand::Cancel, id), Order::Nothing);
    }
    assert_eq!(run.reason(), Some(CancelReason::Command));
    hand.end("runs", Ended::Failed(TaskError::retryable("asked to end")));
    let reports = hand.confirm();
    let is_cancelled =
        |report: &&Report| report.error_kind == Some(ErrorKind::Cancelled) && report.is_permanent;
    assert_eq!(reports.iter().filter(is_cancelled).count(), 3);
    assert_eq!(hand.engine.free_slots, 2);
    assert!(hand.engine.is_idle());
}

#[test]
fn a_success_in_spite_of_a_cancel_is_a_success() {
    let mut hand = Hand::new();
    hand.deliver([head("a")]);
    hand.control(Errand::Cancel, "a");
    hand.done("a");
    assert_eq!(hand.said(), ["succeeded a"]);
}

#[test]
fn a_drain_gives_back_what_has_not_begun_and_what_does_not_finish() {
    let mut hand = Hand::new();
    hand.deliver([head("a"), head("b"), head("c")]);
    hand.engine.drain();
    hand.deliver([head("d")]);
    assert_eq!(hand.said(), ["returned c", "returned d"]);
    hand.done("a");
    hand.engine.cancel_all(hand.now);
    hand.end("b", Ended::Dropped);
    assert_eq!(hand.said(), ["succeeded a", "returned b"]);
    assert!(hand.engine.is_idle() && hand.engine.is_draining());
}

#[test]
fn progress_is_said_twice_a_second_and_the_latest_wins() {
    let mut hand = Hand::new();
    hand.deliver([head("a")]);
    let run = hand.engine.take_starts().remove(0).run;
    let percents = |hand: &mut Hand| -> Vec<_> {
        hand.confirm().into_iter().filter_map(|report| report.progress).collect()
    };
    for percent in 1..=3 {
        if run.note(percent, String::new()) {
            hand.engine.noted(hand.now, &key("a"));
        }
    }
    hand.pass(0);
    assert_eq!(percents(&mut hand), [3]);
    for percent in 4..=5 {
        if run.note(percent, "half".to_owned()) {
            hand.engine.noted(hand.now, &key("a"));
        }
    }
    hand.pass(499);
    assert_eq!(percents(&mut hand), [0; 0]);
    hand.pass(1);
    assert_eq!(percents(&mut hand), [5]);
}

#[test]
fn the_last_lines_travel_behind_the_result_and_settle_nothing() {
    let mut hand = Hand::new();
    let tag = hand.deliver([head("a")]);
    let start = hand.engine.take_starts().remove(0);
    start.logbook.write(&key("a"), hand.now.at, "one\ntwo");
    hand.done("a");
    let batches = hand.publish();
    assert_eq!(batches.len(), 1);
    let kinds: Vec<_> = batches[0].1.iter().map(|report| report.kind).collect();
    assert_eq!(kinds, [ReportKind::Succeeded, ReportKind::Log]);
    hand.engine.confirmed(hand.now, batches[0].0);
    assert_eq!(hand.acked(), [tag]);
    start.logbook.write(&key("a"), hand.now.at, "too late");
    assert!(hand.engine.is_idle(), "lines hold nothing up");
    hand.pass(1_000);
    assert_eq!(hand.said(), ["log a"]);
}

#[test]
fn a_huge_failure_nacks_its_delivery() {
    let mut hand = Hand::new();
    hand.tag += 1;
    let payload = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let tasks = Ok(vec![Task { head: Box::new(head("a")), payload }]);
    let incoming = Incoming { tag: hand.tag, is_redelivered: false, tasks };
    hand.engine.delivered(hand.now, incoming);
    hand.end("a", Ended::Failed(TaskError::retryable("no")));
    let report = hand.confirm().remove(0);
    assert_eq!((report.kind, report.body.len(), report.task), (ReportKind::Failed, 0, None));
    assert_eq!(hand.engine.take_settles(), [Settle::Reject(1)]);
    hand.redeliver([head("a")]);
    assert_eq!(hand.engine.take_settles(), [Settle::Reject(2)]);
}

#[test]
fn only_a_stop_for_this_boot_counts() {
    let mut hand = Hand::new();
    let mut stop = Control {
        errand: Errand::Stop,
        id: None,
        attempt: None,
        boot: None,
        why: Some("two".to_owned()),
    };
    assert_eq!(hand.engine.control(hand.now, stop.clone()), Order::Nothing);
    stop.boot = Some("other".to_owned());
    assert_eq!(hand.engine.control(hand.now, stop.clone()), Order::Nothing);
    stop.boot = Some("b".to_owned());
    assert_eq!(hand.engine.control(hand.now, stop), Order::Stop("two".to_owned()));
}

/// The engine alone, with reading and writing of trains, must leave most of a core to the rest at
/// 60,000 tasks a second; measured 500,000.
#[test]
fn rules_cost_little() {
    const TASKS: u32 = 64_000;
    let mut hand = Hand::new();
    hand.engine.settings.slots = 64;
    hand.engine.free_slots = 64;
    let begun = Instant::now();
    for train in 0..TASKS / 64 {
        hand.deliver((0..64).map(|car| head(&format!("task-{train}-{car}"))));
        for start in hand.engine.take_starts() {
            let key = Key::of(&start.task.head);
            hand.engine.ended(hand.now, &key, Ended::Done(Reply::from("result")), 7);
        }
        hand.pass(1);
        while let Some(batch) = hand.engine.next_batch(hand.now) {
            hand.engine.confirmed(hand.now, batch.number);
        }
        hand.engine.take_settles();
    }
    assert!(hand.engine.is_idle());
    let rate = f64::from(TASKS) / begun.elapsed().as_secs_f64();
    assert!(rate > 120_000.0, "only {rate:.0} tasks a second");
}
