//! `drain` and `drains`: letting servers leave, and how that went.

use model::Weight;
use runtime::exit;
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use wire::pb::drain::v1::{CancelRequest, Drain, ListRequest, RouterShare, StartRequest, WatchRequest, WatchResponse};

use super::{Lines, Output, render};
use crate::{
    admin::Admin,
    args::{DrainArgs, DrainsArgs},
    failure::Failure,
};

pub(crate) async fn drain(args: &DrainArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut service = admin.drain()?;
    let Some(server) = &args.server else {
        let request = CancelRequest { id: args.cancel.clone().unwrap_or_default() };
        let drain = admin.ask(&service.target, service.client.cancel(request)).await?.drain.unwrap_or_default();
        let text = Lines::of(format_args!("{} is open again", target(&drain)));
        return Ok(Output::done(text, as_json(&drain)));
    };
    // Listening first, so that the end cannot be missed.
    let changes = admin.ask(&service.target, service.client.watch(WatchRequest {})).await?;
    let timeout = args.deadline.and_then(|deadline| deadline.try_into().ok());
    let request = StartRequest {
        server: server.clone(),
        timeout,
        endpoint: args.endpoint.clone().unwrap_or_default(),
        weight_permille: args.weight.unwrap_or(Weight::NONE).permille().into(),
    };
    let started = admin.ask(&service.target, service.client.start(request)).await?;
    let mut drain = started.drain.unwrap_or_default();
    if args.wait {
        let (target, client) = (&service.target, &service.client);
        let list = async || Ok(admin.ask(target, client.clone().list(ListRequest { all: true })).await?.drains);
        drain = end(drain, changes, list, target).await?;
    }
    Ok(show(&drain, started.joined))
}

/// The drain when it is over. Where changes were missed its end may be among them, so it is looked up.
async fn end(
    mut drain: Drain,
    mut changes: impl Stream<Item = Result<WatchResponse, Status>> + Unpin,
    list: impl AsyncFn() -> Result<Vec<Drain>, Failure>,
    target: &str,
) -> Result<Drain, Failure> {
    while !is_over(&drain) {
        let change = changes.next().await.unwrap_or_else(|| Err(Status::unavailable("it ended the stream")));
        let change = change.map_err(|status| Failure::of(target, status))?;
        let same = |other: &Drain| other.id == drain.id;
        if change.missed == 0 {
            drain = change.drain.filter(same).unwrap_or(drain);
            continue;
        }
        let Some(listed) = list().await?.into_iter().find(same) else {
            let text = format!("drain {} of {} is over, and no longer on record", drain.id, drain.server);
            return Err(Failure::of(target, Status::not_found(text)));
        };
        drain = listed;
    }
    Ok(drain)
}

pub(super) fn show(drain: &Drain, joined: bool) -> Output {
    let (verb, id) = (if joined { "joined" } else { "started" }, &drain.id);
    if drain.state == "weighted" {
        let text = format!("{} gets {} of its calls: drain {id}", target(drain), render::weight(drain.weight_permille));
        return Output::done(Lines::of(text), as_json(drain));
    }
    if !is_over(drain) {
        let remaining = render::millis(drain.remaining).unwrap_or_default();
        let remaining = render::duration(std::time::Duration::from_millis(remaining));
        let in_flight =
            in_flight(drain).map_or_else(|| "not counted yet".to_owned(), |count| format!("{count} in flight"));
        let text = format!("drain {id} of {} {verb}: {in_flight}, {remaining} left", target(drain));
        return Output::done(Lines::of(text), as_json(drain));
    }
    let text = format!(
        "drain {id} of {} {}: {} finished, {} evicted, {} lost",
        target(drain),
        drain.state,
        drain.finished,
        drain.evicted,
        drain.lost
    );
    let clean = drain.evicted == 0 && drain.lost == 0;
    Output { code: if clean { exit::DONE } else { exit::REFUSED }, ..Output::done(Lines::of(text), as_json(drain)) }
}

pub(crate) async fn list(args: &DrainsArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut service = admin.drain()?;
    let call = service.client.list(ListRequest { all: !args.running });
    let drains = admin.ask(&service.target, call).await?.drains;
    Ok(show_all(&drains))
}

pub(super) fn show_all(drains: &[Drain]) -> Output {
    let rows: Vec<[String; 10]> = drains.iter().map(row).collect();
    let heads = ["ID", "SERVER", "CAUSE", "STATE", "STARTED", "TOTAL", "IN FLIGHT", "FINISHED", "EVICTED", "LOST"];
    let text = if rows.is_empty() { Lines::of("no drains") } else { render::table(heads, &rows) };
    Output::done(text, drains.iter().map(as_json).collect())
}

/// The server, and which of its endpoints, if it is about one.
fn target(drain: &Drain) -> String {
    let short = drain.endpoint.get(..8).unwrap_or_default();
    if short.is_empty() { drain.server.clone() } else { format!("{}/{short}", drain.server) }
}

fn is_over(drain: &Drain) -> bool {
    drain.state == "done" || drain.state == "cancelled"
}

/// `None` while no router has said how many there are.
fn in_flight(drain: &Drain) -> Option<u64> {
    (is_over(drain) || !drain.routers.is_empty()).then_some(drain.in_flight)
}

fn row(drain: &Drain) -> [String; 10] {
    let cause = match drain.revision {
        0 => render::some(&drain.actor).unwrap_or(&drain.cause).to_owned(),
        revision => format!("revision {revision}"),
    };
    [
        drain.id.clone(),
        target(drain),
        cause,
        if drain.state == "weighted" { render::weight(drain.weight_permille) } else { drain.state.clone() },
        render::time(drain.started_unix_ms),
        drain.total.to_string(),
        in_flight(drain).map_or_else(|| "-".to_owned(), |count| count.to_string()),
        drain.finished.to_string(),
        drain.evicted.to_string(),
        drain.lost.to_string(),
    ]
}

fn as_json(drain: &Drain) -> Value {
    json!({
        "id": drain.id,
        "server": drain.server,
        "endpoint": render::some(&drain.endpoint),
        "weight_permille": drain.weight_permille,
        "cause": drain.cause,
        "revision": (drain.revision != 0).then_some(drain.revision),
        "actor": render::some(&drain.actor),
        "state": drain.state,
        "started": render::time(drain.started_unix_ms),
        "remaining_ms": render::millis(drain.remaining),
        "total": drain.total,
        "in_flight": in_flight(drain),
        "finished": drain.finished,
        "evicted": drain.evicted,
        "lost": drain.lost,
        "oldest": render::some(&drain.oldest),
        "routers": drain.routers.iter().map(share_json).collect::<Value>(),
    })
}

fn share_json(share: &RouterShare) -> Value {
    let phase = wire::drain::phase(share.phase).map_or("unknown", |phase| phase.as_str());
    json!({
        "node": share.node,
        "phase": phase,
        "total": share.total,
        "in_flight": share.in_flight,
        "finished": share.finished,
        "evicted": share.evicted,
        "lost": share.lost,
    })
}

#[cfg(test)]
mod tests;
