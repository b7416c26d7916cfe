//! The tables of submissions.

use super::{Case, Then, text};
use Then::{Aside, RefusedByBroker, Rejected, Succeeds};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};

fn array(values: impl IntoIterator<Item = AMQPValue>) -> AMQPValue {
    let mut array = FieldArray::default();
    values.into_iter().for_each(|value| array.push(value));
    AMQPValue::FieldArray(array)
}

fn table(name: &str, value: AMQPValue) -> AMQPValue {
    let mut table = FieldTable::default();
    table.insert(name.into(), value);
    AMQPValue::FieldTable(table)
}

/// One message each.
pub(super) fn submissions() -> Vec<Case> {
    let mut cases = ids_and_kinds();
    cases.extend(properties());
    cases.extend(numbers());
    cases.extend(texts());
    cases.extend(foreign_headers());
    cases
}

fn ids_and_kinds() -> Vec<Case> {
    let id =
        |name: &str, id: &str, then| Case::of(name, then).with(|p| p.with_message_id(id.into()));
    vec![
        id("id empty", "", Aside("at least one character")),
        id("id too long", &"x".repeat(129), Aside("at most 128")),
        id("id with a space", "a b", Aside("' '")),
        id("id with a line end", "a\nb", Aside(r"'\n'")),
        id("id with a zero", "a\0b", Aside(r"'\0'")),
        id("id with a slash", "a/b", Aside("'/'")),
        id("id beyond ASCII", "über", Aside("'ü'")),
        id("id of 128", &"x".repeat(128), Succeeds),
        Case::of("kind missing", Rejected("a kind is missing")).key(""),
        Case::of("kind with a star", Rejected("'*'")).key("a.*"),
        Case::of("kind with a hash", Rejected("'#'")).key("#"),
        Case::of("kind with a space", Rejected("' '")).key("two words"),
        Case::of("kind with a control", Rejected(r"'\u{7}'")).key("be\u{7}l"),
        Case::of("type overrides", Succeeds)
            .key("no.such.kind")
            .with(|p| p.with_type("echo".into())),
        Case::of("type broken", Rejected("'#'")).with(|p| p.with_type("#".into())),
    ]
}

fn properties() -> Vec<Case> {
    let own = "Taskyard's own";
    let typed = |name: &str, given: &str| {
        Case::of(name, Rejected(own)).with(|p| p.with_content_type(given.into()))
    };
    vec![
        Case::of("priority 10", Rejected("priority 10")).with(|p| p.with_priority(10)),
        Case::of("priority 255", Rejected("priority 255")).with(|p| p.with_priority(255)),
        Case::of("expiration words", RefusedByBroker).with(|p| p.with_expiration("soon".into())),
        Case::of("user forged", RefusedByBroker).with(|p| p.with_user_id("root".into())),
        Case::of("reply to a lane", Rejected("queue of Taskyard itself"))
            .with(|p| p.with_reply_to("taskyard.lane.default.9".into())),
        Case::of("reply to nobody", Succeeds).with(|p| p.with_reply_to("no.such.queue".into())),
        Case::of("correlation of 255", Succeeds)
            .with(|p| p.with_reply_to("gone".into()).with_correlation_id("c".repeat(255).into())),
        typed("type of a train", "application/vnd.taskyard.train"),
        typed("type of reports", "application/vnd.taskyard.reports"),
        typed("type of a marker", "application/vnd.taskyard.marker"),
        Case::of("content type odd", Succeeds).with(|p| p.with_content_type("\u{1}/💥".into())),
        Case::of("timestamp far", Succeeds).with(|p| p.with_timestamp(u64::MAX)),
    ]
}

