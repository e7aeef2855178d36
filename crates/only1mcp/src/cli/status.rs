//! `status`: what is live where, how the servers are, and what is wrong.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use data_encoding::HEXLOWER;
use runtime::exit;
use serde_json::{Map, Value, json};
use wire::pb::{
    config::v1::{ConfiguredServer, GetStatusRequest, GetStatusResponse, NodeRefusal, Pending, RouterStatus, ServerState, Source},
    router::v1::{Endpoint, InspectRequest, InspectResponse},
    words::v1::EndpointKey,
};

use super::{Lines, Output, render};
use crate::{admin::Admin, args::StatusArgs, failure::Failure};

pub(crate) async fn run(args: &StatusArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let mut config = admin.config()?;
    let status = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await?;
    let mut details = BTreeMap::new();
    for mut router in admin.routers() {
        // A router that says nothing is shown as config-manager knows it.
        if let Ok(details_of_one) = admin.ask(&router.target, router.client.inspect(InspectRequest::default())).await {
            details.insert(details_of_one.node.clone(), details_of_one);
        }
    }
    let mut output = show(status, details);
    super::drains::tell_disabled(&admin, &mut output).await;
    for (name, status) in admin.silent() {
        output.complaints.line(format_args!("{name} does not answer: {}", status.message()));
        output.code = exit::REFUSED;
    }
    Ok(output)
}

pub(super) fn show(status: GetStatusResponse, details: BTreeMap<String, InspectResponse>) -> Output {
    let view = View { status, details };
    let problems = view.problems();
    Output {
        text: view.text(&problems),
        complaints: Lines::default(),
        json: view.json(&problems),
        code: if problems.is_empty() { exit::DONE } else { exit::REFUSED },
    }
}

/// The answer of config-manager, and by node the answers of the routers that were asked directly.
struct View {
    status: GetStatusResponse,
    details: BTreeMap<String, InspectResponse>,
}

/// One endpoint in one router.
struct Row<'a> {
    router: &'a RouterStatus,
    state: Cow<'a, ServerState>,
    detail: Option<&'a Endpoint>,
}

