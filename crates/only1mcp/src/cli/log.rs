//! `log`: the filters of the log lines that our own services write. What servers say on stderr is in `logs`.

use serde_json::{Value, json};
use wire::pb::process::v1::{GetLogRequest, GetLogResponse, SetLogRequest};

use super::{Output, render};
use crate::{admin::Admin, args::LogArgs, failure::Failure};

/// One process, after what was asked for.
pub(super) struct Row {
    pub(super) target: String,
    /// The filter before the change, if there was a change.
    pub(super) previous: Option<String>,
    pub(super) log: GetLogResponse,
}

pub(crate) async fn run(args: &LogArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut rows = Vec::new();
    for mut process in admin.processes()? {
        let mut previous = None;
        if let Some(filter) = &args.filter {
            let lasting = args.lasting.and_then(|lasting| lasting.try_into().ok());
            let call = process.client.set_log(SetLogRequest { filter: filter.to_string(), lasting });
            previous = Some(admin.ask(&process.target, call).await?.previous);
        }
        let log = admin.ask(&process.target, process.client.get_log(GetLogRequest {})).await?;
        rows.push(Row { target: process.target, previous, log });
    }
    Ok(show(&rows))
}

pub(super) fn show(rows: &[Row]) -> Output {
    let cells = |row: &Row| {
        let until = render::some(&row.log.fallback);
        let until = until.map(|fallback| format!("{}, then {fallback}", render::left(row.log.remaining)));
        let before = row.previous.as_ref().map_or_else(String::new, |previous| format!("before: {previous}"));
        [row.target.clone(), row.log.filter.clone(), until.unwrap_or_else(|| "for ever".to_owned()), before]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    Output::done(render::table(["SERVICE", "FILTER", "HOLDS", ""], &cells), rows.iter().map(as_json).collect())
}

fn as_json(row: &Row) -> Value {
    json!({
        "service": row.target,
        "filter": row.log.filter,
        "previous": row.previous,
        "fallback": render::some(&row.log.fallback),
        "remaining_ms": render::millis(row.log.remaining),
    })
}