fn numbers() -> Vec<Case> {
    let no = "is not a whole number";
    vec![
        Case::of("delay and eta", Rejected("both given"))
            .number("x-task-delay", 1)
            .number("x-task-eta", 1),
        Case::of("delay words", Rejected(no)).text("x-task-delay", "soon"),
        Case::of("delay negative", Rejected(no)).number("x-task-delay", -1),
        Case::of("delay boolean", Rejected(no)).header("x-task-delay", AMQPValue::Boolean(true)),
        Case::of("delay float", Rejected(no)).header("x-task-delay", AMQPValue::Double(1.5)),
        Case::of("delay void", Rejected(no)).header("x-task-delay", AMQPValue::Void),
        Case::of("delay for ever", Rejected(no)).number("x-task-delay", i64::MAX),
        Case::of("delay as text", Succeeds).text("x-task-delay", " 5 "),
        Case::of("delay as byte", Succeeds).header("x-task-delay", AMQPValue::ShortShortUInt(5)),
        Case::of("eta long past", Succeeds).number("x-task-eta", 0),
        Case::of("eta in a table", Rejected(no)).header("x-task-eta", table("at", text("1"))),
        Case::of("eta in microseconds", Rejected("ten years")).number("x-task-eta", i64::MAX),
        Case::of("attempts 0", Rejected("from 1 to 100")).number("x-task-max-attempts", 0),
        Case::of("attempts 101", Rejected("from 1 to 100")).number("x-task-max-attempts", 101),
        Case::of("attempts array", Rejected(no)).header("x-task-max-attempts", array([text("1")])),
        Case::of("losses 101", Rejected("from 0 to 100")).number("x-task-max-losses", 101),
        Case::of("timeout 0", Rejected(no)).number("x-task-timeout", 0),
        Case::of("timeout huge", Rejected(no)).number("x-task-timeout", i64::MAX),
        Case::of("deadline words", Rejected(no)).text("x-task-deadline", "tomorrow"),
        Case::of("deadline far", Succeeds).number("x-task-deadline", i64::MAX),
        Case::of("slots 0", Rejected(no)).number("x-task-slots", 0),
        Case::of("slots a billion", Rejected(no)).number("x-task-slots", 1_000_000_000),
        Case::of("keep negative", Rejected(no)).number("x-task-keep", -5),
        Case::of("estimate timestamp", Rejected(no))
            .header("x-task-estimate", AMQPValue::Timestamp(5)),
    ]
}

fn texts() -> Vec<Case> {
    let bytes = AMQPValue::LongString(vec![0xff, 0xfe].into());
    vec![
        Case::of("backoff words", Rejected("x-task-backoff")).text("x-task-backoff", "never"),
        Case::of("backoff number", Rejected("is not a text")).number("x-task-backoff", 5),
        Case::of("backoff parts", Rejected("x-task-backoff")).text("x-task-backoff", "fixed:1:2:3"),
        Case::of("tenant empty", Rejected("printable")).text("x-task-tenant", ""),
        Case::of("tenant control", Rejected("printable")).text("x-task-tenant", "a\u{1b}[31m"),
        Case::of("tenant long", Rejected("printable")).text("x-task-tenant", &"t".repeat(129)),
        Case::of("tenant bytes", Rejected("not UTF-8")).header("x-task-tenant", bytes),
        Case::of("requires number", Rejected("is not a text")).number("x-task-requires", 1),
        Case::of("trace number", Rejected("is not a text")).number("traceparent", 1),
        Case::of("tenant huge", Rejected("printable")).text("x-task-tenant", &"t".repeat(60_000)),
    ]
}

fn foreign_headers() -> Vec<Case> {
    let death = |queue: &str| {
        let mut entry = FieldTable::default();
        entry.insert("queue".into(), text(queue));
        entry.insert("reason".into(), text("rejected"));
        entry.insert("count".into(), AMQPValue::LongLongInt(-1));
        array([AMQPValue::FieldTable(entry)])
    };
    let nested = (0..20).fold(text("deep"), |inner, _| table("n", inner));
    vec![
        Case::of("attempt forged", Rejected("dispatcher alone")).number("x-task-attempt", 7),
        Case::of("failures forged", Rejected("dispatcher alone")).number("x-task-failures", 0),
        Case::of("losses forged", Rejected("dispatcher alone")).text("x-task-losses", "x"),
        Case::of("header misspelt", Rejected("misspelt")).number("x-task-prio", 9),
        Case::of("suspect forged", Rejected("misspelt"))
            .header("x-task-suspect", AMQPValue::Boolean(true)),
        Case::of("user header forged", Rejected("misspelt")).text("x-task-user", "root"),
        Case::of("death forged", Succeeds).header("x-death", death("taskyard.worker.w1")),
        Case::of("death of a submission", Succeeds)
            .header("x-death", death("taskyard.submit.default")),
        Case::of("death a text", Succeeds).text("x-death", "boo"),
        Case::of("death of numbers", Succeeds)
            .header("x-death", array([AMQPValue::LongLongInt(1)])),
        Case::of("delivery count forged", Succeeds).number("x-delivery-count", 5_000_000),
        Case::of("CC", Succeeds).header("CC", array([text("echo")])),
        Case::of("BCC", Succeeds).header("BCC", array([text("taskyard.dead")])),
        Case::of("CC a text", RefusedByBroker).text("CC", "taskyard.dead"),
        Case::of("nested", Succeeds).header("mine", nested),
        Case::of("bytes", Succeeds).header("mine", AMQPValue::LongString(vec![0xff; 300].into())),
        Case::of("headers huge", Rejected("the headers have"))
            .text("mine", &"x".repeat(100 * 1024)),
        Case::of("headers to the brim", Rejected("the headers have"))
            .text("mine", &"x".repeat(130_500)),
        Case::of("headers large", Succeeds).text("mine", &"x".repeat(60 * 1024)),
    ]
}

