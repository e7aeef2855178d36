//! `validate --try`: what routers find when they start and connect what a file would change.

use config_file::Source;
use runtime::exit;
use serde_json::{Value, json};
use wire::pb::config::v1::{
    CandidateOutcome, GetStatusRequest, RouterTrial, Trial, ValidateRequest, candidate_outcome::Result as Found,
};

use super::{Output, invalid, render};
use crate::cli::{changes::ANSWER_TIME, diff::format_to_pb};
use crate::{admin::Admin, args::ValidateArgs, failure::Failure};

/// `valid`: what is known of the file without any router.
pub(super) async fn run(args: &ValidateArgs, source: Source, valid: Output) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let timeout = args.admin.timeout;
    let name = source.name.to_string();
    let request = ValidateRequest {
        name: name.clone(),
        document: source.text,
        format: format_to_pb(source.format),
        trial: true,
        timeout: timeout.try_into().ok(),
        ..ValidateRequest::default()
    };
    let answer = admin.ask_for(timeout + ANSWER_TIME, &config.target, config.client.validate(request)).await?;
    if !answer.violations.is_empty() {
        let violations: Vec<_> = answer.violations.into_iter().map(wire::violation).collect();
        return Ok(invalid(&name, &violations));
    }
    let trial = answer.trial.unwrap_or_default();
    let is_idle = trial.accepted && trial.routers.iter().all(|router| router.outcomes.is_empty());
    let live = if is_idle { Box::pin(live_as(&admin, &answer.digest)).await } else { None };
    Ok(show(&trial, live, valid))
}

/// The live revision, if its content has that digest.
async fn live_as(admin: &Admin, digest: &str) -> Option<u64> {
    let mut config = admin.config().ok()?;
    let status = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await.ok()?;
    (status.digest == digest).then_some(status.revision)
}

/// `live`: the revision that has this content already.
pub(crate) fn show(trial: &Trial, live: Option<u64>, valid: Output) -> Output {
    let Output { mut text, mut complaints, mut json, .. } = valid;
    let of_router = |router: &RouterTrial| {
        let row = |outcome| [server(outcome).to_owned(), router.node.clone(), in_words(outcome)];
        router.outcomes.iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<_> = trial.routers.iter().flat_map(of_router).collect();
    text.append(&render::table(["SERVER", "ROUTER", "RESULT"], &rows));
    let mut advice: Vec<&String> = trial.routers.iter().flat_map(|router| &router.advice).collect();
    advice.sort_unstable();
    advice.dedup();
    advice.iter().for_each(|advice| complaints.line(format_args!("{advice} (advice)")));
    for refusal in &trial.refusals {
        complaints.line(render::refusal(refusal));
    }
    let unchanged = live.map(|revision| format!("revision {revision} has this content; nothing has changed"));
    if trial.timed_out {
        complaints.line(
            "  next: wait longer with --timeout: a server has `limits.connect`, or its own `connect`, to come up",
        );
    }
    text.line(match (trial.accepted, rows.is_empty()) {
        _ if trial.timed_out => "time ran out: it is neither accepted nor refused; nothing has changed",
        (true, false) => "it would be applied; nothing has changed",
        (true, true) => unchanged
            .as_deref()
            .unwrap_or("it would not be refused: no server would be started or connected; nothing has changed"),
        (false, _) => "it would be refused; nothing has changed",
    });
    json["trial"] = json!({
        "accepted": trial.accepted,
        "timed_out": trial.timed_out,
        "refusals": trial.refusals.iter().map(render::refusal).collect::<Value>(),
        "routers": trial.routers.iter().map(router_json).collect::<Value>(),
    });
    let code = match trial.accepted {
        _ if trial.timed_out => exit::UNAVAILABLE,
        true => exit::DONE,
        false => exit::REFUSED,
    };
    Output { complaints, code, ..Output::done(text, json) }
}

fn server(outcome: &CandidateOutcome) -> &str {
    outcome.endpoint.as_ref().map_or("?", |key| key.backend.as_str())
}

fn in_words(outcome: &CandidateOutcome) -> String {
    match &outcome.result {
        Some(Found::ReadyTools(tools)) => {
            let took = match render::span(outcome.took).filter(|took| took.as_millis() > 0) {
                None => "up already".to_owned(),
                Some(took) => format!("up in {}", render::duration(took)),
            };
            format!("{took}, {}", render::count(*tools, "tool"))
        }
        Some(Found::Failed(reason)) => format!("not up: {reason}"),
        Some(Found::Unprobed(_)) | None => {
            "not tried: it cannot run beside its old copy (`replace: stop_first`)".to_owned()
        }
    }
}

fn router_json(router: &RouterTrial) -> Value {
    let server = |outcome: &CandidateOutcome| {
        let mut json = json!({ "id": server(outcome), "result": "not_tried" });
        match &outcome.result {
            Some(Found::ReadyTools(tools)) => {
                json["result"] = "up".into();
                json["tools"] = (*tools).into();
                json["took_ms"] = render::millis(outcome.took).into();
            }
            Some(Found::Failed(reason)) => {
                json["result"] = "not_up".into();
                json["reason"] = reason.as_str().into();
            }
            Some(Found::Unprobed(_)) | None => {}
        }
        json
    };
    json!({
        "node": router.node,
        "servers": router.outcomes.iter().map(server).collect::<Value>(),
        "advice": router.advice,
    })
}
