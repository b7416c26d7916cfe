//! Taskyard under load: what is submitted, and how its end is seen.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt};
use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use taskyard_producer::{BulkTask, Producer, Settings, Settled, Submission, TaskId};
use taskyard_tests::{EVENTUALLY, Process, Servers, Yard, wait_until};

use crate::{
    cpu::Cpu,
    raw,
    results::{Measure, Measured, Round, mean},
};

/// Bytes of a payload.
pub(crate) const PAYLOAD_BYTES: usize = 100;
/// Unconfirmed messages at once: the rate no longer grows above some hundred.
pub(crate) const WINDOW: usize = 1_000;
/// Tasks of a message in `bulk`.
const BULK: usize = 100;
/// How often Redis is asked whether the last task is done.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// One of so many tasks is asked for while the clock runs.
const SAMPLE_EVERY: usize = 500;
/// Tasks that are read in one pipeline.
const READ_AT_ONCE: usize = 1_000;
/// A measurement that takes longer is broken.
const LIMIT: Duration = Duration::from_secs(300);

/// What of Taskyard runs, beside one dispatcher.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct System {
    /// Workers, a process each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// Slots of each worker
    #[arg(long, default_value_t = 64)]
    pub(crate) slots: u32,
}

/// Tasks of each measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) single: usize,
    pub(crate) bulk: usize,
    pub(crate) drain: usize,
    pub(crate) idle: usize,
}

impl Sizes {
    /// So many that each throughput takes some seconds; a fifth where it should be quick.
    pub(crate) fn usual(quick: bool) -> Self {
        let part = if quick { 5 } else { 1 };
        Self {
            single: 50_000 / part,
            bulk: 200_000 / part,
            drain: 100_000 / part,
            idle: 1_000 / part,
        }
    }
}

/// A running system and the clients to load it with.
pub(crate) struct Bench {
    yard: Yard,
    producer: Producer,
    redis: MultiplexedConnection,
    groups: Vec<(&'static str, u32)>,
    workers: Vec<String>,
    /// Many more workers, which share a process.
    crowd: Option<Process>,
    sizes: Sizes,
}

/// What was used before a measurement.
pub(crate) struct Meter {
    cpu: Cpu,
    scripts: u64,
}

/// Some echo tasks: their ids and payloads follow from a name.
pub(crate) struct Tasks {
    name: String,
    pub(crate) count: usize,
    /// Of each payload.
    bytes: usize,
    /// 0 to 9; by default as where nobody says anything.
    priority: Option<u8>,
}

impl Bench {
    /// Starts servers, a dispatcher and workers.
    pub(crate) async fn start(system: &System, sizes: Sizes) -> anyhow::Result<Self> {
        let workers: Vec<String> =
            (1..=system.workers).map(|number| format!("w{number}")).collect();
        // Redis would rewrite its file at sizes that come by chance, and take a core for a second.
        let servers = Servers::builder().redis_arg("auto-aof-rewrite-percentage", "0");
        let mut builder = Yard::builder().on(servers.start().await?);
        for id in &workers {
            builder = builder.worker(|worker| worker.id(id).slots(system.slots).builtin());
        }
        let yard = builder.start().await?;
        let producer = Producer::connect(Settings::new(yard.place().amqp_url())?).await?;
        let client = redis::Client::open(yard.place().redis_url())?;
        let redis = client.get_multiplexed_async_connection().await?;
        let mut bench =
            Self { yard, producer, redis, groups: Vec::new(), workers, crowd: None, sizes };
        bench.groups = bench.groups()?;
        Ok(bench)
    }

    fn groups(&self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let servers = self.yard.servers();
        let mut processes = vec![
            ("broker", servers.rabbitmq().process()),
            ("redis", servers.redis().process()),
            ("dispatcher", self.yard.dispatcher(0)),
        ];
        processes.extend(self.workers.iter().map(|id| ("worker", self.yard.worker(id))));
        processes.extend(self.crowd.iter().map(|crowd| ("worker", crowd)));
        let pid = |(role, process): (_, &taskyard_tests::Process)| {
            Ok((role, process.pid().with_context(|| format!("{role} has ended"))?))
        };
        processes.into_iter().map(pid).collect()
    }

