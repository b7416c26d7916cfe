use redis::Value as Reply;
use taskyard_model::TaskId;

use super::keys::PAYLOAD_SUFFIX;
use super::record::text;
use super::{Record, Store, StoreError, script};

/// Keys that Redis looks at for one page: about 0.3 ms of its time.
pub(super) const KEYS_A_PAGE: u32 = 1000;

/// All tasks whose payload is stored, page by page: what a new leader rebuilds its books from.
///
/// It looks through all keys of the database, in small steps that leave room for others. A task that
/// is there from the first page to the last is found, perhaps twice; one that comes or goes
/// meanwhile may be missed.
pub struct Inflight {
    store: Store,
    pattern: String,
    cursor: Option<u64>,
    generation: u64,
}

impl Inflight {
    /// From the beginning.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let pattern = format!("{}*{PAYLOAD_SUFFIX}", escaped(store.keys.payload_prefix()));
        let generation = store.link.generation();
        Self { store: store.clone(), pattern, cursor: Some(0), generation }
    }

    /// The next page, which may be empty; `None` after the last. A record may be absent where Redis
    /// has lost it.
    ///
    /// After a new connection it begins again from the start: the place in a Redis that was
    /// restarted means nothing.
    ///
    /// # Errors
    /// As [`Store::run`]; the same page may be asked for again.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next_page(
        &mut self,
    ) -> Result<Option<Vec<(TaskId, Option<Box<Record>>)>>, StoreError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let live = self.store.link.live().await?;
        let is_new = self.generation != self.store.link.generation();
        let cursor = if is_new { 0 } else { cursor };
        self.generation = self.store.link.generation();
        self.cursor = Some(cursor);

        let mut pipeline = redis::pipe();
        pipeline.cmd("SCAN").arg(cursor).arg("MATCH").arg(&self.pattern);
        pipeline.arg("COUNT").arg(KEYS_A_PAGE);
        let reply = self.store.link.call_on(&live, &pipeline).await?.into_iter().next();
        let (next, keys) = scanned(reply)?;
        let ids = keys.into_iter().filter_map(|key| self.store.keys.id_of_payload(&text(key)));
        let page = self.records(ids.collect()).await?;
        self.cursor = (next != 0).then_some(next);
        Ok(Some(page))
    }

    async fn records(
        &self,
        ids: Vec<TaskId>,
    ) -> Result<Vec<(TaskId, Option<Box<Record>>)>, StoreError> {
        let mut pipeline = redis::pipe();
        for id in &ids {
            pipeline.add_command(script::read_command(id, &self.store.keys));
        }
        let replies = self.store.link.call(&pipeline).await?;
        let records = replies.into_iter().map(|reply| match reply {
            Reply::ServerError(error) => Err(StoreError::from_server(&error)),
            reply => Record::parse(reply),
        });
        ids.into_iter().zip(records).map(|(id, record)| Ok((id, record?))).collect()
    }
}

/// Cursor and keys of an answer to `SCAN`.
pub(super) fn scanned(reply: Option<Reply>) -> Result<(u64, Vec<Reply>), StoreError> {
    let strange = StoreError::Strange { what: "a page of keys" };
    match reply {
        Some(Reply::ServerError(error)) => Err(StoreError::from_server(&error)),
        Some(Reply::Array(parts)) => match <[Reply; 2]>::try_from(parts) {
            Ok([cursor, Reply::Array(keys)]) => {
                text(cursor).parse().map(|cursor| (cursor, keys)).map_err(|_| strange)
            }
            _ => Err(strange),
        },
        _ => Err(strange),
    }
}

/// A text that a pattern of Redis matches literally.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
