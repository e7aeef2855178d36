//! The schema says what the reader does: random documents, whole and with something wrong, are put to both.

use jsonschema::Validator;
use model::{Owner, Template};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use super::named;
use crate::policy::{OF_SERVER, POLICY};
use crate::{Format, Source, parse, schema, spell, votes, yaml};

fn validator() -> Validator {
    jsonschema::draft7::new(&schema()).unwrap()
}

fn parsed(document: &Value) -> Result<model::Snapshot, Vec<model::Violation>> {
    parse(&[named("f.yaml", document.to_string())])
}

fn base() -> Value {
    json!({ "servers": [
        { "id": "files", "transport": { "type": "stdio", "command": "npx" } },
        { "id": "search", "transport": { "type": "http", "url": "https://example.org/mcp" } },
    ] })
}

/// Puts a value at a dotted path.
fn with(mut document: Value, path: &str, value: Value) -> Value {
    let place = path.split('.').fold(&mut document, |place, part| match part.parse::<usize>() {
        Ok(index) => &mut place[index],
        Err(_) => &mut place[part],
    });
    *place = value;
    document
}

/// Every property of an object of the schema that is no object itself, by its path.
fn leaves(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, property) in schema["properties"].as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match property.get("properties") {
            Some(_) => leaves(property, &path, found),
            None => found.push((path, property.clone())),
        }
    }
}

/// All of the file: those of the gateway, of a server of each transport.
fn all() -> Vec<(String, Value)> {
    let schema = schema();
    let mut found = Vec::new();
    leaves(&schema, "", &mut found);
    let server = &schema["properties"]["servers"]["items"];
    leaves(server, "servers.0", &mut found);
    // Only a server over HTTP has paths.
    let path = found.iter_mut().find(|(path, _)| path == "servers.0.health.path");
    path.expect("it is a key").0 = "servers.1.health.path".into();
    found.retain(|(path, _)| path != "servers" && path != "servers.0.transport");
    for (i, transport) in server["properties"]["transport"]["oneOf"].as_array().unwrap().iter().enumerate() {
        leaves(transport, &format!("servers.{i}.transport"), &mut found);
    }
    found
}

#[test]
fn the_schema_is_one_and_every_key_says_what_it_is_for() {
    assert!(jsonschema::draft7::meta::is_valid(&schema()));
    let mut described = all();
    let sections = POLICY.sections;
    let mut in_schema = Vec::new();
    fn objects(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if property.get("properties").is_some() {
                found.push((path.clone(), property.clone()));
            }
            objects(property, &path, found);
        }
    }
    objects(&schema(), "", &mut in_schema);
    for (path, _) in &in_schema {
        assert!(sections.iter().any(|(section, _)| section == path), "{path}");
    }
    described.extend(in_schema);
    for (path, property) in described {
        assert!(property["description"].as_str().is_some_and(|text| text.len() > 5), "{path} has no description");
    }
}

#[test]
fn keys_of_the_reader_and_of_the_schema_are_the_same() {
    let validator = validator();
    let paths: Vec<String> = all().into_iter().map(|(path, _)| path).collect();
    for key in POLICY.keys {
        assert!(
            key.path == "servers" || paths.iter().any(|path| path == key.path),
            "{} is not in the schema",
            key.path
        );
    }
    // The reader reports each key that it does not know.
    for path in &paths {
        let violations = parsed(&with(base(), path, json!([[]]))).err().unwrap_or_default();
        assert!(violations.iter().all(|violation| violation.message != "unknown key"), "{path}: {violations:?}");
    }
    // Nor are there keys and words of later releases.
    let of_server = OF_SERVER.not_yet.iter().map(|path| format!("servers.0.{path}"));
    for path in POLICY.not_yet.iter().map(|path| (*path).to_owned()).chain(of_server) {
        assert!(!validator.is_valid(&with(base(), &path, json!({}))), "{path} is in the schema");
    }
    for (path, word) in [("naming", "shared"), ("servers.1.transport.type", "sse")] {
        assert!(!validator.is_valid(&with(base(), path, json!(word))), "{path} may be {word}");
    }
}

