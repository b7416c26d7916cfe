mod verdict;

use crate::channels::HEARTBEAT_S;
use crate::post::{Post, Undelivered};
use crate::{Command, CommandAnswer, Settings};
use bytes::Bytes;
use std::time::Duration;
use taskyard_common::amqp::{
    AmqpError, AmqpSettings, Connection, ConsumeOptions, Consumer, Message, Properties,
    private_queue,
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use verdict::{Hearing, Verdict};

/// How long dispatchers have to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long others have to say more than "unknown" after the first has said that.
const GRACE: Duration = Duration::from_millis(500);

/// Asks dispatchers to do something: cancel a task, show or replay dead letters.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use taskyard_producer::{Command, Commands, Settings, TaskId};
///
/// let commands = Commands::connect(Settings::from_env()?).await?;
/// let answer = commands.ask(&Command::Cancel { id: TaskId::new("report-2024-02")? }, None).await?;
/// if !answer.ok {
///     println!("not cancelled: {}", answer.error.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Commands {
    post: Post,
    amqp: AmqpSettings,
    name: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// RabbitMQ cannot be reached, or refuses: mend the connection, or try later.
    #[error("RabbitMQ is out of reach")]
    Unreachable(#[from] AmqpError),
    /// Nobody has ever listened for commands here: start a dispatcher.
    #[error("{exchange} has no listeners: has taskyard-dispatcher ever run here?")]
    NobodyListens {
        /// The exchange for commands.
        exchange: String,
    },
    /// The command was sent, and nobody answered in time: is a dispatcher running? A command may be
    /// repeated.
    #[error("no dispatcher answered within {} s; is taskyard-dispatcher running?", .0.as_secs())]
    NoAnswer(Duration),
}

impl Commands {
    /// Connects to RabbitMQ.
    ///
    /// # Errors
    /// No host answers now, or RabbitMQ refuses user, password or vhost.
    pub async fn connect(settings: Settings) -> Result<Self, AmqpError> {
        let settings = settings.patience(ANSWER_TIMEOUT);
        let post = Post::new(&settings);
        post.connect().await?;
        let name = format!("{} (answers)", settings.name);
        Ok(Self { post, amqp: settings.amqp, name })
    }

    /// Sends the command to the leaders of all pools, and waits for the answer that counts, up to
    /// 5 s.
    ///
    /// An answer that the command is done counts at once; so does a refusal, unless it only says
    /// that this leader knows nothing of it. Where each leader does a part (lists of dead letters,
    /// replays of all), the parts are put together. `leaders`: how many may answer, if that is
    /// known; else half a second is waited after the first whose answer is not the last word.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn ask(
        &self,
        command: &Command,
        leaders: Option<usize>,
    ) -> Result<CommandAnswer, CommandError> {
        let connection = Connection::open(&self.amqp, &self.name, HEARTBEAT_S).await?;
        let asked = self.ask_on(&connection, command, leaders).await;
        connection.close().await;
        asked
    }

    async fn ask_on(
        &self,
        connection: &Connection,
        command: &Command,
        leaders: Option<usize>,
    ) -> Result<CommandAnswer, CommandError> {
        let channel = connection.channel().await?;
        let queue = private_queue(&channel, None).await?;
        let options = ConsumeOptions::no_ack();
        let mut answers = Consumer::start(&channel, &queue, "answers", options).await?;
        let correlation = Uuid::now_v7().to_string();
        self.send(command, &queue, &correlation).await?;
        let mut verdict = Verdict::new(command, leaders);
        let mut deadline = Instant::now() + ANSWER_TIMEOUT;
        while let Ok(next) = timeout_at(deadline, answers.next()).await {
            let Some(delivery) = next? else { break };
            let is_ours = delivery.properties.correlation_id().as_ref();
            if is_ours.is_none_or(|id| id.as_str() != correlation) {
                continue;
            }
            let Ok(answer) = serde_json::from_slice(&delivery.body) else { continue };
            match verdict.hear(answer) {
                Hearing::Over(answer) => return Ok(answer),
                Hearing::GoOn => {}
                Hearing::Grace => deadline = deadline.min(Instant::now() + GRACE),
            }
        }
        verdict.answer.ok_or(CommandError::NoAnswer(ANSWER_TIMEOUT))
    }

    async fn send(
        &self,
        command: &Command,
        queue: &str,
        correlation: &str,
    ) -> Result<(), CommandError> {
        let exchange = self.post.names.commands();
        let properties = Properties::default()
            .with_reply_to(queue.into())
            .with_correlation_id(correlation.into())
            .with_content_type("application/json".into());
        let body = serde_json::to_vec(command).expect("commands are plain data");
        let message = Message::to_exchange(&*exchange, "", properties, Bytes::from(body));
        match self.post.deliver(&message).await {
            // Refused: a queue full of commands is the queue of a pool that nobody leads.
            Ok(()) | Err(Undelivered::Refused | Undelivered::Unknown { .. }) => Ok(()),
            Err(Undelivered::Unreachable(error)) => Err(error.into()),
            Err(Undelivered::NotReady { .. } | Undelivered::Unroutable) => {
                Err(CommandError::NobodyListens { exchange })
            }
        }
    }
}
