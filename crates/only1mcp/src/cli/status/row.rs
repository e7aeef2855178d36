//! One endpoint of a server in one router, as `status` shows it.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use data_encoding::HEXLOWER;
use model::{Concern, Condition, Facts, Verdict, Weight, units::in_words};
use serde_json::{Value, json};
use wire::pb::{
    config::v1::{ConfiguredServer, ServerState},
    router::v1::{Checks, Endpoint, OldestCall, RecentCalls},
    words::v1::EndpointKey,
};

use super::render;

/// Of the table.
pub(super) const HEADS: [&str; 8] = ["SERVER", "ROUTER", "STATE", "FOR", "TOOLS", "IN FLIGHT", "P95", "FAILED"];

/// Of a digest, where people read it.
const SHORT: usize = 8;

/// A call that takes less is nothing special.
const LONG: Duration = Duration::from_secs(10);

/// The router's reason for the loss of a process that was ended so that another one takes its place begins so.
const RESTARTED: &str = "it was restarted: ";

/// An older error of a server that is well is no news any more.
const PAST: Duration = Duration::from_secs(3600);

pub(super) struct Row<'a> {
    node: &'a str,
    state: Cow<'a, ServerState>,
    /// As the router itself says; none where only config-manager was asked.
    detail: Option<&'a Endpoint>,
    /// The server has other endpoints in that router, so that its name alone does not tell which one this is.
    is_one_of_several: bool,
}

impl<'a> Row<'a> {
    /// What the router itself answered.
    pub(super) fn asked(node: &'a str, one: &'a Endpoint) -> Self {
        let state = ServerState {
            endpoint: one.key.clone(),
            verdict: one.verdict,
            transport: one.transport.clone(),
            tools: one.tools,
            in_flight: one.in_flight,
            pid: one.pid,
            error: one.error.clone(),
            cordoned: one.admission != "open",
            // It is in the state that the router told.
            disabled: false,
            warnings: one.warnings.clone(),
        };
        Self { node, state: Cow::Owned(state), detail: Some(one), is_one_of_several: false }
    }

    /// What config-manager was told by the router.
    pub(super) fn reported(node: &'a str, state: &'a ServerState) -> Self {
        Self { node, state: Cow::Borrowed(state), detail: None, is_one_of_several: false }
    }
}

