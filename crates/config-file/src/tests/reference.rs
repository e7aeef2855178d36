//! The tables of `docs/configuration.md` are those the reader goes by, and its examples are configurations.
//! `UPDATE_GOLDEN=1` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use model::units::{show_bytes, show_duration};

use super::named;
use crate::key::{Key, Kind};
use crate::layer::Table;
use crate::policy::{OF_SERVER, POLICY};
use crate::server::{Field, HTTP, KEYS, STDIO};
use crate::{parse, read, schema};

fn kind<T>(key: &Key<T>) -> String {
    match &key.kind {
        Kind::Elsewhere(_) if key.path == "servers" => "list".into(),
        Kind::Elsewhere(_) if key.path == "version" => "`\"1.0\"`".into(),
        Kind::Elsewhere(_) => "text".into(),
        Kind::Flag(_) => "true or false".into(),
        Kind::Count(_, range) => format!("{} to {}", range.start(), range.end()),
        Kind::Counted(_, _, range) => format!("{} to {}", range.start(), range.end()),
        Kind::Duration(_, range) => format!("{} to {}", show_duration(*range.start()), show_duration(*range.end())),
        Kind::Bytes(_, range) => format!("{} to {}", show_bytes(*range.start()), show_bytes(*range.end())),
        Kind::Permille(_) => "0 to 1, three decimals".into(),
        Kind::Text(_, most) => format!("text of at most {most} letters"),
        Kind::Labels(_) => "mapping of names to texts".into(),
        Kind::Names(..) => "list of names".into(),
        Kind::Path(_) => "path".into(),
        Kind::Instructions(_) => "`merge`, `off`, or a text".into(),
        Kind::Choice(words, _) => words.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

fn table<T: Default + Clone + PartialEq>(prefix: &str, table: &Table<T>) -> String {
    let row = |key: &Key<_>| {
        let default = match key.default() {
            Some(serde_json::Value::String(text)) if key.path != "version" => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
            None if key.without.is_empty() => "–".into(),
            None => key.without.into(),
        };
        format!("| `{prefix}{}` | {} | {default} | {} |\n", key.path, kind(key), key.doc)
    };
    table.keys.iter().map(row).collect()
}

fn fields<T>(prefix: &str, fields: &[Field<T>]) -> String {
    let row = |field: &Field<T>| {
        format!("| `{prefix}.{}` | {} | {} | {} |\n", field.name, field.kind, field.default, field.doc)
    };
    fields.iter().map(row).collect()
}

fn transport<T>(name: &str, keys: &[Field<T>]) -> String {
    format!("| `transport.type` | `{name}` | required | |\n{}", fields("transport", keys))
}

/// The text with the rows between the marks of each table made anew.
fn rewritten(text: &str) -> String {
    let tables = [
        ("gateway", table("", &POLICY)),
        ("server", fields("servers[]", &KEYS) + &table("servers[].", &OF_SERVER)),
        ("stdio", transport("stdio", &STDIO)),
        ("http", transport("http", &HTTP)),
    ];
    let mut text = text.to_owned();
    for (name, rows) in tables {
        let (begin, end) = (format!("<!-- keys: {name} -->\n"), "<!-- end of keys -->");
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no table {name}"));
        let (_, after) = rest.split_once(end).unwrap();
        let mut table = "\n| key | type | default | effect |\n|---|---|---|---|\n".to_owned();
        writeln!(table, "{rows}").unwrap();
        text = format!("{before}{begin}{table}{end}{after}");
    }
    text
}

#[test]
fn the_reference_is_what_the_reader_goes_by() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = fs::read_to_string(docs.join("configuration.md")).unwrap();
    let tables = [("configuration.md", rewritten(&text)), ("only1mcp.schema.json", format!("{:#}\n", schema()))];
    for (name, new) in tables {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(docs.join(name), &new).unwrap();
        }
        let there = fs::read_to_string(docs.join(name)).unwrap_or_default();
        assert!(there == new, "docs/{name} is not what the tables say; UPDATE_GOLDEN=1 writes it anew");
    }
    for (language, name) in [("yaml", "f.yaml"), ("toml", "f.toml")] {
        let fence = format!("```{language}\n");
        let blocks = text.split(&fence).skip(1);
        let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect();
        assert!(!blocks.is_empty(), "no example in {language}");
        for block in blocks {
            parse(&[named(name, block.to_owned())]).unwrap_or_else(|wrong| panic!("{block}\n{wrong:#?}"));
        }
    }
}

/// Every example is a configuration, and its twin in the other format the same one.
#[test]
fn examples_are_configurations_and_twins_are_equal() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let digest = |path: &Path| {
            let name = path.display().to_string();
            parse(&[named(&name, read(path).unwrap())]).unwrap_or_else(|wrong| panic!("{wrong:#?}")).digest()
        };
        assert_eq!(digest(&path), digest(&path.with_extension("toml")), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "{seen} examples");
}

/// A key that documents name is one that can be written.
#[test]
fn keys_in_documents_are_keys() {
    let keys = |prefix: &str, paths: Vec<&str>| paths.iter().map(|path| format!("{prefix}{path}")).collect::<Vec<_>>();
    let of_server = OF_SERVER.keys.iter().map(|key| key.path).chain(KEYS.iter().map(|key| key.name));
    let transport = STDIO.iter().map(|key| key.name).chain(HTTP.iter().map(|key| key.name)).chain(["type"]);
    let known = [
        keys("", POLICY.keys.iter().map(|key| key.path).chain(POLICY.sections.iter().map(|one| one.0)).collect()),
        keys("servers[].", of_server.chain(OF_SERVER.sections.iter().map(|one| one.0)).collect()),
        keys("transport.", transport.collect()),
    ]
    .concat();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let documents = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for document in documents.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(&document).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split(':').next().unwrap_or_default();
            let section = path.split('.').next().unwrap_or_default();
            let of_ours =
                ["servers[]", "transport"].contains(&section) || POLICY.sections.iter().any(|one| one.0 == section);
            if of_ours && path.contains('.') && path.chars().all(|c| c.is_ascii_lowercase() || "_.[]".contains(c)) {
                assert!(known.iter().any(|key| key == path), "{}: `{quoted}` is no key", document.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen} keys");
}
