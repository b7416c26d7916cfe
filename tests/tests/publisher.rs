//! Confirms and returns, as RabbitMQ and lapin really give them.

use bytes::Bytes;
use futures_util::future::join_all;
use taskyard_common::amqp::{
    AmqpSettings, Connection, Headers, Message, Properties, Publication, Publisher,
};
use taskyard_tests::Servers;

/// Every third message goes to a queue that does not exist; many share a confirm.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_returned_is_told_of_the_very_message() -> anyhow::Result<()> {
    const MESSAGES: usize = 6_000;
    let servers = Servers::shared().await?;
    let place = servers.place().await?;
    let settings = AmqpSettings { address: place.amqp_url().parse()?, tls_ca: None };
    let connection = Connection::open(&settings, "publisher", 10).await?;
    let channel = connection.channel().await?;
    let options = lapin::options::QueueDeclareOptions::default();
    channel.queue_declare("there".into(), options, Headers::default()).await?;
    let publisher = Publisher::open(&connection).await?;
    let mut publications = Vec::new();
    for n in 0..MESSAGES {
        let queue = if n % 3 == 0 { "gone" } else { "there" };
        let body = Bytes::from(n.to_string());
        publications
            .push(publisher.send(Message::to_queue(queue, Properties::default(), body)).await);
    }
    for (n, publication) in join_all(publications).await.into_iter().enumerate() {
        let is_as_it_was = match n % 3 {
            0 => matches!(publication, Publication::Returned(_)),
            _ => publication == Publication::Confirmed,
        };
        anyhow::ensure!(is_as_it_was, "message {n}: {publication:?}");
    }
    Ok(())
}
