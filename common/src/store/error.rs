use redis::{RedisError, ServerError, ServerErrorKind};

/// Why Redis did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no connection, and nothing was sent: try again.
    #[error("redis is out of reach")]
    Unreachable(#[source] RedisError),
    /// No answer came, so it may have happened or not: ask, or repeat (every change is idempotent).
    #[error("redis did not answer in time or the connection was lost; it may have happened")]
    Unknown(#[source] RedisError),
    /// Redis has no memory left, and the change was not made: stop taking in, finish what there is,
    /// try again later. Changes that end a task or carry it on are never refused for this.
    #[error("redis is full (maxmemory)")]
    Full,
    /// Redis cannot do it at present (it loads, is a replica, has no disk), and the change was not
    /// made: try again later.
    #[error("redis is not available at present: {code} {detail}")]
    Unavailable {
        /// The first word of Redis' answer: `LOADING`, `READONLY`, ….
        code: String,
        /// The rest.
        detail: String,
    },
    /// Redis refuses it and will again: a permission, the password, a key of another type. An
    /// operator must act.
    #[error("redis refuses it: {code} {detail}")]
    Refused {
        /// The first word of Redis' answer: `NOPERM`, `WRONGTYPE`, ….
        code: String,
        /// The rest.
        detail: String,
    },
    /// The address or the certificates are wrong: correct the configuration.
    #[error("{what}")]
    Settings {
        /// What is wrong.
        what: String,
    },
    /// A change that the table of transitions does not have: our bug. Nothing was sent.
    #[error("not a change that the table of transitions has: {what}")]
    Misuse {
        /// What is wrong.
        what: String,
    },
    /// An answer that makes no sense: our bug, or a proxy that is not Redis.
    #[error("redis gave an answer of an unexpected shape: {what}")]
    Strange {
        /// What was expected.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether trying again later may succeed without anybody acting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Unreachable(_)
            | StoreError::Unknown(_)
            | StoreError::Full
            | StoreError::Unavailable { .. } => true,
            StoreError::Refused { .. }
            | StoreError::Settings { .. }
            | StoreError::Misuse { .. }
            | StoreError::Strange { .. } => false,
        }
    }

    /// What a failed attempt to connect means.
    pub(super) fn connecting(error: RedisError) -> Self {
        use redis::ErrorKind;
        match error.kind() {
            ErrorKind::AuthenticationFailed => StoreError::Refused {
                code: "authentication".to_owned(),
                detail: error.detail().unwrap_or("failed").to_owned(),
            },
            ErrorKind::InvalidClientConfig => StoreError::Settings { what: error.to_string() },
            _ => match ServerError::try_from(error) {
                Ok(error) => StoreError::from_server(&error),
                Err(error) => StoreError::Unreachable(error),
            },
        }
    }

    /// What an error in Redis' answer means.
    pub(super) fn from_server(error: &ServerError) -> Self {
        let code = error.code().to_owned();
        let detail = error.details().unwrap_or_default().to_owned();
        match code.as_str() {
            "OOM" => StoreError::Full,
            "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MISCONF"
            | "NOREPLICAS" | "BUSY" | "NOSCRIPT" | "UNKILLABLE" => {
                StoreError::Unavailable { code, detail }
            }
            _ => StoreError::Refused { code, detail },
        }
    }
}

/// Whether Redis has forgotten our scripts (a restart, a failover, `SCRIPT FLUSH`).
pub(super) fn is_noscript(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoScript)
}
