//! A snapshot in the words of the file, for people who compare two of them.

use model::{Backend, BackendPolicy, Snapshot, Transport};
use serde_json::{Map, Value, json};

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
                transport.insert("args".into(), json!(args));
                transport.insert("env".into(), json!(env));
                transport.extend(cwd.iter().map(|cwd| ("cwd".to_owned(), json!(cwd))));
            }
            Transport::Http { url, headers } => {
                urls.push(url);
                transport.insert("headers".into(), json!(headers));
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
