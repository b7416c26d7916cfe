//! Messages that RabbitMQ passes on and our AMQP library cannot read: they are put aside, and nobody
//! else notices for long.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use lapin::{options::BasicGetOptions, types::AMQPValue, uri::AMQPUri};
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Flags of the properties that these tests set.
const HEADERS: u16 = 1 << 13;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const MESSAGE_ID: u16 = 1 << 7;
const TYPE: u16 = 1 << 5;

/// A client that writes whatever bytes it is told to.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    async fn connect(yard: &Yard) -> anyhow::Result<Self> {
        let uri: AMQPUri = yard.place().amqp_url().parse().map_err(anyhow::Error::msg)?;
        let address = (uri.authority.host.as_str(), uri.authority.port);
        let mut raw = Self { stream: TcpStream::connect(address).await? };
        raw.stream.write_all(b"AMQP\0\0\x09\x01").await?;
        raw.wait_for(10, 10).await?;
        let user = &uri.authority.userinfo;
        let response = format!("\0{}\0{}", user.username, user.password);
        let start_ok = [
            &b"\0\0\0\0"[..],
            &short(b"PLAIN"),
            &u32::try_from(response.len())?.to_be_bytes(),
            response.as_bytes(),
            &short(b"en_US"),
        ];
        raw.method(0, 10, 11, &start_ok.concat()).await?;
        raw.wait_for(10, 30).await?;
        raw.method(0, 10, 31, b"\0\x01\0\x02\0\0\0\0").await?;
        raw.method(0, 10, 40, &[&short(uri.vhost.as_bytes())[..], b"\0\0"].concat()).await?;
        raw.wait_for(10, 41).await?;
        raw.open_channel().await?;
        Ok(raw)
    }

    async fn open_channel(&mut self) -> anyhow::Result<()> {
        self.method(1, 20, 10, b"\0").await?;
        self.wait_for(20, 11).await
    }

    /// Publishes, and closes the channel: once that is answered, the queue has it.
    async fn publish(&mut self, poison: &Poison) -> anyhow::Result<()> {
        let to = [&b"\0\0"[..], &short(poison.exchange), &short(poison.key), b"\0"].concat();
        self.method(1, 60, 40, &to).await?;
        let mut header = b"\0\x3c\0\0".to_vec();
        header.extend((poison.body.len() as u64).to_be_bytes());
        header.extend(poison.flags.to_be_bytes());
        header.extend(&poison.properties);
        self.frame(2, 1, &header).await?;
        self.frame(3, 1, poison.body.as_bytes()).await?;
        self.method(1, 20, 40, b"\0\xc8\0\0\0\0\0").await?;
        self.wait_for(20, 41).await?;
        self.open_channel().await
    }

    async fn method(
        &mut self,
        on: u16,
        class: u16,
        method: u16,
        rest: &[u8],
    ) -> anyhow::Result<()> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), rest].concat();
        self.frame(1, on, &payload).await
    }

    async fn frame(&mut self, kind: u8, on: u16, payload: &[u8]) -> anyhow::Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let frame = [&[kind], &on.to_be_bytes()[..], &length, payload, b"\xce"].concat();
        Ok(self.stream.write_all(&frame).await?)
    }

    async fn wait_for(&mut self, class: u16, method: u16) -> anyhow::Result<()> {
        loop {
            let mut head = [0; 7];
            timeout(EVENTUALLY, self.stream.read_exact(&mut head)).await??;
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; length as usize + 1];
            timeout(EVENTUALLY, self.stream.read_exact(&mut payload)).await??;
            if head[0] != 1 {
                continue;
            }
            let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            match (number(0), number(2)) {
                got if got == (class, method) => return Ok(()),
                (10, 50) | (20, 40) => bail!("closed: {}", String::from_utf8_lossy(&payload[7..])),
                _ => {}
            }
        }
    }
}

fn short(bytes: &[u8]) -> Vec<u8> {
    let mut short = vec![u8::try_from(bytes.len()).unwrap_or(u8::MAX)];
    short.extend(bytes);
    short
}

/// A table with one header.
fn table(name: &[u8], value: &[u8]) -> Vec<u8> {
    let field = [&short(name)[..], value].concat();
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &field].concat()
}

