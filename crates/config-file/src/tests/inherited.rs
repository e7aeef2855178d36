//! A key of a server holds in place of the same key of the gateway, and of no other.

use model::units::show_duration;
use model::{Backend, InForce, Policy};
use serde_json::{Value, json};

use super::named;
use crate::key::{Key, Kind};
use crate::parse;
use crate::policy::{OF_SERVER, POLICY};

/// The key of the gateway that holds where the server has none of its own.
fn of_gateway<T>(key: &Key<T>) -> &'static Key<Policy> {
    let same = |path: &str| POLICY.keys.iter().find(|key| key.path == path);
    same(key.path).or_else(|| same(key.without.trim_matches('`'))).unwrap_or_else(|| panic!("{} of what?", key.path))
}

/// The first and the last of the values that the key takes.
fn ends<T>(key: &Key<T>) -> (Value, Value) {
    match &key.kind {
        Kind::Elsewhere(_) => panic!("{} is in no table", key.path),
        Kind::Flag(_) => (json!(false), json!(true)),
        Kind::Count(_, range) => (json!(range.start()), json!(range.end())),
        Kind::Counted(_, _, range) => (json!(range.start()), json!(range.end())),
        Kind::Duration(_, range) => (json!(show_duration(*range.start())), json!(show_duration(*range.end()))),
        Kind::Bytes(_, range) => (json!(range.start()), json!(range.end())),
        Kind::Permille(_) => (json!(0.001), json!(1.0)),
        Kind::Text(..) | Kind::Labels(_) | Kind::Instructions(_) | Kind::Names(..) | Kind::Path(_) => {
            panic!("{} is no policy", key.path)
        }
        Kind::Choice(words, _) => (json!(words[0].0), json!(words[words.len() - 1].0)),
    }
}

fn set(document: &mut Value, path: &str, value: Value) {
    *path.split('.').fold(document, |place, part| &mut place[part]) = value;
}

fn server(id: usize) -> Value {
    json!({ "id": format!("s{id}"), "transport": { "type": "stdio", "command": "x" } })
}

#[test]
fn each_key_of_a_server_holds_in_place_of_the_same_key_of_the_gateway_and_of_no_other() {
    let inherited: Vec<_> = OF_SERVER.keys.iter().filter(|key| !["", "none"].contains(&key.without)).collect();
    assert!(inherited.len() >= 3, "{} keys", inherited.len());
    let mut document = json!({ "servers": [server(0)] });
    for key in &inherited {
        set(&mut document, of_gateway(key).path, ends(of_gateway(key)).1);
    }
    let servers = inherited.iter().enumerate().map(|(at, key)| {
        let mut server = server(at + 1);
        set(&mut server, key.path, ends(*key).0);
        server
    });
    document["servers"] = std::iter::once(server(0)).chain(servers).collect();
    let snapshot = parse(&[named("f.yaml", document.to_string())]).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    let gateway = &snapshot.policy;
    let in_force = |backend: &Backend| {
        let InForce { drain, limits, dead } = backend.policy.over(gateway);
        Policy { drain, limits, dead, ..gateway.clone() }
    };
    assert_eq!(in_force(&snapshot.backends[0]), *gateway, "a server without keys of its own");
    for (key, backend) in inherited.iter().zip(&snapshot.backends[1..]) {
        let held = in_force(backend);
        for one in POLICY.keys.iter().filter(|one| !matches!(one.kind, Kind::Elsewhere(_))) {
            let own = one.path == of_gateway(key).path;
            let expected = if own { Some(ends(*key).0) } else { one.value(gateway) };
            assert_eq!(one.value(&held), expected, "{} where the server has {}", one.path, key.path);
        }
    }
}
