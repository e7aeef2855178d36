//! `drain` and `drains`: letting servers leave, and how that went.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use model::Weight;
use runtime::exit;
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use wire::pb::{
    drain::v1::{
        CancelRequest, Drain, ListRequest, RouterShare, StartRequest, StartResponse, WatchRequest, WatchResponse,
    },
    router::v1::InspectResponse,
};

use super::{
    Lines, Output,
    render::{self, Reading},
};
use crate::{
    admin::Admin,
    args::{DrainArgs, DrainsArgs, SwitchArgs},
    failure::Failure,
};

pub(crate) async fn drain(args: &DrainArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut service = admin.drain()?;
    let Some(server) = &args.server else {
        return cancel(&admin, args.cancel.clone().unwrap_or_default()).await;
    };
    // Listening first, so that the end cannot be missed.
    let changes = admin.ask(&service.target, service.client.watch(WatchRequest {})).await?;
    let request = StartRequest {
        server: server.clone(),
        timeout: args.deadline.and_then(|deadline| deadline.try_into().ok()),
        endpoint: args.endpoint.clone().unwrap_or_default(),
        weight_permille: args.weight.unwrap_or(Weight::NONE).permille().into(),
        disable: false,
        strategy: args.strategy.clone().unwrap_or_default(),
        rate: args.rate.unwrap_or_default(),
        weight_reduction: args.weight_reduction.unwrap_or_default(),
        interval: args.interval.and_then(|interval| interval.try_into().ok()),
    };
    let asked = request.strategy.clone();
    let started = Box::pin(start(&admin, request)).await?;
    let mut drain = started.drain.unwrap_or_default();
    if args.wait {
        let (target, client) = (&service.target, &service.client);
        let list = async || Ok(admin.ask(target, client.clone().list(ListRequest { all: true })).await?.drains);
        drain = end(drain, changes, list, target).await?;
    }
    let mut output = show(&drain, started.joined, &asked);
    if drain.weight_permille > 0 {
        tell_alone(&drain, &Box::pin(admin.inspect(&drain.server)).await, &mut output);
    }
    Ok(output)
}

async fn start(admin: &Admin, request: StartRequest) -> Result<StartResponse, Failure> {
    let mut service = admin.drain()?;
    let server = request.server.clone();
    let started = admin.ask(&service.target, service.client.start(request)).await;
    admin.or_configured_off(&server, started).await
}

/// Ends a drain by its id, or all that operators have of a server.
async fn cancel(admin: &Admin, id: String) -> Result<Output, Failure> {
    let mut service = admin.drain()?;
    let answer = admin.ask(&service.target, service.client.cancel(CancelRequest { id })).await?;
    // A coordinator of an older release says the one that it has ended.
    let ended = if answer.drains.is_empty() { answer.drain.into_iter().collect() } else { answer.drains };
    let held = admin.ask(&service.target, service.client.list(ListRequest { all: false })).await?.drains;
    Ok(cancelled(&ended, &stay(&ended, held)))
}

/// What operators have of the same servers and did not end. One that was ended is in the list until its calls are.
fn stay(ended: &[Drain], listed: Vec<Drain>) -> Vec<Drain> {
    let of_server = |drain: &Drain| ended.iter().any(|one| one.server == drain.server) && drain.cause == "admin";
    let was_ended = |drain: &Drain| ended.iter().any(|one| one.id == drain.id);
    listed.into_iter().filter(|drain| of_server(drain) && !was_ended(drain)).collect()
}

/// `stay`: drains of the same server that go on.
pub(super) fn cancelled(ended: &[Drain], stay: &[Drain]) -> Output {
    let mut text = Lines::default();
    for drain in ended {
        let what = if drain.weight_permille == 0 { "is open again" } else { "has its share of the calls again" };
        let partly = stay.iter().any(|other| drain.endpoint.is_empty() || other.endpoint.is_empty());
        let but = if partly { ", as far as this drain goes" } else { "" };
        text.line(format_args!("{} {what}{but}: drain {} is ended", target(drain), drain.id));
    }
    for drain in stay {
        let share = if drain.weight_permille == 0 {
            "gets no calls".to_owned()
        } else {
            format!("gets {} of its calls", render::weight(drain.weight_permille))
        };
        text.line(format_args!(
            "note: {} still {share}: drain {}; end it with `only1mcp drain --cancel {}`",
            target(drain),
            drain.id,
            drain.id
        ));
    }
    let json = json!({
        "ended": ended.iter().map(as_json).collect::<Value>(),
        "stay": stay.iter().map(as_json).collect::<Value>(),
    });
    Output::done(text, json)
}

