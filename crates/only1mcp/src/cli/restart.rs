//! `restart`: another process in place of the one that a stdio server has.

use data_encoding::HEXLOWER;
use model::BackendId;
use runtime::exit;
use runtime::grpc::Client;
use serde_json::{Value, json};
use wire::pb::router::v1::{
    Endpoint, InspectRequest, RestartRequest, RestartResponse, Restarted, router_service_client::RouterServiceClient,
};

use super::{Lines, Output};
use crate::{
    admin::{Admin, Named},
    args::RestartArgs,
    failure::{Failure, not_up},
};

type Router = Named<RouterServiceClient<Client>>;

pub(crate) async fn run(args: &RestartArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut answers = Vec::new();
    let mut failed = None;
    for mut router in admin.needed_routers()? {
        match in_router(&admin, &mut router, &args.server).await {
            Ok(answer) => answers.push(answer),
            Err(failure) => failed = failed.or(Some((router.target, failure))),
        }
    }
    match failed {
        Some((_, failure)) if answers.is_empty() => admin.or_configured_off(&args.server, Err(failure)).await,
        failed => {
            let failed = failed.map(|(node, failure)| (node, failure.to_string()));
            Ok(show(&args.server, &answers, failed.as_ref()))
        }
    }
}

async fn in_router(admin: &Admin, router: &mut Router, server: &str) -> Result<RestartResponse, Failure> {
    // The request names the pids, so that a request that arrives twice ends them once, and an endpoint that has no
    // process yet is not ended when it has come up.
    let seen = admin
        .ask(&router.target, router.client.inspect(InspectRequest { server: server.to_owned(), with_tools: false }))
        .await?;
    let of_server = |one: &&Endpoint| one.key.as_ref().is_some_and(|key| key.backend == server);
    let running = seen.endpoints.iter().filter(|one| one.role == "live").filter(of_server);
    let pids: Vec<u32> = running.map(|one| one.pid).collect();
    // What cannot be the id of a server is for the router to refuse.
    if pids.is_empty() && BackendId::new(server).is_ok() {
        return Err(Failure::NoServer { server: server.to_owned() });
    }
    let request = RestartRequest { server: server.to_owned(), pids };
    match admin.ask(&router.target, router.client.restart(request)).await {
        Err(Failure::Timeout { seconds, .. }) => Err(Failure::NotUpYet { server: server.to_owned(), seconds }),
        answer => answer,
    }
}

/// `failed`: a router that did not restart the server while others did, and why.
pub(super) fn show(server: &str, answers: &[RestartResponse], failed: Option<&(String, String)>) -> Output {
    let (mut text, mut complaints, mut rows) = (Lines::default(), Lines::default(), Vec::new());
    let mut next = None;
    let all = answers.iter().flat_map(|answer| answer.endpoints.iter().map(move |one| (&answer.node, one)));
    for (node, one) in all {
        match said(one) {
            Ok(said) => text.line(format_args!("{server} {said} in {node}")),
            Err(reason) => {
                complaints.line(format_args!("{server} has not come up in {node}: {reason}"));
                next = Some(not_up(server));
            }
        }
        rows.push(as_json(node, one));
    }
    if let Some((node, reason)) = failed {
        complaints.line(format_args!("{server} is not restarted in {node}: {reason}"));
        rows.push(json!({ "router": node, "error": reason }));
    }
    let code = if complaints.as_str().is_empty() { exit::DONE } else { exit::REFUSED };
    Output { complaints, next, code, ..Output::done(text, json!({ "server": server, "endpoints": rows })) }
}

fn said(one: &Restarted) -> Result<String, &str> {
    match (one.error.as_str(), one.joined, one.previous_pid) {
        ("", true, _) => Ok(format!("was being started already, and runs as process {}", one.pid)),
        ("", false, 0) => Ok(format!("is started, as process {}", one.pid)),
        ("", false, previous) => Ok(format!("is restarted, as process {} in place of {previous}", one.pid)),
        (reason, _, _) => Err(reason),
    }
}

fn as_json(node: &str, one: &Restarted) -> Value {
    let pid = |pid: u32| (pid != 0).then_some(pid);
    let digest = one.key.as_ref().map(|key| HEXLOWER.encode(&key.digest));
    json!({
        "router": node,
        "variant": one.key.as_ref().map(|key| &key.variant),
        "digest": digest,
        "previous_pid": pid(one.previous_pid),
        "pid": pid(one.pid),
        "joined": one.joined,
        "error": super::render::some(&one.error),
    })
}