struct Poison {
    exchange: &'static [u8],
    key: &'static [u8],
    flags: u16,
    properties: Vec<u8>,
    body: &'static str,
}

impl Poison {
    /// A submission.
    fn task(flags: u16, properties: &[u8], body: &'static str) -> Self {
        let (exchange, key) = (&b"taskyard.tasks"[..], &b"echo"[..]);
        Self { exchange, key, flags, properties: properties.to_vec(), body }
    }

    fn to(self, exchange: &'static [u8], key: &'static [u8]) -> Self {
        Self { exchange, key, ..self }
    }
}

/// Poison for every task queue that a client can reach, each with a body that tells it apart.
fn all_poison() -> Vec<Poison> {
    let bad_name = table(b"\xff\xfe", b"t\x01");
    let named = [&bad_name[..], &short(b"poison-named")].concat();
    let nested = table(b"fine", &[&b"F"[..], &table(b"\xc0", b"V")].concat());
    let in_array = [&b"A\0\0\0\x0aF\0\0\0\x05\x02\xff\xff"[..], b"t\0"].concat();
    let all = vec![
        Poison::task(MESSAGE_ID, &short(b"\xff"), "message_id"),
        Poison::task(TYPE, &short(b"caf\xe9"), "type"),
        Poison::task(HEADERS, &bad_name, "header name"),
        Poison::task(HEADERS | MESSAGE_ID, &named, "header name, but an id"),
        Poison::task(HEADERS, &nested, "nested header"),
        Poison::task(HEADERS, &table(b"list", &in_array), "in an array"),
        Poison::task(CORRELATION_ID, &short(b"\x80"), "correlation_id"),
        Poison::task(REPLY_TO, &short(b"\xf5"), "reply_to"),
        Poison::task(0, b"", "routing key").to(b"taskyard.tasks", b"echo.\xff"),
        Poison::task(TYPE, &short(b"\xff"), "report").to(b"taskyard.outcomes", b"default"),
        Poison::task(MESSAGE_ID, &short(b"\xff"), "stray").to(b"taskyard.outcomes", b"nobody\xff"),
        Poison::task(MESSAGE_ID, &short(b"\xff"), "again").to(b"", b"taskyard.again.default"),
        Poison::task(MESSAGE_ID, &short(b"\xff"), "parked").to(b"", b"taskyard.parked.default"),
        Poison::task(MESSAGE_ID, &short(b"\xff"), "lane").to(b"", b"taskyard.lane.default.3"),
    ];
    all
}

async fn yard() -> anyhow::Result<Yard> {
    let yard = Yard::builder().worker(|w| w.id("w1").slots(4).builtin()).start().await?;
    expect_poison(&yard);
    Ok(yard)
}

fn expect_poison(yard: &Yard) {
    // The first two are the library's own words.
    for text in [
        "parse error",
        "Connection error",
        "session lost",
        "message not understood",
        "cannot be read",
    ] {
        yard.expect_warnings(text);
    }
}

async fn good_tasks_run(yard: &Yard) -> anyhow::Result<()> {
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(yard.submit(&Submission::of("echo", format!("{n}"))).await?);
    }
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await
}

fn sessions_lost(yard: &Yard) -> usize {
    let logs = (0..yard.dispatcher_count()).map(|n| yard.dispatcher(n).log());
    logs.map(|log| log.lines().filter(|line| line.contains("session lost")).count()).sum()
}

/// Takes `count` messages out of `taskyard.rejected`: their errors, by their bodies.
async fn rejected(yard: &Yard, count: usize) -> anyhow::Result<BTreeMap<String, String>> {
    let channel = yard.channel().await?;
    let mut errors = BTreeMap::new();
    wait_until(&format!("{count} rejected messages"), EVENTUALLY, async || {
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = channel.basic_get("taskyard.rejected".into(), options).await? {
            let headers = got.properties.headers().clone().context("no headers")?;
            let text = |name: &str| match headers.inner().get(name) {
                Some(AMQPValue::LongString(text)) => text.to_string(),
                other => format!("{other:?}"),
            };
            ensure!(text("x-task-reason") == "rejected", "{headers:?}");
            let body = String::from_utf8_lossy(&got.data).into_owned();
            errors.insert(body, text("x-task-error"));
        }
        ensure!(errors.len() >= count, "{} so far: {errors:?}", errors.len());
        anyhow::Ok(())
    })
    .await?;
    Ok(errors)
}

