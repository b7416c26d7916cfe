use super::facts::{Asked, Broker, Facts, Publishing, Right, Thing};
use super::role::{Act, Expected};
use crate::connect::Reach;
use crate::exit::chain;
use taskyard_common::amqp::{
    AmqpError, AmqpSettings, Comparison, Connection, Counts, Probe, QueueKind, Refusal, Server,
    exchanges, inner_queues, private_queue, shared_queues, ways_in,
};
use taskyard_model::WorkerId;
use taskyard_producer::{Command, CommandError};

/// What connections are called in RabbitMQ's lists.
const NAME: &str = "taskyard doctor";
/// A doctor waits for the broker longer than a worker does, but not for ever.
const HEARTBEAT_S: u16 = 10;
/// The largest payload of a task.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Looks at RabbitMQ over AMQP; an error where it is out of reach.
pub(super) async fn gather(
    amqp: &AmqpSettings,
    facts: &Facts,
    worker: Option<&WorkerId>,
) -> Asked<Broker> {
    let said = |error: AmqpError| chain(&error);
    let open = async || Connection::open(amqp, NAME, HEARTBEAT_S).await;
    let mut looking = Probe::new(open().await.map_err(said)?);
    let (user, vhost) = (looking.connection().user(), looking.connection().vhost());
    let exchanges = look_at_exchanges(&mut looking, facts).await.map_err(said)?;
    let queues = look_at_queues(&mut looking, facts).await.map_err(said)?;
    // An alarm stops whatever shares a connection with what is published.
    let mut trying = Probe::new(open().await.map_err(said)?);
    let publishing = try_publishing(&mut trying).await.map_err(said);
    let rights = match publishing {
        Ok(Publishing::Blocked) => Err("RabbitMQ reads nothing at present: an alarm".to_owned()),
        _ => try_acts(&mut trying, facts.role.acts(&facts.names, worker)).await.map_err(said),
    };
    looking.connection().close().await;
    trying.connection().close().await;
    let server = Server::ask(amqp).await.map_err(said);
    Ok(Broker { server, user, vhost, exchanges, queues, publishing, rights })
}

async fn look_at_exchanges(probe: &mut Probe, facts: &Facts) -> Result<Vec<Thing>, AmqpError> {
    let mut things = Vec::new();
    let mut may_compare = facts.role.compares();
    for exchange in exchanges(&facts.names) {
        let name = exchange.name.clone();
        let mut thing = Thing { name, counts: None, comparison: None };
        if probe.has_exchange(&exchange.name).await? {
            thing.counts = Some(Counts::default());
            if may_compare {
                let comparison = probe.compare_exchange(&exchange).await?;
                may_compare = comparison != Comparison::Forbidden;
                thing.comparison = Some(comparison);
            }
        }
        things.push(thing);
    }
    Ok(things)
}

async fn look_at_queues(probe: &mut Probe, facts: &Facts) -> Result<Vec<Thing>, AmqpError> {
    let mut wanted = shared_queues(&facts.names);
    for pool in &facts.pools {
        wanted.extend(ways_in(&facts.names, pool));
        wanted.extend(inner_queues(&facts.names, pool));
    }
    let mut things = Vec::new();
    let mut may_compare = facts.role.compares();
    for (name, kind) in wanted {
        let mut counts = probe.queue(&name).await?;
        if counts == Some(Counts::default()) && kind == QueueKind::Leader {
            // A quorum queue that is merely slow says that it has nothing and nobody.
            counts = probe.queue(&name).await?;
        }
        let mut comparison = None;
        if counts.is_some() && may_compare {
            let compared = probe.compare_queue(&name, kind.arguments(&facts.names)).await?;
            may_compare = compared != Comparison::Forbidden;
            comparison = Some(compared);
        }
        things.push(Thing { name, counts, comparison });
    }
    Ok(things)
}

/// With the default exchange and no queue: even a broker that took the message would drop it.
async fn try_publishing(probe: &mut Probe) -> Result<Publishing, AmqpError> {
    // Small ones first, two since RabbitMQ reads one of them under an alarm: what it does not read
    // must not fill its socket.
    for bytes in [0, 0, PAYLOAD_BYTES_MAX] {
        match probe.publish("", bytes).await? {
            Refusal::Blocked => return Ok(Publishing::Blocked),
            Refusal::TooLarge(why) => return Ok(Publishing::TooLarge(why)),
            Refusal::Faulty | Refusal::Forbidden => {}
        }
    }
    Ok(Publishing::Fine)
}

async fn try_acts(probe: &mut Probe, acts: Vec<Expected>) -> Result<Vec<Right>, AmqpError> {
    let mut rights = Vec::new();
    for expected in acts {
        let is_granted = match &expected.act {
            Act::Publish(exchange) => probe.publish(exchange, 0).await? != Refusal::Forbidden,
            Act::Consume(queue) => probe.may_read(queue).await?,
            Act::OwnQueue(bound_to) => may_have_a_queue(probe, bound_to.as_deref()).await?,
        };
        rights.push(Right { expected, is_granted });
    }
    Ok(rights)
}

/// Makes one of this connection alone, which goes with it.
async fn may_have_a_queue(probe: &Probe, bound_to: Option<&str>) -> Result<bool, AmqpError> {
    let channel = probe.connection().channel().await?;
    let key = "taskyard.doctor.nowhere";
    match private_queue(&channel, bound_to.map(|exchange| (exchange, key))).await {
        Ok(_) => Ok(true),
        // Nothing to bind to yet; the queue itself was granted.
        Err(AmqpError::NotFound(_)) => Ok(true),
        Err(AmqpError::Denied { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks leaders for no dead letters at all: whoever answers, leads.
pub(super) async fn ask_leaders(reach: &Reach) -> Asked<()> {
    let commands = reach.commands().await.map_err(|failure| failure.what)?;
    match commands.ask(&Command::Dead { limit: 0 }, None).await {
        // Whatever the answer is.
        Ok(_) => Ok(()),
        Err(CommandError::Unreachable(error)) => Err(chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}
