//! `status`: what is live where, how the servers are, and what is wrong.

mod row;

use std::collections::BTreeMap;

use model::{Concern, Condition, units};
use runtime::{exit, fault};
use serde_json::{Map, Value, json};
use wire::pb::{
    config::v1::{GetStatusRequest, GetStatusResponse, Layer, Pending, RouterStatus, Source},
    router::v1::{InspectRequest, InspectResponse, Leaving, Renamed, Withheld},
};

use row::Row;

use super::{Lines, Output, render};
use crate::{admin::Admin, args::AdminArgs, failure::Failure};

pub(crate) async fn run(args: &AdminArgs) -> Result<Output, Failure> {
    let admin = Admin::find(args).await?;
    let status = of_config_manager(&admin).await;
    let mut details = BTreeMap::new();
    for mut router in admin.routers() {
        // A router that says nothing is shown as config-manager knows it.
        if let Ok(details_of_one) = admin.ask(&router.target, router.client.inspect(InspectRequest::default())).await {
            details.insert(details_of_one.node.clone(), details_of_one);
        }
    }
    let (mut output, told) = match status {
        Ok(status) => (show(status, details), String::new()),
        Err(failure @ (Failure::Unreachable { .. } | Failure::Timeout { .. })) if !details.is_empty() => {
            let away = fault::chain(&failure);
            (show_routers(&away, details), away)
        }
        Err(failure) => return Err(failure),
    };
    Box::pin(super::drains::tell_held(&admin, &mut output)).await;
    for (name, status) in admin.silent().filter(|(name, _)| !told.contains(&format!("{name} "))) {
        output.complaints.line(format_args!("{name} does not answer: {}", status.message()));
        output.code = exit::REFUSED;
    }
    Ok(output)
}

async fn of_config_manager(admin: &Admin) -> Result<GetStatusResponse, Failure> {
    let mut config = admin.config()?;
    admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await
}

pub(super) fn show(status: GetStatusResponse, details: BTreeMap<String, InspectResponse>) -> Output {
    View { status, details, away: None }.shown()
}

/// What the routers say where config-manager cannot be asked; `away`: why not.
pub(super) fn show_routers(away: &str, details: BTreeMap<String, InspectResponse>) -> Output {
    let newest = details.values().max_by_key(|detail| detail.revision);
    let (revision, digest) = newest.map(|detail| (detail.revision, detail.digest.clone())).unwrap_or_default();
    let router = |detail: &InspectResponse| RouterStatus {
        node: detail.node.clone(),
        revision: detail.revision,
        digest: detail.digest.clone(),
        state: "live".to_owned(),
        reason: if detail.revision == revision {
            String::new()
        } else {
            format!("another router has revision {revision}")
        },
        servers: Vec::new(),
    };
    let routers = details.values().map(router).collect();
    let status = GetStatusResponse { revision, digest, routers, ..GetStatusResponse::default() };
    View { status, details, away: Some(away) }.shown()
}

/// The answer of config-manager, and by node the answers of the routers that were asked directly.
struct View<'a> {
    status: GetStatusResponse,
    details: BTreeMap<String, InspectResponse>,
    /// Why config-manager cannot be asked: the status is then made of the answers of the routers.
    away: Option<&'a str>,
}

