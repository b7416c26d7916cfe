use crate::SubmitError;
use crate::channels::Channel;
use crate::post::{Post, Undelivered};
use std::collections::VecDeque;
use std::sync::Arc;
use taskyard_common::amqp::Message;
use taskyard_model::TaskId;
use tokio::task::JoinSet;

/// Bytes of unconfirmed bodies at once, however wide the window is in messages.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What became of one task of a stream or a bulk.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The task.
    pub id: TaskId,
    /// Whether it was accepted. Tasks that shared a message share the error.
    pub outcome: Result<(), Arc<SubmitError>>,
}

/// Messages under way, handed over in order on one channel, each seen through by a task of its own.
pub(crate) struct Flow {
    post: Post,
    channel: Option<Channel>,
    window: usize,
    bytes: usize,
    under_way: JoinSet<Parcel>,
    settled: VecDeque<Settled>,
}

/// A message that is no longer under way.
struct Parcel {
    ids: Vec<TaskId>,
    bytes: usize,
    result: Result<(), Undelivered>,
}

impl Flow {
    pub(crate) fn new(post: Post, window: usize) -> Self {
        Self {
            post,
            channel: None,
            window: window.max(1),
            bytes: 0,
            under_way: JoinSet::new(),
            settled: VecDeque::new(),
        }
    }

    /// Hands a message over, waiting while the window is full.
    pub(crate) async fn send(&mut self, ids: Vec<TaskId>, message: Message) {
        let bytes = message.body.len();
        while !self.has_room_for(bytes) {
            self.settle_next().await;
        }
        self.bytes += bytes;
        let post = self.post.clone();
        match self.channel().await {
            Some(channel) => {
                let result = post.deliver_on(channel, message).await;
                self.under_way.spawn(async move { Parcel { ids, bytes, result: result.await } });
            }
            // It will connect by itself, for as long as patience lasts.
            None => {
                let deliver = async move { post.deliver(&message).await };
                self.under_way.spawn(async move { Parcel { ids, bytes, result: deliver.await } });
            }
        }
        self.settle_ready();
    }

    /// Messages whose outcome is not known yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Takes what is known by now.
    pub(crate) fn settled(&mut self) -> Vec<Settled> {
        self.settle_ready();
        self.settled.drain(..).collect()
    }

    /// Waits for the outcome of all that is under way, and takes what was not taken before.
    pub(crate) async fn finish(&mut self) -> Vec<Settled> {
        while !self.under_way.is_empty() {
            self.settle_next().await;
        }
        self.settled.drain(..).collect()
    }

    /// Waits until at least one more message has its outcome; at once if none is under way.
    pub(crate) async fn settle_next(&mut self) {
        if let Some(joined) = self.under_way.join_next().await {
            self.note(joined);
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.under_way.is_empty()
            || (self.under_way.len() < self.window && self.bytes + bytes <= BYTES_MAX)
    }

    /// The channel of this flow; a new one if it broke. `None` if there is none to be had now.
    async fn channel(&mut self) -> Option<&Channel> {
        if self.channel.as_ref().is_none_or(|channel| !channel.is_open()) {
            self.channel = None;
            let channel = tokio::time::timeout(self.post.patience, self.post.own_channel()).await;
            self.channel = channel.ok().and_then(Result::ok);
        }
        self.channel.as_ref()
    }

    fn settle_ready(&mut self) {
        while let Some(joined) = self.under_way.try_join_next() {
            self.note(joined);
        }
    }

    fn note(&mut self, joined: Result<Parcel, tokio::task::JoinError>) {
        let Parcel { ids, bytes, result } =
            joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.bytes -= bytes;
        let Some(first) = ids.first() else { return };
        let outcome = result.map_err(|why| Arc::new(SubmitError::of(first, why)));
        self.settled.extend(ids.into_iter().map(|id| Settled { id, outcome: outcome.clone() }));
    }
}
