//! A snapshot in the words of the file, for people who compare two of them.

use model::units::show_duration;
use model::{Backend, DrainPolicy, ReplaceMode, Snapshot, Transport};
use serde_json::{Map, Value, json};

use crate::key::Key;
use crate::policy::{POLICY, SERVER_DRAIN};
use crate::votes;

/// The document that results in this snapshot: every key of the gateway, and the keys of servers that differ from their
/// defaults. References stay references.
pub fn spell(snapshot: &Snapshot) -> Value {
    let mut document = keys(&POLICY, &snapshot.policy);
    if !snapshot.policy.validation.two_phase_commit {
        votes::leave_out(&mut document);
    }
    document["version"] = "1.0".into();
    document["servers"] = snapshot.backends.iter().map(|backend| server(backend)).collect();
    document
}

fn keys<T: Clone + PartialEq>(keys: &[Key<T>], values: &T) -> Value {
    let mut document = Value::Object(Map::new());
    for key in keys {
        if let Some(value) = key.value(values.clone()) {
            *key.path.split('.').fold(&mut document, |place, part| &mut place[part]) = value;
        }
    }
    document
}

fn server(backend: &Backend) -> Value {
    let mut server = json!({
        "id": backend.id,
        "transport": transport(backend),
    });
    if backend.critical {
        server["critical"] = true.into();
    }
    if backend.replace == ReplaceMode::StopFirst {
        server["replace"] = "stop_first".into();
    }
    if let Some(connect) = backend.connect {
        server["connect"] = show_duration(connect).into();
    }
    if backend.restart_unhealthy {
        server["restart_unhealthy"] = true.into();
    }
    if let Some(tools) = &backend.tools {
        server["tools"] = json!(tools);
    }
    if let Some(drain) = &backend.drain {
        server["drain"] = keys::<Option<DrainPolicy>>(&SERVER_DRAIN, &Some(drain.clone()));
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
