//! Systems to be hurt.

use anyhow::{Context, ensure};
use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use taskyard_tests::{EVENTUALLY, Servers, Yard, wait_until};

use crate::ledger::{Cost, Ledger, Memory, REPLIES};
use crate::load::Load;

/// What our AMQP library says of connections that are cut, or closed with 541 (a channel of the
/// broker crashes where a quorum queue is deleted under a publish).
const EXPECTED: &[&str] =
    &["error doing IO", "We haven't received anything from the server", "Connection closed"];

/// Submissions that are confirmed before the fault.
const BEFORE: usize = 600;

/// Two dispatchers and three workers on servers of their own, whose queues would survive a kill.
pub(crate) async fn yard() -> anyhow::Result<Yard> {
    let mut builder = Yard::builder().dispatchers(2).own_servers(Servers::builder());
    for id in ["w1", "w2", "w3"] {
        builder = builder.worker(|w| w.id(id).slots(8).builtin());
    }
    let yard = builder.start().await?;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    yard.channel().await?.queue_declare(REPLIES.into(), options, arguments).await?;
    yard.servers().rabbitmq().settle(yard.place().vhost()).await?;
    Ok(yard)
}

/// Lets the fault happen in the middle of a stream of submissions.
///
/// # Errors
///
/// When the fault could not be done, or submissions were not confirmed in the end.
pub(crate) async fn under_load(
    yard: &Yard,
    fault: impl AsyncFnOnce(&Yard) -> anyhow::Result<()>,
) -> anyhow::Result<Ledger> {
    let load = Load::default();
    let fault = async {
        load.reached(BEFORE).await?;
        fault(yard).await
    };
    let (ledger, fault) = tokio::join!(load.run(yard), fault);
    fault?;
    ledger
}

/// The end of a test: all questions about the stream, and nobody panicked or saw a defect of ours.
///
/// # Errors
///
/// With what is wrong.
pub(crate) async fn finish(
    name: &str,
    yard: Yard,
    ledger: &Ledger,
    memory: Memory,
) -> anyhow::Result<Cost> {
    let cost = ledger.settle(&yard, memory).await?;
    report(name, &format!("{cost:?}"));
    for process in yard.processes() {
        let log = process.log();
        let mut lines = log.lines();
        let bad = lines.find(|line| line.contains("panicked at") || is_error(name, line));
        ensure!(bad.is_none(), "{}: {bad:?}", process.name());
    }
    yard.discard();
    Ok(cost)
}

/// Whether a line says that a person must act, where nobody must.
fn is_error(name: &str, line: &str) -> bool {
    let is_told = name.ends_with("queues") && line.contains("was a queue deleted or purged");
    line.contains(" ERROR ") && !is_told && !EXPECTED.iter().any(|text| line.contains(text))
}

/// Tells a measured value to who runs the tests.
#[expect(clippy::print_stderr, reason = "the only output that the test harness captures")]
pub(crate) fn report(name: &str, text: &str) {
    eprintln!("{name}: {text}");
}

/// Number of the dispatcher that leads; waits for one.
///
/// # Errors
///
/// When none does.
pub(crate) async fn leader(yard: &Yard) -> anyhow::Result<usize> {
    wait_until("a leader", EVENTUALLY, async || {
        for number in 0..yard.dispatcher_count() {
            if leads(yard, number).await? {
                return Ok(number);
            }
        }
        anyhow::bail!("nobody leads")
    })
    .await
}

/// Whether that dispatcher leads; one that does not answer leads not.
///
/// # Errors
///
/// Never, so far.
pub(crate) async fn leads(yard: &Yard, number: usize) -> anyhow::Result<bool> {
    let answer =
        tokio::time::timeout(std::time::Duration::from_secs(1), yard.http_get(number, "/readyz"));
    Ok(matches!(answer.await, Ok(Ok((200, text))) if text.contains("leading")))
}

/// The number of the other one of two dispatchers.
///
/// # Errors
///
/// When there are not two.
pub(crate) fn other(yard: &Yard, number: usize) -> anyhow::Result<usize> {
    (0..yard.dispatcher_count()).find(|&other| other != number).context("a second dispatcher")
}
