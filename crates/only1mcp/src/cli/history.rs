//! `history`: the revisions on record.

use serde_json::{Value, json};
use wire::pb::config::v1::{BackendChange, ListRevisionsRequest, Revision};

use super::{Lines, Output, render};
use crate::{admin::Admin, args::HistoryArgs, failure::Failure};

pub(crate) async fn run(args: &HistoryArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let request = ListRevisionsRequest { limit: args.last.unwrap_or_default(), with_refused: args.refused };
    let call = config.client.list_revisions(request);
    let revisions = admin.ask(&config.target, call).await?.revisions;
    Ok(show(&revisions))
}

pub(super) fn show(revisions: &[Revision]) -> Output {
    let rows: Vec<[String; 7]> = revisions.iter().map(row).collect();
    let heads = ["REVISION", "TIME", "RESULT", "ACTOR", "SOURCE", "DIGEST", "CHANGES"];
    let text = if rows.is_empty() { Lines::of("no revision yet") } else { render::table(heads, &rows) };
    Output::done(text, revisions.iter().map(as_json).collect())
}

fn row(revision: &Revision) -> [String; 7] {
    let number = if revision.revision == 0 { "-".to_owned() } else { revision.revision.to_string() };
    [
        number,
        render::time(revision.time_unix_ms),
        revision.result.clone(),
        revision.actor.clone(),
        revision.source.clone(),
        render::short(&revision.digest),
        changes(revision),
    ]
}

/// `+new -gone ~other policy (reason)`.
fn changes(revision: &Revision) -> String {
    let sign = |change: &BackendChange| match change.change.as_str() {
        "added" => "+",
        "removed" => "-",
        _ => "~",
    };
    let mut words: Vec<String> =
        revision.diff.iter().map(|change| format!("{}{}", sign(change), change.server)).collect();
    if revision.policy_changed {
        words.push("policy".to_owned());
    }
    if !revision.reason.is_empty() {
        words.push(format!("({})", revision.reason));
    }
    words.join(" ")
}

fn as_json(revision: &Revision) -> Value {
    let diff = revision.diff.iter().map(|change| json!({ "server": change.server, "change": change.change }));
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
        "content_kept": revision.content_kept,
        "reason": render::some(&revision.reason),
        "without": revision.without,
    })
}
