//! Messages that cannot be read, out of the way.

use crate::lead::{BACKLOG_PREFETCH, PREFETCH_SLACK};
use crate::pool::Pool;
use taskyard_common::amqp::{self, AmqpError, Channel, Garbled, Suspect};
use taskyard_model::PRIORITY_MAX;
use tracing::{info, warn};

/// Dead letters to look at: as many as one command reads.
const DEAD_MAX: u32 = 10_000;

impl Pool {
    /// Where a message that cannot be read has ended a session, it would end the next one as well:
    /// what it is in is looked through first. Nothing is done otherwise.
    pub(crate) async fn clear_the_way(&self, channel: &Channel) -> Result<(), AmqpError> {
        if !self.garbled.iter().any(Garbled::is_set) {
            return Ok(());
        }
        info!(pool = %self.name, "a message could not be read: looking for it");
        // Only a new token matters, and the next thing we do is to publish one.
        amqp::purge(channel, &self.names.leader(&self.name)).await?;
        let found = amqp::rescue(&self.amqp, &self.suspects()).await?;
        for unreadable in &found {
            warn!(queue = unreadable.queue, fault = unreadable.fault, "message not understood");
        }
        info!(pool = %self.name, found = found.len(), "looked for messages that cannot be read");
        Ok(())
    }

    /// Every queue that this process consumes, as far as a consumer gets before the first ack.
    fn suspects(&self) -> Vec<Suspect> {
        let (names, pool) = (&self.names, &self.name);
        let window = u32::try_from(self.settings.window_tasks + PREFETCH_SLACK).unwrap_or(u32::MAX);
        let window = window.min(u16::MAX.into());
        let suspect = |queue: String, messages_max: u32| Suspect {
            queue,
            messages_max,
            remains_to: names.rejected(),
        };
        let mut suspects = vec![
            suspect(names.outcomes_queue(pool), window),
            suspect(names.again_queue(pool), window),
            suspect(names.commands_queue(pool), window),
            suspect(names.parked(pool), BACKLOG_PREFETCH.into()),
            suspect(names.dead(), DEAD_MAX),
        ];
        let lanes = (0..=PRIORITY_MAX).map(|lane| names.lane(pool, lane));
        suspects.extend(lanes.map(|lane| suspect(lane, BACKLOG_PREFETCH.into())));
        // The remains of a submission are judged like any other: its state tells, if it has an id.
        let submit = names.submit(pool);
        suspects.push(Suspect { remains_to: submit.clone(), ..suspect(submit, window) });
        suspects
    }
}
