//! `reload`, `rollback` and `apply`: proposals, and how they ended.

mod undone;

use std::time::Duration;

use config_file::{Format, Source};
use model::Owner;
use runtime::exit;
use serde_json::{Value, json};
use wire::pb::config::v1::{
    ApplyRequest, GetStatusRequest, ListRevisionsRequest, Outcome, ReloadRequest, RollbackRequest, ValidateRequest,
    outcome::Result as Ended,
};

use super::{
    Lines, Output,
    diff::{self, Changed, Lists, Side},
    progress, render, validate,
};
use crate::{
    admin::Admin,
    args::{ApplyArgs, ReloadArgs, RollbackArgs},
    failure::Failure,
};

/// The service itself waits for --timeout; its answer gets that much longer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn reload(args: &ReloadArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let timeout = args.admin.timeout;
    let request = ReloadRequest { force: args.force, timeout: timeout.try_into().ok(), without: args.without.clone() };
    let call = config.client.reload(request);
    let asked = admin.ask_for(timeout + ANSWER_TIME, &config.target, call);
    let outcome = progress::during(&admin, "reload", Box::pin(asked)).await?.outcome;
    Ok(show(outcome, &behind(&admin).await?))
}

pub(crate) async fn rollback(args: &RollbackArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let live = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await?.revision;
    // What is undone is listed only as long as it is live.
    let before = if live == 0 { None } else { diff::revision(&admin, live).await.ok() };
    let mut lists = Lists::of(&admin).await;
    let (revision, base_revision) = match args.revision {
        Some(revision) => (revision, 0),
        // Undoes the revision that is live now, however long the answer takes.
        None => (0, live),
    };
    let request = RollbackRequest { revision, reason: args.reason.clone(), base_revision };
    let call = config.client.rollback(request);
    let answer = progress::during(&admin, "rollback", Box::pin(admin.ask(&config.target, call))).await?;
    let outcome = answer.outcome.unwrap_or_default();
    let after = match outcome.result() {
        Ended::Applied => diff::revision(&admin, outcome.revision).await.ok(),
        Ended::NoChange | Ended::Refused | Ended::Pending | Ended::Unspecified => None,
    };
    lists.join(Lists::of(&admin).await);
    let mut output = show(Some(outcome), &behind(&admin).await?);
    if let Some((before, after)) = before.zip(after) {
        let request = ListRevisionsRequest::default();
        let records = admin.ask(&config.target, config.client.list_revisions(request)).await?.revisions;
        let revisions = undone::by(&records, before.revision, after.revision);
        undone(&mut output, &before, &after, &revisions, &lists);
    }
    Ok(output)
}

/// Adds what has changed by a rollback, which undid these revisions.
pub(super) fn undone(output: &mut Output, before: &Side, after: &Side, revisions: &[u64], lists: &Lists) {
    let changed = Changed::between(before, after, lists);
    match undone::in_words(revisions) {
        Some(revisions) => output.text.line(format_args!("{revisions} undone:")),
        None => output.text.line(format_args!("{} → {}:", before.name, after.name)),
    }
    output.text.append(&changed.text());
    let mut undone = json!({ "revisions": revisions });
    changed.add_to(&mut undone);
    output.json["undone"] = undone;
}

pub(crate) async fn apply(args: &ApplyArgs) -> Result<Output, Failure> {
    // An empty document removes a layer; a file that happens to be empty must not do that.
    let document = args.file.as_deref().map(validate::read).transpose()?;
    if let (Some(path), Some(text)) = (&args.file, &document)
        && text.trim().is_empty()
    {
        return Err(Failure::EmptyLayer { path: path.clone() });
    }
    let admin = Admin::find(&args.admin).await?;
    if args.dry_run {
        return would_apply(&admin, args, document.unwrap_or_default()).await;
    }
    let mut config = admin.config()?;
    let timeout = args.admin.timeout;
    let request = ApplyRequest {
        name: args.owner.clone(),
        document: document.unwrap_or_default(),
        format: diff::format_to_pb(args.file.as_deref().map(Format::of).unwrap_or_default()),
        base_revision: args.base.unwrap_or_default(),
        timeout: timeout.try_into().ok(),
        without: args.without.clone(),
    };
    let call = config.client.apply(request);
    let asked = admin.ask_for(timeout + ANSWER_TIME, &config.target, call);
    let outcome = progress::during(&admin, "apply", Box::pin(asked)).await?.outcome;
    Ok(show(outcome, &behind(&admin).await?))
}

/// What the layer would change, or what is wrong with it. Nothing is changed.
async fn would_apply(admin: &Admin, args: &ApplyArgs, document: String) -> Result<Output, Failure> {
    let live = diff::revision(admin, 0).await?;
    let name = args.file.as_deref().map_or_else(|| format!("without layer {}", args.owner), validate::display);
    let format = args.file.as_deref().map(Format::of).unwrap_or_default();
    let source = Source { owner: Owner::api(&args.owner), name: name.as_str().into(), format, text: document };
    let missing = validate::missing(&source);
    let request = ValidateRequest {
        name,
        document: source.text,
        format: diff::format_to_pb(format),
        layer: args.owner.clone(),
        ..ValidateRequest::default()
    };
    let mut output = match diff::candidate(admin, request).await? {
        Ok(mut new) => {
            new.advice.extend(missing);
            let mut output = diff::show(&live, &new, &Lists::of(admin).await);
            validate::advise(&mut output, &new.advice);
            output
        }
        Err(invalid) => invalid,
    };
    if let Some((base, live)) = args.base.zip(live.revision).filter(|(base, live)| *base > 0 && base != live) {
        output.complaints.line(format_args!("it is made for revision {base}, and revision {live} is live"));
        output.code = exit::REFUSED;
    }
    Ok(output)
}

