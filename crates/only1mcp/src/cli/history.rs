//! `history`: the revisions on record.

use config_file::Difference;
use serde_json::{Value, json};
use wire::pb::config::v1::{BackendChange, KeyChange, ListRevisionsRequest, Revision};

use super::{
    Lines, Output, diff,
    render::{self, Reading},
};
use crate::{admin::Admin, args::HistoryArgs, failure::Failure};

pub(crate) async fn run(args: &HistoryArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let limit = args.last.unwrap_or_default();
    let request = ListRevisionsRequest { limit, with_refused: args.refused, with_keys: true };
    let call = config.client.list_revisions(request);
    let revisions = admin.ask(&config.target, call).await?.revisions;
    Ok(show(&revisions, &Reading::now()))
}

pub(super) fn show(revisions: &[Revision], reading: &Reading) -> Output {
    let rows: Vec<[String; 7]> = revisions.iter().map(|revision| row(revision, reading)).collect();
    let heads = ["REVISION", "TIME", "RESULT", "ACTOR", "SOURCE", "DIGEST", "CHANGES"];
    let text = if rows.is_empty() { Lines::of("no revision yet") } else { render::table(heads, &rows) };
    Output::done(text, revisions.iter().map(as_json).collect())
}

fn row(revision: &Revision, reading: &Reading) -> [String; 7] {
    let number = if revision.revision == 0 { "-".to_owned() } else { revision.revision.to_string() };
    [
        number,
        reading.when(revision.time_unix_ms),
        revision.result.clone(),
        revision.actor.clone(),
        revision.source.clone(),
        render::short(&revision.digest),
        changes(revision),
    ]
}

/// `+new -gone ~other(tools: all → ["add"]) policy(naming) (reason)`.
fn changes(revision: &Revision) -> String {
    let sign = |change: &BackendChange| match change.change.as_str() {
        "added" => "+",
        "removed" => "-",
        _ => "~",
    };
    let mut words: Vec<String> =
        revision.diff.iter().map(|change| format!("{}{}{}", sign(change), change.server, keys(&change.keys))).collect();
    if revision.policy_changed {
        words.push(format!("policy{}", keys(&revision.policy_keys)));
    }
    if !revision.reason.is_empty() {
        words.push(format!("({})", revision.reason));
    }
    words.join(" ")
}

/// Longer values are for `diff`.
const VALUE_MAX: usize = 40;

fn keys(changes: &[KeyChange]) -> String {
    let all = changes.iter().map(|change| {
        let shown = difference(change).to_string();
        if shown.chars().count() <= change.key.chars().count() + VALUE_MAX { shown } else { change.key.clone() }
    });
    let all = all.collect::<Vec<_>>().join("; ");
    if all.is_empty() { all } else { format!("({all})") }
}

fn difference(change: &KeyChange) -> Difference {
    let value = |json: &str| render::some(json).map(|json| serde_json::from_str(json).unwrap_or_else(|_| json.into()));
    Difference { key: change.key.clone(), old: value(&change.old), new: value(&change.new) }
}

fn keys_json(changes: &[KeyChange]) -> Value {
    changes.iter().map(|change| diff::difference_json(&difference(change))).collect()
}

fn as_json(revision: &Revision) -> Value {
    let diff = revision
        .diff
        .iter()
        .map(|change| json!({ "server": change.server, "change": change.change, "keys": keys_json(&change.keys) }));
    json!({
        "revision": (revision.revision != 0).then_some(revision.revision),
        "parent": (revision.parent != 0).then_some(revision.parent),
        "digest": revision.digest,
        "actor": revision.actor,
        "source": revision.source,
        "time": render::time(revision.time_unix_ms),
        "result": revision.result,
        "diff": diff.collect::<Value>(),
        "policy_changed": revision.policy_changed,
        "policy_keys": keys_json(&revision.policy_keys),
        "content_kept": revision.content_kept,
        "reason": render::some(&revision.reason),
        "without": revision.without,
    })
}
