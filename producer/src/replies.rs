use crate::channels::HEARTBEAT_S;
use crate::{Outcome, Settings};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use taskyard_common::amqp::{
    AmqpError, AmqpSettings, Connection, ConsumeOptions, Consumer, jittered_wait, private_queue,
};
use taskyard_model::TaskId;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

/// Where replies arrive: a queue of this process alone, on a connection of its own, opened when
/// somebody waits for the first time.
pub(crate) struct Replies {
    amqp: AmqpSettings,
    name: String,
    desk: Arc<Desk>,
    listening: OnceCell<DropGuard>,
}

/// Who waits for which task, and where the answer is to be sent.
struct Desk {
    waiting: Mutex<BTreeMap<TaskId, Vec<oneshot::Sender<Outcome>>>>,
    line: watch::Sender<Line>,
}

/// Whether replies can arrive.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// Not connected yet, or not any more.
    Down,
    /// Not connected, and trying again cannot help.
    Broken(Arc<AmqpError>),
    /// Replies sent to this queue arrive.
    Up(Arc<str>),
}

/// One who waits. Dropping it is giving up.
pub(crate) struct Waiter {
    id: TaskId,
    /// Held, so that replies arrive for as long as somebody waits.
    replies: Arc<Replies>,
    pub(crate) arrival: oneshot::Receiver<Outcome>,
    pub(crate) line: watch::Receiver<Line>,
}

impl Replies {
    pub(crate) fn new(settings: &Settings) -> Self {
        let desk = Desk { waiting: Mutex::default(), line: watch::Sender::new(Line::Down) };
        Self {
            amqp: settings.amqp.clone(),
            name: format!("{} (replies)", settings.name),
            desk: Arc::new(desk),
            listening: OnceCell::new(),
        }
    }

    /// Begins to wait for a task. To be done before it is submitted.
    pub(crate) async fn expect(self: &Arc<Self>, id: &TaskId) -> Waiter {
        let (sender, arrival) = oneshot::channel();
        self.desk.waiting().entry(id.clone()).or_default().push(sender);
        let listen = async {
            let stop = CancellationToken::new();
            let (amqp, name) = (self.amqp.clone(), self.name.clone());
            tokio::spawn(listen(amqp, name, self.desk.clone(), stop.clone()));
            stop.drop_guard()
        };
        self.listening.get_or_init(|| listen).await;
        let line = self.desk.line.subscribe();
        Waiter { id: id.clone(), replies: self.clone(), arrival, line }
    }
}

impl Desk {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TaskId, Vec<oneshot::Sender<Outcome>>>> {
        self.waiting.lock().expect("nobody panics while holding this lock")
    }

    fn arrived(&self, id: &TaskId, outcome: &Outcome) {
        for waiter in self.waiting().remove(id).unwrap_or_default() {
            // Who has given up in the meantime misses nothing.
            let _ = waiter.send(outcome.clone());
        }
    }
}

impl Line {
    /// Whether replies sent to `queue` cannot arrive any more, and this says where else.
    pub(crate) fn has_moved_from(&self, queue: &str) -> bool {
        match self {
            Line::Down => false,
            Line::Broken(_) => true,
            Line::Up(now) => **now != *queue,
        }
    }

    /// The queue.
    pub(crate) fn up(&self) -> Result<Arc<str>, Arc<AmqpError>> {
        match self {
            Line::Up(queue) => Ok(queue.clone()),
            Line::Broken(error) => Err(error.clone()),
            Line::Down => Err(Arc::new(AmqpError::Timeout(std::time::Duration::ZERO))),
        }
    }
}

impl Waiter {
    /// The queue to name as `reply_to`, once there is one.
    pub(crate) async fn queue(&mut self) -> Result<Arc<str>, Arc<AmqpError>> {
        let line = self.line.wait_for(|line| !matches!(line, Line::Down)).await;
        line.expect("the desk lives as long as its waiters").up()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.arrival.close();
        let mut waiting = self.replies.desk.waiting();
        if let Some(waiters) = waiting.get_mut(&self.id) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                waiting.remove(&self.id);
            }
        }
    }
}

/// Keeps a queue for replies, over sessions that break.
async fn listen(amqp: AmqpSettings, name: String, desk: Arc<Desk>, stop: CancellationToken) {
    let mut tries = 0;
    loop {
        let session = session(&amqp, &name, &desk, &mut tries);
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = session => ended,
        };
        let line = match ended {
            Err(error) if !error.is_transient() => Line::Broken(Arc::new(error)),
            _ => Line::Down,
        };
        debug!(?line, tries, "the session for replies ended");
        desk.line.send_replace(line);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered_wait(tries)) => tries += 1,
        }
    }
}

async fn session(
    amqp: &AmqpSettings,
    name: &str,
    desk: &Desk,
    tries: &mut u32,
) -> Result<(), AmqpError> {
    let connection = Connection::open(amqp, name, HEARTBEAT_S).await?;
    let channel = connection.channel().await?;
    let queue = private_queue(&channel, None).await?;
    // Nobody else could take a reply that is given back, so there is nothing to ack.
    let mut replies =
        Consumer::start(&channel, &queue, "replies", ConsumeOptions::no_ack()).await?;
    desk.line.send_replace(Line::Up(queue.into()));
    *tries = 0;
    while let Some(delivery) = replies.next().await? {
        if let Some((id, outcome)) = Outcome::read(delivery) {
            desk.arrived(&id, &outcome);
        }
    }
    Ok(())
}
