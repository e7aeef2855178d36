//! Where in a text more servers have their place, and how they are written there.

use model::units::duration;
use serde_json::Value;

use crate::report::Report;
use crate::text::tree;
use crate::tree::{Node, ScalarKind, Value as Tree};
use crate::values::{is_null, plain_kind};
use crate::{Format, Known};

/// The keys of a transport in the order in which people write them.
const ORDER: [&str; 8] = ["type", "command", "args", "env", "cwd", "url", "urls", "headers"];

/// A YAML text with more servers at the end of its list; `None` if that is not written line by line.
pub(super) fn yaml(text: &str, servers: &[Value]) -> Option<String> {
    let (root, _) = tree(text, Format::Yaml, &"".into(), &Known::default(), &mut Report::default()).ok()?;
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (at, indent) = match place(&root, &lines)? {
        Place::List { line, indent } => (line, indent),
        Place::NewKey => {
            let head = if text.trim().is_empty() { "version: \"1.0\"\nservers:\n" } else { "\nservers:\n" };
            return Some(format!("{}{head}{}", ended(text), yaml_servers(servers, 2)));
        }
    };
    let rest = lines.split_off(at);
    Some(format!("{}{}{}", ended(&lines.concat()), yaml_servers(servers, indent), rest.concat()))
}

enum Place {
    /// Before that line, counted from 0.
    List {
        line: usize,
        indent: usize,
    },
    NewKey,
}

fn place(root: &Node, lines: &[&str]) -> Option<Place> {
    let entries = match &root.value {
        Tree::Map(entries) => entries,
        _ if is_null(root) => return Some(Place::NewKey),
        Tree::List(_) | Tree::Scalar { .. } => return None,
    };
    let Some(servers) = entries.iter().find(|entry| entry.key == "servers") else { return Some(Place::NewKey) };
    let Tree::List(nodes) = &servers.value.value else { return None };
    let first = nodes.first()?;
    let line = lines.get(first.at.line as usize - 1)?;
    let before: String = line.chars().take(first.at.column as usize - 1).collect();
    let indent = before.trim_end().strip_suffix('-').filter(|indent| indent.bytes().all(|byte| byte == b' '))?.len();
    // The list ends where the next key begins, or the document.
    let next = entries.iter().map(|entry| entry.key_at.line).filter(|line| *line > servers.key_at.line).min();
    let mut end = next.map_or(lines.len(), |line| line as usize - 1);
    while end > first.at.line as usize && is_between(lines[end - 1]) {
        end -= 1;
    }
    Some(Place::List { line: end, indent })
}

/// Lines that belong to what comes after them.
fn is_between(line: &str) -> bool {
    let line = line.trim_end();
    line.is_empty() || line.starts_with('#') || line == "..."
}

/// With a line break at the end, if there is anything.
fn ended(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn yaml_servers(servers: &[Value], indent: usize) -> String {
    let mut out = String::new();
    for server in servers {
        let mut start = "- ";
        for (key, value) in sorted(server, &["id", "transport"]) {
            out.push_str(&format!("{:indent$}{start}{key}:", ""));
            start = "  ";
            if key == "transport" {
                out.push('\n');
                for (key, value) in sorted(value, &ORDER) {
                    out.push_str(&format!("{:indent$}    {key}: {}\n", "", yaml_value(value)));
                }
            } else {
                out.push_str(&format!(" {}\n", yaml_value(value)));
            }
        }
    }
    out
}

/// On one line.
fn yaml_value(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(yaml_value))),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                let key = if is_plain(key) { key.clone() } else { quoted(key) };
                format!("{key}: {}", yaml_value(value))
            });
            format!("{{ {} }}", joined(entries))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A TOML text with more tables at its end.
pub(super) fn toml(text: &str, servers: &[Value]) -> String {
    let mut out = ended(text);
    if text.trim().is_empty() {
        out.push_str("version = \"1.0\"\n");
    }
    for server in servers {
        out.push_str("\n[[servers]]\n");
        for (key, value) in sorted(server, &["id"]) {
            if key != "transport" {
                out.push_str(&format!("{key} = {}\n", toml_value(value)));
            }
        }
        out.push_str("[servers.transport]\n");
        for (key, value) in sorted(&server["transport"], &ORDER) {
            out.push_str(&format!("{key} = {}\n", toml_value(value)));
        }
    }
    out
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(toml_value))),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{} = {}", quoted(key), toml_value(value)));
            format!("{{ {} }}", joined(entries))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn sorted<'v>(value: &'v Value, first: &[&str]) -> Vec<(&'v String, &'v Value)> {
    let mut entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| first.iter().position(|known| known == key).unwrap_or(first.len()));
    entries
}

/// A text that YAML takes as it stands, in brackets, too.
fn is_plain(text: &str) -> bool {
    (text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') || duration(text).is_some())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./@+".contains(&b))
        && plain_kind(text) == ScalarKind::Text
}

/// In double quotes, as JSON, YAML and TOML alike understand it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
