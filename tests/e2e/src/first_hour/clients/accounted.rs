//! Nothing of a client's file is lost without a word: each key of each server is carried over, or named in a note.

use std::path::Path;

use serde_json::Value;

use super::{jsonc, planted::Shown};

/// Keys that say what is so anyway.
const PLAIN: [(&str, &str); 8] = [
    ("type", "\"stdio\""),
    ("type", "\"local\""),
    ("type", "\"http\""),
    ("type", "\"streamableHttp\""),
    ("transportType", "\"stdio\""),
    ("disabled", "false"),
    ("enabled", "true"),
    ("source", "\"custom\""),
];

/// What is neither in the new file nor in the notes. `folder` is the one that the client's file is in.
pub(super) fn lost(text: &str, folder: &Path, shown: &Shown<'_>) -> Vec<String> {
    // TOML is not read a second time; its servers and keys stand one a line.
    let Ok(file) = jsonc::parse(text) else { return lost_of_toml(text, shown) };
    let mut found = Vec::new();
    let of_file = ["mcpServers", "servers", "context_servers"].iter().filter_map(|key| file.get(*key));
    let of_editor = file.pointer("/mcp/servers");
    let of_projects = file["projects"].as_object().into_iter().flatten().filter_map(|(_, of)| of.get("mcpServers"));
    for servers in of_file.chain(of_editor).chain(of_projects).filter_map(Value::as_object) {
        for (name, entry) in servers {
            found.extend(lost_of_server(name, entry, folder, shown));
        }
    }
    let keys = file.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let ours = ["mcpServers", "servers", "context_servers", "mcp", "projects"];
    found.extend(keys.filter(|key| !ours.contains(key) && !shown.notes.contains(*key)).map(str::to_owned));
    found
}

fn lost_of_server(name: &str, entry: &Value, folder: &Path, shown: &Shown<'_>) -> Vec<String> {
    let notes: Vec<&str> = shown.notes.lines().filter(|line| line.contains(&format!(".{name}"))).collect();
    let left_out = notes.iter().any(|note| note.contains(&format!(".{name}: not carried over")));
    if left_out {
        return Vec::new();
    }
    let plain = |id: &str| id.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let added = shown.plan.lines().filter_map(|line| line.strip_prefix("  + ")?.split_once(": "));
    if !added.map(|(id, _)| plain(id)).any(|id| id == plain(name)) {
        return vec![format!("server {name}")];
    }
    // Where a list says which tools to show, one that hides others has no effect.
    let hides = |key: &str| key == "excludeTools" && entry.get("includeTools").is_some();
    let keys = entry.as_object().into_iter().flatten().filter(|(key, _)| !hides(key));
    let lost = keys.filter(|(key, value)| !is_kept(key, value, folder, shown) && !is_told(key, &notes));
    lost.map(|(key, value)| format!("{name}.{key}: {value}")).collect()
}

fn is_told(key: &str, notes: &[&str]) -> bool {
    let has_form_of_name = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let words = if has_form_of_name { key } else { "a key that has not the form of a name" };
    notes.iter().any(|note| note.contains(words))
}

fn is_kept(key: &str, value: &Value, folder: &Path, shown: &Shown<'_>) -> bool {
    let spelled = value.to_string();
    let is_plain = PLAIN.contains(&(key, spelled.as_str()));
    let is_all = *value == serde_json::json!(["*"]);
    is_plain || is_all || leaves(value).iter().all(|leaf| has(leaf, folder, shown))
}

/// The texts, numbers and switches of a value.
fn leaves(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(leaves).collect(),
        Value::Object(map) => map.values().flat_map(leaves).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![value.to_string()],
    }
}

/// Whether the new file has it, or a note tells what became of it.
fn has(leaf: &str, folder: &Path, shown: &Shown<'_>) -> bool {
    // The project of a file in `.vscode` or `.cursor` is the folder above.
    let is_hidden = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let project = folder.parent().filter(|_| is_hidden).unwrap_or(folder).display().to_string();
    let bare = ["${workspaceFolder}", "${CLAUDE_PROJECT_DIR}"]
        .iter()
        .fold(leaf.to_owned(), |text, name| text.replace(name, &project));
    let bare = bare.replace("${env:", "${");
    let bare = bare.strip_prefix("./").unwrap_or(&bare);
    let written = shown.written.replace("${env:", "${");
    // A text in quotes may have escapes.
    let unescaped = written.replace("\\/", "/");
    let reference = bare.split_once("${").and_then(|(_, rest)| rest.split_once([':', '}'])).map(|(name, _)| name);
    let told = reference.is_some_and(|name| shown.notes.contains(&format!("${{{name}")));
    bare == "null" && shown.notes.contains("it has no value")
        || unescaped.contains(bare)
        || told
        || shown.notes.contains(leaf)
}

fn lost_of_toml(text: &str, shown: &Shown<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut server = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("[mcp_servers.").and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut server);
        }
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let left_out = shown.notes.contains(&format!("mcp_servers.{server}: not carried over"));
        let words = value.split('"').skip(1).step_by(2).map(str::to_owned);
        let kept = words.clone().next().is_some() && words.clone().all(|word| is_word_of(&word, shown));
        let seconds = key == "startup_timeout_sec" && shown.written.contains(&format!("{value}s"));
        let hides = key == "disabled_tools" && text.contains("enabled_tools");
        if !(left_out || kept || seconds || hides || shown.notes.contains(key)) {
            found.push(format!("{server}.{key}: {value}"));
        }
    }
    found
}

/// `source = "local"` says where a variable comes from, as it does here anyway.
fn is_word_of(word: &str, shown: &Shown<'_>) -> bool {
    word == "local" || shown.written.contains(word)
}