    /// Starts more workers, all in one process, and waits until the dispatcher knows them.
    pub(crate) async fn start_crowd(&mut self, count: u32, slots: u32) -> anyhow::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("crowd").args(["--count", &count.to_string(), "--slots", &slots.to_string()]);
        command.env("TASKYARD_AMQP_URL", self.url());
        let crowd = Process::new("crowd", &self.yard.folder().join("crowd.log"), command)?;
        crowd.start()?;
        let expected = self.workers.len() + count as usize;
        wait_until("the dispatcher knows all workers", LIMIT, async || {
            let mut card = redis::cmd("ZCARD");
            let known: usize =
                card.arg("taskyard:workers").query_async(&mut self.redis.clone()).await?;
            ensure!(known >= expected, "{known} of {expected}");
            anyhow::Ok(())
        })
        .await?;
        self.crowd = Some(crowd);
        self.groups = self.groups()?;
        Ok(())
    }

    /// Everything once, and not counted: connections, queues, learned run times.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        let part = |size: usize| size / 10;
        raw::two(self.url(), part(self.sizes.single), PAYLOAD_BYTES).await?;
        self.single(&Tasks::new("warm-s", part(self.sizes.single))).await?;
        self.bulk(&Tasks::new("warm-b", part(self.sizes.bulk))).await?;
        self.idle_reply(&Tasks::new("warm-r", part(self.sizes.idle))).await?;
        Ok(())
    }

    /// Measures everything once; `only` these, if any are named.
    pub(crate) async fn round(&mut self, only: &[Measure]) -> anyhow::Result<Round> {
        let mut round = Round::new();
        let wants = |measure| only.is_empty() || only.contains(&measure);
        let name = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        for measure in [Measure::RawTwo, Measure::Single, Measure::Bulk] {
            if measure == Measure::RawTwo || wants(measure) {
                round.insert(measure, self.measure(measure, &name).await?);
            }
        }
        let after = self.measure(Measure::RawTwo, &name).await?;
        round.entry(Measure::RawTwo).and_modify(|before| *before = mean(before, &after));
        for measure in [Measure::RawThree, Measure::IdleReply, Measure::IdleResult, Measure::Drain]
        {
            if wants(measure) || measure == Measure::RawThree && wants(Measure::IdleReply) {
                round.insert(measure, self.measure(measure, &name).await?);
            }
        }
        Ok(round)
    }

    async fn measure(&mut self, measure: Measure, name: &str) -> anyhow::Result<Measured> {
        let Sizes { single, bulk, drain, idle } = self.sizes;
        let tasks = |count| Tasks::new(&format!("{}-{name}", measure.name()), count);
        let mut measured = match measure {
            Measure::Single => self.single(&tasks(single)).await?,
            Measure::Bulk => self.bulk(&tasks(bulk)).await?,
            Measure::Drain => self.drain(&tasks(drain)).await?,
            _ => {
                let meter = self.meter().await?;
                let measured = match measure {
                    Measure::RawTwo => {
                        let took = raw::two(self.url(), single, PAYLOAD_BYTES).await?;
                        Measured::throughput(single, took)
                    }
                    Measure::RawThree => Measured::latency(raw::three(self.url(), idle, 1).await?),
                    Measure::IdleReply => Measured::latency(self.idle_reply(&tasks(idle)).await?),
                    _ => Measured::latency(self.idle_result(&tasks(idle)).await?),
                };
                self.used(&meter, measured).await?
            }
        };
        measured.numbers.retain(|_, value| value.is_finite());
        println!("  {:<12} {measured}", measure.name());
        Ok(measured)
    }

    pub(crate) async fn meter(&self) -> anyhow::Result<Meter> {
        Ok(Meter { cpu: Cpu::now(&self.groups), scripts: self.scripts().await? })
    }

    /// Adds what was used since.
    pub(crate) async fn used(
        &self,
        since: &Meter,
        mut measured: Measured,
    ) -> anyhow::Result<Measured> {
        let tasks = measured.tasks;
        measured.cpu_us = Cpu::now(&self.groups).per_task_since(&since.cpu, tasks);
        let scripts = self.scripts().await?.saturating_sub(since.scripts);
        measured.numbers.insert("scripts".to_owned(), scripts as f64 / tasks as f64);
        Ok(measured)
    }

    /// Calls of scripts that Redis has counted.
    async fn scripts(&self) -> anyhow::Result<u64> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("commandstats").query_async(&mut self.redis.clone()).await?;
        let calls = text.split_once("cmdstat_evalsha:calls=").map(|(_, rest)| rest);
        let number = calls.and_then(|rest| rest.split(',').next()?.parse().ok());
        Ok(number.unwrap_or_default())
    }

    pub(crate) async fn single(&self, tasks: &Tasks) -> anyhow::Result<Measured> {
        let meter = self.meter().await?;
        let (begun, begun_at) = (Instant::now(), now_ms());
        let mut stream = self.producer.stream(WINDOW);
        for number in 0..tasks.count {
            stream.send(tasks.submission(number)).await?;
            if number % WINDOW == 0 {
                accepted(stream.settled())?;
            }
        }
        accepted(stream.finish().await)?;
        self.last_result(tasks, begun, begun_at, &meter).await
    }

    pub(crate) async fn bulk(&self, tasks: &Tasks) -> anyhow::Result<Measured> {
        let meter = self.meter().await?;
        let (begun, begun_at) = (Instant::now(), now_ms());
        self.submit_bulk(tasks).await?;
        self.last_result(tasks, begun, begun_at, &meter).await
    }

    /// First submit to last result: that of the last task, or of one that it overtook.
    async fn last_result(
        &self,
        tasks: &Tasks,
        begun: Instant,
        begun_at: u64,
        meter: &Meter,
    ) -> anyhow::Result<Measured> {
        self.wait_for_all(tasks).await?;
        let seen = begun.elapsed();
        let measured = self.used(meter, Measured::throughput(tasks.count, seen)).await?;
        let (_, last) = self.verify(tasks).await?;
        let took = seen.max(Duration::from_millis(last.saturating_sub(begun_at)));
        Ok(measured.in_time(took))
    }

    pub(crate) async fn submit_bulk(&self, tasks: &Tasks) -> anyhow::Result<()> {
        let mut stream = self.producer.stream_bulk("echo")?;
        for number in 0..tasks.count {
            stream.send(BulkTask::new(tasks.payload(number)).id(tasks.id(number))).await?;
            if (number + 1) % BULK == 0 {
                stream.flush().await;
                accepted(stream.settled())?;
            }
        }
        accepted(stream.finish().await)
    }

    /// Asks the workers to end, and waits for it.
    pub(crate) async fn stop_workers(&self) -> anyhow::Result<()> {
        for id in &self.workers {
            self.yard.worker(id).signal(Signal::SIGTERM)?;
            self.yard.worker(id).wait_exit(EVENTUALLY).await?;
        }
        Ok(())
    }

    /// Starts them again.
    pub(crate) fn start_workers(&mut self) -> anyhow::Result<()> {
        for id in &self.workers {
            self.yard.worker(id).start()?;
        }
        self.groups = self.groups()?;
        Ok(())
    }

    /// Waits until the last task is on record as waiting.
    pub(crate) async fn wait_for_intake(&self, tasks: &Tasks) -> anyhow::Result<()> {
        wait_until("intake of the backlog", LIMIT, async || {
            let (state, ..) = self.read(tasks, tasks.count - 1, 1).await?.remove(0);
            ensure!(state == "queued", "the last one is {state:?}");
            anyhow::Ok(())
        })
        .await
    }

    /// From the first task finished to the last, after all have waited for a worker.
    async fn drain(&mut self, tasks: &Tasks) -> anyhow::Result<Measured> {
        self.stop_workers().await?;
        self.submit_bulk(tasks).await?;
        self.wait_for_intake(tasks).await?;
        self.start_workers()?;
        let meter = self.meter().await?;
        self.wait_for_all(tasks).await?;
        let measured = Measured::throughput(tasks.count, LIMIT);
        let measured = self.used(&meter, measured).await?;
        let (first, last) = self.verify(tasks).await?;
        Ok(measured.in_time(Duration::from_millis(last.saturating_sub(first).max(1))))
    }

    /// So many at a time, each submitted when another's reply is here: the rate, and how long each took.
    pub(crate) async fn in_flight(
        &self,
        tasks: &Tasks,
        at_once: usize,
    ) -> anyhow::Result<Measured> {
        let meter = self.meter().await?;
        let begun = Instant::now();
        let one = async |number| {
            let begun = Instant::now();
            let outcome = self.producer.submit_and_wait(tasks.submission(number), LIMIT).await?;
            ensure!(outcome.result == tasks.payload(number), "task {number}: {outcome:?}");
            anyhow::Ok(begun.elapsed())
        };
        let took: Vec<Duration> = futures_util::stream::iter((0..tasks.count).map(one))
            .buffer_unordered(at_once)
            .try_collect()
            .await?;
        let rate = Measured::throughput(tasks.count, begun.elapsed());
        let mut measured = self.used(&meter, rate).await?;
        measured.numbers.extend(Measured::latency(took).numbers);
        Ok(measured)
    }

    /// One at a time: submit to reply.
    async fn idle_reply(&self, tasks: &Tasks) -> anyhow::Result<Vec<Duration>> {
        self.one_by_one(tasks, Duration::ZERO).await
    }

    /// One at a time with a pause between them: submit to reply.
    pub(crate) async fn one_by_one(
        &self,
        tasks: &Tasks,
        pause: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut took = Vec::with_capacity(tasks.count);
        for number in 0..tasks.count {
            let begun = Instant::now();
            let outcome = self.producer.submit_and_wait(tasks.submission(number), LIMIT).await?;
            took.push(begun.elapsed());
            ensure!(outcome.result == tasks.payload(number), "task {number}: {outcome:?}");
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(took)
    }

    /// One at a time: submit to result in Redis, which tells by itself: to ask it all the time would
    /// keep a core busy. Only the record of a task that has ended is given an expiry.
    async fn idle_result(&self, tasks: &Tasks) -> anyhow::Result<Vec<Duration>> {
        self.notify_of("Kg").await?;
        let mut ended =
            redis::Client::open(self.yard.place().redis_url())?.get_async_pubsub().await?;
        ended.psubscribe(format!("__keyspace@*__:taskyard:task:{}-*", tasks.name)).await?;
        let mut ended = ended.into_on_message();
        let mut took = Vec::with_capacity(tasks.count);
        for number in 0..tasks.count {
            let key = format!(":{}", tasks.id(number));
            let begun = Instant::now();
            self.producer.submit(tasks.submission(number)).await?;
            loop {
                let next = tokio::time::timeout(LIMIT, ended.next()).await;
                let event = next.with_context(|| format!("task {number} does not end"))?;
                let event = event.context("Redis has closed the connection")?;
                let what: String = event.get_payload()?;
                if what == "expire" && event.get_channel_name().ends_with(&key) {
                    break;
                }
            }
            took.push(begun.elapsed());
        }
        self.notify_of("").await?;
        self.verify(tasks).await?;
        Ok(took)
    }

    /// Which changes Redis publishes.
    async fn notify_of(&self, events: &str) -> anyhow::Result<()> {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("notify-keyspace-events").arg(events);
        Ok(set.query_async(&mut self.redis.clone()).await?)
    }

    /// Waits for the last task, and then for some hundred that it may have overtaken: to look at all
    /// would cost more than it tells. The check finds those that are still missing.
    pub(crate) async fn wait_for_all(&self, tasks: &Tasks) -> anyhow::Result<()> {
        self.wait_for(tasks, tasks.count - 1).await?;
        for number in (0..tasks.count).step_by(SAMPLE_EVERY) {
            self.wait_for(tasks, number).await?;
        }
        Ok(())
    }

    async fn wait_for(&self, tasks: &Tasks, number: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let (state, ..) = self.read(tasks, number, 1).await?.remove(0);
            if state == "succeeded" {
                return Ok(());
            }
            ensure!(begun.elapsed() < LIMIT, "task {number} is still {state:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Compares every result with its payload; when the first and the last task finished.
    pub(crate) async fn verify(&self, tasks: &Tasks) -> anyhow::Result<(u64, u64)> {
        let (mut first, mut last) = (u64::MAX, 0);
        for from in (0..tasks.count).step_by(READ_AT_ONCE) {
            let count = READ_AT_ONCE.min(tasks.count - from);
            for (offset, (state, ..)) in self.read(tasks, from, count).await?.iter().enumerate() {
                if state != "succeeded" {
                    self.wait_for(tasks, from + offset).await?;
                }
            }
            let read = self.read(tasks, from, count).await?;
            for (number, (state, result, finished_at)) in (from..).zip(read) {
                let is_right = state == "succeeded" && result == tasks.payload(number);
                ensure!(is_right, "task {}: {state}, {result:?}", tasks.id(number));
                first = first.min(finished_at);
                last = last.max(finished_at);
            }
        }
        Ok((first, last))
    }

    /// State, result and end of some tasks.
    async fn read(
        &self,
        tasks: &Tasks,
        from: usize,
        count: usize,
    ) -> anyhow::Result<Vec<(String, Vec<u8>, u64)>> {
        type Row = (Option<String>, Option<Vec<u8>>, Option<String>);
        let mut pipeline = redis::pipe();
        for number in from..from + count {
            let key = format!("taskyard:task:{}", tasks.id(number));
            pipeline.cmd("HMGET").arg(key).arg(&["state", "result", "finished_at"]);
        }
        let rows: Vec<Row> = pipeline.query_async(&mut self.redis.clone()).await?;
        let row = |(state, result, finished_at): Row| {
            let finished_at = finished_at.and_then(|at| at.parse().ok()).unwrap_or_default();
            (state.unwrap_or_default(), result.unwrap_or_default(), finished_at)
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(crate) fn url(&self) -> &str {
        self.yard.place().amqp_url()
    }

    /// Bytes that Redis has allocated.
    pub(crate) async fn redis_bytes(&self) -> anyhow::Result<f64> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("memory").query_async(&mut self.redis.clone()).await?;
        let used = text.split_once("used_memory:").map(|(_, rest)| rest);
        let bytes = used.and_then(|rest| rest.lines().next()?.trim().parse().ok());
        bytes.context("Redis does not say how much memory it uses")
    }

    /// Bytes of memory that a role's processes keep; 0 where there is no `/proc`.
    pub(crate) fn resident_bytes(&self, role: &str) -> f64 {
        let groups = self.groups.iter().filter(|(of, _)| *of == role);
        groups.map(|(_, leader)| crate::cpu::resident_bytes(*leader)).sum()
    }

    /// Where it runs, for others to be measured on the same servers.
    pub(crate) fn yard(&self) -> &Yard {
        &self.yard
    }

    /// Ends everything.
    pub(crate) fn end(self) {
        self.yard.discard();
    }
}

impl Tasks {
    pub(crate) fn new(name: &str, count: usize) -> Self {
        Self { name: name.to_owned(), count, bytes: PAYLOAD_BYTES, priority: None }
    }

    /// With payloads of that size.
    pub(crate) fn of_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// With that priority.
    pub(crate) fn of_priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// As long as the ids that Taskyard gives.
    fn id(&self, number: usize) -> TaskId {
        let width = 35_usize.saturating_sub(self.name.len());
        let id = format!("{}-{number:0width$}", self.name);
        TaskId::new(&id).expect("letters, digits and hyphens")
    }

    fn payload(&self, number: usize) -> Vec<u8> {
        let mut payload = format!("{}-{number}", self.name).into_bytes();
        payload.resize(self.bytes, b'x');
        payload
    }

    fn submission(&self, number: usize) -> Submission {
        let task =
            Submission::new("echo").id(self.id(number).as_str()).payload(self.payload(number));
        match self.priority {
            Some(priority) => task.priority(priority),
            None => task,
        }
    }
}

fn accepted(settled: Vec<Settled>) -> anyhow::Result<()> {
    for task in settled {
        task.outcome.with_context(|| format!("task {}", task.id))?;
    }
    Ok(())
}

/// As the dispatcher counts: ms since the epoch.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