/// A drain of the whole server that is shown as what it is: an operator has switched it off.
pub(crate) async fn disable(args: &SwitchArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let request = StartRequest { server: args.server.clone(), disable: true, ..StartRequest::default() };
    let started = Box::pin(start(&admin, request)).await?;
    Ok(disabled(&started.drain.unwrap_or_default()))
}

pub(super) fn disabled(drain: &Drain) -> Output {
    let server = &drain.server;
    let run_on = |calls: &str| format!("{calls} may run on for {}", render::left(drain.remaining));
    let running = match in_flight(drain) {
        Some(0) => "nothing runs there any more".to_owned(),
        Some(calls) => run_on(&render::count(calls, "call")),
        None => run_on("calls that run there"),
    };
    let mut text =
        Lines::of(format_args!("{server} is disabled until `only1mcp enable {server}`: no new calls; {running}"));
    text.line("note: its process, if it has one, keeps running, and its tools stay listed");
    Output::done(text, as_json(drain))
}

/// Adds to a status what operators keep from calls; nothing if no coordinator can be asked.
pub(super) async fn tell_held(admin: &Admin, status: &mut Output) {
    let Ok(mut service) = admin.drain() else { return };
    if let Ok(held) = admin.ask(&service.target, service.client.list(ListRequest { all: false })).await {
        add_held(&held.drains, status);
    }
}

pub(super) fn add_held(held: &[Drain], status: &mut Output) {
    for drain in held.iter().filter(|drain| drain.weight_permille == 0) {
        let Some(undo) = undo(drain) else { continue };
        let what = if drain.endpoint.is_empty() { "server" } else { "endpoint" };
        let how = if drain.disabled { "disabled" } else { "drained" };
        status.text.line(format_args!(
            "note: {what} {} is {how} by an operator ({}): {undo} gives it calls again",
            target(drain),
            drain.actor
        ));
        cut_off(drain).into_iter().for_each(|note| status.text.line(note));
    }
    for server in status.json["servers"].as_array_mut().into_iter().flatten() {
        let disabled = held.iter().any(|drain| drain.disabled && server["id"] == drain.server);
        server["disabled_by_operator"] = disabled.into();
    }
}

/// Ends what keeps a whole server from calls.
pub(crate) async fn enable(args: &SwitchArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut service = admin.drain()?;
    let held = admin.ask(&service.target, service.client.list(ListRequest { all: false })).await?.drains;
    let whole = |drain: &Drain| drain.server == args.server && drain.cause == "admin" && drain.endpoint.is_empty();
    let ended = match held.into_iter().find(|drain| whole(drain) && drain.weight_permille == 0) {
        Some(drain) => Some(Box::pin(cancel(&admin, drain.id)).await?),
        None => None,
    };
    if Box::pin(admin.is_configured_off(&args.server)).await {
        return Ok(configured_off(&args.server, ended));
    }
    if let Some(ended) = ended {
        return Ok(ended);
    }
    if !admin.knows(&args.server).await {
        return Err(Failure::NoServer { server: args.server.clone() });
    }
    Ok(enabled_already(&args.server))
}

pub(super) fn configured_off(server: &str, ended: Option<Output>) -> Output {
    let complaints = Lines::of(format_args!(
        "server {server} is disabled in the configuration: take `enabled: false` out of it there"
    ));
    let json = ended.map_or_else(nothing_ended, |ended| ended.json);
    Output { complaints, code: exit::REFUSED, ..Output::done(Lines::default(), json) }
}

pub(super) fn enabled_already(server: &str) -> Output {
    let text = Lines::of(format_args!("nothing to do: nothing keeps all of {server} from calls"));
    Output { code: exit::NOTHING_TO_DO, ..Output::done(text, nothing_ended()) }
}

