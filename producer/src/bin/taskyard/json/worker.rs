use super::known;
use serde::Serialize;
use taskyard_common::store::WorkerView;

/// A worker: `workers`.
#[derive(Serialize)]
pub(crate) struct Worker<'a> {
    id: &'a str,
    state: Option<&'a str>,
    pool: Option<&'a str>,
    kinds: Option<&'a str>,
    labels: Option<&'a str>,
    host: Option<&'a str>,
    version: Option<&'a str>,
    slots: Option<u64>,
    busy: Option<u64>,
    weight: Option<u64>,
    seen_at: u64,
}

impl<'a> From<&'a WorkerView> for Worker<'a> {
    fn from(view: &'a WorkerView) -> Self {
        let text = |name| known(view.fields.text(name));
        let number = |name| view.fields.number::<u64>(name);
        Self {
            id: view.id.as_str(),
            state: text("state"),
            pool: text("pool"),
            kinds: text("kinds"),
            labels: text("labels"),
            host: text("host"),
            version: text("version"),
            slots: number("slots"),
            busy: number("busy"),
            weight: number("weight"),
            seen_at: view.seen_at.as_ms(),
        }
    }
}
