use crate::connect::Reach;
use crate::counts::Counts;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::table::{Cell, Table};
use crate::{json, task};
use taskyard_common::store::Reader;
use taskyard_model::PoolName;

/// What to say while there are no counts.
pub(crate) const NOTHING_COUNTED: &str = "nothing was counted yet; is taskyard-dispatcher running?";

/// The pools to look at: the one that was asked for, or all that there are.
pub(crate) async fn pools(reach: &Reach, reader: &Reader) -> Result<Vec<PoolName>, Failure> {
    match reach.pool()? {
        Some(pool) => Ok(vec![pool]),
        None => Ok(reader.pools().await?),
    }
}

/// Counts tasks by pool.
pub(crate) async fn run(reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let reader = reach.reader()?;
    let mut table = Table::new(&["POOL", "WHAT", "COUNT"]);
    for pool in pools(reach, &reader).await? {
        let counts = Counts::from(reader.stats(&pool).await?);
        if output.is_json() && !counts.is_empty() {
            output.json(&json::Counts::new(&pool, &counts));
        }
        for (name, n) in counts.iter() {
            let tone = name.parse().map_or(Tone::Plain, |state| task::tone(Some(state)));
            table.row(vec![pool.as_str().into(), Cell::toned(tone, name), n.to_string().into()]);
        }
    }
    match (table.is_empty(), output.is_json()) {
        (true, _) => output.note(NOTHING_COUNTED),
        (false, true) => {}
        (false, false) => output.table(&table),
    }
    Ok(Exit::Done)
}