impl View<'_> {
    fn shown(&self) -> Output {
        let problems = self.problems();
        let code = if problems.is_empty() { exit::DONE } else { exit::REFUSED };
        Output { code, ..Output::done(self.text(&problems), self.json(&problems)) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.away.map(|why| format!("config-manager cannot be asked: {why}")));
        if let Some(source) = &self.status.source
            && in_trouble(&source.state)
        {
            let again = render::next_try(source.next_try);
            problems.push(format!("{}: {}{again}", source.path, source.state.replace('_', " ")));
            problems.extend(source.violations.iter().map(|violation| wire::violation(violation.clone()).to_string()));
            problems.extend(source.refusals.iter().map(render::refusal));
        }
        if !self.status.log_fault.is_empty() {
            problems.push(format!("the log of revisions is not sound: {}", self.status.log_fault));
        }
        if self.status.routers.is_empty() {
            problems.push("no router is attached".to_owned());
        }
        for router in &self.status.routers {
            if router.revision != self.status.revision || router.state == "behind" || !router.reason.is_empty() {
                let reason = render::because(&router.reason);
                let text =
                    format!("router {} is {} at revision {}{reason}", router.node, router.state, router.revision);
                problems.push(text);
            }
        }
        let dead = self.rows().filter(|row| row.concern() == Concern::Problem);
        problems.extend(dead.map(|row| format!("{}{}", row.said(), row.logs_hint())));
        problems
    }

    /// What need not be repaired, and explains what clients see.
    fn warnings(&self) -> Vec<String> {
        let doubtful = self.rows().filter(|row| row.concern() == Concern::Warning);
        let mut warnings: Vec<String> = doubtful.map(|row| row.said()).collect();
        for (node, detail) in &self.details {
            warnings.extend(detail.leaving.iter().map(|one| format!("router {node}: {}", leaving_in_words(one))));
        }
        for row in self.rows() {
            for warning in row.warnings() {
                let text = format!("server {} in {}: {warning}", row.server(), row.node());
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

    /// Where each endpoint of a server is that has several.
    fn places(&self) -> Vec<String> {
        self.rows().filter_map(|row| row.place()).collect()
    }

    /// Why servers that are well were not, some time ago.
    fn past_errors(&self) -> Vec<String> {
        self.rows().filter_map(|row| row.past_error()).collect()
    }

    /// The calls that have kept servers busy for long, the oldest first.
    fn oldest_calls(&self) -> Vec<String> {
        let mut oldest: Vec<_> = self.rows().filter_map(|row| row.oldest_call()).collect();
        oldest.sort_by(|(one, _), (other, _)| other.cmp(one));
        oldest.into_iter().take(OLDEST_SHOWN).map(|(_, said)| said).collect()
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.status.routers.iter().flat_map(|router| self.rows_of(router))
    }

    /// The router's own answer is newer than what config-manager was told.
    fn rows_of<'a>(&'a self, router: &'a RouterStatus) -> Vec<Row<'a>> {
        let mut rows: Vec<Row<'a>> = match self.details.get(&router.node) {
            Some(detail) => {
                // A candidate is no server yet.
                let rows = detail.endpoints.iter().filter(|one| one.role != "candidate");
                rows.map(|one| Row::asked(&router.node, one)).collect()
            }
            None => router.servers.iter().map(|state| Row::reported(&router.node, state)).collect(),
        };
        Row::tell_apart(&mut rows);
        rows
    }

    fn text(&self, problems: &[String]) -> Lines {
        let GetStatusResponse { revision, digest, attempt, source, layers, .. } = &self.status;
        let mut text = match revision {
            _ if self.away.is_some() => Lines::of(format_args!(
                "only the routers are known; the newest revision that they have is {revision}, digest {}",
                render::short(digest)
            )),
            0 => Lines::of("no revision is live yet"),
            1 => Lines::of(format_args!("revision 1 is live, digest {}", render::short(digest))),
            later => Lines::of(format_args!(
                "revision {later} is live, digest {}; what changed: only1mcp diff, only1mcp history",
                render::short(digest)
            )),
        };
        if let Some(source @ Source { path, state, method, refusals, .. }) = source {
            let method = render::some(method).map_or_else(String::new, |method| format!(" (watched by {method})"));
            text.line(format_args!("source {path}: {}{method}", self.source_in_words(source)));
            // The refusals of a source in trouble are among the problems.
            for note in refusals.iter().filter(|_| !in_trouble(state)).map(render::refusal) {
                text.line(format_args!("note: {note}"));
            }
        }
        // Without others, the file is all there is.
        for layer in layers.iter().filter(|_| layers.iter().any(|layer| layer.owner != FILE)) {
            text.line(format_args!("layer of {}{}{}", layer.owner, named(layer), since(layer)));
        }
        for Pending { source, actor, stage, left_out, outdated, .. } in &self.status.pending {
            let left_out = match left_out.join(", ") {
                none if none.is_empty() => none,
                routers => format!(" (left out: {routers})"),
            };
            let edit = if *outdated { " (an earlier edit: the file says something else by now)" } else { "" };
            text.line(format_args!("pending: {source} by {actor}, {}{edit}{left_out}", stage.replace('_', " ")));
        }
        if !attempt.is_empty() {
            text.line(format_args!("attempt {attempt} is under way"));
        }
        let routers: Vec<[String; 5]> = self.status.routers.iter().map(|router| self.router_row(router)).collect();
        let off = self.status.servers.iter().filter(|server| server.disabled).map(row::disabled_cells);
        let servers: Vec<_> = self.rows().map(|row| row.cells()).chain(off).collect();
        for table in [
            render::table(["ROUTER", "REVISION", "STATE", "MCP", "IN FLIGHT"], &routers),
            render::table(row::HEADS, &servers),
        ] {
            if !table.is_empty() {
                text.line("");
                text.append(&table);
            }
        }
        let warnings = self.warnings();
        let notes = [self.places(), self.renamed(), self.past_errors(), self.oldest_calls()].concat();
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

    /// `rolled back to revision 41; the file differs from what is live and has 1 violation`.
    fn source_in_words(&self, source: &Source) -> String {
        let state = source.state.replace('_', " ");
        if self.status.rolled_back_to == 0 {
            return state;
        }
        let back = format!("rolled back to revision {}", self.status.rolled_back_to);
        let differs = "the file differs from what is live";
        match (source.state.as_str(), source.violations.len()) {
            ("rolled_back", _) => format!("{back}; {differs}"),
            ("refused", 0) => format!("{back}; {differs} and was refused"),
            ("refused", wrong) => format!("{back}; {differs} and has {}", render::count(wrong, "violation")),
            _ => format!("{back}; {state}"),
        }
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
            "log_id": render::some(&status.log_id),
            "epoch": status.epoch,
            "attempt": render::some(&status.attempt),
            "pending": status.pending.iter().map(pending_json).collect::<Value>(),
            "log_fault": render::some(&status.log_fault),
            "source": status.source.as_ref().map(source_json),
            "rolled_back_to": (status.rolled_back_to != 0).then_some(status.rolled_back_to),
            "layers": status.layers.iter().map(layer_json).collect::<Value>(),
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
            value["withheld"] = detail.withheld.iter().map(withheld_json).collect();
            value["renamed"] = detail.renamed.iter().map(renamed_json).collect();
            value["leaving"] = detail.leaving.iter().map(leaving_json).collect();
        }
        value
    }

    /// Those of one server. Routers show the same; the one that shows most of them is enough.
    fn of_server<T>(
        &self,
        id: &str,
        all: impl Fn(&InspectResponse) -> &Vec<T>,
        server: impl Fn(&T) -> &String,
        json: impl Fn(&T) -> Value,
    ) -> Value {
        let those = |detail| all(detail).iter().filter(|one| server(one) == id).map(&json).collect::<Vec<_>>();
        self.details.values().map(those).max_by_key(Vec::len).unwrap_or_default().into()
    }

    /// By server; its state and its verdict are the worst of its endpoints'. One that is switched off has no endpoint, or
    /// one that leaves.
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
            let disabled = said.filter(|said| said.disabled).map(|_| Condition::Disabled);
            let worst = rows.iter().map(Row::verdict).max_by_key(|verdict| verdict.badness());
            json!({
                "id": id,
                "enabled": said.is_none_or(|said| !said.disabled),
                "description": said.and_then(|said| render::some(&said.description)),
                "labels": labels.map(|label| (label.name.clone(), label.value.as_str().into())).collect::<Map<_, _>>(),
                "state": rows.iter().map(Row::condition).chain(disabled).max().map(Condition::as_str),
                "verdict": worst,
                "tools": rows.iter().map(Row::tools).max(),
                "in_flight": rows.iter().map(Row::in_flight).sum::<u64>(),
                "renamed": self.of_server(&id, |detail| &detail.renamed, |one| &one.server, renamed_json),
                "withheld": self.of_server(&id, |detail| &detail.withheld, |one| &one.server, withheld_json),
                "endpoints": rows.iter().map(Row::json).collect::<Value>(),
            })
        });
        servers.collect()
    }
}