impl View {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(source) = &self.status.source
            && in_trouble(&source.state)
        {
            let again = render::next_try(source.next_try);
            problems.push(format!("{}: {}{again}", source.path, source.state.replace('_', " ")));
            problems.extend(source.violations.iter().map(|violation| wire::violation(violation.clone()).to_string()));
            problems.extend(source.refusals.iter().map(refusal));
        }
        if !self.status.log_fault.is_empty() {
            problems.push(format!("the log of revisions is not sound: {}", self.status.log_fault));
        }
        if self.status.routers.is_empty() {
            problems.push("no router is attached".to_owned());
        }
        for router in &self.status.routers {
            if router.revision != self.status.revision || router.state == "behind" || !router.reason.is_empty() {
                let reason = render::some(&router.reason).map_or_else(String::new, |reason| format!(": {reason}"));
                let text =
                    format!("router {} is {} at revision {}{reason}", router.node, router.state, router.revision);
                problems.push(text);
            }
        }
        for row in self.rows() {
            let verdict = wire::verdict(row.state.verdict);
            if !verdict.is_trouble() {
                continue;
            }
            problems.push(format!("{}{}", row.said(), row.logs_hint()));
        }
        problems
    }

    /// Errors of servers that are no trouble yet.
    fn errors(&self) -> Vec<String> {
        let troubled = |row: &Row<'_>| wire::verdict(row.state.verdict).is_trouble();
        self.rows().filter(|row| !row.state.error.is_empty() && !troubled(row)).map(|row| row.said()).collect()
    }

    /// Facts that need no repair but explain what clients see.
    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for row in self.rows() {
            for warning in &row.state.warnings {
                let text = format!("server {} in {}: {warning}", row.server(), row.router.node);
                // Endpoints of one server mostly say the same.
                if !warnings.contains(&text) {
                    warnings.push(text);
                }
            }
        }
        warnings
    }

    /// Routers show the same names; one of them is enough.
    fn renamed(&self) -> Vec<String> {
        let renamed = self.details.values().map(|detail| &detail.renamed).max_by_key(|renamed| renamed.len());
        let renamed = renamed.map(Vec::as_slice).unwrap_or_default();
        let shown = renamed.iter().take(RENAMED_SHOWN);
        let mut lines: Vec<_> = shown
            .map(|one| format!("tool `{}` of server {} is shown as `{}`", one.tool, one.server, one.exposed))
            .collect();
        if renamed.len() > RENAMED_SHOWN {
            lines.push(format!("{} more tools are renamed; --output json has all", renamed.len() - RENAMED_SHOWN));
        }
        lines
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.status.routers.iter().flat_map(|router| self.rows_of(router))
    }

    /// The router's own answer is newer than what config-manager was told.
    fn rows_of<'a>(&'a self, router: &'a RouterStatus) -> Vec<Row<'a>> {
        match self.details.get(&router.node) {
            Some(detail) => {
                // A candidate is no server yet.
                let rows = detail.endpoints.iter().filter(|one| one.role != "candidate");
                rows.map(|one| Row { router, state: Cow::Owned(state(one)), detail: Some(one) }).collect()
            }
            None => {
                let rows = router.servers.iter();
                rows.map(|state| Row { router, state: Cow::Borrowed(state), detail: None }).collect()
            }
        }
    }

    fn text(&self, problems: &[String]) -> Lines {
        let GetStatusResponse { revision, digest, attempt, source, .. } = &self.status;
        let mut text = match revision {
            0 => Lines::of("no revision is live yet"),
            revision => Lines::of(format_args!("revision {revision} is live, digest {}", render::short(digest))),
        };
        if let Some(Source { path, state, method, refusals, .. }) = source {
            let method = render::some(method).map_or_else(String::new, |method| format!(" (watched by {method})"));
            text.line(format_args!("source {path}: {}{method}", state.replace('_', " ")));
            // The refusals of a source in trouble are among the problems.
            for note in refusals.iter().filter(|_| !in_trouble(state)).map(refusal) {
                text.line(format_args!("note: {note}"));
            }
        }
        for Pending { source, actor, stage, left_out, .. } in &self.status.pending {
            let left_out = match left_out.join(", ") {
                none if none.is_empty() => none,
                routers => format!(" (left out: {routers})"),
            };
            text.line(format_args!("pending: {source} by {actor}, {}{left_out}", stage.replace('_', " ")));
        }
        if !attempt.is_empty() {
            text.line(format_args!("attempt {attempt} is under way"));
        }
        let routers: Vec<[String; 5]> = self.status.routers.iter().map(|router| self.router_row(router)).collect();
        let off = self.status.servers.iter().filter(|server| server.disabled).map(disabled_cells);
        let servers: Vec<[String; 7]> = self.rows().map(|row| row.cells()).chain(off).collect();
        for table in [
            render::table(["ROUTER", "REVISION", "STATE", "MCP", "IN FLIGHT"], &routers),
            render::table(["SERVER", "ROUTER", "STATE", "TRANSPORT", "TOOLS", "IN FLIGHT", "PID"], &servers),
        ] {
            if !table.is_empty() {
                text.line("");
                text.append(&table);
            }
        }
        let (warnings, notes) = (self.warnings(), [self.renamed(), self.errors()].concat());
        if !(problems.is_empty() && warnings.is_empty() && notes.is_empty()) {
            text.line("");
        }
        for note in notes {
            text.line(format_args!("note: {note}"));
        }
        for warning in warnings {
            text.line(format_args!("warning: {warning}"));
        }
        for problem in problems {
            text.line(format_args!("problem: {problem}"));
        }
        text
    }

    fn router_row(&self, router: &RouterStatus) -> [String; 5] {
        let detail = self.details.get(&router.node);
        [
            router.node.clone(),
            router.revision.to_string(),
            router.state.clone(),
            detail.map_or_else(|| "-".to_owned(), |detail| detail.listen.clone()),
            detail.map_or_else(|| "-".to_owned(), |detail| detail.exchanges_in_flight.to_string()),
        ]
    }

    fn json(&self, problems: &[String]) -> Value {
        let status = &self.status;
        json!({
            "revision": status.revision,
            "digest": status.digest,
            "log_id": status.log_id,
            "epoch": status.epoch,
            "attempt": render::some(&status.attempt),
            "pending": status.pending.iter().map(pending_json).collect::<Value>(),
            "log_fault": render::some(&status.log_fault),
            "source": status.source.as_ref().map(source_json),
            "routers": status.routers.iter().map(|router| self.router_json(router)).collect::<Value>(),
            "servers": self.servers_json(),
            "warnings": self.warnings(),
            "problems": problems,
        })
    }

    fn router_json(&self, router: &RouterStatus) -> Value {
        let mut value = json!({
            "node": router.node,
            "revision": router.revision,
            "digest": router.digest,
            "state": router.state,
            "reason": render::some(&router.reason),
        });
        if let Some(detail) = self.details.get(&router.node) {
            value["listen"] = detail.listen.as_str().into();
            value["in_flight"] = detail.exchanges_in_flight.into();
            value["sessions_opened"] = detail.sessions_opened.into();
            value["tools"] = detail.tools.into();
            value["from_disk"] = detail.from_disk.into();
            let withheld = detail
                .withheld
                .iter()
                .map(|withheld| json!({ "server": withheld.server, "tool": withheld.tool, "reason": withheld.reason }));
            value["withheld"] = withheld.collect();
            let renamed = detail
                .renamed
                .iter()
                .map(|one| json!({ "server": one.server, "tool": one.tool, "exposed": one.exposed }));
            value["renamed"] = renamed.collect();
        }
        value
    }

    /// By server; its verdict is the worst of its endpoints'.
    fn servers_json(&self) -> Value {
        let mut servers: BTreeMap<String, Vec<Row<'_>>> = BTreeMap::new();
        for row in self.rows() {
            servers.entry(row.server().to_owned()).or_default().push(row);
        }
        let configured: BTreeMap<&str, _> = self.status.servers.iter().map(|one| (one.id.as_str(), one)).collect();
        for id in configured.keys() {
            servers.entry((*id).to_owned()).or_default();
        }
        let servers = servers.into_iter().map(|(id, rows)| {
            let said = configured.get(id.as_str());
            let labels = said.into_iter().flat_map(|said| &said.labels);
            let worst = rows.iter().map(|row| wire::verdict(row.state.verdict)).max_by_key(|verdict| verdict.badness());
            json!({
                "id": id,
                "enabled": said.is_none_or(|said| !said.disabled),
                "description": said.and_then(|said| render::some(&said.description)),
                "labels": labels.map(|label| (label.name.clone(), label.value.as_str().into())).collect::<Map<_, _>>(),
                "verdict": worst,
                "tools": rows.iter().map(|row| row.state.tools).max(),
                "in_flight": rows.iter().map(|row| row.state.in_flight).sum::<u64>(),
                "endpoints": rows.iter().map(Row::json).collect::<Value>(),
            })
        });
        servers.collect()
    }
}

