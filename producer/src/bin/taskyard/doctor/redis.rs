use super::facts::Asked;
use super::role::Role;
use crate::exit::chain;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use taskyard_common::store::{Deed, Reader, StoreError, Survey, WorkerView};
use taskyard_model::{PoolName, State, Timestamp};

/// How long to look for tasks that wait, through all keys.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// How many of them are looked at.
const WAITING_MAX: usize = 500;

/// What Redis shows.
#[derive(Clone, Debug)]
pub(crate) struct Redis {
    pub(crate) survey: Survey,
    /// What the role does and this user may not, in Redis' words.
    pub(crate) forbidden: Vec<(Deed, String)>,
    pub(crate) yard: Asked<Yard>,
}

/// What dispatchers wrote for people to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Yard {
    pub(crate) workers: Vec<Worker>,
    /// Counts of each pool, by name.
    pub(crate) pools: BTreeMap<PoolName, BTreeMap<String, i64>>,
    /// How many tasks wait for which reason, with which kind; nothing where looking took too long.
    pub(crate) waiting: Option<BTreeMap<(String, String), u32>>,
}

/// A worker as its dispatcher sees it.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) state: String,
    pub(crate) version: String,
    pub(crate) seen_at: Timestamp,
}

/// Looks at Redis; an error where it is out of reach.
pub(super) async fn gather(reader: &Reader, role: Role) -> Asked<Redis> {
    let said = |error: StoreError| chain(&error);
    let survey = reader.survey().await.map_err(said)?;
    let mut forbidden = Vec::new();
    for &deed in role.deeds() {
        let refused = reader.forbidden(deed).await.map_err(said)?;
        forbidden.extend(refused.into_iter().map(|why| (deed, why)));
    }
    let yard = gather_yard(reader).await.map_err(said);
    Ok(Redis { survey, forbidden, yard })
}

async fn gather_yard(reader: &Reader) -> Result<Yard, StoreError> {
    let mut pools = BTreeMap::new();
    for pool in reader.pools().await? {
        let counts = reader.stats(&pool).await?;
        pools.insert(pool, counts);
    }
    let workers = reader.workers().await?.iter().map(Worker::read).collect();
    let has_waiting = pools.values().any(|counts| counts.get("waiting").is_some_and(|&n| n > 0));
    let waiting = match has_waiting {
        false => Some(BTreeMap::new()),
        true => tokio::time::timeout(LOOK_LIMIT, reasons(reader)).await.ok().transpose()?,
    };
    Ok(Yard { workers, pools, waiting })
}

/// The reasons that dispatchers gave for tasks that wait, by kind.
async fn reasons(reader: &Reader) -> Result<BTreeMap<(String, String), u32>, StoreError> {
    let ids = reader.in_states(&[State::Queued], WAITING_MAX).await?;
    let mut reasons = BTreeMap::new();
    for view in reader.tasks(&ids).await?.into_iter().flatten() {
        let (reason, kind) = (view.fields.text("reason"), view.fields.text("kind"));
        if !reason.is_empty() {
            *reasons.entry((reason.to_owned(), kind.to_owned())).or_default() += 1;
        }
    }
    Ok(reasons)
}

impl Redis {
    /// Pools that are known of here.
    pub(crate) fn pools(&self) -> BTreeSet<PoolName> {
        let yard = self.yard.iter();
        yard.flat_map(|yard| yard.pools.keys().cloned()).collect()
    }
}

impl Worker {
    fn read(view: &WorkerView) -> Self {
        let text = |name: &str| view.fields.text(name).to_owned();
        Self {
            id: view.id.to_string(),
            pool: text("pool"),
            state: text("state"),
            version: text("version"),
            seen_at: view.seen_at,
        }
    }
}