/// The owner of the file's layer.
const FILE: &str = "file";
/// Renamed tools in a text for people.
const RENAMED_SHOWN: usize = 20;
/// Old calls in a text for people.
const OLDEST_SHOWN: usize = 10;

fn withheld_json(one: &Withheld) -> Value {
    json!({ "server": one.server, "tool": one.tool, "reason": one.reason })
}

fn renamed_json(one: &Renamed) -> Value {
    json!({ "server": one.server, "tool": one.tool, "exposed": one.exposed })
}

/// `process 4711, which it has replaced, still finishes 12 calls, for 23 s at most`.
fn leaving_in_words(one: &Leaving) -> String {
    let (pid, calls, within) = (one.pid, units::count(one.calls, "call"), render::left(one.within));
    format!("process {pid}, which it has replaced, still finishes {calls}, for {within} at most")
}

fn leaving_json(one: &Leaving) -> Value {
    json!({ "pid": one.pid, "calls": one.calls, "within_ms": render::millis(one.within) })
}

/// What it is called, if its owner does not say so.
fn named(layer: &Layer) -> String {
    let own = layer.owner.strip_prefix("api:").unwrap_or(&layer.owner);
    if [own, &layer.owner].contains(&&*layer.name) { String::new() } else { format!(": {}", layer.name) }
}

fn since(layer: &Layer) -> String {
    match layer.since_revision {
        0 => String::new(),
        revision => format!(", since revision {revision}"),
    }
}

fn layer_json(layer: &Layer) -> Value {
    json!({
        "owner": layer.owner,
        "name": layer.name,
        "since_revision": (layer.since_revision != 0).then_some(layer.since_revision),
    })
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
        "outdated": pending.outdated,
    })
}

fn source_json(source: &Source) -> Value {
    json!({
        "path": source.path,
        "state": source.state,
        "method": render::some(&source.method),
        "cursor": render::some(&source.cursor),
        "violations": render::violations_json(&source.violations),
        "refusals": source.refusals.iter().map(render::refusal).collect::<Value>(),
        "next_try_ms": render::millis(source.next_try),
    })
}
