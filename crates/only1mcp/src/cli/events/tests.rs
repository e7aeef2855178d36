//! Events of each service, as lines and as JSON.

use std::{collections::BTreeSet, time::Duration};

use jiff::tz::TimeZone;
use model::{About, EventKind};
use serde_json::Value;
use wire::pb::{
    config::v1::WatchResponse,
    drain::v1::{Drain, RouterShare, WatchResponse as DrainChange},
    health::v1::{EndpointVerdict, WatchResponse as VerdictChange},
    words::v1::{EndpointKey, Verdict},
};

use super::{Event, Seen, event::Service};
use crate::{
    args::watch::{Filter, Wanted},
    cli::{Lines, Output, tests::golden::Golden},
};

const TIME: u64 = 1_764_082_800_123;

fn verdict(previous: Verdict, lasted: u64, verdict: Verdict, reason: &str, streak: u32) -> EndpointVerdict {
    EndpointVerdict {
        node: "router-1".into(),
        endpoint: Some(EndpointKey { backend: "crm".into(), variant: "default".into(), digest: vec![0xab; 32] }),
        verdict: verdict.into(),
        reason: reason.into(),
        streak,
        previous: previous.into(),
        previous_lasted: Duration::from_secs(lasted).try_into().ok(),
        ..EndpointVerdict::default()
    }
}

fn of_config(kind: &str, attempt: &str, node: &str, message: &str) -> Event {
    Event::of_config(WatchResponse {
        time_unix_ms: TIME,
        kind: kind.into(),
        attempt: attempt.into(),
        node: node.into(),
        revision: 7,
        message: message.into(),
        servers: if kind == "committed" { vec!["crm".into(), "wiki".into()] } else { Vec::new() },
        ..WatchResponse::default()
    })
}

fn drain(state: &str, in_flight: u64, finished: u64, evicted: u64) -> DrainChange {
    let drain = Drain {
        id: "3".into(),
        server: "crm".into(),
        cause: "admin".into(),
        actor: "uid:1000".into(),
        state: state.into(),
        total: in_flight + finished + evicted,
        in_flight,
        finished,
        evicted,
        weight_permille: if state == "weighted" { 250 } else { 0 },
        remaining: Duration::from_secs(28).try_into().ok(),
        started_unix_ms: TIME,
        routers: vec![RouterShare::default()],
        ..Drain::default()
    };
    DrainChange { drain: Some(drain), missed: 0 }
}

fn all() -> Vec<Event> {
    let again = "again after 3 s; how servers are now is in `only1mcp status`".to_owned();
    let mut events = vec![
        Event::connection(TIME, Service::Config, EventKind::Connected, 7, String::new()),
        Event::connection(TIME, Service::Health, EventKind::Connected, 0, again),
        of_config("source", "", "", "only1mcp.yaml is being written"),
        of_config("waiting", "", "", "a change waits: no router that has the live revision is there to vote"),
        of_config("attached", "", "router-1", "has revision 6"),
        of_config("attempt_started", "2-5", "", "file with 2 voting routers"),
        of_config("vote", "2-5", "router-1", "no: ${env:KEY} is not set"),
        of_config("refused", "2-5", "", "file: router router-1: ${env:KEY} is not set"),
        of_config("committed", "2-6", "", "revision 7 by file: +crm -wiki"),
        of_config("acked", "2-6", "router-2", "revision 7 is live there"),
        of_config("behind", "", "router-1", "cannot hold revision 7: ${env:KEY} is not set"),
        of_config("caught_up", "", "router-1", "revision 7 is live there"),
        of_config("detached", "", "router-2", "its stream ended"),
        of_config("missed", "", "", "3 events were missed by this watcher, which was too slow"),
        of_config("of_another_release", "", "", "something"),
        Event::connection(TIME, Service::Drain, EventKind::Disconnected, 0, "it ended the stream".into()),
    ];
    let no_answer = "ping: no answer within 5 s";
    let exited = "its process exited with status 137";
    let changes = [
        verdict(Verdict::Healthy, 7200, Verdict::Unhealthy, no_answer, 3),
        verdict(Verdict::Unhealthy, 240, Verdict::Healthy, "", 2),
        verdict(Verdict::Healthy, 600, Verdict::Starting, exited, 0),
        verdict(Verdict::Starting, 12, Verdict::Failing, exited, 0),
        verdict(Verdict::Failing, 300, Verdict::Healthy, "", 1),
        verdict(Verdict::Unknown, 1, Verdict::Healthy, "", 1),
        verdict(Verdict::Healthy, 7500, Verdict::Degraded, "2 calls without an answer, 0 with one", 0),
    ];
    events.extend(changes.iter().map(|change| Event::of_verdict(TIME, change)));
    // What holds already when the watch begins.
    let holds = EndpointVerdict { previous: 0, previous_lasted: None, ..changes[3].clone() };
    let late = VerdictChange { change: Some(holds), missed: 2 };
    events.extend(Event::of_verdict_change(TIME, &late));
    let mut seen = Seen::default();
    let drains = [
        drain("weighted", 0, 0, 0),
        drain("draining", 3, 0, 0),
        // No news: calls come to their end.
        drain("draining", 1, 2, 0),
        drain("evicting", 1, 2, 0),
        drain("done", 0, 2, 1),
        drain("done", 0, 2, 1),
        drain("cancelled", 0, 2, 1),
    ];
    events.extend(drains.iter().flat_map(|change| seen.events(TIME, change)));
    events
}