async fn is_put_aside(yard: Yard) -> anyhow::Result<()> {
    good_tasks_run(&yard).await?;
    let mut raw = Raw::connect(&yard).await?;
    let poison = all_poison();
    for poison in &poison {
        raw.publish(poison).await.with_context(|| poison.body)?;
    }
    good_tasks_run(&yard).await?;
    let errors = rejected(&yard, poison.len()).await?;
    for Poison { body, .. } in &poison {
        let error = errors.get(*body).with_context(|| format!("{body}: {errors:?}"))?;
        ensure!(error.contains("UTF-8"), "{body}: {error}");
    }
    ensure!(errors.len() == poison.len(), "{errors:?}");
    ensure!(errors["type"].contains("its type"), "{errors:?}");
    ensure!(errors["routing key"].contains("its routing key"), "{errors:?}");
    ensure!(errors["nested header"].contains("\"fine\""), "{errors:?}");

    // The one with a usable id is on record like any other refusal.
    let task = yard.wait_state("poison-named", "rejected", EVENTUALLY).await?;
    ensure!(task.text("error").contains("UTF-8"), "{task:?}");
    ensure!(task.text("error_kind") == "rejected", "{task:?}");
    let lost = sessions_lost(&yard);
    ensure!((1..=8).contains(&lost), "{lost} sessions were lost");
    yard.finish()
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_blocks_nobody() -> anyhow::Result<()> {
    is_put_aside(yard().await?).await
}

#[tokio::test]
async fn it_is_put_aside_over_tls_and_by_the_next_leader() -> anyhow::Result<()> {
    let builder = Yard::builder().dispatchers(2).worker(|w| w.id("w1").slots(4).builtin());
    let yard = builder.over_tls().start().await?;
    expect_poison(&yard);
    is_put_aside(yard).await
}

#[tokio::test]
async fn neighbours_in_the_queue_stay() -> anyhow::Result<()> {
    let yard = yard().await?;
    yard.dispatcher(0).kill9()?;
    let mut raw = Raw::connect(&yard).await?;
    let mut ids = Vec::new();
    for n in 0..300 {
        ids.push(yard.submit(&Submission::of("echo", format!("{n}"))).await?);
        if n % 100 == 50 {
            raw.publish(&Poison::task(MESSAGE_ID, &short(b"\xff"), "between")).await?;
        }
    }
    yard.dispatcher(0).start()?;
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    rejected(&yard, 1).await?;
    let lost = sessions_lost(&yard);
    ensure!((1..=3).contains(&lost), "{lost} sessions were lost");
    yard.finish()
}

#[tokio::test]
async fn heartbeats_and_commands_that_cannot_be_read_are_only_dropped() -> anyhow::Result<()> {
    let yard = yard().await?;
    let mut raw = Raw::connect(&yard).await?;
    for _ in 0..5 {
        let poison = Poison::task(TYPE, &short(b"\xff"), "beat");
        raw.publish(&poison.to(b"taskyard.heartbeats", b"")).await?;
        good_tasks_run(&yard).await?;
    }
    ensure!(sessions_lost(&yard) == 0, "heartbeats ended a session");
    ensure!(yard.worker_field("w1", "state").await? == "up", "w1 is not up");

    let poison = Poison::task(CORRELATION_ID, &short(b"\xff"), "command");
    raw.publish(&poison.to(b"taskyard.commands", b"")).await?;
    good_tasks_run(&yard).await?;
    ensure!(sessions_lost(&yard) <= 2, "one command ended many sessions");
    yard.finish()
}

/// A type that AMQP does not have is refused by RabbitMQ itself, which ends the publisher's connection.
#[tokio::test]
async fn unknown_types_of_headers_do_not_get_in() -> anyhow::Result<()> {
    let yard = yard().await?;
    let mut raw = Raw::connect(&yard).await?;
    let poison = Poison::task(HEADERS, &table(b"h", b"Zoops"), "unknown type");
    let refused = timeout(Duration::from_secs(20), raw.publish(&poison)).await?;
    ensure!(refused.is_err(), "RabbitMQ took it");
    good_tasks_run(&yard).await?;
    ensure!(sessions_lost(&yard) == 0, "a session was lost");
    yard.finish()
}
