//! One server of a client as one of ours.

use std::time::Duration;

use model::{BackendPolicy, DraftBackend, DraftTransport, Located, OWNED_HEADERS};

use super::reference::{Unknown, translate};
use super::{OF_A_SERVER, map_of};
use crate::layer::Layer;
use crate::names::{child, is_header, is_variable, show};
use crate::policy::CONNECT;
use crate::tree::{Entry, Mark, Node, ScalarKind, Value};
use crate::values::{describe, flag, is_null, loose_text, text};

type Pair = (Located<String>, Located<String>);

/// Keys that clients have and a server of ours has not, each with what to do about it.
const ELSEWHERE: [(&[&str], &str); 4] = [
    (&["envFile"], "put its variables under `env`, or into the environment of the gateway"),
    (
        &["timeout", "tool_timeout_sec", "requestTimeout", "request_timeout"],
        "`limits.total` and `limits.idle` of the gateway bound all calls",
    ),
    (
        &["oauth", "auth", "authProviderType", "headersHelper", "oauth_resource", "scopes"],
        "the gateway signs in nowhere: put a token under `headers`",
    ),
    (&["alwaysAllow", "autoApprove", "trust", "default_tools_approval_mode", "toolApprovals"], APPROVALS),
];
const APPROVALS: &str = "what may run without asking is up to the client";

/// A server as far as it was read.
#[derive(Default)]
struct Parts {
    kind: Option<Kind>,
    /// As the keys suggest that are there.
    looks: Option<Kind>,
    command: Option<Located<String>>,
    args: Vec<Located<String>>,
    env: Vec<Pair>,
    cwd: Option<Located<String>>,
    url: Option<Located<String>>,
    headers: Vec<Pair>,
    tools: Option<Vec<Located<String>>>,
    /// Tools that the client hides, with the place and the path of that key.
    hidden: Option<(Mark, String, Vec<Located<String>>)>,
    connect: Option<Duration>,
    /// Keys without a counterpart.
    others: Vec<(Mark, String)>,
    /// Why the server is not carried over.
    out: Option<(Mark, String)>,
}

