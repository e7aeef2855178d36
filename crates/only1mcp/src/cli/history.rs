//! `history`: the revisions on record.

use std::collections::BTreeMap;

use config_file::Difference;
use model::BackendId;
use serde_json::{Value, json};
use wire::pb::config::v1::{BackendChange, KeyChange, ListRevisionsRequest, Revision};

use super::{
    Lines, Output,
    diff::{self, Effect, Lists, Side},
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
    let effects = Box::pin(effects(&admin, &revisions)).await;
    Ok(show(&revisions, &effects, &Reading::now()))
}

/// What clients noticed of a change, by its revision and server.
pub(super) type Effects = BTreeMap<(u64, String), Effect>;

/// For that many of the newest revisions it is found out what clients noticed: this takes their contents.
const LOOKED_AT: usize = 10;

/// As far as contents are kept, by the lists that routers have now of servers with those settings.
async fn effects(admin: &Admin, revisions: &[Revision]) -> Effects {
    let lists = Lists::of(admin).await;
    let mut effects = Effects::new();
    let mut last: Option<(u64, Side)> = None;
    let changed = |one: &&Revision| one.revision != 0 && one.content_kept && !one.diff.is_empty();
    for revision in revisions.iter().filter(changed).take(LOOKED_AT) {
        let known = last.take().filter(|(number, _)| *number == revision.revision);
        let new = match known {
            Some((_, side)) => Ok(side),
            None => diff::revision(admin, revision.revision).await,
        };
        let Ok(new) = new else { continue };
        let Ok(old) = diff::before(admin, &new).await else { continue };
        for change in &revision.diff {
            if let Ok(id) = BackendId::new(change.server.as_str()) {
                effects.insert((revision.revision, change.server.clone()), lists.effect(&id, &old, &new));
            }
        }
        last = Some((revision.parent, old));
    }
    effects
}

pub(super) fn show(revisions: &[Revision], effects: &Effects, reading: &Reading) -> Output {
    let rows: Vec<[String; 7]> = revisions.iter().map(|revision| row(revision, effects, reading)).collect();
    let heads = ["REVISION", "TIME", "RESULT", "ACTOR", "SOURCE", "DIGEST", "CHANGES"];
    let mut text = if rows.is_empty() { Lines::of("no revision yet") } else { render::table(heads, &rows) };
    if effects.values().any(|effect| !effect.gained.is_empty() || !effect.lost.is_empty()) {
        text.line("note: which tools are gone or new is told by the lists that these servers have now");
    }
    Output::done(text, revisions.iter().map(|revision| as_json(revision, effects)).collect())
}

fn row(revision: &Revision, effects: &Effects, reading: &Reading) -> [String; 7] {
    let number = if revision.revision == 0 { "-".to_owned() } else { revision.revision.to_string() };
    [
        number,
        reading.when(revision.time_unix_ms),
        revision.result.clone(),
        revision.actor.clone(),
        revision.source.clone(),
        render::short(&revision.digest),
        changes(revision, effects),
    ]
}

fn effect<'a>(effects: &'a Effects, revision: &Revision, change: &BackendChange) -> Option<&'a Effect> {
    effects.get(&(revision.revision, change.server.clone()))
}

/// `+new -gone ~other(tools: all → ["add"]; 7 tools gone) policy(naming) (reason)`.
fn changes(revision: &Revision, effects: &Effects) -> String {
    let sign = |change: &BackendChange| match change.change.as_str() {
        "added" => "+",
        "removed" => "-",
        _ => "~",
    };
    let word = |change: &BackendChange| {
        let noticed = effect(effects, revision, change).map(Effect::in_short).unwrap_or_default();
        format!("{}{}{}", sign(change), change.server, details(&change.keys, noticed))
    };
    let mut words: Vec<String> = revision.diff.iter().map(word).collect();
    if revision.policy_changed {
        words.push(format!("policy{}", details(&revision.policy_keys, Vec::new())));
    }
    if !revision.reason.is_empty() {
        words.push(format!("({})", revision.reason));
    }
    words.join(" ")
}

/// Longer values are for `diff`.
const VALUE_MAX: usize = 40;

/// The keys that changed, and what clients noticed of it.
fn details(changes: &[KeyChange], noticed: Vec<String>) -> String {
    let keys = changes.iter().map(|change| {
        let shown = difference(change).to_string();
        if shown.chars().count() <= change.key.chars().count() + VALUE_MAX { shown } else { change.key.clone() }
    });
    let all = keys.chain(noticed).collect::<Vec<_>>().join("; ");
    if all.is_empty() { all } else { format!("({all})") }
}

fn difference(change: &KeyChange) -> Difference {
    let value = |json: &str| render::some(json).map(|json| serde_json::from_str(json).unwrap_or_else(|_| json.into()));
    Difference { key: change.key.clone(), old: value(&change.old), new: value(&change.new) }
}

fn keys_json(changes: &[KeyChange]) -> Value {
    changes.iter().map(|change| diff::difference_json(&difference(change))).collect()
}

fn as_json(revision: &Revision, effects: &Effects) -> Value {
    let diff = revision.diff.iter().map(|change| {
        json!({
            "server": change.server,
            "change": change.change,
            "keys": keys_json(&change.keys),
            "clients": effect(effects, revision, change).map(Effect::json),
        })
    });
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