#[test]
fn defaults_of_the_schema_are_those_of_the_reader() {
    let digest = parsed(&base()).unwrap().digest();
    let mut checked = 0;
    for (path, property) in all() {
        let Some(default) = property.get("default") else { continue };
        let written = with(base(), &path, default.clone());
        assert_eq!(parsed(&written).map(|snapshot| snapshot.digest()), Ok(digest), "{path}: {default}");
        checked += 1;
    }
    // All but lists, mappings, texts that have none, and what holds without a key that may be another thing.
    assert_eq!(checked, 45);
}

#[test]
fn bounds_of_the_schema_are_those_of_the_reader() {
    let validator = validator();
    for (path, property) in all() {
        for (bound, outside) in [("minimum", -1), ("maximum", 1)] {
            let Some(number) = property.get(bound).and_then(Value::as_i64) else { continue };
            let judge = |number: i64| {
                let document = with(base(), &path, number.into());
                (validator.is_valid(&document), parsed(&document).is_ok())
            };
            assert_eq!(judge(number), (true, true), "{path}: {number}");
            assert_eq!(judge(number + outside), (false, false), "{path}: {number} and more");
        }
    }
}

/// A value for a property: one of its examples, words or bounds, as the schema has them.
fn good(property: &Value, choice: Index) -> Option<Value> {
    let mut values: Vec<Value> =
        ["enum", "examples"].iter().filter_map(|list| property[list].as_array()).flatten().cloned().collect();
    values.extend(["const", "default", "minimum", "maximum"].iter().filter_map(|name| property.get(*name).cloned()));
    if property["type"] == "boolean" {
        values.extend([true.into(), false.into()]);
    }
    (!values.is_empty()).then(|| choice.get(&values).clone())
}

/// A configuration with some keys set, each to a value it may have.
fn document() -> impl Strategy<Value = Value> {
    let all = all();
    vec(any::<(bool, Index)>(), all.len()).prop_map(move |choices| {
        let mut document = base();
        for ((path, property), (is_set, choice)) in all.iter().zip(choices) {
            if let Some(value) = good(property, choice).filter(|_| is_set && !path.ends_with("$schema")) {
                document = with(document, path, value);
            }
        }
        without_votes(document)
    })
}

/// Keys that need votes are left out where there are no votes.
fn without_votes(mut document: Value) -> Value {
    if document["hot_reload"]["two_phase_commit"]["enabled"] == false {
        votes::leave_out(&mut document);
        for server in document["servers"].as_array_mut().unwrap() {
            server.as_object_mut().unwrap().remove("critical");
        }
    }
    document
}

/// Where something may be changed: the path of every value of a document.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.replace('.', "_"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (part, value) in below {
        let path = if path.is_empty() { part } else { format!("{path}.{part}") };
        places(value, &path, found);
        found.push(path);
    }
}

fn strange() -> impl Strategy<Value = Value> {
    const TEXTS: [&str; 22] = [
        "",
        " ",
        "x",
        "${",
        "${env:}",
        "${env:A}",
        "$${a}",
        "a$",
        "/abs",
        "http://",
        "http://h/",
        "http://u@h/",
        "5s",
        "1x",
        "4MiB",
        "4 MiB",
        "stdio",
        "http",
        "a b",
        "é",
        "1.0",
        "none",
    ];
    prop_oneof![
        select(&TEXTS[..]).prop_map(Value::from),
        select(std::vec![-1, 0, 1, 8, 1024, i64::from(u32::MAX), i64::MAX]).prop_map(Value::from),
        select(std::vec![0.5, 1.5, -0.25]).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["a"])),
        Just(json!({ "a": "b" })),
        Just(json!({ "unknown": 1 })),
    ]
}

/// The document as TOML, tables in one line or under headings; `None` where there is a null.
fn toml(document: &Value, inline: bool) -> Option<String> {
    let mut text = String::new();
    table(document.as_object()?, "", inline, &mut text)?;
    Some(text)
}