impl Parts {
    /// The first reason is the one that is said.
    fn leave_out(&mut self, at: Mark, why: impl Into<String>) {
        if self.out.is_none() {
            self.out = Some((at, why.into()));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stdio,
    Http,
}

impl Layer<'_> {
    /// `None` after a violation, or a note that says why the server is not carried over.
    pub(super) fn foreign_server(
        &mut self,
        entry: &Entry,
        path: &str,
        id: &str,
        (directory, folder): (Option<&str>, Option<&str>),
    ) -> Option<DraftBackend> {
        let Some(keys) = map_of(&entry.value) else {
            let message = format!("expected a mapping with `command` or `url`, found {}", describe(&entry.value));
            self.refuse(entry.value.at, path, message);
            self.report.servers_lost = true;
            return None;
        };
        let folder = directory.or(folder);
        let mut parts = Parts::default();
        for key in keys {
            self.part(key, path, folder, &mut parts);
        }
        let kind = parts.kind.or(parts.looks);
        self.note_losses(&mut parts, kind, path);
        if kind.is_none() && parts.out.is_none() {
            let message = "it has neither `command` nor `url`; what an extension of the client brings stays there";
            parts.leave_out(entry.key_at, message);
        }
        if is_gateway(&entry.key, &parts) {
            parts.out = Some((entry.key_at, "it is this gateway itself".into()));
        }
        if let Some((at, why)) = parts.out {
            self.note(at, path, format!("not carried over: {why}"));
            return None;
        }
        let at = entry.value.at.in_file(self.file);
        let located =
            |value: &str| Located { value: value.into(), at: entry.key_at.in_file(self.file), path: path.into() };
        // A client starts the servers of a project in its directory.
        let cwd = parts.cwd.or_else(|| folder.filter(|path| path.starts_with('/')).map(|path| located(&literal(path))));
        let transport = match kind? {
            Kind::Stdio => {
                DraftTransport::Stdio { at: at.clone(), command: parts.command, args: parts.args, env: parts.env, cwd }
            }
            Kind::Http => {
                DraftTransport::Http { at: at.clone(), urls: parts.url.into_iter().collect(), headers: parts.headers }
            }
        };
        Some(DraftBackend {
            at,
            path: path.into(),
            in_force: false,
            id: Some(located(id)),
            transport: Some(transport),
            tools: parts.tools,
            policy: BackendPolicy { connect: parts.connect, ..BackendPolicy::default() },
            written: Vec::new(),
        })
    }

    /// What is known of a server once all its keys were read.
    fn note_losses(&mut self, parts: &mut Parts, kind: Option<Kind>, path: &str) {
        if let Some((first, _)) = parts.others.first() {
            let names: Vec<&str> = parts.others.iter().map(|(_, name)| name.as_str()).collect();
            let message = format!("without a counterpart here, and not carried over: {}", names.join(", "));
            self.note(*first, path, message);
        }
        match (&mut parts.tools, &parts.hidden) {
            (Some(tools), Some((_, _, hidden))) => {
                tools.retain(|tool| hidden.iter().all(|hidden| hidden.value != tool.value));
            }
            (None, Some((at, path, hidden))) if !hidden.is_empty() => {
                let message = "not carried over: the tools it hides are shown here; `tools` lists those to show";
                self.note(*at, path, message);
            }
            (Some(_) | None, _) => {}
        }
        let headers = parts.headers.iter().map(|(name, _)| name);
        let of_a_program = parts.command.iter().chain(&parts.args).chain(&parts.cwd);
        let looks_like_sse =
            |url: &&Located<String>| url.value.split('?').next().is_some_and(|url| url.ends_with("/sse"));
        let untyped = parts.url.as_ref().filter(|_| parts.kind.is_none() && parts.out.is_none());
        if let Some(url) = untyped.filter(looks_like_sse) {
            let message = "this looks like a URL for SSE, which is not available in this release; many servers have one for \
                           Streamable HTTP as well";
            self.note(mark(url), &url.path, message);
        }
        let (unused, only) = match kind {
            Some(Kind::Stdio) => (parts.url.iter().chain(headers).next(), "has neither URL nor headers"),
            Some(Kind::Http) => {
                let env = parts.env.iter().map(|(name, _)| name);
                (of_a_program.chain(env).next(), "starts no program")
            }
            None => return,
        };
        if let Some(unused) = unused {
            self.note(mark(unused), &unused.path, format!("not carried over: a server of this type {only}"));
        }
    }

    /// What one key says.
    fn part(&mut self, entry: &Entry, server: &str, folder: Option<&str>, parts: &mut Parts) {
        let (key, node) = (entry.key.as_str(), &entry.value);
        let path = child(server, if is_variable(key) { key } else { "…" });
        if is_null(node) {
            return;
        }
        match key {
            "command" | "transport" if map_of(node).is_some() => {
                // Older files of Zed, and servers of ours with names.
                let inner = map_of(node).unwrap_or_default();
                inner.iter().for_each(|entry| self.part(entry, &path, folder, parts));
            }
            "command" | "path" => {
                parts.looks = Some(Kind::Stdio);
                parts.command = self.foreign_text(node, &path, folder, parts);
                self.report.covered.add(self.file, &format!("{server}.transport.command"));
            }
            "args" => {
                let nodes = self.list(node, &path, "a list of texts").unwrap_or_default();
                for (i, node) in nodes.iter().enumerate() {
                    let arg = self.foreign_text(node, &format!("{path}[{i}]"), folder, parts);
                    parts.args.extend(arg);
                }
            }
            "env" => {
                let env = self.foreign_pairs(node, &path, is_variable, folder, parts);
                parts.env.extend(env);
            }
            "env_vars" => self.inherited(node, &path, parts),
            "cwd" => self.foreign_cwd(node, &path, folder, parts),
            "url" | "serverUrl" | "httpUrl" => {
                parts.looks.get_or_insert(Kind::Http);
                self.report.covered.add(self.file, &format!("{server}.transport.url"));
                if let Some(url) = self.foreign_text(node, &path, folder, parts) {
                    self.url(url, key, parts);
                }
            }
            "headers" | "http_headers" => self.foreign_headers(node, &path, folder, parts),
            "env_http_headers" => self.headers_of_variables(node, &path, parts),
            "bearer_token_env_var" => {
                if let Some(name) = self.value(node, &path, text) {
                    self.authorization(entry, &path, format!("Bearer ${{env:{name}}}"), parts);
                }
            }
            "bearer_token" => {
                if let Some(token) = self.value(node, &path, text) {
                    self.authorization(entry, &path, format!("Bearer {}", literal(&token)), parts);
                }
            }
            "tools" if map_of(node).is_some() => {
                self.note(entry.key_at, &path, format!("not carried over: {APPROVALS}"))
            }
            "includeTools" | "enabled_tools" | "tools" => parts.tools = self.foreign_tools(node, &path),
            "excludeTools" | "disabledTools" | "disabled_tools" => {
                let hidden = self.foreign_tools(node, &path).unwrap_or_default();
                parts.hidden = Some((entry.key_at, path, hidden));
            }
            "startup_timeout_sec" | "startup_timeout_ms" => self.startup(entry, &path, parts),
            "type" | "transport" | "transportType" => self.kind(entry, &path, parts),
            "disabled" | "enabled" => {
                if self.value(node, &path, flag) == Some(key == "disabled") {
                    parts.leave_out(entry.key_at, format!("it is switched off there (`{key}`)"));
                }
            }
            "source" if matches!(&node.value, Value::Scalar { text, .. } if text == "custom") => {}
            _ => self.without_counterpart(entry, &path, parts),
        }
    }

    /// Gemini CLI prefers `httpUrl`: its `url` is for SSE then.
    fn url(&mut self, url: Located<String>, key: &str, parts: &mut Parts) {
        let (kept, lost) = match parts.url.take() {
            Some(other) if key != "httpUrl" => (other, Some(url)),
            other => (url, other),
        };
        if let Some(lost) = lost.filter(|lost| lost.value != kept.value) {
            self.note(mark(&lost), &lost.path, "not carried over: the client has another URL for this server");
        }
        parts.url = Some(kept);
    }

    fn without_counterpart(&mut self, entry: &Entry, path: &str, parts: &mut Parts) {
        let elsewhere = ELSEWHERE.iter().find(|(keys, _)| keys.contains(&entry.key.as_str()));
        match elsewhere {
            Some((_, instead)) => self.note(entry.key_at, path, format!("not carried over: {instead}")),
            None if is_variable(&entry.key) => parts.others.push((entry.key_at, format!("`{}`", show(&entry.key)))),
            // It may be a secret on the wrong line.
            None => parts.others.push((entry.key_at, "a key that has not the form of a name".into())),
        }
    }

    fn kind(&mut self, entry: &Entry, path: &str, parts: &mut Parts) {
        let Some(word) = self.value(&entry.value, path, text) else { return };
        let plain: String = word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        match plain.as_str() {
            "stdio" | "local" => parts.kind = Some(Kind::Stdio),
            "http" | "streamablehttp" | "remote" => parts.kind = Some(Kind::Http),
            "sse" => {
                let why = "its transport is SSE, which is not available in this release; many servers have a URL for \
                           Streamable HTTP as well";
                parts.leave_out(entry.value.at, why);
            }
            _ => {
                parts.leave_out(entry.value.at, "its transport is none that is known here");
            }
        }
    }

    /// A text with the references in our words.
    fn foreign_text(
        &mut self,
        node: &Node,
        path: &str,
        folder: Option<&str>,
        parts: &mut Parts,
    ) -> Option<Located<String>> {
        let value = self.value(node, path, loose_text)?;
        self.template(&value, node.at, path, folder, parts)
    }

    fn template(
        &mut self,
        value: &str,
        at: Mark,
        path: &str,
        folder: Option<&str>,
        parts: &mut Parts,
    ) -> Option<Located<String>> {
        match translate(value, folder) {
            Ok((ours, told)) => {
                told.iter().for_each(|told| self.note(at, path, told.to_string()));
                Some(self.located(ours, at, path))
            }
            Err(Unknown(name)) => {
                parts.leave_out(at, format!("only the client knows what `${{{name}}}` is; write it out"));
                None
            }
        }
    }

    fn foreign_pairs(
        &mut self,
        node: &Node,
        path: &str,
        is_name: fn(&str) -> bool,
        folder: Option<&str>,
        parts: &mut Parts,
    ) -> Vec<Pair> {
        let entries = self.map(node, path, "a mapping of names to texts").unwrap_or_default();
        let mut pairs = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let at = if is_name(&entry.key) { child(path, &entry.key) } else { format!("{path}[{i}]") };
            if is_null(&entry.value) {
                self.note(entry.key_at, &at, "not carried over: it has no value");
                continue;
            }
            let Some(value) = self.value(&entry.value, &at, loose_text) else { continue };
            if let Some(value) = self.template(&value, entry.value.at, &at, folder, parts) {
                pairs.push((self.located(entry.key.clone(), entry.key_at, &at), value));
            }
        }
        pairs
    }

