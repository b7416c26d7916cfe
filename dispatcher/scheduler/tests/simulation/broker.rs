use crate::message::{Body, Message, Queue};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use taskyard_model::{Source, TaskId};

/// One life of a connection.
pub(crate) type SessionId = u64;

#[derive(Clone, Copy, Debug)]
struct Consumer {
    session: SessionId,
    prefetch: usize,
    unacked: usize,
}

/// A message on its way to a consumer.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) session: SessionId,
    pub(crate) queue: Queue,
    pub(crate) tag: u64,
    pub(crate) message: Message,
}

/// RabbitMQ as far as the promise rests on it: what is stored stays until it is acked, what is
/// unacked comes again when its session ends, what lies too long is dead-lettered.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    queues: BTreeMap<Queue, VecDeque<Message>>,
    unacked: BTreeMap<(SessionId, u64), (Queue, Message)>,
    consumers: BTreeMap<Queue, Vec<Consumer>>,
    workers: BTreeSet<usize>,
    touched: BTreeSet<Queue>,
    next_tag: u64,
    /// How many messages hold each task.
    holders: BTreeMap<TaskId, usize>,
    /// Tasks that lost a holder since somebody looked.
    pub(crate) lost_a_holder: Vec<TaskId>,
}

impl Broker {
    pub(crate) fn declare_worker(&mut self, worker: usize) {
        self.workers.insert(worker);
    }

    pub(crate) fn is_declared(&self, worker: usize) -> bool {
        self.workers.contains(&worker)
    }

    /// Stores a message; whether there is such a queue.
    pub(crate) fn publish(&mut self, queue: Queue, message: Message) -> bool {
        if matches!(queue, Queue::Worker(worker) if !self.is_declared(worker)) {
            return false;
        }
        for id in message.body.holds() {
            *self.holders.entry(id).or_default() += 1;
        }
        self.queues.entry(queue).or_default().push_back(message);
        self.touched.insert(queue);
        true
    }

    pub(crate) fn consume(&mut self, session: SessionId, queue: Queue, prefetch: usize) {
        let consumer = Consumer { session, prefetch, unacked: 0 };
        self.consumers.entry(queue).or_default().push(consumer);
        self.touched.insert(queue);
    }

    /// The consumer gets nothing new; what it has stays unacked.
    pub(crate) fn cancel(&mut self, session: SessionId, queue: Queue) {
        self.consumers.entry(queue).or_default().retain(|c| c.session != session);
    }

    /// What can be delivered now; consumers of one queue take turns.
    pub(crate) fn deliveries(&mut self) -> Vec<Delivery> {
        let mut out = Vec::new();
        for queue in std::mem::take(&mut self.touched) {
            let Some(messages) = self.queues.get_mut(&queue) else { continue };
            let consumers = self.consumers.entry(queue).or_default();
            while !messages.is_empty()
                && let Some(free) = consumers.iter().position(|c| c.unacked < c.prefetch)
                && let Some(message) = messages.pop_front()
            {
                let mut consumer = consumers.remove(free);
                consumer.unacked += 1;
                consumers.push(consumer);
                self.next_tag += 1;
                let (session, tag) = (consumer.session, self.next_tag);
                self.unacked.insert((session, tag), (queue, message.clone()));
                out.push(Delivery { session, queue, tag, message });
            }
        }
        out
    }

    fn settle(&mut self, session: SessionId, tag: u64) -> Option<(Queue, Message)> {
        let (queue, message) = self.unacked.remove(&(session, tag))?;
        let consumers = self.consumers.entry(queue).or_default();
        if let Some(consumer) = consumers.iter_mut().find(|c| c.session == session) {
            consumer.unacked = consumer.unacked.saturating_sub(1);
        }
        self.touched.insert(queue);
        Some((queue, message))
    }

    pub(crate) fn ack(&mut self, session: SessionId, tag: u64) {
        if let Some((_, message)) = self.settle(session, tag) {
            self.dropped(&message);
        }
    }

