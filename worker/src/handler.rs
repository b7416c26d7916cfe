use crate::context::Context;
use crate::error::TaskError;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use taskyard_model::{Kind, Pattern};

/// What a raw handler returns: the bytes of the result, and their content type.
///
/// ```
/// use taskyard_worker::Reply;
///
/// let reply = Reply::from("a,b\n1,2\n").with_content_type("text/csv");
/// assert_eq!(reply.body().len(), 8);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<String>,
}

impl Reply {
    /// The same bytes, of this type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// The bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl<B: Into<Bytes>> From<B> for Reply {
    fn from(body: B) -> Self {
        Self { body: body.into(), content_type: None }
    }
}

/// Runs tasks of some kind.
pub(crate) trait Handler: Send + Sync {
    fn call(
        &self,
        context: Context,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Reply, TaskError>>;
}

/// A handler over bytes.
pub(crate) struct Raw<F>(pub(crate) F);

impl<F, Fut, R> Handler for Raw<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync,
    Fut: Future<Output = Result<R, TaskError>> + Send + 'static,
    R: Into<Reply> + 'static,
{
    fn call(
        &self,
        context: Context,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Reply, TaskError>> {
        let future = (self.0)(context, payload);
        Box::pin(async move { future.await.map(Into::into) })
    }
}

/// A handler over JSON.
pub(crate) struct Json<F, P> {
    function: Arc<F>,
    payload: std::marker::PhantomData<fn(P)>,
}

impl<F, P> Json<F, P> {
    pub(crate) fn new(function: F) -> Self {
        Self { function: Arc::new(function), payload: std::marker::PhantomData }
    }
}

impl<F, Fut, P, R> Handler for Json<F, P>
where
    F: Fn(Context, P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, TaskError>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    fn call(
        &self,
        context: Context,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Reply, TaskError>> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let payload = serde_json::from_slice(&payload).map_err(|error| {
                TaskError::permanent(format!("the payload cannot be read: {error}"))
            })?;
            let result = function(context, payload).await?;
            let body = serde_json::to_vec(&result).map_err(|error| {
                TaskError::permanent(format!("the result cannot be written: {error}"))
            })?;
            Ok(Reply { body: body.into(), content_type: Some("application/json".to_owned()) })
        })
    }
}

/// Which handler runs which kinds: a kind's own first, then the patterns in the order given.
#[derive(Default)]
pub(crate) struct Handlers {
    exact: HashMap<String, Arc<dyn Handler>>,
    patterns: Vec<(Pattern, Arc<dyn Handler>)>,
    kinds: Vec<Pattern>,
}

impl Handlers {
    /// Adds one; whether its pattern was new.
    pub(crate) fn add(&mut self, pattern: Pattern, handler: Arc<dyn Handler>) -> bool {
        if self.kinds.contains(&pattern) {
            return false;
        }
        self.kinds.push(pattern.clone());
        let is_exact = !pattern.as_str().contains(['*', '#']);
        match is_exact {
            true => drop(self.exact.insert(pattern.as_str().to_owned(), handler)),
            false => self.patterns.push((pattern, handler)),
        }
        true
    }

    pub(crate) fn find(&self, kind: &Kind) -> Option<&Arc<dyn Handler>> {
        self.exact.get(kind.as_str()).or_else(|| {
            self.patterns.iter().find(|(pattern, _)| pattern.matches(kind)).map(|(_, h)| h)
        })
    }

    /// What heartbeats say.
    pub(crate) fn kinds(&self) -> &[Pattern] {
        &self.kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kinds_own_handler_goes_before_patterns() {
        let handler = || {
            Arc::new(Raw(|_: Context, payload: Bytes| async { Ok(payload) })) as Arc<dyn Handler>
        };
        let (own, wide) = (handler(), handler());
        let mut handlers = Handlers::default();
        assert!(handlers.add("image.#".parse().unwrap(), Arc::clone(&wide)));
        assert!(handlers.add("image.resize".parse().unwrap(), Arc::clone(&own)));
        assert!(!handlers.add("image.resize".parse().unwrap(), handler()));
        let find = |kind: &str| handlers.find(&kind.parse().unwrap()).cloned();
        assert!(Arc::ptr_eq(&find("image.resize").unwrap(), &own));
        assert!(Arc::ptr_eq(&find("image.crop").unwrap(), &wide));
        assert!(find("video").is_none());
    }
}
