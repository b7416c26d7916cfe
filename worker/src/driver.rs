use crate::engine::{Engine, Now, Order, Settle, Word};
use crate::health::Health;
use crate::machine;
use crate::run;
use crate::session::{SessionEvent, Uplink};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::time::{Duration, Instant};
use taskyard_common::amqp::{Message, Publication};
use taskyard_common::names::Names;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::wire::{Heartbeat, WorkerState};
use taskyard_model::PoolName;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Between two heartbeats, by the contract.
const BEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Words and events taken in one turn: what they come to is published and settled together.
const TURN: usize = 256;
/// How long after the grace reports may still be on their way: handlers get some seconds to end, and
/// the broker some to confirm (or to come back).
const LEAVE_WITHIN: Duration = Duration::from_secs(12);
/// How long the broker may take to end the consumer.
const DRY_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;

/// How the driver ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is settled, or a second signal said that it need not be.
    Done,
    /// Another process has this id; what the dispatcher says about it.
    Replaced(String),
    /// The broker did not confirm what became of so many attempts in time.
    Unreported(usize),
}

/// The task that owns the engine: tells it what happens and does what it asks for.
pub(crate) struct Driver {
    pub(crate) engine: Engine,
    /// What heartbeats say besides what the engine knows.
    pub(crate) beat: Heartbeat,
    pub(crate) names: Names,
    pub(crate) pool: PoolName,
    pub(crate) grace: Duration,
    /// Where handlers run: not here, so that one that blocks its thread blocks no heartbeat.
    pub(crate) handlers: Handle,
    pub(crate) words: (mpsc::UnboundedSender<Word>, mpsc::UnboundedReceiver<Word>),
    pub(crate) events: mpsc::Receiver<SessionEvent>,
    pub(crate) beats: watch::Sender<Bytes>,
    /// Fired where nothing new is to be consumed.
    pub(crate) draining: CancellationToken,
    pub(crate) shutdown: Shutdown,
    pub(crate) health: Health,
    pub(crate) state: DriverState,
}

/// What changes while it runs.
#[derive(Default)]
pub(crate) struct DriverState {
    uplink: Option<Uplink>,
    /// Counts sessions.
    session: u64,
    beat_at: Option<Instant>,
    has_said_draining: bool,
    cancel_at: Option<Instant>,
    leave_at: Option<Instant>,
    replaced: Option<String>,
    has_warned_of_return: bool,
    /// What the session has not been told yet to settle.
    settles: Vec<Settle>,
    /// Whether the session has delivered all that it will; not waited for after `dry_by`.
    is_dry: bool,
    dry_by: Option<Instant>,
}

impl Driver {
    /// Runs until drained.
    pub(crate) async fn run(mut self) -> Ending {
        let mut unconfirmed = FuturesUnordered::new();
        let (mut words, mut events) = (Vec::new(), Vec::new());
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        loop {
            let wake_at = tokio::time::Instant::from_std(self.wake_at());
            if alarm.deadline() != wake_at {
                alarm.as_mut().reset(wake_at);
            }
            let shutdown = self.shutdown.clone();
            tokio::select! {
                biased;
                () = shutdown.now.cancelled() => {
                    self.engine.abort_all();
                    return Ending::Done;
                }
                () = shutdown.drain.cancelled(), if !self.draining.is_cancelled() => self.drain(),
                Some(published) = unconfirmed.next(), if !unconfirmed.is_empty() => {
                    self.published(published);
                }
                1.. = self.words.1.recv_many(&mut words, TURN) => {
                    words.drain(..).for_each(|word| self.word(word));
                }
                1.. = self.events.recv_many(&mut events, TURN) => {
                    events.drain(..).for_each(|event| self.event(event));
                }
                () = &mut alarm => {}
            }
            self.turn();
            while let Some(publication) = self.publish().await {
                unconfirmed.push(publication);
            }
            if let Some(ending) = self.ending() {
                return ending;
            }
        }
    }

    fn word(&mut self, word: Word) {
        match word {
            Word::Ended { key, ended, ran_us } => self.engine.ended(now(), &key, ended, ran_us),
            Word::Noted(key) => self.engine.noted(now(), &key),
        }
    }