    fn foreign_headers(&mut self, node: &Node, path: &str, folder: Option<&str>, parts: &mut Parts) {
        for (name, value) in self.foreign_pairs(node, path, is_header, folder, parts) {
            if OWNED_HEADERS.contains(&name.value.to_ascii_lowercase().as_str()) {
                self.note(mark(&name), &name.path, "not carried over: the gateway writes this header itself");
            } else {
                parts.headers.push((name, value));
            }
        }
    }

    /// Codex: names of headers, each with the variable that holds its value.
    fn headers_of_variables(&mut self, node: &Node, path: &str, parts: &mut Parts) {
        for entry in self.map(node, path, "a mapping of names to variables").unwrap_or_default() {
            let at = child(path, if is_header(&entry.key) { &entry.key } else { "…" });
            if let Some(variable) = self.value(&entry.value, &at, text) {
                let value = self.located(format!("${{env:{variable}}}"), entry.value.at, &at);
                parts.headers.push((self.located(entry.key.clone(), entry.key_at, &at), value));
            }
        }
    }

    fn authorization(&self, entry: &Entry, path: &str, value: String, parts: &mut Parts) {
        let name = self.located("Authorization".to_owned(), entry.key_at, path);
        parts.headers.push((name, self.located(value, entry.value.at, path)));
    }

