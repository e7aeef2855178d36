//! What is different between two snapshots, key by key, in the words of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::Snapshot;
use serde_json::Value;

use crate::spell;

/// A key whose value is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As in the file, without the server: `transport.url`.
    pub key: String,
    /// Absent: the key is not set.
    pub old: Option<Value>,
    pub new: Option<Value>,
}

impl Difference {
    /// For people; a key that is not set may mean something all the same.
    fn shown(&self, value: Option<&Value>) -> String {
        match (value, self.key.as_str()) {
            (Some(value), _) => value.to_string(),
            (None, "tools") => "all".to_owned(),
            (None, _) => "not set".to_owned(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = (self.shown(self.old.as_ref()), self.shown(self.new.as_ref()));
        match self.old {
            None if self.key != "tools" => write!(f, "{}: {new}", self.key),
            _ => write!(f, "{}: {old} → {new}", self.key),
        }
    }
}

type Keys = BTreeMap<String, Value>;

/// The keys that differ, by server; those of the gateway under the empty id. Of a server that is only in one of the
/// two, all its keys.
pub fn differences(old: &Snapshot, new: &Snapshot) -> BTreeMap<String, Vec<Difference>> {
    let (mut old, mut new) = (document(old), document(new));
    let ids: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let of = |id: String| {
        let (old, new) = (old.remove(&id).unwrap_or_default(), new.remove(&id).unwrap_or_default());
        (id, between(&old, &new))
    };
    ids.into_iter().map(of).filter(|(_, keys)| !keys.is_empty()).collect()
}

fn between(old: &Keys, new: &Keys) -> Vec<Difference> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let other = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    other.map(|key| Difference { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() }).collect()
}

/// The keys of a configuration, as a file would have them: by server, those of the gateway under the empty id.
fn document(snapshot: &Snapshot) -> BTreeMap<String, Keys> {
    let mut document = spell(snapshot);
    let servers = document.as_object_mut().and_then(|document| document.remove("servers"));
    let mut all = BTreeMap::new();
    for mut server in servers.as_ref().and_then(Value::as_array).cloned().unwrap_or_default() {
        let id = server.as_object_mut().and_then(|server| server.remove("id"));
        all.insert(id.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(), flat(&server));
    }
    all.insert(String::new(), flat(&document));
    all
}

fn flat(document: &Value) -> Keys {
    let mut keys = Keys::new();
    flatten("", document, &mut keys);
    keys
}

/// Mappings are taken apart; a list is one value.
fn flatten(path: &str, value: &Value, keys: &mut Keys) {
    let Value::Object(entries) = value else {
        keys.insert(path.to_owned(), value.clone());
        return;
    };
    for (name, value) in entries {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        flatten(&path, value, keys);
    }
}
