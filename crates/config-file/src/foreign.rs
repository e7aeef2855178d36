//! Files of MCP clients (Claude Desktop, Claude Code, Cursor, VS Code, Windsurf, Zed, Gemini CLI, Codex). They have
//! their servers by name, under a key of their own. This module finds these servers, also where they were pasted into a
//! file of ours, and makes them servers of the draft. What is not carried over becomes a note with its place.

mod name;
mod reference;
mod server;

use std::collections::BTreeMap;

use model::{Draft, Violation};

use crate::Format;
use crate::layer::Layer;
use crate::names::{child, is_variable, show};
use crate::policy::POLICY;
use crate::tree::{Entry, Mark, Node, Value};
use crate::values::{describe, is_null};
use server::is_server;

const KEYS: [&str; 3] = ["mcpServers", "mcp_servers", "context_servers"];
/// Keys that show that a mapping is one server.
const OF_A_SERVER: [&str; 4] = ["command", "url", "serverUrl", "httpUrl"];
/// Names of a client's other keys that one note lists.
const NAMED: usize = 5;

/// Servers by name, as one key of a client has them.
struct Named<'n> {
    path: String,
    servers: &'n [Entry],
    node: &'n Node,
    /// The directory in which the client starts them.
    directory: Option<&'n str>,
}

/// What the keys of a document are.
pub(crate) struct Sorted<'n> {
    named: Vec<Named<'n>>,
    /// Whether the document is written for this program, so that each of its other keys must be known.
    ours: bool,
    /// All but the keys of clients.
    rest: Vec<&'n Entry>,
    /// The directory of the client's project, if the path of the file tells it.
    folder: Option<&'n str>,
}

impl<'n> Sorted<'n> {
    fn of(entries: &'n [Entry], folder: Option<&'n str>) -> Self {
        let mut named = Vec::new();
        let mut rest = Vec::new();
        let asks = entries.iter().any(|entry| entry.key == "inputs");
        for entry in entries {
            let before = named.len();
            servers_of(entry, asks, &mut named);
            if named.len() == before {
                rest.push(entry);
            }
        }
        let ours = named.is_empty() || rest.iter().any(|entry| is_ours(entry));
        Self { named, ours, rest, folder }
    }

    fn has_servers(&self) -> bool {
        self.named.iter().any(|named| !named.servers.is_empty())
    }

    /// The keys that are to be read as ours.
    pub(crate) fn ours(&self) -> &[&'n Entry] {
        if self.ours { &self.rest } else { &[] }
    }
}

/// Whether both are files of clients with the same servers, whatever else the clients keep in them.
pub(crate) fn have_the_same(one: &Node, other: &Node) -> bool {
    let (Some(one), Some(other)) = (map_of(one), map_of(other)) else { return false };
    let (one, other) = (Sorted::of(one, None), Sorted::of(other, None));
    let same =
        |(one, other): (&Named<'_>, &Named<'_>)| one.path == other.path && one.node.value.means(&other.node.value);
    !one.ours && !other.ours && one.named.len() == other.named.len() && one.named.iter().zip(&other.named).all(same)
}

fn is_ours(entry: &Entry) -> bool {
    match entry.key.as_str() {
        "$schema" => false,
        "version" => matches!(&entry.value.value, Value::Scalar { text, .. } if text == "1.0"),
        key => POLICY.children("").any(|name| name == key),
    }
}

/// The servers under a key of a client, if it is one; `asks` is whether the file has VS Code's `inputs` beside it.
fn servers_of<'n>(entry: &'n Entry, asks: bool, named: &mut Vec<Named<'n>>) {
    let key = entry.key.as_str();
    let inner = match &entry.value.value {
        Value::Map(inner) => inner.as_slice(),
        // What is no mapping is refused when it is read.
        Value::Scalar { .. } | Value::List(_) if KEYS.contains(&key) => &[],
        Value::Scalar { .. } | Value::List(_) => return,
    };
    let found =
        |path: String, node, directory| Named { path, servers: map_of(node).unwrap_or_default(), node, directory };
    match key {
        _ if KEYS.contains(&key) => named.push(found(key.into(), &entry.value, None)),
        // Our own key with a mapping under it is a slip, unless the mapping holds servers.
        "servers" if inner.iter().any(|server| is_server(&server.value)) || (asks && inner.is_empty()) => {
            named.push(found(key.into(), &entry.value, None));
        }
        // The settings of VS Code.
        "mcp" => {
            let servers = inner.iter().filter(|entry| entry.key == "servers" && map_of(&entry.value).is_some());
            named.extend(servers.map(|entry| found("mcp.servers".into(), &entry.value, None)));
        }
        // Claude Code's servers of single projects.
        "projects" => {
            for project in inner {
                let keys = map_of(&project.value).unwrap_or_default();
                let servers = keys.iter().filter(|entry| entry.key == "mcpServers");
                let servers = servers.filter(|entry| map_of(&entry.value).is_some_and(|servers| !servers.is_empty()));
                let path = child(&child("projects", &project.key), "mcpServers");
                named.extend(servers.map(|entry| found(path.clone(), &entry.value, Some(project.key.as_str()))));
            }
        }
        _ => {}
    }
}