    /// Codex: variables that a server gets as they are.
    fn inherited(&mut self, node: &Node, path: &str, parts: &mut Parts) {
        for (i, node) in self.list(node, path, "a list of names").unwrap_or_default().iter().enumerate() {
            let at = format!("{path}[{i}]");
            let named = map_of(node).and_then(|keys| keys.iter().find(|key| key.key == "name"));
            if let Some(name) = self.value(named.map_or(node, |key| &key.value), &at, text) {
                let value = self.located(format!("${{env:{name}}}"), node.at, &at);
                parts.env.push((self.located(name, node.at, &at), value));
            }
        }
    }

    fn foreign_cwd(&mut self, node: &Node, path: &str, folder: Option<&str>, parts: &mut Parts) {
        let Some(cwd) = self.foreign_text(node, path, folder, parts) else { return };
        if cwd.value.starts_with('/') || cwd.value.starts_with("${") {
            parts.cwd = Some(cwd);
        } else if let Some(folder) = folder {
            let below = cwd.value.trim_start_matches("./");
            parts.cwd = Some(Located { value: format!("{}/{below}", literal(folder)), ..cwd });
        } else {
            parts.leave_out(node.at, "its directory is not an absolute path");
        }
    }

    fn foreign_tools(&mut self, node: &Node, path: &str) -> Option<Vec<Located<String>>> {
        let nodes = self.list(node, path, "a list of names")?;
        let mut tools: Vec<Located<String>> = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let at = format!("{path}[{i}]");
            if let Some(name) = self.value(node, &at, text)
                && tools.iter().all(|tool| tool.value != name)
            {
                tools.push(self.located(name, node.at, &at));
            }
        }
        // `*` is all of them.
        tools.iter().all(|tool| tool.value != "*").then_some(tools)
    }

    /// Codex: how long a server may take to start.
    fn startup(&mut self, entry: &Entry, path: &str, parts: &mut Parts) {
        let a_second = if entry.key.ends_with("_ms") { 1000.0 } else { 1.0 };
        let number = match &entry.value.value {
            Value::Scalar { text, kind: ScalarKind::Number } => text.parse::<f64>().ok(),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        };
        let connect = number.and_then(|number| Duration::try_from_secs_f64(number / a_second).ok());
        // Spelled in milliseconds.
        let connect = connect.and_then(|exact| u64::try_from(exact.as_millis()).ok()).map(Duration::from_millis);
        match connect.filter(|connect| CONNECT.contains(connect)) {
            Some(connect) => parts.connect = Some(connect),
            None => self.note(entry.value.at, path, "not carried over: expected a number, from 10 ms to 1 h"),
        }
    }
}

/// Whether the server is the entry that leads the client to this gateway.
fn is_gateway(name: &str, parts: &Parts) -> bool {
    let near = |text: &Located<String>| {
        let rest = text.value.strip_prefix("http://");
        rest.is_some_and(|rest| ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| rest.starts_with(host)))
    };
    let program = parts.command.as_ref().and_then(|command| command.value.rsplit('/').next());
    let connects = program == Some("only1mcp") && parts.args.iter().any(|arg| arg.value == "connect");
    connects || name == "only1mcp" && parts.url.iter().chain(&parts.args).any(near)
}

fn mark(text: &Located<String>) -> Mark {
    Mark { line: text.at.line, column: text.at.column }
}

/// A text in which nothing is a reference.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

/// Whether a mapping looks like one server.
pub(super) fn is_server(node: &Node) -> bool {
    map_of(node).unwrap_or_default().iter().any(|entry| OF_A_SERVER.contains(&entry.key.as_str()))
}
