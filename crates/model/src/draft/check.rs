//! From a draft to a snapshot. Every fault that can be found without looking outside is found here, all in one pass,
//! so that no author has to repair a file one message at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::http::{header_name_fault, header_value_fault, url_fault};
use super::{Draft, DraftBackend, DraftTransport, Located};
use crate::{
    Backend, BackendId, EndpointSpec, Isolation, Mask, Piece, Position, Snapshot, Template, Transport, Variant,
    VariantId, Violation,
};

/// Endpoints of all servers; routers start or connect to each.
const MAX_ENDPOINTS: usize = 20_000;
/// Of headers, once for each endpoint that is sent them: so they are kept, and so they travel.
const MAX_HEADER_BYTES: usize = 32 << 20;

/// Without names: if one of the two was taken over unread (`Draft::known`), its line is unknown.
const USED_TWICE: &str = "two servers have the same id";

impl Draft {
    /// The snapshot this draft describes, or everything that is wrong with it, in the order of the draft.
    pub fn into_snapshot(self) -> Result<Snapshot, Vec<Violation>> {
        let mut check = Check::default();
        if self.backends.is_empty() && self.known.is_empty() && !self.policy.allow_empty {
            check.refuse(&self.at, "servers", "there are no servers; expected at least one, or `allow_empty: true`");
        }
        for (_, backend) in &self.known {
            check.known(backend, &self.at);
        }
        let mut backends = Vec::with_capacity(self.backends.len() + self.known.len());
        let mut known = self.known.into_iter().peekable();
        for (place, draft) in self.backends.into_iter().enumerate() {
            while let Some((_, backend)) = known.next_if(|(before, _)| *before <= place) {
                backends.push(backend);
            }
            backends.extend(check.backend(draft).map(|backend| Arc::new(backend.into())));
        }
        backends.extend(known.map(|(_, backend)| backend));
        if check.violations.is_empty() { Ok(Snapshot { policy: self.policy, backends }) } else { Err(check.violations) }
    }
}

#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
    ids: BTreeMap<String, Position>,
    known: BTreeSet<BackendId>,
    endpoints: usize,
    header_bytes: usize,
    /// The server that is judged belongs to a layer that is in force.
    in_force: bool,
}