    fn event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Up(uplink) => {
                self.state.session += 1;
                self.state.uplink = Some(uplink);
                self.state.beat_at = None;
                self.state.has_warned_of_return = false;
            }
            SessionEvent::Delivered(incoming) => self.engine.delivered(now(), incoming),
            SessionEvent::Control(control) => match self.engine.control(now(), control) {
                Order::Nothing => {}
                Order::Drain => self.drain(),
                Order::Stop(why) => self.stop(why),
            },
            SessionEvent::Down => {
                self.state.uplink = None;
                self.state.settles.clear();
                self.engine.disconnected();
            }
            SessionEvent::Dry => self.state.is_dry = true,
        }
    }

    /// Does what is due, and what the engine asks for except publishing.
    fn turn(&mut self) {
        self.health.turned();
        let now = now();
        self.engine.tick(now);
        if self.state.cancel_at.take_if(|at| *at <= now.instant).is_some() {
            self.engine.cancel_all(now);
        }
        self.state.is_dry |= self.state.dry_by.take_if(|at| *at <= now.instant).is_some();
        for start in self.engine.take_starts() {
            run::spawn(&self.handlers, start, &self.beat.id, &self.words.0);
        }
        self.settle();
        self.beat(now.instant);
    }

    /// Passes on what is settled, if the channel's owner has room for it; else it gathers.
    fn settle(&mut self) {
        let Some(uplink) = &self.state.uplink else { return };
        if self.state.settles.is_empty() {
            self.state.settles = self.engine.take_settles();
        }
        if !self.state.settles.is_empty()
            && let Ok(permit) = uplink.settles.try_reserve()
        {
            permit.send(std::mem::take(&mut self.state.settles));
        }
    }

    /// Writes a heartbeat where one is due. What is new with the state is said at once.
    fn beat(&mut self, now: Instant) {
        let is_draining = self.engine.is_draining();
        let is_new =
            std::mem::replace(&mut self.state.has_said_draining, is_draining) != is_draining;
        if self.state.replaced.is_some() {
            // The other one speaks for this id.
            self.state.beat_at = None;
            return;
        }
        if !is_new && self.state.beat_at.is_some_and(|at| now < at) {
            return;
        }
        self.state.beat_at = Some(now + BEAT_INTERVAL);
        self.beat.state = if is_draining { WorkerState::Draining } else { WorkerState::Up };
        self.beat.slots = self.engine.slots().max(1);
        self.beat.holding = self.engine.holding();
        self.beat.load = machine::load();
        self.beat.memory_free = machine::memory_free();
        self.beats.send_replace(self.beat.write().into());
    }

    /// Hands the next message of reports over; what becomes of it.
    async fn publish(&mut self) -> Option<impl Future<Output = Published> + Send + use<>> {
        let uplink = self.state.uplink.as_ref()?;
        let batch = self.engine.next_batch(now())?;
        let (exchange, key) = (self.names.outcomes(), self.pool.as_str());
        let message = Message::to_exchange(exchange, key, batch.properties, batch.body);
        let outcome = uplink.publisher.send(message).await;
        let (session, number) = (self.state.session, batch.number);
        Some(async move { Published { session, number, outcome: outcome.await } })
    }

    fn published(&mut self, published: Published) {
        let Published { session, number, outcome } = published;
        let Some(uplink) = self.state.uplink.as_ref().filter(|_| session == self.state.session)
        else {
            // Its reports go out again already.
            return;
        };
        match outcome {
            Publication::Confirmed => self.engine.confirmed(now(), number),
            Publication::Refused => self.engine.refused(now(), number),
            Publication::Returned(why) => {
                if !std::mem::replace(&mut self.state.has_warned_of_return, true) {
                    warn!(why, "no queue takes reports; trying again");
                }
                self.engine.refused(now(), number);
            }
            // They go out again in the next session.
            Publication::Unknown => uplink.broken.cancel(),
        }
    }

    fn drain(&mut self) {
        if self.draining.is_cancelled() {
            return;
        }
        info!(held = self.engine.held(), grace = ?self.grace, "draining");
        self.draining.cancel();
        self.engine.drain();
        let now = Instant::now();
        self.state.dry_by = Some(now + DRY_WITHIN);
        self.state.cancel_at = now.checked_add(self.grace);
        self.state.leave_at = self.state.cancel_at.and_then(|at| at.checked_add(LEAVE_WITHIN));
    }

    /// Another process has this id, and it is the one that stays.
    fn stop(&mut self, why: String) {
        if self.state.replaced.is_some() {
            return;
        }
        error!(
            worker = %self.beat.id, boot = self.beat.boot, why,
            "another process has this worker id; ending: give each worker an id of its own"
        );
        self.grace = Duration::ZERO;
        self.drain();
        self.state.cancel_at = Some(Instant::now());
        self.state.leave_at = Some(Instant::now() + LEAVE_WITHIN);
        self.state.replaced = Some(why);
    }

    fn ending(&self) -> Option<Ending> {
        if !self.draining.is_cancelled() {
            return None;
        }
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        // What is on its way here when the consumer is cancelled is better given back than left to
        // the next process of this name, which would have to take it for a dead one's.
        let is_dry = self.state.uplink.is_none() || self.state.is_dry;
        let is_done = is_dry && self.engine.is_idle() && self.state.settles.is_empty();
        if !is_done && !is_over(self.state.leave_at) {
            return None;
        }
        Some(match (&self.state.replaced, self.engine.held()) {
            (Some(why), _) => Ending::Replaced(why.clone()),
            (None, 0) => Ending::Done,
            (None, held) => Ending::Unreported(held),
        })
    }

    fn wake_at(&self) -> Instant {
        let state = &self.state;
        let own =
            [self.engine.deadline(), state.beat_at, state.cancel_at, state.leave_at, state.dry_by];
        own.into_iter().flatten().min().unwrap_or_else(Instant::now)
    }
}

/// What became of a message of reports.
struct Published {
    session: u64,
    number: u64,
    outcome: Publication,
}

/// The present.
fn now() -> Now {
    Now { instant: Instant::now(), at: taskyard_common::now() }
}