    /// Rejected without requeue: to the dispatcher. Returns the tasks in it.
    pub(crate) fn reject(&mut self, session: SessionId, tag: u64) -> Vec<TaskId> {
        let Some((_, message)) = self.settle(session, tag) else { return Vec::new() };
        let tasks = message.body.holds();
        self.dead_letter(message, Source::WorkerNacked);
        tasks
    }

    fn dead_letter(&mut self, message: Message, death: Source) {
        self.dropped(&message);
        let dead = Message { expires_at: None, is_redelivered: false, ..message };
        self.publish(Queue::Outcomes, Message { death: Some(death), ..dead });
    }

    fn dropped(&mut self, message: &Message) {
        for id in message.body.holds() {
            *self.holders.entry(id.clone()).or_default() -= 1;
            self.lost_a_holder.push(id);
        }
    }

    /// A session ends: what it had unacked is put back in front, in order.
    pub(crate) fn close(&mut self, session: SessionId) {
        for consumers in self.consumers.values_mut() {
            consumers.retain(|consumer| consumer.session != session);
        }
        let range = (session, 0)..=(session, u64::MAX);
        let tags: Vec<_> = self.unacked.range(range).map(|(key, _)| *key).collect();
        for key in tags.into_iter().rev() {
            let (queue, mut message) = self.unacked.remove(&key).unwrap();
            message.is_redelivered = true;
            self.queues.entry(queue).or_default().push_front(message);
            self.touched.insert(queue);
        }
    }

    /// Dead-letters what has lain too long at the head of its queue.
    pub(crate) fn expire(&mut self, now: u64) {
        let due = |(queue, messages): (&Queue, &VecDeque<Message>)| {
            let at = messages.front()?.expires_at?;
            (at <= now).then_some(*queue)
        };
        while let Some(queue) = self.queues.iter().find_map(due) {
            let message = self.queues.get_mut(&queue).unwrap().pop_front().unwrap();
            match queue {
                Queue::Delay(_) => {
                    self.dropped(&message);
                    self.publish(Queue::Again, Message { expires_at: None, ..message });
                }
                Queue::Submit => self.dead_letter(message, Source::SubmitExpired),
                _ => self.dead_letter(message, Source::WorkerExpired),
            }
        }
    }

    /// An operator empties a worker's queue, or deletes it with all that is unacked there. What a
    /// foreign worker has had may stay: once it has reported a failure, that delivery is the only copy.
    pub(crate) fn purge_worker(&mut self, worker: usize, is_deleted: bool, is_foreign: bool) {
        let queue = Queue::Worker(worker);
        for message in self.queues.remove(&queue).unwrap_or_default() {
            if is_foreign && message.is_redelivered {
                self.queues.entry(queue).or_default().push_back(message);
            } else {
                self.dropped(&message);
            }
        }
        if is_deleted {
            self.workers.remove(&worker);
            self.consumers.remove(&queue);
            let of_queue = |(key, (from, _)): (&(SessionId, u64), &(Queue, Message))| {
                (*from == queue).then_some(*key)
            };
            let gone: Vec<_> = self.unacked.iter().filter_map(of_queue).collect();
            for key in gone {
                let (_, message) = self.unacked.remove(&key).unwrap();
                self.dropped(&message);
            }
        }
    }

    pub(crate) fn is_held(&self, id: &TaskId) -> bool {
        self.holders.get(id).is_some_and(|&holders| holders > 0)
    }

    /// What is left where nothing should stay: queue, and how much.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let ends = |queue: &Queue| matches!(queue, Queue::Dead | Queue::Rejected | Queue::Replies);
        let lying = self.queues.iter().filter(|(queue, m)| !ends(queue) && !m.is_empty());
        let lying = lying.map(|(queue, m)| format!("{queue:?}: {:?}", m.front().unwrap().body));
        let unacked = self.unacked.values().map(|(queue, m)| format!("unacked {queue:?}: {m:?}"));
        lying.chain(unacked).collect()
    }

    /// What has come to rest in a queue that nobody reads.
    pub(crate) fn resting(&self, queue: Queue) -> impl Iterator<Item = &Body> {
        self.queues.get(&queue).into_iter().flatten().map(|message| &message.body)
    }
}
