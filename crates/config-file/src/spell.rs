//! A snapshot in the words of the file, for people who compare two of them.

use std::collections::BTreeMap;

use model::{Backend, BackendPolicy, Snapshot, Transport};
use serde_json::{Map, Value, json};
use serde_yaml::{Mapping, Value as Yaml};

use crate::key::Key;
use crate::layer::Table;
use crate::policy::{OF_SERVER, POLICY};
use crate::votes;

/// The document that results in this snapshot: every key of the gateway, and the keys of servers that differ from their
/// defaults. References stay references.
pub fn spell(snapshot: &Snapshot) -> Value {
    let mut document = Value::Object(Map::new());
    keys(&POLICY, |key| key.value(&snapshot.policy), &mut document);
    if !snapshot.policy.validation.two_phase_commit {
        votes::leave_out(&mut document);
    }
    document["version"] = "1.0".into();
    document["servers"] = snapshot.backends.iter().map(|backend| server(backend)).collect();
    document
}

/// A file that results in this snapshot, without keys that say what holds anyway.
pub fn yaml(snapshot: &Snapshot) -> String {
    let plain = spell(&Snapshot::default());
    let document = less(spell(snapshot), &plain).unwrap_or_default();
    // As a person would write it: the version first, the servers last.
    let mut file = Mapping::from_iter([("version".into(), to_yaml(&plain["version"], &[]))]);
    let Value::Object(keys) = document else { unreachable!("a document is an object") };
    for (key, value) in keys.iter().filter(|(key, _)| *key != "servers") {
        file.insert(key.as_str().into(), to_yaml(value, &[]));
    }
    let servers = keys.get("servers").and_then(Value::as_array).into_iter().flatten();
    let servers = servers.map(|server| to_yaml(server, &["id", "transport", "type", "command", "url"])).collect();
    file.insert("servers".into(), Yaml::Sequence(servers));
    serde_yaml::to_string(&file).expect("text, numbers and lists are YAML")
}

/// `value` without what is the same in `plain`.
fn less(value: Value, plain: &Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter_map(|(key, value)| Some((key.clone(), less(value, &plain[&key])?)));
            let kept: Map<_, _> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            (value != *plain).then_some(value)
        }
    }
}

/// The keys in `first` come first, in that order.
fn to_yaml(value: &Value, first: &[&str]) -> Yaml {
    match value {
        Value::Object(map) => {
            let rank = |key: &str| first.iter().position(|one| *one == key).unwrap_or(first.len());
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| rank(key));
            Yaml::Mapping(keys.into_iter().map(|(key, value)| (key.as_str().into(), to_yaml(value, first))).collect())
        }
        Value::Array(list) => Yaml::Sequence(list.iter().map(|one| to_yaml(one, first)).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            serde_yaml::to_value(plain).expect("a scalar of JSON is one of YAML")
        }
    }
}

fn keys<T>(table: &Table<T>, value: impl Fn(&Key<T>) -> Option<Value>, document: &mut Value) {
    for key in table.keys {
        if let Some(value) = value(key) {
            *key.path.split('.').fold(&mut *document, |place, part| &mut place[part]) = value;
        }
    }
}

fn server(backend: &Backend) -> Value {
    let mut server = json!({
        "id": backend.id,
        "transport": transport(backend),
    });
    // A word may stand for what is inherited: only what the policy itself has is spelled.
    let plain = BackendPolicy::default();
    let own = |key: &Key<_>| key.value(&backend.policy).filter(|value| Some(value) != key.value(&plain).as_ref());
    keys(&OF_SERVER, own, &mut server);
    if let Some(tools) = &backend.tools {
        server["tools"] = json!(tools);
    }
    server
}

/// All endpoints of a server differ in nothing but their URL.
fn transport(backend: &Backend) -> Value {
    let mut transport = Map::new();
    let mut urls = Vec::new();
    for (_, _, spec) in backend.endpoints() {
        match &spec.transport {
            Transport::Stdio { command, args, env, cwd } => {
                transport.insert("command".into(), json!(command));
                if !args.is_empty() {
                    transport.insert("args".into(), json!(args));
                }
                insert_pairs(&mut transport, "env", env);
                transport.extend(cwd.iter().map(|cwd| ("cwd".to_owned(), json!(cwd))));
            }
            Transport::Http { url, headers } => {
                urls.push(url);
                insert_pairs(&mut transport, "headers", headers);
            }
        }
        transport.insert("type".into(), spec.transport.kind().into());
    }
    match urls.as_slice() {
        [] => {}
        [url] => drop(transport.insert("url".into(), json!(url))),
        urls => drop(transport.insert("urls".into(), json!(urls))),
    }
    transport.into()
}

fn insert_pairs(transport: &mut Map<String, Value>, key: &str, pairs: &BTreeMap<String, String>) {
    if !pairs.is_empty() {
        transport.insert(key.into(), json!(pairs));
    }
}