fn nothing_ended() -> Value {
    json!({ "ended": [], "stay": [] })
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

/// `asked`: the strategy that was asked for, or nothing.
pub(super) fn show(drain: &Drain, joined: bool, asked: &str) -> Output {
    let (verb, id) = (if joined { "joined" } else { "started" }, &drain.id);
    let mut text = Lines::of(if drain.state == "weighted" {
        format!("{} gets {} of its calls: drain {id}", target(drain), render::weight(drain.weight_permille))
    } else if is_over(drain) {
        format!("drain {id} of {} {}: {}", target(drain), drain.state, how_it_went(drain))
    } else {
        format!("drain {id} of {} {verb}: {}", target(drain), under_way(drain))
    });
    cut_off(drain).into_iter().for_each(|note| text.line(note));
    if let Some(undo) = undo(drain) {
        let what = if drain.weight_permille == 0 { "calls" } else { "its share of the calls" };
        text.line(format_args!(
            "note: `only1mcp drains` shows how it goes; {undo} gives {} {what} again",
            target(drain)
        ));
    }
    if asked == "progressive" && drain.strategy == "graceful" && !joined && !is_over(drain) {
        text.line("note: no other endpoint takes over, so it takes no new calls from now on");
    }
    if !asked.is_empty() && drain.strategy.is_empty() && drain.cause == "admin" {
        text.line("note: this drain-coordinator is of an older release, which knows no strategies");
    }
    let clean = !is_over(drain) || drain.evicted == 0 && drain.lost == 0;
    Output { code: if clean { exit::DONE } else { exit::REFUSED }, ..Output::done(text, as_json(drain)) }
}

/// Says of a weight that it changes nothing, if no other endpoint of the server could get more calls for it. `routers`:
/// what they have of the server.
pub(super) fn tell_alone(drain: &Drain, routers: &[InspectResponse], output: &mut Output) {
    let live = |router: &InspectResponse| -> BTreeSet<String> {
        let live = router.endpoints.iter().filter(|one| one.role == "live");
        live.filter_map(|one| one.key.as_ref()).map(|key| HEXLOWER.encode(&key.digest)).collect()
    };
    let all: Vec<BTreeSet<String>> = routers.iter().map(live).filter(|live| !live.is_empty()).collect();
    let is_shared =
        |live: &BTreeSet<String>| !drain.endpoint.is_empty() && live.iter().any(|digest| *digest != drain.endpoint);
    if all.is_empty() || all.iter().any(is_shared) || drain.state != "weighted" {
        return;
    }
    let target = target(drain);
    output.text.line(if all.iter().any(|live| live.len() > 1) {
        format!(
            "note: it keeps all calls, since all endpoints of {target} get the same share; name one with --endpoint DIGEST"
        )
    } else {
        format!("note: {target} keeps all calls: it is the only endpoint, so that nothing can take its place")
    });
}

/// The command that takes back what an operator asked for, if it holds.
fn undo(drain: &Drain) -> Option<String> {
    if drain.cause != "admin" || drain.state == "cancelled" {
        return None;
    }
    let whole = drain.endpoint.is_empty() && drain.weight_permille == 0;
    Some(if whole {
        format!("`only1mcp enable {}`", drain.server)
    } else {
        format!("`only1mcp drain --cancel {}`", drain.id)
    })
}

pub(crate) async fn list(args: &DrainsArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut service = admin.drain()?;
    let call = service.client.list(ListRequest { all: args.all });
    let drains = admin.ask(&service.target, call).await?.drains;
    Ok(show_all(&drains, args.all, &Reading::now()))
}

/// `all`: also those that are over were asked for.
pub(super) fn show_all(drains: &[Drain], all: bool, reading: &Reading) -> Output {
    let rows: Vec<[String; 10]> = drains.iter().map(|drain| row(drain, reading)).collect();
    let heads = ["ID", "SERVER", "CAUSE", "STATE", "STARTED", "TOTAL", "IN FLIGHT", "FINISHED", "EVICTED", "LOST"];
    let mut text = match (rows.is_empty(), all) {
        (false, _) => render::table(heads, &rows),
        (true, true) => Lines::of("no drains"),
        (true, false) => Lines::of("no drain runs or holds a server; --all shows those that are over"),
    };
    drains.iter().filter_map(cut_off).for_each(|note| text.line(note));
    Output::done(text, drains.iter().map(as_json).collect())
}

/// The server, and which of its endpoints, if it is about one.
pub(super) fn target(drain: &Drain) -> String {
    let short = drain.endpoint.get(..8).unwrap_or_default();
    if short.is_empty() { drain.server.clone() } else { format!("{}/{short}", drain.server) }
}

fn is_over(drain: &Drain) -> bool {
    drain.state == "done" || drain.state == "cancelled"
}

/// `3 in flight, 28 s left`; of one whose share falls, `gets 40% of its calls, 28 s left`.
pub(super) fn under_way(drain: &Drain) -> String {
    let calls = match (drain.weight_permille, in_flight(drain)) {
        (0, Some(calls)) => format!("{calls} in flight"),
        (0, None) => "not counted yet".to_owned(),
        _ if drain.strained => "waits until enough of what takes over is well".to_owned(),
        (share, _) => format!("gets {} of its calls", render::weight(share)),
    };
    format!("{calls}, {} left", render::left(drain.remaining))
}

/// `5 finished, 1 evicted, 0 lost`.
pub(super) fn how_it_went(drain: &Drain) -> String {
    format!("{} finished, {} evicted, {} lost", drain.finished, drain.evicted, drain.lost)
}

/// Of a drain that is over and had calls cut off at its deadline: how many, and which one had run for longest.
fn cut_off(drain: &Drain) -> Option<String> {
    let oldest = render::some(&drain.oldest).filter(|_| is_over(drain) && drain.evicted > 0)?;
    let (calls, target) = (render::count(drain.evicted, "call"), target(drain));
    Some(format!("note: drain {} of {target} cut off {calls}; the oldest: {oldest}", drain.id))
}

/// `None` while no router has said how many there are.
fn in_flight(drain: &Drain) -> Option<u64> {
    (is_over(drain) || !drain.routers.is_empty()).then_some(drain.in_flight)
}

fn state(drain: &Drain) -> String {
    let state = match drain.state.as_str() {
        "weighted" => render::weight(drain.weight_permille),
        "done" if drain.disabled => "disabled".to_owned(),
        "draining" if drain.strained => "waiting".to_owned(),
        "cancelled" if drain.weight_permille > 0 => format!("cancelled at {}", render::weight(drain.weight_permille)),
        "draining" if drain.weight_permille > 0 => format!("draining, {}", render::weight(drain.weight_permille)),
        state => state.to_owned(),
    };
    match render::span(drain.eta) {
        Some(left) => format!("{state}, ends in {}", render::duration(left)),
        None => state,
    }
}

fn row(drain: &Drain, reading: &Reading) -> [String; 10] {
    let cause = match drain.revision {
        0 => render::some(&drain.actor).unwrap_or(&drain.cause).to_owned(),
        revision => format!("revision {revision}"),
    };
    [
        drain.id.clone(),
        target(drain),
        cause,
        state(drain),
        reading.when(drain.started_unix_ms),
        drain.total.to_string(),
        in_flight(drain).map_or_else(|| "-".to_owned(), |count| count.to_string()),
        drain.finished.to_string(),
        drain.evicted.to_string(),
        drain.lost.to_string(),
    ]
}

pub(super) fn as_json(drain: &Drain) -> Value {
    json!({
        "id": drain.id,
        "server": drain.server,
        "endpoint": render::some(&drain.endpoint),
        "weight_permille": drain.weight_permille,
        "strategy": render::some(&drain.strategy),
        "waits_for_health": drain.strained,
        "disabled": drain.disabled,
        "cause": drain.cause,
        "revision": (drain.revision != 0).then_some(drain.revision),
        "actor": render::some(&drain.actor),
        "state": drain.state,
        "started": render::time(drain.started_unix_ms),
        "ended": (drain.ended_unix_ms != 0).then(|| render::time(drain.ended_unix_ms)),
        "remaining_ms": render::millis(drain.remaining),
        "eta_ms": render::millis(drain.eta),
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
        "gone": share.gone,
        "total": share.total,
        "in_flight": share.in_flight,
        "finished": share.finished,
        "evicted": share.evicted,
        "lost": share.lost,
    })
}

#[cfg(test)]
mod tests;