impl Row<'_> {
    fn key(&self) -> Option<&EndpointKey> {
        self.state.endpoint.as_ref()
    }

    pub(super) fn server(&self) -> &str {
        self.key().map_or("?", |key| key.backend.as_str())
    }

    /// Those of one server cannot be told apart by its name alone.
    pub(super) fn tell_apart(rows: &mut [Self]) {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *count.entry(row.server().to_owned()).or_default() += 1);
        for row in rows {
            row.is_one_of_several = count.get(row.server()).is_some_and(|count| *count > 1);
        }
    }

    /// The server, and which of its endpoints, if there are several: as `drains` shows it.
    fn name(&self) -> Cow<'_, str> {
        let server = self.server();
        match self.short_digest().filter(|_| self.is_one_of_several) {
            Some(short) => Cow::Owned(format!("{server}/{short}")),
            None => Cow::Borrowed(server),
        }
    }

    /// As much of the digest as `drain --endpoint` needs.
    fn short_digest(&self) -> Option<String> {
        self.key().map(|key| HEXLOWER.encode(&key.digest).chars().take(SHORT).collect())
    }

    /// Of one of several endpoints, where it is.
    pub(super) fn place(&self) -> Option<String> {
        let address = &self.detail.filter(|_| self.is_one_of_several)?.address;
        render::some(address).map(|address| format!("{} in {} is at {address}", self.name(), self.node))
    }

    pub(super) fn node(&self) -> &str {
        self.node
    }

    pub(super) fn verdict(&self) -> Verdict {
        wire::verdict(self.state.verdict)
    }

    pub(super) fn tools(&self) -> u32 {
        self.state.tools
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.state.in_flight
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.state.warnings
    }

    pub(super) fn condition(&self) -> Condition {
        let told = self.detail.and_then(|detail| detail.state.parse().ok());
        told.unwrap_or_else(|| {
            let ServerState { cordoned, disabled, in_flight, .. } = *self.state;
            Condition::of(Facts { verdict: self.verdict(), cordoned, disabled, leaving: false, in_flight })
        })
    }

    pub(super) fn concern(&self) -> Concern {
        self.condition().concern(!self.state.error.is_empty())
    }

    fn is(&self, standing: &str) -> bool {
        !self.state.cordoned && self.detail.is_some_and(|detail| detail.standing == standing)
    }

    /// The state; and beside it, where it does not say so itself, whether it gets no calls, or fewer than its share.
    fn in_a_word(&self) -> String {
        let condition = self.condition();
        let says_so = matches!(condition, Condition::Draining | Condition::Cordoned);
        let weight = self.detail.map(share).filter(|permille| (1..1000).contains(permille));
        match weight {
            _ if self.state.cordoned && !says_so => format!("{condition}, cordoned"),
            _ if self.is("ejected") => format!("{condition}, ejected"),
            _ if self.is("on_trial") => format!("{condition}, on trial"),
            Some(weight) if !self.state.cordoned => format!("{condition}, {} of its calls", render::weight(weight)),
            Some(_) | None => condition.to_string(),
        }
    }

    /// `server crm is failing (for 3 min, 15 restarts, next try in 19 s) in router-1: its process exited …`.
    pub(super) fn said(&self) -> String {
        let facts = self.detail.map_or_else(Vec::new, facts);
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        let reason = render::because(&self.state.error);
        format!("server {} is {}{facts} in {}{reason}", self.name(), self.in_a_word(), self.node)
    }

    /// Where to read what its process said, if it said anything.
    pub(super) fn logs_hint(&self) -> String {
        let said = self.detail.is_some_and(|detail| !(detail.stderr.is_empty() && detail.stray_output.is_empty()));
        if said { format!("; what it said: only1mcp logs {}", self.server()) } else { String::new() }
    }

    /// Why it was last lost or could not be brought up, though it is up again.
    pub(super) fn past_error(&self) -> Option<String> {
        let detail = self.detail.filter(|detail| !detail.last_error.is_empty())?;
        let ago = render::span(detail.last_error_ago)?;
        let (server, node, error) = (self.name(), self.node, &detail.last_error);
        let restarts = counted(detail.restarts, "restart").map_or_else(String::new, |restarts| format!("{restarts}, "));
        let (ago, is_news) = (render::age(ago), ago < PAST);
        let said = || match error.strip_prefix(RESTARTED) {
            // What it was ended by is no news where that was wanted.
            Some(why) => {
                let why = why.split("; ").next().unwrap_or_default();
                let last = if detail.restarts > 0 { "the last" } else { "restarted" };
                format!("server {server} in {node}: {restarts}{last} {ago} ago: {why}")
            }
            None => format!("server {server} in {node}: {restarts}last error {ago} ago: {error}"),
        };
        is_news.then(said)
    }

    /// The call that keeps it busy longest, if one does so for long, with its age.
    pub(super) fn oldest_call(&self) -> Option<(Duration, String)> {
        let oldest = self.detail?.oldest.as_ref()?;
        let age = render::span(oldest.age).filter(|age| *age >= LONG)?;
        let (server, node, tool) = (self.name(), self.node, &oldest.tool);
        let lasts = render::age(age);
        Some((age, format!("server {server} in {node}: its oldest call, of `{tool}`, has been in flight for {lasts}")))
    }

    /// `2/3`: of three tools, clients see two.
    fn tools_cell(&self) -> String {
        let offered = self.state.tools;
        let shown = self.detail.map(|detail| detail.tools_shown).filter(|shown| *shown != offered);
        shown.map_or_else(|| offered.to_string(), |shown| format!("{shown}/{offered}"))
    }

    /// `3 of 120`: of 120 calls of the last minutes, 3 had no answer.
    fn failed_cell(&self) -> Option<String> {
        let RecentCalls { answered, failed, timed_out, .. } = self.detail?.recent?;
        let (failed, all) = (failed + timed_out, answered + failed + timed_out);
        (all > 0).then(|| format!("{failed} of {all}"))
    }

    pub(super) fn cells(&self) -> [String; HEADS.len()] {
        let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let lasts = self.detail.and_then(|detail| render::span(detail.state_for));
        let p95 = self.detail.and_then(|detail| render::span(detail.recent?.p95));
        [
            self.name().into_owned(),
            self.node.to_owned(),
            self.in_a_word(),
            or_none(lasts.map(render::age)),
            self.tools_cell(),
            self.state.in_flight.to_string(),
            or_none(p95.map(render::duration)),
            or_none(self.failed_cell()),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let digest = self.key().map(|key| HEXLOWER.encode(&key.digest));
        let mut value = json!({
            "router": self.node,
            "variant": self.key().map(|key| &key.variant),
            "digest": digest,
            "state": self.condition().as_str(),
            "verdict": self.verdict(),
            "transport": self.state.transport,
            "tools": self.state.tools,
            "in_flight": self.state.in_flight,
            "pid": (self.state.pid != 0).then_some(self.state.pid),
            "error": render::some(&self.state.error),
            "cordoned": self.state.cordoned,
            "warnings": self.state.warnings,
        });
        if let Some(detail) = self.detail {
            value["address"] = render::some(&detail.address).into();
            value["upstream_session"] = render::some(&detail.upstream_session).into();
            value["role"] = render::some(&detail.role).into();
            value["admission"] = detail.admission.as_str().into();
            value["weight_permille"] = detail.weight_permille.into();
            value["admitted"] = detail.admitted.into();
            value["standing"] = render::some(&detail.standing).into();
            value["share_permille"] = (detail.share_permille != 0).then_some(detail.share_permille).into();
            value["ejected_for_ms"] = render::millis(detail.ejected_for).into();
            value["state_for_ms"] = render::millis(detail.state_for).into();
            value["restarts"] = detail.restarts.into();
            value["failures"] = detail.failures.into();
            value["stderr"] = json!(detail.stderr);
            value["stray_output"] = json!(detail.stray_output);
            value["next_attempt_ms"] = render::millis(detail.next_attempt).into();
            value["last_error"] = render::some(&detail.last_error).into();
            value["last_error_ago_ms"] = render::millis(detail.last_error_ago).into();
            value["tools_shown"] = detail.tools_shown.into();
            value["recent"] = detail.recent.map_or(Value::Null, recent_json);
            value["checks"] = detail.checks.as_ref().map_or(Value::Null, checks_json);
            value["oldest"] = detail.oldest.as_ref().map_or(Value::Null, oldest_json);
        }
        value
    }
}