/// Payloads are opaque: only their size matters.
pub(super) fn payloads() -> Vec<Case> {
    let binary: Vec<u8> = (0..=u8::MAX).cycle().take(70_000).collect();
    vec![
        Case::of("payload empty", Succeeds).body(""),
        Case::of("payload binary", Succeeds).body(binary),
        Case::of("payload broken JSON", Succeeds).body(r#"{"ms": "#),
        Case::of("payload like a train", Succeeds).body(b"TYT1\xff\xff\xff\xff".to_vec()),
        Case::of("payload 10 MiB", Succeeds).body(vec![0xa5; 10 * 1024 * 1024]),
        Case::of("payload 16 MiB and one", Rejected("more than 16777216")).body(vec![
            1;
            16 * 1024
                * 1024
                + 1
        ]),
    ]
}

/// Cars of a bulk: a length and a head, a length and a payload.
pub(super) fn cars(cars: &[(&str, &str)]) -> Vec<u8> {
    let mut bulk = b"TYT1".to_vec();
    for (head, payload) in cars {
        for part in [head, payload] {
            bulk.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bulk.extend(part.as_bytes());
        }
    }
    bulk
}

/// Bulk submissions.
pub(super) fn bulks() -> Vec<Case> {
    let bulk = |name: &str, body: Vec<u8>, then| {
        let properties =
            BasicProperties::default().with_content_type("application/vnd.taskyard.bulk".into());
        Case::of(name, then).with(|_| properties).body(body)
    };
    let too_many: Vec<_> = (0..1001).map(|_| ("", "x")).collect();
    let large = "x".repeat(600 * 1024);
    let mixed = cars(&[
        (r#"{"id":"bulk-good"}"#, "payload"),
        (r#"{"id":"bulk-priority","priority":99}"#, "1"),
        (r#"{"id":"bulk-header","headers":{"x-task-delay":true}}"#, "2"),
        (r#"{"id":"not an id"}"#, "3"),
        (r#"{"unknown":1}"#, "4"),
        (r#"{"headers":{"x-task-delay":[1]}}"#, "5"),
        ("no JSON", "6"),
    ]);
    let part = |name: &str, body: &str, why: &'static str| {
        bulk(name, body.as_bytes().to_vec(), Aside(why)).to("", "")
    };
    let mut all = vec![
        bulk("bulk without magic", b"hello".to_vec(), Aside("does not begin with TYT1")),
        bulk("bulk of nothing", Vec::new(), Aside("does not begin with TYT1")),
        bulk("bulk cut off", b"TYT1\0\0\0\x05ab".to_vec(), Aside("cut off")),
        bulk("bulk with a huge length", b"TYT1\xff\xff\xff\xff{}".to_vec(), Aside("cut off")),
        bulk("bulk of 1001", cars(&too_many), Aside("at most 1000 tasks")),
        bulk("bulk over 1 MiB", cars(&[("", &large), ("", &large)]), Aside("1 MiB")),
        bulk("bulk mixed", mixed, Then::Nothing),
    ];
    // The bad cars of the mixed one come back by themselves.
    all.extend([
        part("priority", "1", "priority 99"),
        part("header", "2", "x-task-delay"),
        part("id", "3", "message_id"),
        part("unknown", "4", "unknown"),
        part("array", "5", "neither text nor number"),
        part("head", "6", "the head of a task in a bulk"),
    ]);
    all
}
