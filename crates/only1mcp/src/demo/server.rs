//! The demo server's core: a message in, what to send and do out. It knows neither sockets nor clocks.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    kinds::Special,
    message::{self, INVALID_PARAMS, METHOD_NOT_FOUND, Params, Request},
    script::Script,
    tools::{self, Deed, Tool},
};

/// The revision without sessions.
pub(crate) const STATELESS: &str = "2026-07-28";
/// Revisions that begin with `initialize`, the preferred one last.
pub(crate) const WITH_SESSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The identity that this process reports, fixed at its start.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) label: String,
    pub(crate) pid: u32,
    pub(crate) environment: BTreeMap<String, String>,
}

/// Which of the two protocols a request is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    Sessions,
    Stateless,
}

/// Where a request came from, for `whoami`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) era: Era,
    pub(crate) session: Option<&'a str>,
    /// Serial number of the connection at this process; 0 on stdio.
    pub(crate) connection: u64,
}

/// The outcome of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Send this response.
    Answer(String),
    /// As `Answer`, after opening a session.
    Initialized(String),
    /// As `Answer`: the method does not exist (which HTTP says in its status, too).
    NoSuchMethod(String),
    /// Count the call, tell everyone if the list of tools changed, and run the script.
    Run { script: Script, count: String, list_changed: bool },
    /// Send this, then (with `changes`) a `list_changed` after each change, for as long as the client listens.
    Listen { acknowledgement: String, changes: bool },
    /// Count the call and end the process.
    Exit { code: u8, count: String },
}

/// The server: its tools and its counter.
#[derive(Debug)]
pub(crate) struct Demo {
    identity: Identity,
    /// What calls of its tools do, unless it has the tools for tests.
    special: Option<Special>,
    tools: Vec<Tool>,
    calls: u64,
}

impl Demo {
    pub(crate) fn new(identity: Identity, special: Option<Special>) -> Self {
        let tools = special.as_ref().map_or_else(tools::built_in, Special::tools);
        Self { identity, special, tools, calls: 0 }
    }

    pub(crate) fn request(&mut self, origin: Origin<'_>, request: &Request<'_>) -> Outcome {
        match (origin.era, &*request.method) {
            (Era::Sessions, "initialize") => self.initialize(request),
            (Era::Sessions, "ping") => Outcome::Answer(message::result(request.id, &json!({}))),
            (Era::Stateless, "server/discover") => Outcome::Answer(self.discover(request.id)),
            (Era::Stateless, "subscriptions/listen") => listen(request),
            (era, "tools/list") => Outcome::Answer(self.list(era, request.id)),
            (_, "tools/call") => self.call(origin, request),
            (_, method) => {
                let text = format!("method not found: {method}");
                Outcome::NoSuchMethod(message::error(Some(request.id), METHOD_NOT_FOUND, &text, None))
            }
        }
    }

    fn initialize(&self, request: &Request<'_>) -> Outcome {
        let Some(asked) = request.params.protocol_version.as_deref() else {
            let text = "params.protocolVersion: expected a string";
            return Outcome::Answer(message::error(Some(request.id), INVALID_PARAMS, text, None));
        };
        let preferred = WITH_SESSIONS[WITH_SESSIONS.len() - 1];
        let version = WITH_SESSIONS.into_iter().find(|known| *known == asked).unwrap_or(preferred);
        let result = json!({
            "protocolVersion": version,
            "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": self.server_info(),
            "instructions": self.instructions(),
        });
        Outcome::Initialized(message::result(request.id, &result))
    }

    fn discover(&self, id: &str) -> String {
        let result = json!({
            "supportedVersions": [STATELESS],
            "capabilities": { "tools": { "listChanged": true } },
            "instructions": self.instructions(),
        });
        message::result(id, &self.stateless(result, true))
    }

    fn list(&self, era: Era, id: &str) -> String {
        let tools: Vec<Value> = self.tools.iter().map(Tool::listed).collect();
        let result = json!({ "tools": tools });
        message::result(id, &self.of_era(era, result, true))
    }

