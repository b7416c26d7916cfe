use super::event::{Event, Queue};
use super::model::Wanted;
use crate::connect::Reach;
use crate::counts::Counts;
use crate::exit::{Failure, chain};
use crate::stats;
use std::time::Duration;
use taskyard_common::amqp::{AmqpError, AmqpSettings, Connection, Probe};
use taskyard_common::names::{DELAYS, Names};
use taskyard_common::store::{Reader, TaskView};
use taskyard_model::{Kind, Pattern, PoolName, State, TaskId};
use tokio::sync::{mpsc, watch};

/// Tasks of a list that are looked at: some screens full.
const TASKS: u32 = 200;
/// Seconds until RabbitMQ is asked whether we live.
const HEARTBEAT_S: u16 = 10;

/// Looks up what the screen wants, again and again, and tells it.
pub(super) struct Source<'a> {
    reach: &'a Reach,
    reader: Reader,
    amqp: AmqpSettings,
    names: Names,
    probe: Option<Probe>,
    /// What was last looked up of a state that has no list: too costly to repeat unasked.
    looked: Option<Wanted>,
    events: mpsc::Sender<Event>,
}

impl<'a> Source<'a> {
    pub(super) fn new(reach: &'a Reach, events: mpsc::Sender<Event>) -> Result<Self, Failure> {
        Ok(Self {
            reach,
            reader: reach.reader()?,
            amqp: reach.amqp()?,
            names: reach.names(),
            probe: None,
            looked: None,
            events,
        })
    }

    /// Looks up at each interval, and at once when something else is wanted, until nobody listens.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<Wanted>, interval: Duration) {
        loop {
            let now = wanted.borrow_and_update().clone();
            if let Err(failure) = self.look(&now).await {
                self.tell(Event::Failed(failure.what)).await;
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                changed = wanted.changed() => if changed.is_err() { return },
                () = self.events.closed() => return,
            }
        }
    }

    async fn look(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let pools = stats::pools(self.reach, &self.reader).await?;
        let mut counted = Vec::new();
        for pool in &pools {
            counted.push((pool.clone(), Counts::from(self.reader.stats(pool).await?)));
        }
        self.tell(Event::Counted { at: taskyard_common::now(), pools: counted }).await;
        match wanted {
            Wanted::Counts => {}
            Wanted::Workers => {
                let mut workers = self.reader.workers().await?;
                workers.retain(|w| pools.iter().any(|pool| pool.as_str() == w.fields.text("pool")));
                // In an order that stays, so that rows can be followed.
                workers.sort_by(|a, b| a.id.cmp(&b.id));
                self.tell(Event::Workers(workers)).await;
            }
            Wanted::Queues => {
                let queues = self.queues(&pools).await.map_err(|error| {
                    // A new connection next time.
                    self.probe = None;
                    format!("RabbitMQ cannot be asked: {}", chain(&error))
                });
                self.tell(Event::Queues(queues)).await;
            }
            Wanted::Tasks { state, kind, .. } => {
                if state.is_final() || self.looked.as_ref() != Some(wanted) {
                    let tasks = self.tasks(*state, kind.as_ref(), &pools).await?;
                    self.looked = Some(wanted.clone());
                    self.tell(Event::Tasks { state: *state, tasks }).await;
                }
            }
            Wanted::Task(id) => {
                let task = self.reader.task(id).await?.map(Box::new);
                self.tell(Event::Task { id: id.clone(), task }).await;
            }
        }
        Ok(())
    }

    async fn tasks(
        &self,
        state: State,
        kind: Option<&Pattern>,
        pools: &[PoolName],
    ) -> Result<Vec<TaskView>, Failure> {
        let ids: Vec<TaskId> = match state.is_final() {
            true => {
                let list = self.reader.recent(state, TASKS).await?;
                list.into_iter().map(|(id, _)| id).collect()
            }
            false => self.reader.in_states(&[state], TASKS as usize).await?,
        };
        let tasks = self.reader.glances(&ids).await?;
        let fits = |task: &TaskView| {
            let (kind_of, pool) = (task.fields.text("kind"), task.fields.text("pool"));
            kind.is_none_or(|kind| Kind::new(kind_of).is_ok_and(|of| kind.matches(&of)))
                && pools.iter().any(|known| known.as_str() == pool)
                && task.state() == Some(state)
        };
        Ok(tasks.into_iter().flatten().filter(fits).collect())
    }

    /// What waits in the queues of these pools and in those that all share.
    async fn queues(&mut self, pools: &[PoolName]) -> Result<Vec<Queue>, AmqpError> {
        let probe = match &mut self.probe {
            Some(probe) => probe,
            None => {
                let connection = Connection::open(&self.amqp, "taskyard top", HEARTBEAT_S).await?;
                self.probe.insert(Probe::new(connection))
            }
        };
        let mut queues = Vec::new();
        for (name, holds) in pools.iter().flat_map(|pool| of_pool(&self.names, pool)) {
            let messages = waiting(probe, &name).await?;
            queues.push(Queue { name, holds, messages });
        }
        let mut delayed = None;
        for level in 0..DELAYS {
            let messages = waiting(probe, &self.names.delay(level)).await?;
            delayed = messages.map(|more| delayed.unwrap_or(0) + more).or(delayed);
        }
        let name = self.names.delay(0).replace(".0", &format!(".0 to {}", DELAYS - 1));
        queues.push(Queue { name, holds: "what is due later", messages: delayed });
        let others = [
            (self.names.dead(), "tasks that ended failed"),
            (self.names.rejected(), "submissions that were not understood"),
        ];
        for (name, holds) in others {
            let messages = waiting(probe, &name).await?;
            queues.push(Queue { name, holds, messages });
        }
        Ok(queues)
    }

    async fn tell(&self, event: Event) {
        // Nobody listens when the program ends; the loop sees it.
        let _ = self.events.send(event).await;
    }
}

/// Messages that wait in a queue, about; `None` if there is no such queue.
async fn waiting(probe: &mut Probe, queue: &str) -> Result<Option<u64>, AmqpError> {
    Ok(probe.queue(queue).await?.map(|counts| counts.messages.into()))
}

/// The queues of a pool in which tasks wait, what goes first at the top.
fn of_pool(names: &Names, pool: &PoolName) -> Vec<(String, &'static str)> {
    let mut queues = vec![
        (names.submit(pool), "submitted, not taken in yet"),
        (names.again_queue(pool), "on their way back in"),
        (names.outcomes_queue(pool), "reports of workers"),
    ];
    queues.extend((0..=9).rev().map(|lane| (names.lane(pool, lane), "backlog of this priority")));
    queues.push((names.parked(pool), "no worker takes them"));
    queues
}