/// Routers that cannot hold what is live.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Each with its reason.
    pub(super) routers: Vec<(String, String)>,
    /// There is no other router.
    pub(super) all: bool,
}

async fn behind(admin: &Admin) -> Result<Behind, Failure> {
    let mut config = admin.config()?;
    let routers = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await?.routers;
    let attached = routers.len();
    let behind = routers.into_iter().filter(|router| router.state == "behind");
    let routers: Vec<_> = behind.map(|router| (router.node, router.reason)).collect();
    Ok(Behind { all: !routers.is_empty() && routers.len() == attached, routers })
}

pub(super) fn show(outcome: Option<Outcome>, behind: &Behind) -> Output {
    let outcome = outcome.unwrap_or_default();
    let (word, mut code) = match outcome.result() {
        Ended::Applied => ("applied", exit::DONE),
        Ended::NoChange => ("no_change", exit::NOTHING_TO_DO),
        Ended::Refused => ("refused", exit::REFUSED),
        Ended::Pending => ("pending", exit::UNAVAILABLE),
        Ended::Unspecified => ("unknown", exit::REFUSED),
    };
    let revision = outcome.revision;
    let stays = if revision == 0 { "nothing is live".to_owned() } else { format!("revision {revision} stays live") };
    let (mut text, mut complaints, mut next) = (Lines::default(), reasons(&outcome), None);
    for (node, reason) in &behind.routers {
        complaints.line(format_args!("router {node} is behind: {reason}"));
    }
    match outcome.result() {
        Ended::Applied if behind.all => {
            complaints.line(format_args!("revision {revision} is on record, and no router can hold it"));
            next =
                Some("`only1mcp rollback` brings back what was live before; or mend what the routers name".to_owned());
            code = exit::REFUSED;
        }
        Ended::Applied => text.line(format_args!("revision {revision} is live{}", stages(&outcome))),
        Ended::NoChange => text.line(format_args!("nothing to do: revision {revision} has that content already")),
        Ended::Refused => {
            complaints.line(format_args!("refused; {stays}{}", render::next_try(outcome.next_try)));
            next = Some(after_refusal(&outcome).to_owned());
        }
        Ended::Pending => {
            complaints.line(format_args!("not decided yet; {stays}"));
            let goes_on = "it goes on by itself, at the latest when a router can vote that is not left out";
            next = Some(format!("see `only1mcp status`; {goes_on}"));
        }
        Ended::Unspecified => complaints.line("the service answered with an outcome this program does not know"),
    }
    let mut json = as_json(&outcome, word);
    let behind = behind.routers.iter().map(|(node, reason)| json!({ "node": node, "reason": reason }));
    json["behind"] = behind.collect();
    Output { complaints, code, next, ..Output::done(text, json) }
}

fn after_refusal(outcome: &Outcome) -> &'static str {
    if outcome.next_try.is_some() {
        "wait until it is tried again; or correct what is named, and repeat the command"
    } else if outcome.violations.is_empty() && outcome.attempt.is_empty() {
        // Nothing was judged: a rollback has undone what the file says.
        "change the file; or have it judged as it is with `only1mcp reload --force`"
    } else {
        "correct what is named, and repeat the command"
    }
}

fn reasons(outcome: &Outcome) -> Lines {
    let mut text = render::violations(&outcome.violations);
    for refusal in &outcome.refusals {
        text.line(render::refusal(refusal));
    }
    for warning in &outcome.warnings {
        text.line(format_args!("warning: {warning}"));
    }
    text
}

/// ` (parse 0.31 ms, prepare 4.10 ms, …)`.
fn stages(outcome: &Outcome) -> String {
    let stages = outcome.stages.iter().filter_map(|stage| {
        let took = render::span(stage.duration)?;
        Some(format!("{} {}", stage.name, render::duration(took)))
    });
    let stages: Vec<String> = stages.collect();
    if stages.is_empty() { String::new() } else { format!(" ({})", stages.join(", ")) }
}

fn as_json(outcome: &Outcome, result: &str) -> Value {
    let refusals = outcome.refusals.iter();
    let refusals = refusals.map(|refusal| json!({ "node": render::some(&refusal.node), "reason": refusal.reason }));
    let stages = outcome.stages.iter().map(|stage| {
        let ms = render::span(stage.duration).map(|took| took.as_secs_f64() * 1000.0);
        json!({ "name": stage.name, "ms": ms })
    });
    json!({
        "result": result,
        "revision": outcome.revision,
        "attempt": render::some(&outcome.attempt),
        "violations": render::violations_json(&outcome.violations),
        "refusals": refusals.collect::<Value>(),
        "warnings": outcome.warnings,
        "stages": stages.collect::<Value>(),
        "next_try_ms": render::millis(outcome.next_try),
    })
}
