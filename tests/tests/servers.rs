//! The private servers themselves: they keep what they promise, and leave nothing behind.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use taskyard_tests::{EVENTUALLY, Servers, wait_until};

/// Tells a copy of this test program to start servers and wait to be killed.
const HOLD: &str = "TASKYARD_TESTS_HOLD_SERVERS";

async fn channel(url: &str) -> anyhow::Result<Channel> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn declare_quorum_queue(channel: &Channel, name: &str) -> anyhow::Result<u32> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let queue =
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(queue.message_count())
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> anyhow::Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirmation =
        channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "{confirmation:?}");
    Ok(())
}

#[tokio::test]
async fn confirmed_message_survives_kill9_of_the_broker() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let url = servers.rabbitmq().url("/");
    let before = channel(&url).await?;
    declare_quorum_queue(&before, "kept").await?;
    publish(&before, "kept", b"precious").await?;
    servers.rabbitmq().settle("/").await?;

    servers.rabbitmq().kill9()?;
    servers.rabbitmq().start().await?;

    let after = channel(&url).await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        after.basic_consume("kept".into(), "".into(), options, FieldTable::default()).await?;
    let delivery =
        tokio::time::timeout(EVENTUALLY, deliveries.next()).await?.context("ended")??;
    assert_eq!(delivery.data, b"precious");
    Ok(())
}

#[tokio::test]
async fn redis_keeps_synced_data_over_kill9_and_can_lose_it_on_demand() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let client = redis::Client::open(servers.redis().url(3))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("SET").arg(&["key", "value"]).query_async::<()>(&mut connection).await?;
    // Returns when the append-only file is on disk, where Redis has WAITAOF (7.2); the file is written
    // at the end of every turn anyway, so kill -9 of the process alone loses nothing.
    servers.redis().kill9()?;
    servers.redis().start().await?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let value: Option<String> = redis::cmd("GET").arg("key").query_async(&mut connection).await?;
    assert_eq!(value.as_deref(), Some("value"));

    servers.redis().kill9()?;
    servers.redis().lose_data()?;
    servers.redis().start().await?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let value: Option<String> = redis::cmd("GET").arg("key").query_async(&mut connection).await?;
    assert_eq!(value, None);
    Ok(())
}

#[tokio::test]
async fn places_do_not_see_each_other() -> anyhow::Result<()> {
    let servers = Servers::shared().await?;
    let (here, there) = (servers.place().await?, servers.place().await?);
    assert_ne!(here.vhost(), there.vhost());
    assert_ne!(here.redis_url(), there.redis_url());
    for place in [&here, &there] {
        let channel = channel(place.amqp_url()).await?;
        assert_eq!(declare_quorum_queue(&channel, "same-name").await?, 0);
        publish(&channel, "same-name", b"mine").await?;
    }
    Ok(())
}

#[tokio::test]
async fn both_servers_speak_tls_when_asked_to() -> anyhow::Result<()> {
    let servers = Servers::builder().tls().start().await?;
    let ca = std::fs::read_to_string(servers.ca_file().context("asked for")?)?;
    let place = servers.place().await?;
    let config = lapin::tcp::OwnedTLSConfig { identity: None, cert_chain: Some(ca.clone()) };
    let connection = Connection::connect_with_config(
        place.amqps_url().context("asked for")?,
        ConnectionProperties::default(),
        config,
        lapin::runtime::default_runtime()?,
    )
    .await?;
    connection.create_channel().await?;

    let certificates =
        redis::TlsCertificates { client_tls: None, root_cert: Some(ca.into_bytes()) };
    let client =
        redis::Client::build_with_tls(place.rediss_url().context("asked for")?, certificates)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async::<String>(&mut connection).await?;
    Ok(())
}

#[tokio::test]
async fn dropped_servers_leave_nothing_behind() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let folder = servers.folder().to_owned();
    assert!(!living_processes_of(&folder)?.is_empty());
    drop(servers);
    nothing_is_left_of(&folder).await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the copy tells the test where its servers are")]
async fn a_killed_test_program_leaves_nothing_behind() -> anyhow::Result<()> {
    if std::env::var_os(HOLD).is_some() {
        let servers = Servers::start().await?;
        println!("{HOLD}={}", servers.folder().display());
        std::future::pending::<()>().await;
    }
    let mut copy = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_killed_test_program_leaves_nothing_behind", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(copy.stdout.take().context("it was piped")?);
    let folder = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(&format!("{HOLD}="))?.1.to_owned()))
        .context("the copy ended without starting servers")?;
    let folder = Path::new(&folder);
    let before = living_processes_of(folder)?;
    copy.kill()?;
    copy.wait()?;
    assert!(!before.is_empty());
    nothing_is_left_of(folder).await
}

async fn nothing_is_left_of(folder: &Path) -> anyhow::Result<()> {
    wait_until("end of all processes and of the folder", Duration::from_secs(10), async || {
        let left = living_processes_of(folder)?;
        ensure!(left.is_empty(), "processes {left:?}");
        ensure!(!folder.exists(), "{} exists", folder.display());
        Ok(())
    })
    .await
}

/// Processes that work in the folder (on Linux, by `/proc`) or name it in their arguments. Zombies that
/// nobody has reaped yet are gone as far as we are concerned.
fn living_processes_of(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let listing = Command::new("ps").args(["-A", "-o", "pid=,stat=,args="]).output()?;
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let folder_text = folder.display().to_string();
    let mut found = BTreeSet::new();
    for line in listing.lines() {
        let mut words = line.split_whitespace();
        let (Some(pid), Some(stat)) = (words.next(), words.next()) else { continue };
        let works_there = std::fs::read_link(format!("/proc/{pid}/cwd"))
            .is_ok_and(|directory| directory.starts_with(folder));
        if !stat.starts_with('Z') && (works_there || line.contains(&folder_text)) {
            found.insert(line.trim().to_owned());
        }
    }
    Ok(found)
}
