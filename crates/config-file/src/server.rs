//! One entry of `servers`.

use model::{DraftBackend, DraftTransport, Located, ReplaceMode};

use crate::layer::{Layer, Section, Table};
use crate::names::{child, nearest};
use crate::policy::{SERVER_DRAIN, SERVER_DRAIN_NOT_YET};
use crate::tree::{Entry, Node, Value};
use crate::values::{choice, flag, is_null, loose_text, text};

/// Of one layer.
const MAX_SERVERS: usize = 10_000;

pub(crate) const KEYS: [&str; 6] = ["id", "transport", "tools", "critical", "replace", "drain"];
pub(crate) const STDIO: [&str; 4] = ["command", "args", "env", "cwd"];
pub(crate) const HTTP: [&str; 3] = ["url", "urls", "headers"];

impl Layer<'_> {
    pub(crate) fn servers(&mut self, node: &Node, backends: &mut Vec<DraftBackend>) {
        let Some(nodes) = self.list(node, "servers", "a list of servers") else {
            self.report.servers_lost = true;
            return;
        };
        if nodes.len() > MAX_SERVERS {
            self.refuse(node.at, "servers", format!("{} servers; expected at most {MAX_SERVERS}", nodes.len()));
            self.report.servers_lost = true;
            return;
        }
        for (i, node) in nodes.iter().enumerate() {
            let path = format!("servers[{i}]");
            let entries = if is_null(node) {
                self.refuse(node.at, &path, "expected a mapping with `id` and `transport`, found nothing");
                None
            } else {
                self.map(node, &path, "a mapping with `id` and `transport`")
            };
            match entries {
                Some(entries) => {
                    let server = self.server(node, entries, &path);
                    backends.push(server);
                }
                None => self.report.servers_lost = true,
            }
        }
    }

    fn server(&mut self, node: &Node, entries: &[Entry], path: &str) -> DraftBackend {
        let mut server = DraftBackend {
            at: node.at.in_file(self.file),
            path: path.into(),
            id: None,
            transport: None,
            tools: None,
            critical: false,
            replace: ReplaceMode::Beside,
            drain: None,
        };
        for entry in entries {
            let (value, at) = (&entry.value, child(path, &entry.key));
            match entry.key.as_str() {
                "id" => server.id = self.text(value, &at),
                "transport" => server.transport = self.transport(value, &at),
                "tools" if is_null(value) => {
                    self.refuse(value.at, &at, "expected a list of texts (`[]` shows none), found nothing");
                }
                "tools" => server.tools = self.texts(value, &at, text),
                "critical" => server.critical = self.value(value, &at, flag).unwrap_or_default(),
                "replace" => {
                    let word = self.value(value, &at, |node| choice(node, &["beside", "stop_first"], &[]));
                    server.replace =
                        if word == Some("stop_first") { ReplaceMode::StopFirst } else { ReplaceMode::Beside };
                }
                "drain" => {
                    let table = Table { keys: &SERVER_DRAIN, not_yet: &SERVER_DRAIN_NOT_YET };
                    if let Some(inner) = self.map(value, &at, "a mapping") {
                        let section = Section { path: &at, name: "" };
                        self.section(inner, section, &table, &mut server.drain, &mut Vec::new());
                    }
                }
                unknown => {
                    let inside =
                        || [&STDIO[..], &HTTP].concat().contains(&unknown).then(|| format!("transport.{unknown}"));
                    let suggestion = inside().or_else(|| nearest(unknown, KEYS));
                    self.unknown(entry, path, suggestion);
                }
            }
        }
        server
    }

    fn transport(&mut self, node: &Node, path: &str) -> Option<DraftTransport> {
        // Whatever is wrong inside, a transport was given.
        self.report.covered.add(self.file, path);
        let entries = self.map(node, path, "a mapping with `type`")?;
        let kind = self.transport_type(node, entries, path);
        for entry in entries.iter().filter(|entry| entry.key != "type") {
            let key = entry.key.as_str();
            let (own, other, others) = match kind {
                Some("stdio") => (&STDIO[..], &HTTP[..], "http"),
                Some(_) => (&HTTP[..], &STDIO[..], "stdio"),
                None => (&[][..], &[][..], ""),
            };
            if other.contains(&key) {
                let message = format!("this key belongs to a transport of type `{others}`");
                self.refuse(entry.key_at, &child(path, key), message);
            } else if !own.contains(&key) && !(kind.is_none() && (STDIO.contains(&key) || HTTP.contains(&key))) {
                let known = own.iter().copied().chain(["type"]);
                self.unknown(entry, path, nearest(key, known));
            }
        }
        match kind? {
            "stdio" => Some(self.stdio(node, entries, path)),
            _ => Some(self.http(node, entries, path)),
        }
    }

    /// The type as written, or, when it is missing, as the other keys suggest, so that these are still judged.
    fn transport_type(&mut self, node: &Node, entries: &[Entry], path: &str) -> Option<&'static str> {
        let has = |keys: &[&str]| entries.iter().any(|entry| keys.contains(&entry.key.as_str()));
        let at = child(path, "type");
        if let Some(entry) = entries.iter().find(|entry| entry.key == "type") {
            return self.value(&entry.value, &at, |node| choice(node, &["stdio", "http"], &["sse"]));
        }
        self.refuse(node.at, &at, "`type` is missing; expected `stdio` or `http`");
        match (has(&STDIO), has(&HTTP)) {
            (true, false) => Some("stdio"),
            (false, true) => Some("http"),
            _ => None,
        }
    }

    fn stdio(&mut self, node: &Node, entries: &[Entry], path: &str) -> DraftTransport {
        let (mut command, mut args, mut env, mut cwd) = (None, Vec::new(), Vec::new(), None);
        for entry in entries {
            let (value, at) = (&entry.value, child(path, &entry.key));
            match entry.key.as_str() {
                "command" => command = self.text(value, &at),
                "args" => args = self.texts(value, &at, loose_text).unwrap_or_default(),
                "env" => env = self.pairs(value, &at),
                "cwd" => cwd = self.text(value, &at),
                _ => {}
            }
        }
        DraftTransport::Stdio { at: node.at.in_file(self.file), command, args, env, cwd }
    }

    fn http(&mut self, node: &Node, entries: &[Entry], path: &str) -> DraftTransport {
        let (mut urls, mut headers) = (Vec::new(), Vec::new());
        for entry in entries {
            let (value, at) = (&entry.value, child(path, &entry.key));
            match entry.key.as_str() {
                "url" => urls.extend(self.text(value, &at)),
                "urls" => {
                    if !is_null(value) && !matches!(&value.value, Value::List(nodes) if nodes.is_empty()) {
                        // If no URL comes of it, each was refused at its place.
                        self.report.covered.add(self.file, &child(path, "url"));
                    }
                    urls.extend(self.texts(value, &at, text).unwrap_or_default());
                }
                "headers" => headers = self.pairs(value, &at),
                _ => {}
            }
        }
        DraftTransport::Http { at: node.at.in_file(self.file), urls, headers }
    }

    fn text(&mut self, node: &Node, path: &str) -> Option<Located<String>> {
        let value = self.value(node, path, text)?;
        Some(self.located(value, node.at, path))
    }

    fn texts(
        &mut self,
        node: &Node,
        path: &str,
        read: fn(&Node) -> Result<String, crate::values::Wrong>,
    ) -> Option<Vec<Located<String>>> {
        let nodes = self.list(node, path, "a list of texts")?;
        let mut texts = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let at = format!("{path}[{i}]");
            if let Some(value) = self.value(node, &at, read) {
                texts.push(self.located(value, node.at, &at));
            }
        }
        Some(texts)
    }

    fn pairs(&mut self, node: &Node, path: &str) -> Vec<(Located<String>, Located<String>)> {
        let mut pairs = Vec::new();
        for entry in self.map(node, path, "a mapping of names to texts").unwrap_or_default() {
            let at = child(path, &entry.key);
            if let Some(value) = self.value(&entry.value, &at, loose_text) {
                let name = self.located(entry.key.clone(), entry.key_at, &at);
                pairs.push((name, self.located(value, entry.value.at, &at)));
            }
        }
        pairs
    }
}
