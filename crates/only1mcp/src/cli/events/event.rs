//! One event, whichever service it is from: as a line for people, and as a JSON object that always has the same keys.

use std::{collections::BTreeMap, time::Duration};

use data_encoding::HEXLOWER;
use jiff::{Timestamp, tz::TimeZone};
use model::{About, EventKind, Verdict};
use serde_json::{Value, json};
use wire::pb::{
    config::v1::WatchResponse,
    drain::v1::{Drain, WatchResponse as DrainChange},
    health::v1::{EndpointVerdict, WatchResponse as VerdictChange},
};

use super::super::{drains, render};
use crate::args::watch::{Filter, Wanted};

/// Who tells of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Config,
    Health,
    Drain,
}

impl Service {
    pub(super) const ALL: [Self; 3] = [Self::Config, Self::Health, Self::Drain];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config-manager",
            Self::Health => "health-monitor",
            Self::Drain => "drain-coordinator",
        }
    }

    /// Where to read what happened while there was no connection.
    pub(super) fn missed(self) -> &'static str {
        match self {
            Self::Config => "what happened meanwhile is in `only1mcp history`",
            Self::Health => "how servers are now is in `only1mcp status`",
            Self::Drain => "what ended meanwhile is in `only1mcp drains --all`",
        }
    }
}

/// What kind of event it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Known(EventKind),
    /// Of a service of another release.
    Unknown(String),
}

impl Kind {
    fn named(word: String) -> Self {
        EventKind::named(&word).map_or(Self::Unknown(word), Self::Known)
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Known(kind) => kind.as_str(),
            Self::Unknown(word) => word,
        }
    }

    fn about(&self) -> Option<About> {
        match self {
            Self::Known(kind) => Some(kind.about()),
            Self::Unknown(_) => None,
        }
    }

    /// What it is about, in a word; its own word, if that is not known.
    fn subject(&self) -> &str {
        match self {
            Self::Known(kind) => kind.about().as_str(),
            Self::Unknown(word) => word,
        }
    }
}

impl Filter {
    /// Whether events of the service may be let through.
    pub(super) fn needs(&self, service: Service) -> bool {
        let from = |wanted: &Wanted| match wanted.about() {
            About::Server => Service::Health,
            About::Drain => Service::Drain,
            About::Change | About::Router | About::Watch => Service::Config,
        };
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| from(wanted) == service)
    }

    pub(super) fn lets_through(&self, event: &Event) -> bool {
        let about = event.kind.about();
        let kind = |wanted: &Wanted| match wanted {
            Wanted::About(wanted) => about == Some(*wanted),
            Wanted::Kind(wanted) => event.kind == Kind::Known(*wanted),
        };
        let of_kind = self.kinds.is_empty() || self.kinds.iter().any(kind);
        let of_server = self.servers.is_empty() || self.servers.iter().any(|server| event.servers.contains(server));
        about == Some(About::Watch) || of_kind && of_server
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// Milliseconds since 1970.
    time: u64,
    service: Service,
    kind: Kind,
    /// All that it is about.
    servers: Vec<String>,
    router: String,
    revision: u64,
    attempt: String,
    /// For people: without what the other fields say.
    message: String,
    traceparent: String,
    /// What belongs to its kind alone.
    facts: Value,
    /// For the line: what it is about, and what became of that.
    words: String,
}

impl Event {
    /// Something about the connection to a service.
    pub(super) fn connection(time: u64, service: Service, kind: EventKind, revision: u64, message: String) -> Self {
        let at = if revision == 0 { String::new() } else { format!(", revision {revision} is live") };
        Self {
            time,
            service,
            kind: Kind::Known(kind),
            servers: Vec::new(),
            router: String::new(),
            revision,
            attempt: String::new(),
            traceparent: String::new(),
            facts: Value::Null,
            words: format!("{}  {kind}{at}{}", service.as_str(), render::because(&message)),
            message,
        }
    }

    pub(super) fn of_config(event: WatchResponse) -> Self {
        let WatchResponse { time_unix_ms: time, kind, attempt, revision, node, message, traceparent, servers } = event;
        let kind = Kind::named(kind);
        let is = |one: EventKind| kind == Kind::Known(one);
        let subject = match (node.as_str(), attempt.as_str()) {
            ("", "") if is(EventKind::Source) => "file".to_owned(),
            ("", "") if is(EventKind::Missed) => Service::Config.as_str().to_owned(),
            ("", "") => "change".to_owned(),
            ("", attempt) => format!("change {attempt}"),
            (node, _) => format!("router {node}"),
        };
        let said = kind.as_str().replace('_', " ");
        let on = if node.is_empty() || attempt.is_empty() { String::new() } else { format!(" on {attempt}") };
        let words = if is(EventKind::Source) {
            format!("{subject}  {message}")
        } else {
            format!("{subject}  {said}{on}{}", render::because(&message))
        };
        let facts = if is(EventKind::Committed) { json!({ "servers": servers }) } else { Value::Null };
        let service = Service::Config;
        Self { time, service, kind, servers, router: node, revision, attempt, message, traceparent, facts, words }
    }

    pub(super) fn of_verdict_change(time: u64, change: &VerdictChange) -> Vec<Self> {
        let missed = missed(time, Service::Health, change.missed);
        missed.into_iter().chain(change.change.as_ref().map(|change| Self::of_verdict(time, change))).collect()
    }