/// Renamed tools in a text for people.
const RENAMED_SHOWN: usize = 20;

fn state(one: &Endpoint) -> ServerState {
    ServerState {
        endpoint: one.key.clone(),
        verdict: one.verdict,
        transport: one.transport.clone(),
        tools: one.tools,
        in_flight: one.in_flight,
        pid: one.pid,
        error: one.error.clone(),
        cordoned: one.admission != "open",
        warnings: one.warnings.clone(),
    }
}

impl Row<'_> {
    fn key(&self) -> Option<&EndpointKey> {
        self.state.endpoint.as_ref()
    }

    fn server(&self) -> &str {
        self.key().map_or("?", |key| key.backend.as_str())
    }

    /// Beside the verdict: whether it gets no calls, or fewer than its share.
    fn overlay(&self) -> Option<String> {
        let weight = self.detail.map(|detail| detail.weight_permille).filter(|permille| (1..1000).contains(permille));
        let cordoned = self.state.cordoned.then(|| "cordoned".to_owned());
        cordoned.or_else(|| Some(format!("{} of its calls", render::weight(weight?))))
    }

    /// The verdict, and what is done about it: `failing (15 restarts, next try in 19 s)`.
    fn in_words(&self) -> String {
        let verdict = wire::verdict(self.state.verdict);
        let overlay = self.overlay().map_or_else(String::new, |overlay| format!(", {overlay}"));
        let facts = self.detail.map_or_else(Vec::new, facts);
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        format!("{verdict}{overlay}{facts}")
    }

    fn said(&self) -> String {
        let reason = render::some(&self.state.error).map_or_else(String::new, |reason| format!(": {reason}"));
        format!("server {} is {} in {}{reason}", self.server(), self.in_words(), self.router.node)
    }

    /// Where to read what its process said, if it said anything.
    fn logs_hint(&self) -> String {
        let said = self.detail.is_some_and(|detail| !(detail.stderr.is_empty() && detail.stray_output.is_empty()));
        if said { format!("; what it said: only1mcp logs {}", self.server()) } else { String::new() }
    }

    fn cells(&self) -> [String; 7] {
        [
            self.server().to_owned(),
            self.router.node.clone(),
            self.in_words(),
            self.state.transport.clone(),
            self.state.tools.to_string(),
            self.state.in_flight.to_string(),
            if self.state.pid == 0 { "-".to_owned() } else { self.state.pid.to_string() },
        ]
    }

    fn json(&self) -> Value {
        let digest = self.key().map(|key| HEXLOWER.encode(&key.digest));
        let mut value = json!({
            "router": self.router.node,
            "variant": self.key().map(|key| &key.variant),
            "digest": digest,
            "verdict": wire::verdict(self.state.verdict),
            "transport": self.state.transport,
            "tools": self.state.tools,
            "in_flight": self.state.in_flight,
            "pid": (self.state.pid != 0).then_some(self.state.pid),
            "error": render::some(&self.state.error),
            "cordoned": self.state.cordoned,
            "warnings": self.state.warnings,
        });
        if let Some(detail) = self.detail {
            value["upstream_session"] = render::some(&detail.upstream_session).into();
            value["role"] = render::some(&detail.role).into();
            value["admission"] = detail.admission.as_str().into();
            value["weight_permille"] = detail.weight_permille.into();
            value["admitted"] = detail.admitted.into();
            value["restarts"] = detail.restarts.into();
            value["stderr"] = json!(detail.stderr);
            value["stray_output"] = json!(detail.stray_output);
            value["next_attempt_ms"] = render::millis(detail.next_attempt).into();
        }
        value
    }
}

