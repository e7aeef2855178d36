//! One entry of `servers`: what it is and how it is reached, each key with what it is for, which values it takes, and
//! how it is read. The keys of its policy are rows in `policy.rs`.

use model::{BackendPolicy, Draft, DraftBackend, DraftTransport, Located};
use serde_json::{Value as Json, json};

use crate::known::Items;
use crate::layer::{Layer, Section};
use crate::names::{child, is_header, is_variable, nearest};
use crate::policy::OF_SERVER;
use crate::schema::{self, texts};
use crate::tree::{Entry, Node, Value};
use crate::values::{Wrong, choice, is_null, loose_text, text};

/// Servers of one layer, and the texts of one list or mapping.
pub(crate) const MAX_ENTRIES: usize = 10_000;
/// Endpoints of one server.
const MAX_URLS: usize = 256;
const NOT_SHOWN: &str = "the key is not shown, since it has not the form of a name; expected `NAME: value`";

/// A key of a server, or of its transport.
pub(crate) struct Field<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// The allowed values, for the reference.
    pub(crate) kind: &'static str,
    /// The default, for the reference.
    pub(crate) default: &'static str,
    /// The same for a schema.
    pub(crate) schema: fn() -> Json,
    read: fn(&mut Layer<'_>, &Node, &str, &mut T),
}

pub(crate) static KEYS: [Field<DraftBackend>; 3] = [
    Field {
        name: "id",
        doc: "its name; unique",
        kind: "1 to 64 of `A-Z a-z 0-9 _ - .`, the first a letter or digit",
        default: "required",
        schema: || json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", "examples": ["files"] }),
        read: |layer, node, at, server| server.id = layer.text(node, at),
    },
    Field {
        name: "transport",
        doc: "how it is reached",
        kind: "mapping",
        default: "required",
        schema: schema::transport,
        read: |layer, node, at, server| server.transport = layer.transport(node, at),
    },
    Field {
        name: "tools",
        doc: "the tools shown to clients, by the server's own names",
        kind: "list of names",
        default: "all",
        schema: || {
            let name = json!({ "type": "string", "pattern": "[^\\s]" });
            json!({ "type": "array", "items": name, "maxItems": MAX_ENTRIES, "uniqueItems": true, "examples": [["read_file"]] })
        },
        read: |layer, node, at, server| layer.tools(node, at, server),
    },
];

type Pairs = Vec<(Located<String>, Located<String>)>;

#[derive(Default)]
pub(crate) struct Stdio {
    command: Option<Located<String>>,
    args: Vec<Located<String>>,
    env: Pairs,
    cwd: Option<Located<String>>,
}

pub(crate) static STDIO: [Field<Stdio>; 4] = [
    Field {
        name: "command",
        doc: "the program, looked up in `PATH`; one process of it serves all clients, so what it keeps in mind they share",
        kind: "text",
        default: "required",
        schema: || texts::command("npx"),
        read: |layer, node, at, stdio| stdio.command = layer.text(node, at),
    },
    Field {
        name: "args",
        doc: "its arguments; numbers and flags are passed as they are written. Everybody on the machine sees them in the list \
              of processes: a secret belongs into `env`",
        kind: "list of texts",
        default: "none",
        schema: || {
            let example = json!([["-y", "some-server", "/data"]]);
            json!({ "type": ["array", "null"], "items": texts::loose(), "maxItems": MAX_ENTRIES, "examples": example })
        },
        read: |layer, node, at, stdio| stdio.args = layer.texts(node, at, loose_text).unwrap_or_default(),
    },
    Field {
        name: "env",
        doc: "its environment, beside `PATH`, `HOME` and `LANG`; the place of secrets, which only the same user can see \
              there",
        kind: "mapping of names to texts",
        default: "none",
        schema: || texts::mapping(&json!({ "pattern": "^[^=\\x00]+$" }), &texts::loose(), "KEY", "${env:KEY}"),
        read: |layer, node, at, stdio| stdio.env = layer.pairs(node, at, is_variable),
    },
    Field {
        name: "cwd",
        doc: "its working directory",
        kind: "absolute path",
        default: "the router's",
        schema: || texts::absolute("/srv/files"),
        read: |layer, node, at, stdio| stdio.cwd = layer.text(node, at),
    },
];

#[derive(Default)]
pub(crate) struct Http {
    urls: Vec<Located<String>>,
    headers: Pairs,
}

