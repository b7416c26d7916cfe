//! What a leader consumes, and what it does now and then.

use crate::cars::Track;
use crate::consumers::{consume, delivered};
use crate::intake::From;
use crate::pool::{Input, Pool};
use crate::session::{Session, ack_all};
use crate::token::{self, Duty};
use std::time::Instant;
use taskyard_common::amqp::{self, AmqpError, ConsumeOptions};
use taskyard_model::Timestamp;
use taskyard_scheduler::{Event, Reservoir};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Messages of the backlog under way at once; each may carry 64 tasks.
pub(crate) const BACKLOG_PREFETCH: u16 = 32;
/// Unacked messages beyond what the window holds: those being written, published, acked.
pub(crate) const PREFETCH_SLACK: usize = 1_024;

impl Pool {
    /// Begins to lead: from here on this process consumes.
    pub(crate) async fn lead(
        &mut self,
        session: &mut Session,
        now: Timestamp,
    ) -> Result<(), AmqpError> {
        info!(pool = %self.name, "leading");
        let mut effects = Vec::new();
        self.scheduler.handle(now, Event::SessionBegan, &mut effects);
        for track in Track::ALL {
            let channel = session.consuming.channel().await?;
            let (acks, settled) = mpsc::unbounded_channel();
            tokio::spawn(ack_all(channel.clone(), settled, session.inputs.clone()));
            session.acks.insert(track, acks);
            session.channels.insert(track, channel);
        }
        let window = self.settings.window_tasks + PREFETCH_SLACK;
        let options = ConsumeOptions::prefetch(u16::try_from(window).unwrap_or(u16::MAX));
        for (from, queue) in [
            (From::Outcomes, self.names.outcomes_queue(&self.name)),
            (From::Again, self.names.again_queue(&self.name)),
        ] {
            let (channel, stop) = (&session.channels[&from.track()], CancellationToken::new());
            consume(
                channel,
                &queue,
                "lead",
                options,
                session.inputs.clone(),
                delivered(from),
                stop,
            )
            .await?;
        }
        self.read_submissions(session, true).await?;
        let commands = session.consuming.channel().await?;
        let command = |delivery| Input::Command(Box::new(delivery));
        let (queue, stop) = (self.names.commands_queue(&self.name), CancellationToken::new());
        let no_ack = ConsumeOptions::no_ack();
        consume(&commands, &queue, "commands", no_ack, session.inputs.clone(), command, stop)
            .await?;
        self.prove_dead_lettering(session).await?;
        self.read_books(session);
        self.carry(session, &mut effects).await?;
        self.say_leading(session);
        Ok(())
    }

    /// Begins or ceases to take in submissions.
    pub(crate) async fn read_submissions(
        &self,
        session: &mut Session,
        is_on: bool,
    ) -> Result<(), AmqpError> {
        let channel = session.channels[&Track::Submit].clone();
        if !is_on {
            let Some((tag, stop)) = session.submit.take() else { return Ok(()) };
            stop.cancel();
            return amqp::cancel(&channel, &tag).await;
        }
        session.generation += 1;
        let (tag, stop) = (format!("submit-{}", session.generation), CancellationToken::new());
        let window = self.settings.window_tasks + PREFETCH_SLACK;
        let options = ConsumeOptions::prefetch(u16::try_from(window).unwrap_or(u16::MAX));
        let queue = self.names.submit(&self.name);
        let inputs = session.inputs.clone();
        consume(&channel, &queue, &tag, options, inputs, delivered(From::Submit), stop.clone())
            .await?;
        session.submit = Some((tag, stop));
        Ok(())
    }

    /// Begins or ceases to read a part of the backlog.
    pub(crate) async fn fill(
        &self,
        session: &mut Session,
        from: Reservoir,
        is_on: bool,
    ) -> Result<(), AmqpError> {
        let channel = session.channels[&Track::Backlog].clone();
        if !is_on {
            let Some((tag, stop)) = session.filling.remove(&from) else { return Ok(()) };
            stop.cancel();
            return amqp::cancel(&channel, &tag).await;
        }
        let (queue, source) = match from {
            Reservoir::Lane(lane) => (self.names.lane(&self.name, lane), From::Lane(lane)),
            Reservoir::Parked => {
                self.begin_parked_pass(session);
                (self.names.parked(&self.name), From::Parked)
            }
        };
        session.generation += 1;
        let (tag, stop) = (format!("backlog-{}", session.generation), CancellationToken::new());
        let (options, inputs) =
            (ConsumeOptions::prefetch(BACKLOG_PREFETCH), session.inputs.clone());
        consume(&channel, &queue, &tag, options, inputs, delivered(source), stop.clone()).await?;
        session.filling.insert(from, (tag, stop));
        Ok(())
    }

    /// What has to be done now and then; whether this process may go on.
    pub(crate) async fn duties(
        &mut self,
        session: &mut Session,
        now: Timestamp,
    ) -> Result<bool, AmqpError> {
        match session.role.duty(Instant::now()) {
            Duty::Wait => {}
            Duty::StepDown => return Ok(false),
            Duty::Publish => token::publish(&session.publisher, &self.names, &self.name).await?,
            Duty::Refresh(tag) => {
                self.say_leading(session);
                let (publisher, channel) =
                    (session.publisher.clone(), session.leader_channel.clone());
                let refresh =
                    token::refresh(publisher, channel, self.names.clone(), self.name.clone(), tag);
                let inputs = session.inputs.clone();
                tokio::spawn(async move {
                    if refresh.await.is_err() {
                        // Nobody listens: the session is over already.
                        let _ = inputs.send(Input::Failed("the token could not be passed on"));
                    }
                });
            }
        }
        if session.role.is_leading() {
            self.watch_memory(session).await?;
        }
        self.metrics.observe(self.scheduler.gauges(), session.publishing.is_blocked());
        self.board.tick(&self.scheduler, session.role.is_leading(), now);
        Ok(true)
    }

    /// Payloads that are held are bounded in bytes: intake pauses above, and goes on below half.
    async fn watch_memory(&self, session: &mut Session) -> Result<(), AmqpError> {
        let held = session.cars.bytes() + session.gate.bytes();
        let most = self.settings.window_bytes;
        match session.submit.is_some() {
            true if held > most.saturating_mul(2) => {
                warn!(held, "payloads held exceed the window: intake pauses");
                self.read_submissions(session, false).await
            }
            false if held < most => self.read_submissions(session, true).await,
            _ => Ok(()),
        }
    }
}