/// The row of a server that is switched off where it is configured, and not by an operator.
fn disabled_cells(server: &ConfiguredServer) -> [String; 7] {
    let none = || "-".to_owned();
    [server.id.clone(), none(), "disabled in the configuration".to_owned(), none(), none(), none(), none()]
}

/// Beside its verdict: how often it was started again, and when that is tried next.
fn facts(detail: &Endpoint) -> Vec<String> {
    let restarts = match detail.restarts {
        0 => None,
        1 => Some("1 restart".to_owned()),
        many => Some(format!("{many} restarts")),
    };
    let next = render::millis(detail.next_attempt).map(Duration::from_millis);
    let next = next.map(|next| format!("next try in {}", render::duration(next)));
    restarts.into_iter().chain(next).collect()
}

fn refusal(refusal: &NodeRefusal) -> String {
    render::some(&refusal.node).map_or_else(|| refusal.reason.clone(), |node| format!("{node}: {}", refusal.reason))
}

fn in_trouble(state: &str) -> bool {
    ["refused", "source_missing"].contains(&state)
}

fn pending_json(pending: &Pending) -> Value {
    json!({
        "source": pending.source,
        "actor": pending.actor,
        "digest": render::some(&pending.digest),
        "stage": pending.stage,
    })
}

fn source_json(source: &Source) -> Value {
    json!({
        "path": source.path,
        "state": source.state,
        "method": render::some(&source.method),
        "cursor": render::some(&source.cursor),
        "violations": render::violations_json(&source.violations),
        "refusals": source.refusals.iter().map(refusal).collect::<Value>(),
        "next_try_ms": render::millis(source.next_try),
    })
}