fn table(entries: &Map<String, Value>, path: &str, inline: bool, text: &mut String) -> Option<()> {
    let is_tables =
        |value: &Value| value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object));
    let (headed, plain): (Vec<_>, Vec<_>) =
        entries.iter().partition(|(_, value)| !inline && (value.is_object() || is_tables(value)));
    for (name, value) in plain {
        text.push_str(&format!("{} = {}\n", quoted(name), in_line(value)?));
    }
    for (name, value) in headed {
        let path = if path.is_empty() { quoted(name) } else { format!("{path}.{}", quoted(name)) };
        let (tables, heading) = match value.as_array() {
            Some(items) => (items.as_slice(), format!("[[{path}]]\n")),
            None => (std::slice::from_ref(value), format!("[{path}]\n")),
        };
        for one in tables {
            text.push_str(&heading);
            table(one.as_object()?, &path, inline, text)?;
        }
    }
    Some(())
}

fn in_line(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Array(items) => format!("[{}]", items.iter().map(in_line).collect::<Option<Vec<_>>>()?.join(", ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| Some(format!("{} = {}", quoted(name), in_line(value)?)));
            format!("{{ {} }}", entries.collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    })
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

proptest! {
    #[test]
    fn good_documents_are_good_for_both(document in document()) {
        let violations: Vec<_> = validator().iter_errors(&document).map(|error| error.to_string()).collect();
        prop_assert!(violations.is_empty(), "{document:#}\n{violations:#?}");
        prop_assert!(parsed(&document).is_ok(), "{document:#}\n{:#?}", parsed(&document));
    }

    /// An editor never marks what the gateway takes.
    #[test]
    fn what_the_reader_takes_the_schema_takes(document in document(), edits in vec((any::<Index>(), strange()), 1..3)) {
        let mut edited = document;
        for (at, value) in edits {
            let mut found = Vec::new();
            places(&edited, "", &mut found);
            edited = with(edited, at.get::<String>(&found), value);
        }
        if parsed(&edited).is_ok() {
            let violations: Vec<_> = validator().iter_errors(&edited).map(|error| error.to_string()).collect();
            prop_assert!(violations.is_empty(), "{edited:#}\n{violations:#?}");
        }
    }

    /// A configuration as it is shown is the same configuration.
    #[test]
    fn a_snapshot_that_is_spelled_is_the_same_again(document in document()) {
        let snapshot = parsed(&document).unwrap();
        let spelled = spell(&snapshot);
        let written = yaml(&snapshot);
        let source = Source { owner: Owner::file(), name: "f".into(), format: Format::Yaml, text: written.clone() };
        let again = parse(&[source]);
        prop_assert_eq!(again.as_ref(), Ok(&snapshot), "{}", written);
        prop_assert_eq!(parsed(&spelled), Ok(snapshot), "{:#}", spelled);
    }

    /// Whether good or bad, in whatever layout.
    #[test]
    fn twins_are_equal(document in document(), at in any::<Index>(), value in proptest::option::of(strange()), inline in any::<bool>()) {
        let mut document = document;
        if let Some(value) = value {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            document = with(document, at.get::<String>(&found), value);
        }
        let Some(text) = toml(&document, inline) else { return Ok(()) };
        match (parsed(&document), parse(&[named("f.toml", text.clone())])) {
            (Ok(yaml), Ok(toml)) => prop_assert_eq!(yaml.digest(), toml.digest(), "{}", text),
            (Err(yaml), Err(toml)) => {
                let said = |violations: Vec<model::Violation>| {
                    let mut said: Vec<_> = violations.into_iter().map(|one| (one.path, one.suggestion)).collect();
                    said.sort();
                    said
                };
                prop_assert_eq!(said(yaml), said(toml), "{}", text);
            }
            (yaml, toml) => prop_assert!(false, "{text}\n{yaml:?}\n{toml:?}"),
        }
    }

    #[test]
    fn the_pattern_of_references_is_what_the_reader_takes(text in "[$a]{0,3}(\\$\\{(env|file|cmd)?:?[/a]{0,2}\\}?|\\$|\\{|\\}){0,4}") {
        let pattern = regex_of(schema::texts::TEMPLATE);
        prop_assert_eq!(pattern.is_valid(&json!(text)), Template::parse(&text).is_ok(), "{}", text);
    }
}

fn regex_of(pattern: &str) -> Validator {
    jsonschema::draft7::new(&json!({ "pattern": pattern })).unwrap()
}