    /// The verdict on an endpoint: a new one, or one that holds already.
    pub(super) fn of_verdict(time: u64, one: &EndpointVerdict) -> Self {
        let key = one.endpoint.clone().unwrap_or_default();
        let (verdict, lasted) = (wire::verdict(one.verdict), render::span(one.previous_lasted));
        // Of a service of another release, or no change, there is none.
        let previous = lasted.map(|_| wire::verdict(one.previous));
        let not_up = |verdict| matches!(verdict, Verdict::Starting | Verdict::Failing);
        let turn = match previous {
            Some(previous) if not_up(previous) && !not_up(verdict) => "up, ",
            Some(Verdict::Healthy | Verdict::Degraded | Verdict::Unhealthy) if not_up(verdict) => "lost, ",
            Some(_) | None => "",
        };
        let worth = |(previous, lasted): &(Verdict, Duration)| *previous != Verdict::Unknown && lasted.as_secs() > 0;
        let was = previous
            .zip(lasted)
            .filter(worth)
            .map(|(previous, lasted)| format!("was {previous} for {}", render::age(lasted)));
        let in_a_row = (verdict == Verdict::Unhealthy && one.streak > 1).then(|| format!("{} in a row", one.streak));
        let reason = render::some(&one.reason).map(str::to_owned);
        let message = [reason, in_a_row, was].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let words = format!("server {}  {turn}{verdict} in {}{}", key.backend, one.node, in_brackets(&message));
        let facts = json!({
            "endpoint": HEXLOWER.encode(&key.digest),
            "variant": key.variant,
            "verdict": verdict,
            "previous": previous,
            "previous_lasted_ms": render::millis(one.previous_lasted),
            "reason": render::some(&one.reason),
            "streak": one.streak,
        });
        Self {
            words,
            facts,
            router: one.node.clone(),
            ..Self::of_server(time, Service::Health, Kind::Known(EventKind::Verdict(verdict)), key.backend, message)
        }
    }

    fn of_drain(time: u64, drain: &Drain) -> Self {
        let by = match (drain.revision, drain.actor.as_str()) {
            (0, "") => String::new(),
            (0, actor) => format!("by {actor}; "),
            // Its server may be in that revision with another endpoint, or switched off.
            (revision, _) => format!("its old endpoint left with revision {revision}; "),
        };
        let kind = Kind::named(drain.state.clone());
        let (state, counts) = match &kind {
            Kind::Known(EventKind::Done) => ("drained".to_owned(), drains::how_it_went(drain)),
            Kind::Known(EventKind::Cancelled) => ("open again".to_owned(), drains::how_it_went(drain)),
            Kind::Known(EventKind::Weighted) => {
                let share = render::weight(drain.weight_permille);
                (format!("gets {share} of its calls"), "until it is cancelled".to_owned())
            }
            Kind::Known(_) | Kind::Unknown(_) => (drain.state.clone(), drains::under_way(drain)),
        };
        let message = format!("{by}{counts}; drain {}", drain.id);
        let words = format!("server {}  {state}{}", drains::target(drain), in_brackets(&message));
        let facts = drains::as_json(drain);
        let event = Self::of_server(time, Service::Drain, kind, drain.server.clone(), message);
        Self { words, facts, revision: drain.revision, ..event }
    }

    fn of_server(time: u64, service: Service, kind: Kind, server: String, message: String) -> Self {
        let event = Self::connection(time, service, EventKind::Connected, 0, message);
        Self { kind, servers: vec![server], ..event }
    }

    /// `14:03:22  server crm  unhealthy in router-1  (ping: no answer within 5 s; 3 in a row)`.
    pub(super) fn line(&self, zone: &TimeZone) -> String {
        let time = i64::try_from(self.time).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = time
            .map_or_else(|| "--:--:--".to_owned(), |time| time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string());
        format!("{time}  {}", self.words)
    }

    pub(super) fn json(&self) -> Value {
        // A revision may be about many; they are among its facts.
        let server = self.servers.first().filter(|_| self.service != Service::Config);
        json!({
            "time": render::time(self.time),
            "service": self.service.as_str(),
            "about": self.kind.subject(),
            "kind": self.kind.as_str(),
            "server": server,
            "router": render::some(&self.router),
            "revision": (self.revision != 0).then_some(self.revision),
            "attempt": render::some(&self.attempt),
            "message": render::some(&self.message),
            "facts": self.facts,
            "traceparent": render::some(&self.traceparent),
        })
    }
}

/// Drains as they were told last: their counts change with every call, and that is no event.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<String, (String, u32, u64, u64)>);

/// More are forgotten, which at worst tells one of them again.
const SEEN_MAX: usize = 1024;

impl Seen {
    pub(super) fn events(&mut self, time: u64, change: &DrainChange) -> Vec<Event> {
        let news = change.drain.as_ref().filter(|drain| self.is_news(drain));
        let missed = missed(time, Service::Drain, change.missed);
        missed.into_iter().chain(news.map(|drain| Event::of_drain(time, drain))).collect()
    }

    fn is_news(&mut self, drain: &Drain) -> bool {
        if self.0.len() >= SEEN_MAX {
            self.0.clear();
        }
        let now = (drain.state.clone(), drain.weight_permille, drain.evicted, drain.lost);
        self.0.insert(drain.id.clone(), now.clone()) != Some(now)
    }
}

fn missed(time: u64, service: Service, missed: u64) -> Option<Event> {
    let message = format!("{missed} events were missed by this watcher, which was too slow");
    (missed > 0).then(|| Event::connection(time, service, EventKind::Missed, 0, message))
}

fn in_brackets(message: &str) -> String {
    render::some(message).map_or_else(String::new, |message| format!("  ({message})"))
}
