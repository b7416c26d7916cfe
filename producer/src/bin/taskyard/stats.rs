use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::table::{Cell, Table};
use crate::task;
use serde_json::{Map, Value};

/// Counts tasks by pool.
pub(crate) async fn run(reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let reader = reach.reader()?;
    let pools = match reach.pool()? {
        Some(pool) => vec![pool],
        None => reader.pools().await?,
    };
    let mut table = Table::new(&["POOL", "WHAT", "COUNT"]);
    for pool in &pools {
        let stats = reader.stats(pool).await?;
        if output.is_json() {
            let mut object = Map::from_iter([("pool".to_owned(), Value::from(pool.as_str()))]);
            object.extend(stats.into_iter().map(|(name, n)| (name, n.into())));
            output.json(&Value::Object(object));
            continue;
        }
        for (name, n) in stats {
            let tone = name.parse().map_or(Tone::Plain, |state| task::tone(Some(state)));
            table.row(vec![pool.as_str().into(), Cell::toned(tone, name), n.to_string().into()]);
        }
    }
    match (output.is_json(), table.is_empty()) {
        (true, _) => {}
        (false, true) => output.note("nothing was counted yet; is taskyard-dispatcher running?"),
        (false, false) => output.table(&table),
    }
    Ok(Exit::Done)
}