pub(crate) static HTTP: [Field<Http>; 3] = [
    Field {
        name: "url",
        doc: "the MCP endpoint; no credentials and no fragment in it",
        kind: "`http` or `https` URL",
        default: "required",
        schema: || texts::url("https://example.org/mcp"),
        read: |layer, node, at, http| http.urls.extend(layer.text(node, at)),
    },
    Field {
        name: "urls",
        doc: "several endpoints of the same server, in place of `url` or beside it",
        kind: "list of URLs, at most 256",
        default: "none",
        schema: || {
            let url = texts::url("https://a.example.org/mcp");
            json!({ "type": ["array", "null"], "items": url, "maxItems": MAX_URLS, "uniqueItems": true })
        },
        read: |layer, node, at, http| layer.urls(node, at, http),
    },
    Field {
        name: "headers",
        doc: "sent with every request; headers the gateway writes itself (`Host`, `Content-Type`, `Mcp-Session-Id` …) are \
              refused",
        kind: "mapping of names to texts",
        default: "none",
        schema: texts::headers,
        read: |layer, node, at, http| http.headers = layer.pairs(node, at, is_header),
    },
];

fn names<T>(fields: &'static [Field<T>]) -> impl Iterator<Item = &'static str> + Clone {
    fields.iter().map(|field| field.name)
}

impl Layer<'_> {
    pub(crate) fn servers(&mut self, node: &Node, items: &mut Items, draft: &mut Draft) {
        let Some(nodes) = self.list(node, "servers", "a list of servers") else {
            self.report.servers_lost = true;
            return;
        };
        let count = nodes.len() + items.count_of_known();
        if count > MAX_ENTRIES {
            self.refuse(node.at, "servers", format!("{count} servers; expected at most {MAX_ENTRIES}"));
            self.report.servers_lost = true;
            return;
        }
        let mut read = Vec::with_capacity(nodes.len());
        for node in nodes {
            let item = items.begin(node.at);
            let known = item.map(|item| items.take(item, node)).unwrap_or_default();
            if !known.is_empty() {
                for (item, backend) in known {
                    read.push(Some(item));
                    draft.known.push((draft.backends.len(), backend));
                }
                continue;
            }
            let path = format!("servers[{}]", read.len());
            read.push(item);
            let entries = if is_null(node) {
                self.refuse(node.at, &path, "expected a mapping with `id` and `transport`, found nothing");
                None
            } else {
                self.map(node, &path, "a mapping with `id` and `transport`")
            };
            match entries {
                Some(entries) => {
                    let server = self.server(node, entries, &path);
                    draft.backends.push(server);
                }
                None => self.report.servers_lost = true,
            }
        }
        let passages = read.iter().zip(read.iter().skip(1).chain([&None])).map(|(item, next)| {
            // Not if there is a server in between that is no item, such as one below its dash: it is in these lines,
            // too.
            let item = item.filter(|item| *next == Some(item + 1))?;
            items.passage(item, self.file)
        });
        self.report.passages.extend(passages);
    }

    fn server(&mut self, node: &Node, entries: &[Entry], path: &str) -> DraftBackend {
        let mut server = DraftBackend {
            at: node.at.in_file(self.file),
            path: path.into(),
            in_force: false,
            id: None,
            transport: None,
            tools: None,
            policy: BackendPolicy::default(),
            written: Vec::new(),
        };
        let mut written = Vec::new();
        let file = self.file;
        for entry in entries {
            let key = entry.key.as_str();
            if self.field(&KEYS, entry, path, &mut server) {
                continue;
            }
            if OF_SERVER.children("").any(|name| name == key) {
                let section = Section { path, name: "" };
                let entry = std::slice::from_ref(entry);
                self.section(entry, section, &OF_SERVER, &mut server.policy, &mut |key, path, entry| {
                    written.push(Located { value: key, at: entry.value.at.in_file(file), path: path.into() });
                });
                continue;
            }
            let inside = names(&STDIO).chain(names(&HTTP)).any(|name| name == key);
            let known = names(&KEYS).chain(OF_SERVER.children(""));
            let suggestion = inside.then(|| format!("transport.{key}")).or_else(|| nearest(key, known));
            self.unknown(entry, path, suggestion);
        }
        server.written = written;
        server
    }

    /// Reads an entry whose key is among the fields, and says whether it is.
    fn field<T>(&mut self, fields: &[Field<T>], entry: &Entry, path: &str, target: &mut T) -> bool {
        let field = fields.iter().find(|field| field.name == entry.key);
        if let Some(field) = field {
            (field.read)(self, &entry.value, &child(path, &entry.key), target);
        }
        field.is_some()
    }

    fn tools(&mut self, node: &Node, path: &str, server: &mut DraftBackend) {
        if is_null(node) {
            self.refuse(node.at, path, "expected a list of texts (`[]` shows none), found nothing");
        } else {
            server.tools = self.texts(node, path, text);
        }
    }

    fn transport(&mut self, node: &Node, path: &str) -> Option<DraftTransport> {
        // Even with faults inside, a transport was given.
        self.report.covered.add(self.file, path);
        let entries = self.map(node, path, "a mapping with `type`")?;
        let at = node.at.in_file(self.file);
        match self.transport_type(node, entries, path) {
            Some("stdio") => {
                let Stdio { command, args, env, cwd } = self.parts(&STDIO, (names(&HTTP), "http"), entries, path);
                Some(DraftTransport::Stdio { at, command, args, env, cwd })
            }
            Some(_) => {
                let Http { urls, headers } = self.parts(&HTTP, (names(&STDIO), "stdio"), entries, path);
                Some(DraftTransport::Http { at, urls, headers })
            }
            None => {
                let known = names(&STDIO).chain(names(&HTTP)).chain(["type"]);
                for entry in entries.iter().filter(|entry| known.clone().all(|name| name != entry.key)) {
                    self.unknown(entry, path, nearest(&entry.key, known.clone()));
                }
                None
            }
        }
    }

    /// All keys of a transport but its type.
    fn parts<T: Default>(
        &mut self,
        own: &'static [Field<T>],
        (others, name_of_others): (impl Iterator<Item = &'static str> + Clone, &str),
        entries: &[Entry],
        path: &str,
    ) -> T {
        let mut parts = T::default();
        for entry in entries.iter().filter(|entry| entry.key != "type") {
            if self.field(own, entry, path, &mut parts) {
                continue;
            }
            if others.clone().any(|name| name == entry.key) {
                let message = format!("this key belongs to a transport of type `{name_of_others}`");
                self.refuse(entry.key_at, &child(path, &entry.key), message);
            } else {
                self.unknown(entry, path, nearest(&entry.key, names(own).chain(["type"])));
            }
        }
        parts
    }

    /// The type as written, or, when it is missing, as the other keys suggest, so that these are still judged.
    fn transport_type(&mut self, node: &Node, entries: &[Entry], path: &str) -> Option<&'static str> {
        let at = child(path, "type");
        if let Some(entry) = entries.iter().find(|entry| entry.key == "type") {
            return self.value(&entry.value, &at, |node| choice(node, &["stdio", "http"], &["sse"]));
        }
        self.refuse(node.at, &at, "`type` is missing; expected `stdio` or `http`");
        let has = |name: &str| entries.iter().any(|entry| entry.key == name);
        match (names(&STDIO).any(has), names(&HTTP).any(has)) {
            (true, false) => Some("stdio"),
            (false, true) => Some("http"),
            _ => None,
        }
    }

    fn urls(&mut self, node: &Node, path: &str, http: &mut Http) {
        if !is_null(node) && !matches!(&node.value, Value::List(nodes) if nodes.is_empty()) {
            // If no URL is left, each one was refused at its place.
            let of_one = path.strip_suffix('s').unwrap_or(path);
            self.report.covered.add(self.file, of_one);
        }
        if let Value::List(nodes) = &node.value
            && nodes.len() > MAX_URLS
        {
            self.refuse(node.at, path, format!("{} URLs; expected at most {MAX_URLS}", nodes.len()));
            return;
        }
        http.urls.extend(self.texts(node, path, text).unwrap_or_default());
    }

    fn text(&mut self, node: &Node, path: &str) -> Option<Located<String>> {
        let value = self.value(node, path, text)?;
        Some(self.located(value, node.at, path))
    }

    fn texts(
        &mut self,
        node: &Node,
        path: &str,
        read: fn(&Node) -> Result<String, Wrong>,
    ) -> Option<Vec<Located<String>>> {
        let nodes = self.list(node, path, "a list of texts")?;
        if self.too_many(node, nodes.len(), path) {
            return None;
        }
        let mut texts = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let at = format!("{path}[{i}]");
            if let Some(value) = self.value(node, &at, read) {
                texts.push(self.located(value, node.at, &at));
            }
        }
        Some(texts)
    }

    fn too_many(&mut self, node: &Node, count: usize, path: &str) -> bool {
        let too_many = count > MAX_ENTRIES;
        if too_many {
            self.refuse(node.at, path, format!("{count} entries; expected at most {MAX_ENTRIES}"));
        }
        too_many
    }

    /// A key that is no name has its index for a path: it may be a secret.
    fn pairs(&mut self, node: &Node, path: &str, is_name: fn(&str) -> bool) -> Pairs {
        let mut pairs = Vec::new();
        let entries = self.map(node, path, "a mapping of names to texts").unwrap_or_default();
        if self.too_many(node, entries.len(), path) {
            return pairs;
        }
        for (i, entry) in entries.iter().enumerate() {
            let shown = is_name(&entry.key);
            let at = if shown { child(path, &entry.key) } else { format!("{path}[{i}]") };
            let explained = |wrong: Wrong| {
                let message = if shown { wrong.message } else { format!("{}; {NOT_SHOWN}", wrong.message) };
                Wrong { message, suggestion: wrong.suggestion }
            };
            if let Some(value) = self.value(&entry.value, &at, |node| loose_text(node).map_err(explained)) {
                let name = self.located(entry.key.clone(), entry.key_at, &at);
                pairs.push((name, self.located(value, entry.value.at, &at)));
            }
        }
        pairs
    }
}
