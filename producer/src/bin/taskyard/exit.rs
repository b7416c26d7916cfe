use std::process::ExitCode;
use taskyard_common::settings::SettingsError;
use taskyard_common::store::StoreError;
use taskyard_producer::{AmqpError, CommandError, SubmissionError, SubmitError, WaitError};

/// How the program ends. The numbers are public: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or the task succeeded.
    Done,
    /// The task did not succeed, or part of what was asked for was not done.
    NotSucceeded,
    /// The task is not final yet.
    NotFinal,
    /// There is no such task.
    NoSuchTask,
    /// The command line or a setting is wrong.
    Usage,
    /// RabbitMQ, Redis or a dispatcher is out of reach.
    OutOfReach,
    /// A defect of this program.
    Bug,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::NotSucceeded => 1,
            Exit::NotFinal => 2,
            Exit::NoSuchTask => 3,
            Exit::Usage => 64,
            Exit::OutOfReach => 69,
            Exit::Bug => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why it could not be done, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors repeat what their cause says.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

const DISPATCHER_HINT: &str = "start taskyard-dispatcher on this RabbitMQ and --namespace: it \
                               declares the exchanges and queues";

impl From<AmqpError> for Failure {
    fn from(error: AmqpError) -> Self {
        let failure = Self::new(Exit::OutOfReach, chain(&error));
        match error {
            AmqpError::Unreachable { .. } => failure.hint("is RabbitMQ running? See --amqp-url"),
            AmqpError::Refused(_) => failure.hint("user, password and vhost come from --amqp-url"),
            _ => failure,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::Settings { .. } => Self::usage(text),
            StoreError::Misuse { .. } | StoreError::Strange { .. } => Self::new(Exit::Bug, text),
            StoreError::Unreachable(_) | StoreError::Unknown(_) => {
                Self::new(Exit::OutOfReach, text).hint("is Redis running? See --redis-url")
            }
            _ => Self::new(Exit::OutOfReach, text),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<taskyard_producer::SettingsError> for Failure {
    fn from(error: taskyard_producer::SettingsError) -> Self {
        Self::usage(chain(&error)).hint("the address of RabbitMQ is --amqp-url")
    }
}

impl From<SubmissionError> for Failure {
    fn from(error: SubmissionError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let text = chain(&error);
        match error {
            SubmitError::Invalid(error) => error.into(),
            SubmitError::Unreachable(error) => error.into(),
            SubmitError::NotReady { .. } | SubmitError::Unroutable { .. } => {
                Self::new(Exit::OutOfReach, text).hint(DISPATCHER_HINT)
            }
            SubmitError::Unknown { id, .. } => Self::new(Exit::OutOfReach, text).hint(format!(
                "ask with `taskyard status {id}`, or submit it again with --id {id}: that is safe"
            )),
            _ => Self::new(Exit::OutOfReach, text),
        }
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Self {
        let text = chain(&error);
        match error {
            WaitError::Submit(error) => error.into(),
            WaitError::TimedOut { id, .. } => Self::new(Exit::NotFinal, text)
                .hint(format!("it goes on; ask with `taskyard result {id} --wait`")),
            _ => Self::new(Exit::OutOfReach, text),
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let text = chain(&error);
        match error {
            CommandError::Unreachable(error) => error.into(),
            CommandError::NobodyListens { .. } => {
                Self::new(Exit::OutOfReach, text).hint(DISPATCHER_HINT)
            }
            _ => Self::new(Exit::OutOfReach, text),
        }
    }
}