/// The row of a server that is switched off where it is configured, and not by an operator.
pub(super) fn disabled_cells(server: &ConfiguredServer) -> [String; HEADS.len()] {
    let mut cells: [String; HEADS.len()] = std::array::from_fn(|_| "-".to_owned());
    (cells[0], cells[2]) = (server.id.clone(), format!("{} in the configuration", Condition::Disabled));
    cells
}

/// Beside its state: how long it has been so, how often it failed, and when it is tried again.
fn facts(detail: &Endpoint) -> Vec<String> {
    let within = |duration| render::span(duration).map(in_words);
    // One that is not up is not checked, and what it waits for is said already.
    let is_unwell = matches!(detail.state.parse(), Ok(Condition::Unhealthy | Condition::Degraded));
    let checks = detail.checks.as_ref().filter(|_| is_unwell);
    let facts = [
        render::span(detail.state_for).map(|lasts| format!("for {}", render::age(lasts))),
        counted(detail.failures, "failed attempt"),
        counted(detail.restarts, "restart"),
        within(detail.next_attempt).map(|next| format!("next try in {next}")),
        checks.and_then(|checks| within(checks.last_ok)).map(|ago| format!("answered {ago} ago")),
        checks.and_then(|checks| counted(checks.failures, "failure")).map(|failures| format!("{failures} in a row")),
        checks.and_then(|checks| within(checks.next_probe)).map(|next| format!("next check in {next}")),
        (detail.pid != 0).then(|| format!("pid {}", detail.pid)),
    ];
    facts.into_iter().flatten().collect()
}

/// What is left of its share of the calls, in thousandths. A router of an earlier release does not say what its own calls
/// leave of it.
fn share(detail: &Endpoint) -> u32 {
    let weight = |permille: u32| u16::try_from(permille).ok().and_then(Weight::of).unwrap_or(Weight::FULL);
    let own = if detail.share_permille == 0 { Weight::FULL } else { weight(detail.share_permille) };
    weight(detail.weight_permille).and(own).permille().into()
}

/// None for 0.
fn counted(count: u32, noun: &str) -> Option<String> {
    (count > 0).then(|| render::count(count, noun))
}

fn recent_json(recent: RecentCalls) -> Value {
    json!({
        "window_ms": render::millis(recent.window),
        "answered": recent.answered,
        "failed": recent.failed,
        "timed_out": recent.timed_out,
        "tool_errors": recent.tool_errors,
        "p95_ms": render::millis(recent.p95),
    })
}

fn checks_json(checks: &Checks) -> Value {
    json!({
        "last_ok_ago_ms": render::millis(checks.last_ok),
        "last_failure": render::some(&checks.last_failure),
        "last_failure_ago_ms": render::millis(checks.last_failure_ago),
        "failures": checks.failures,
        "next_probe_ms": render::millis(checks.next_probe),
    })
}

fn oldest_json(oldest: &OldestCall) -> Value {
    json!({ "tool": oldest.tool, "request": oldest.request, "age_ms": render::millis(oldest.age) })
}