    fn call(&mut self, origin: Origin<'_>, request: &Request<'_>) -> Outcome {
        let Params { name, arguments, .. } = &request.params;
        let Some(name) = name.as_deref().filter(|name| self.tools.iter().any(|tool| tool.name == **name)) else {
            let text = format!("unknown tool: {}", name.as_deref().unwrap_or("(no name)"));
            return Outcome::Answer(message::error(Some(request.id), INVALID_PARAMS, &text, None));
        };
        let none = Map::new();
        let arguments = arguments.as_ref().unwrap_or(&none);
        self.calls += 1;
        let count = tools::count_line(name, arguments);
        let mut list_changed = false;
        let answer = |demo: &Self, result| message::result(request.id, &demo.of_era(origin.era, result, false));
        let deed = match &mut self.special {
            Some(special) => special.call(name, arguments),
            None => tools::call(name, arguments, &self.identity.environment),
        };
        let script = match deed {
            Deed::Done(result) => Script::at_once(answer(self, result)),
            Deed::Takes { steps, interval, result } => {
                Script::in_steps(steps, interval, request.params.progress_token(), answer(self, result))
            }
            Deed::Exit(code) => return Outcome::Exit { code, count },
            Deed::Change { add, remove } => {
                let text;
                (text, list_changed) = self.change(add.as_deref(), remove.as_deref());
                Script::at_once(answer(self, message::text_content(&text, false)))
            }
            Deed::Identity => Script::at_once(answer(self, self.whoami(origin, request.params.traceparent()))),
            Deed::Misused(text) => Script::at_once(answer(self, message::text_content(&text, true))),
        };
        Outcome::Run { script, count, list_changed }
    }

    fn change(&mut self, add: Option<&str>, remove: Option<&str>) -> (String, bool) {
        let before: Vec<String> = self.names();
        if let Some(name) = remove {
            self.tools.retain(|tool| tool.name != name);
        }
        if let Some(name) = add
            && self.tools.iter().all(|tool| tool.name != name)
        {
            let built_in = tools::built_in().into_iter().find(|tool| tool.name == name);
            self.tools.push(built_in.unwrap_or_else(|| Tool::added(name)));
        }
        let names = self.names();
        (format!("tools are now: {}", names.join(", ")), names != before)
    }

    fn names(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.name.clone()).collect()
    }

    fn whoami(&self, origin: Origin<'_>, traceparent: Option<&str>) -> Value {
        let who = json!({
            "name": self.identity.label,
            "pid": self.identity.pid,
            "calls": self.calls,
            "session": origin.session,
            "connection": origin.connection,
            "traceparent": traceparent,
        });
        let mut result = message::text_content(&who.to_string(), false);
        result["structuredContent"] = who;
        result
    }

    fn of_era(&self, era: Era, result: Value, cacheable: bool) -> Value {
        match era {
            Era::Sessions => result,
            Era::Stateless => self.stateless(result, cacheable),
        }
    }

    /// What the stateless protocol asks of every result. The list of tools may change at any time, hence no lifetime.
    fn stateless(&self, mut result: Value, cacheable: bool) -> Value {
        result["resultType"] = "complete".into();
        result["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": self.server_info() });
        if cacheable {
            result["ttlMs"] = 0.into();
            result["cacheScope"] = "public".into();
        }
        result
    }

    fn server_info(&self) -> Value {
        json!({ "name": "only1mcp-demo", "title": self.identity.label, "version": env!("CARGO_PKG_VERSION") })
    }

    fn instructions(&self) -> String {
        format!("Demo server `{}`: tools to try a gateway with.", self.identity.label)
    }
}

fn listen(request: &Request<'_>) -> Outcome {
    let wanted = request.params.notifications.as_ref().and_then(|wanted| wanted.get("toolsListChanged"));
    let changes = wanted == Some(&Value::Bool(true));
    let honoured = if changes { json!({ "toolsListChanged": true }) } else { json!({}) };
    Outcome::Listen { acknowledgement: message::acknowledged(request.id, &honoured), changes }
}