impl Check {
    fn refuse(&mut self, at: &Position, path: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(Some(at.clone()), path, message));
    }

    fn refuse_at(&mut self, place: &Located<String>, message: impl Into<String>) {
        self.refuse(&place.at, &place.path, message);
    }

    /// At a key of the server's policy, or at the server.
    fn refuse_key(&mut self, server: &DraftBackend, key: &str, message: &str) {
        let written = server.written.iter().find(|written| written.value == key);
        let (at, path) = written.map_or((&server.at, &server.path), |written| (&written.at, &written.path));
        self.refuse(at, path, message);
    }

    /// What it has in common with others is judged each time.
    fn known(&mut self, backend: &Backend, servers: &Position) {
        if !self.known.insert(backend.id.clone()) {
            self.refuse(servers, "servers", USED_TWICE);
        }
        for endpoint in backend.variants.iter().flat_map(|variant| &variant.endpoints) {
            if let Transport::Http { headers, .. } = &endpoint.transport {
                self.endpoints += 1;
                self.header_bytes += headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            }
        }
    }

    /// `None` only after a violation.
    fn backend(&mut self, draft: DraftBackend) -> Option<Backend> {
        self.in_force = draft.in_force;
        let id = self.id(&draft);
        if let Some(tools) = &draft.tools {
            self.distinct(tools, "tool");
            for tool in tools.iter().filter(|tool| tool.value.trim().is_empty()) {
                self.refuse_at(tool, "the name of a tool is empty");
            }
        }
        if draft.policy.restart_unhealthy && matches!(draft.transport, Some(DraftTransport::Http { .. })) {
            let message = "only a program that the gateway has started can be restarted; expected a `stdio` transport, or \
                           no such key";
            self.refuse_key(&draft, "restart_unhealthy", message);
        }
        if draft.policy.health.path.is_some() && matches!(draft.transport, Some(DraftTransport::Stdio { .. })) {
            let message =
                "only a server that is reached over HTTP has paths; expected an `http` transport, or no such key";
            self.refuse_key(&draft, "health.path", message);
        }
        let endpoints = match draft.transport {
            Some(transport) => self.transport(transport, &draft.path),
            None => {
                self.refuse(&draft.at, &format!("{}.transport", draft.path), "`transport` is missing");
                Vec::new()
            }
        };
        Some(Backend {
            id: id?,
            variants: vec![Variant { id: VariantId::only(), weight: 100, endpoints }],
            tools: draft.tools.map(|tools| tools.into_iter().map(|tool| tool.value).collect()),
            policy: draft.policy,
        })
    }

    fn id(&mut self, draft: &DraftBackend) -> Option<BackendId> {
        let Some(id) = &draft.id else {
            self.refuse(&draft.at, &format!("{}.id", draft.path), "`id` is missing");
            return None;
        };
        if let Some(first) = self.ids.get(&id.value) {
            let message = format!("server id `{}` is already used at {first}", shown(&id.value));
            self.refuse_at(id, message);
        } else {
            self.ids.insert(id.value.clone(), id.at.clone());
        }
        match BackendId::new(&id.value) {
            Ok(known) if self.known.contains(&known) => {
                self.refuse_at(id, USED_TWICE);
                None
            }
            Ok(id) => Some(id),
            Err(invalid) => {
                self.refuse_at(id, format!("not a valid server id; expected {}", invalid.expected));
                None
            }
        }
    }

    fn transport(&mut self, transport: DraftTransport, server: &str) -> Vec<EndpointSpec> {
        let transports = match transport {
            DraftTransport::Stdio { at, command, args, env, cwd } => {
                self.command(command.as_ref(), &at, server);
                for arg in &args {
                    self.process_text(arg);
                }
                self.env(&env);
                if let Some(cwd) = &cwd {
                    self.cwd(cwd);
                }
                vec![Transport::Stdio {
                    command: command.map(|command| command.value).unwrap_or_default(),
                    args: args.into_iter().map(|arg| arg.value).collect(),
                    env: into_map(env),
                    cwd: cwd.map(|cwd| cwd.value),
                }]
            }
            DraftTransport::Http { at, urls, headers } => {
                self.urls(&urls, &at, server);
                self.headers(&headers);
                if !self.affords(&urls, &headers, &at, server) {
                    return Vec::new();
                }
                let headers = into_map(headers);
                let http = |url: Located<String>| Transport::Http { url: url.value, headers: headers.clone() };
                urls.into_iter().map(http).collect()
            }
        };
        transports.into_iter().map(|transport| EndpointSpec { transport, isolation: Isolation::Shared }).collect()
    }

    /// A short text may describe many endpoints, each with all headers: they are counted before they are made.
    fn affords(
        &mut self,
        urls: &[Located<String>],
        headers: &[(Located<String>, Located<String>)],
        at: &Position,
        server: &str,
    ) -> bool {
        let each: usize = headers.iter().map(|(name, value)| name.value.len() + value.value.len()).sum();
        self.endpoints += urls.len();
        self.header_bytes = self.header_bytes.saturating_add(each.saturating_mul(urls.len()));
        if self.endpoints > MAX_ENDPOINTS {
            let message = format!("with these, all servers have more than {MAX_ENDPOINTS} endpoints");
            self.refuse(at, &format!("{server}.transport.urls"), message);
            return false;
        }
        if self.header_bytes > MAX_HEADER_BYTES {
            let message = format!(
                "with these, once for each of {} URLs, the headers of all endpoints have more than {MAX_HEADER_BYTES} bytes",
                urls.len()
            );
            self.refuse(at, &format!("{server}.transport.headers"), message);
            return false;
        }
        true
    }

    fn command(&mut self, command: Option<&Located<String>>, transport: &Position, server: &str) {
        match command {
            None => {
                let path = format!("{server}.transport.command");
                self.refuse(transport, &path, "`command` is missing; a `stdio` server is a program to start");
            }
            Some(command) if command.value.trim().is_empty() => {
                self.refuse_at(command, "the command is empty; expected a program to start");
            }
            Some(command) => {
                self.process_text(command);
            }
        }
    }

    /// What the operating system takes as an argument or a value of the environment.
    fn process_text(&mut self, text: &Located<String>) -> Option<Template> {
        if text.value.contains('\0') {
            self.refuse_at(text, "contains a NUL character, which no program can be given");
        }
        self.template(text)
    }

    fn env(&mut self, env: &[(Located<String>, Located<String>)]) {
        for (name, value) in env {
            if name.value.is_empty() || name.value.contains(['=', '\0']) {
                let message = "this key is not shown, since it is not the name of an environment variable; expected \
                    `NAME: value`, with a name without `=` and NUL";
                self.refuse_at(name, message);
            }
            self.process_text(value);
        }
    }

    fn cwd(&mut self, cwd: &Located<String>) {
        let Some(template) = self.process_text(cwd) else { return };
        // A reference may hold an absolute path; only routers can tell.
        if matches!(template.0.first(), Some(Piece::Text(text)) if !text.starts_with('/')) {
            self.refuse_at(cwd, "not an absolute path; expected one that begins with `/`");
        }
    }

    fn urls(&mut self, urls: &[Located<String>], transport: &Position, server: &str) {
        if urls.is_empty() {
            let path = format!("{server}.transport.url");
            self.refuse(transport, &path, "`url` is missing; an `http` server is reached at a URL");
        }
        self.distinct(urls, "URL");
        for url in urls {
            let Some(template) = self.template(url) else { continue };
            if let Some(fault) = url_fault(&template) {
                self.refuse_at(url, fault);
            }
        }
    }

    fn headers(&mut self, headers: &[(Located<String>, Located<String>)]) {
        let mut seen: BTreeMap<String, &Position> = BTreeMap::new();
        for (name, value) in headers {
            if let Some(fault) = header_name_fault(&name.value) {
                self.refuse_at(name, fault);
            }
            match seen.get(&name.value.to_ascii_lowercase()) {
                Some(first) => {
                    let message = format!("the same header is already given at {first}; case makes no difference");
                    self.refuse_at(name, message);
                }
                None => {
                    seen.insert(name.value.to_ascii_lowercase(), &name.at);
                }
            }
            let Some(template) = self.template(value) else { continue };
            if let Some(fault) = header_value_fault(&template) {
                self.refuse_at(value, fault);
            }
        }
    }

    fn template(&mut self, text: &Located<String>) -> Option<Template> {
        // One that is in force gets advice: a change of another layer must not fail because of it.
        if let Some(message) = mark_fault(&text.value).filter(|_| !self.in_force) {
            self.refuse_at(text, message);
        }
        match Template::parse(&text.value) {
            Ok(template) => Some(template),
            Err(error) => {
                self.refuse_at(text, error.to_string());
                None
            }
        }
    }

    fn distinct(&mut self, texts: &[Located<String>], what: &str) {
        let mut seen: BTreeMap<&str, &Position> = BTreeMap::new();
        for text in texts {
            if let Some(first) = seen.get(text.value.as_str()) {
                self.refuse_at(text, format!("the same {what} is already given at {first}"));
            } else {
                seen.insert(&text.value, &text.at);
            }
        }
    }
}

fn into_map(pairs: Vec<(Located<String>, Located<String>)>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.value, value.value)).collect()
}

/// What is wrong with a text that has a mark in the place of a secret.
pub(super) fn mark_fault(text: &str) -> Option<String> {
    let mark = Mask::first_mark(text)?;
    Some(format!(
        "`{mark}` is not the secret but what `only1mcp show` prints in its place; expected a reference to the secret, \
         `${{env:NAME}}` or `${{file:/path}}`, or the secret itself"
    ))
}

/// What an author wrote, on one line and not at length.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