/// The directory of a client's project by the path of its file, where only a project has a file of that name. (Others
/// have the same in the home of the user.)
fn folder_of(file: &str) -> Option<&str> {
    let (directory, name) = file.rsplit_once('/').filter(|_| file.starts_with('/'))?;
    let above = [".vscode", ".zed"].iter().find_map(|hidden| directory.strip_suffix(hidden)?.strip_suffix('/'));
    above.or_else(|| (name == ".mcp.json").then_some(directory))
}

fn map_of(node: &Node) -> Option<&[Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        Value::Scalar { .. } | Value::List(_) => None,
    }
}

/// Server ids of one document that are given: by the author's name, with the place and the value.
type Given<'n> = BTreeMap<&'n str, (&'n Entry, Option<&'n str>)>;

impl<'a> Layer<'a> {
    pub(crate) fn sorted<'n>(&self, entries: &'n [Entry]) -> Sorted<'n>
    where
        'a: 'n,
    {
        Sorted::of(entries, folder_of(self.file))
    }

    /// Reads a text that must be the file of a client. A server that is not carried over is no fault of the file.
    /// Returns whether the file has a key of a client.
    pub(crate) fn import(&mut self, text: &str, format: Format, draft: &mut Draft) -> bool {
        let Some((root, _)) = self.tree(text, format) else { return false };
        let entries = self.map(&root, "", "a mapping with the servers of an MCP client").unwrap_or_default();
        let sorted = self.sorted(entries);
        let is_client = !sorted.named.is_empty();
        let ours = sorted.rest.iter().find(|entry| is_ours(entry) && (is_client || entry.key == "servers"));
        if let Some(entry) = ours {
            let message = "this is a configuration of Only1MCP already; `only1mcp up --config` serves it";
            self.refuse(entry.key_at, &entry.key, message);
        }
        self.foreign(&sorted, draft);
        is_client
    }

    /// Adds the servers of clients to the draft. Where none of them can be there, the reasons refuse the file: that it
    /// has no servers would be no news.
    pub(crate) fn foreign_or_refuse(&mut self, sorted: &Sorted<'_>, draft: &mut Draft) {
        let (servers, notes) = (draft.backends.len(), self.report.notes.len());
        self.foreign(sorted, draft);
        if draft.backends.len() == servers && sorted.has_servers() {
            let reasons = self.report.notes.split_off(notes);
            reasons.into_iter().for_each(|reason| self.report.push(reason));
            self.report.servers_lost = true;
        }
    }

    fn foreign(&mut self, sorted: &Sorted<'_>, draft: &mut Draft) {
        let mut given = Given::new();
        let mut ids = name::Ids::default();
        for named in &sorted.named {
            if map_of(named.node).is_none() && !is_null(named.node) {
                let message = format!("expected servers by name, found {}", describe(named.node));
                self.refuse(named.node.at, &named.path, message);
                self.report.servers_lost = true;
            }
            for entry in named.servers {
                if self.is_given(entry, named, &mut given) {
                    continue;
                }
                let path = child(&named.path, &entry.key);
                let id = ids.of(&entry.key);
                if let Some(server) = self.foreign_server(entry, &path, &id, (named.directory, sorted.folder)) {
                    if id != entry.key {
                        self.note(entry.key_at, &path, format!("this server is called `{id}` here"));
                    }
                    draft.backends.push(server);
                }
            }
        }
        if !sorted.ours {
            self.note_others(&sorted.rest);
        }
    }

    /// Claude Code may have a server of one name for all projects and for each of some.
    fn is_given<'n>(&mut self, entry: &'n Entry, named: &Named<'n>, given: &mut Given<'n>) -> bool {
        let Some((first, directory)) = given.get(entry.key.as_str()) else {
            given.insert(&entry.key, (entry, named.directory));
            return false;
        };
        let same = first.value.value.means(&entry.value.value) && *directory == named.directory;
        let at = first.key_at.in_file(self.file);
        let but = if same { "the same" } else { "another" };
        let message = format!("not carried over: {but} server of this name stands at {at}");
        self.note(entry.key_at, &child(&named.path, &entry.key), message);
        true
    }

    /// The other keys of a client are its own business; that is said once.
    fn note_others(&mut self, others: &[&Entry]) {
        let Some(first) = others.first() else { return };
        let names = others.iter().filter(|entry| is_variable(&entry.key)).take(NAMED);
        let mut names: Vec<String> = names.map(|entry| format!("`{}`", show(&entry.key))).collect();
        if names.len() < others.len() {
            names.push(format!("{} more", others.len() - names.len()));
        }
        let message = format!("settings of the client, which are not carried over: {}", names.join(", "));
        self.note(first.key_at, "", message);
    }

    /// What an author should know about what was made of the text.
    fn note(&mut self, at: Mark, path: &str, message: impl Into<String>) {
        let note = Violation::new(Some(at.in_file(self.file)), path, message);
        self.report.note(note);
    }
}
