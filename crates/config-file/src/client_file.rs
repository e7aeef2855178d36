//! Files of MCP clients (Claude Desktop, Cursor, VS Code …). They list their servers by name, under a key of their own.
//! This module recognises them, so that one violation says what the file is and what to write in its place.

use model::BackendId;

use crate::layer::{Layer, is_comment};
use crate::tree::{Entry, Node, Value};

const KEYS: [&str; 4] = ["mcpServers", "mcp_servers", "context_servers", "servers"];
/// Keys that show that a mapping is one server.
const OF_A_SERVER: [&str; 3] = ["command", "url", "serverUrl"];

impl Layer<'_> {
    /// Whether this is a client's file. If so, it gets one violation that says so, and no other.
    pub(crate) fn is_client_file(&mut self, entries: &[Entry]) -> bool {
        let Some((entry, servers)) = entries.iter().find_map(servers_of) else { return false };
        let mut message = format!(
            "this is the file of an MCP client, which has its servers by name; here `servers` is a list, and how a server \
             is reached stands under `transport`: write `{}`",
            spelled(servers)
        );
        if is_comment(&entry.key) {
            message.push_str("; comments begin with `#`");
        }
        self.report.servers_lost = true;
        self.refuse(entry.key_at, bare(&entry.key), message);
        true
    }
}

/// The servers by name, under a key of a client.
fn servers_of(entry: &Entry) -> Option<(&Entry, &[Entry])> {
    let Value::Map(inner) = &entry.value.value else { return None };
    let key = bare(&entry.key);
    if key == "mcp" {
        return inner.iter().find_map(servers_of);
    }
    // Our own key with a mapping under it is a slip, unless the mapping holds servers.
    let known = KEYS.contains(&key) && (key != "servers" || inner.iter().any(|server| is_server(&server.value)));
    known.then_some((entry, inner))
}

fn is_server(node: &Node) -> bool {
    let Value::Map(keys) = &node.value else { return false };
    keys.iter().any(|entry| OF_A_SERVER.contains(&entry.key.as_str()))
}

/// The first server in the words of this format, by its name and keys alone: a value may be a secret.
fn spelled(servers: &[Entry]) -> String {
    let first = servers.first();
    let id = first.map(|server| server.key.as_str()).filter(|name| BackendId::new(name).is_ok()).unwrap_or("NAME");
    let keys: &[Entry] = match first.map(|server| &server.value.value) {
        Some(Value::Map(keys)) => keys,
        Some(Value::List(_) | Value::Scalar { .. }) | None => &[],
    };
    let has = |name: &str| keys.iter().any(|entry| entry.key == name);
    let mut transport = if has("url") || has("serverUrl") {
        "type: http, url: …".to_owned()
    } else {
        "type: stdio, command: …".to_owned()
    };
    for (name, value) in [("args", "[…]"), ("env", "{…}"), ("headers", "{…}")] {
        if has(name) {
            transport.push_str(&format!(", {name}: {value}"));
        }
    }
    format!("servers: [{{ id: {id}, transport: {{ {transport} }} }}]")
}

/// The key without the comments before it.
fn bare(key: &str) -> &str {
    match key.strip_suffix('"').and_then(|key| key.rsplit_once('"')) {
        Some((_, quoted)) if is_comment(key) => quoted,
        _ => key,
    }
}