pub(in crate::cli) fn golden() -> Vec<Golden> {
    let mut text = Lines::default();
    all().iter().for_each(|event| text.line(event.line(&TimeZone::UTC)));
    vec![("watch".to_owned(), Output::done(text, Value::Null))]
}

#[test]
fn events_as_lines_and_in_one_shape() {
    let events = all();
    let told: BTreeSet<_> = events.iter().map(|event| event.json()["kind"].as_str().unwrap().to_owned()).collect();
    let kinds = About::ALL.into_iter().flat_map(About::kinds).map(EventKind::as_str);
    let untold: Vec<_> = kinds.filter(|kind| !told.contains(*kind)).collect();
    assert_eq!(untold, ["unknown"], "nothing becomes that");
    let lines: Vec<_> = events.iter().map(|event| event.line(&TimeZone::UTC)).collect();
    let objects: Vec<_> = events.iter().map(|event| event.json().to_string()).collect();
    insta::assert_snapshot!(format!("{}\n{}", lines.join("\n"), objects.join("\n")));
    let keys = |event: &Event| event.json().as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert!(events.iter().all(|event| keys(event) == keys(&events[0])));
}

#[test]
fn of_a_server_whose_endpoint_is_replaced_it_is_not_said_that_it_is_removed() {
    let mut change = drain("draining", 3, 0, 0);
    let drain = change.drain.as_mut().unwrap();
    (drain.cause, drain.actor, drain.revision) = ("revision".into(), String::new(), 7);
    let [event] = &Seen::default().events(TIME, &change)[..] else { panic!("one event") };
    let line = event.line(&TimeZone::UTC);
    assert!(line.ends_with("(its old endpoint left with revision 7; 3 in flight, 28 s left; drain 3)"), "{line}");
}

#[test]
fn what_is_not_asked_for_is_not_told() {
    let told = |servers: &[&str], kinds: &[&str]| {
        let servers = servers.iter().map(|server| (*server).to_owned()).collect();
        let kinds = kinds.iter().map(|word| Wanted::parse(word).unwrap()).collect();
        let filter = Filter { servers, kinds };
        let told: BTreeSet<_> = all()
            .iter()
            .filter(|event| filter.lets_through(event))
            .map(|event| event.json()["kind"].as_str().unwrap().to_owned())
            .collect();
        let needed = Service::ALL.map(|service| filter.needs(service));
        (told.into_iter().collect::<Vec<_>>().join(" "), needed)
    };
    assert_eq!(
        told(&[], &["router"]),
        ("acked attached behind caught_up connected detached disconnected missed".into(), [true, false, false])
    );
    assert_eq!(told(&["crm"], &["change"]), ("committed connected disconnected missed".into(), [true, false, false]));
    assert_eq!(
        told(&[], &["failing", "done"]),
        ("connected disconnected done failing missed".into(), [false, true, true])
    );
    assert_eq!(told(&["other"], &[]), ("connected disconnected missed".into(), [true; 3]));
    assert!(Wanted::parse("watch").is_err(), "what is always told is not asked for");
    let unknown = Wanted::parse("committd").unwrap_err();
    assert!(
        unknown.contains("change (waiting, attempt_started, vote, refused, committed, source), router ("),
        "{unknown}"
    );
}
