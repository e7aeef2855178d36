//! The format as JSON Schema, so that editors can complete and check. It is made from the same tables as the reader.
//!
//! Draft 07, because it is the newest draft that all editor plug-ins for YAML and TOML know, and the format needs
//! nothing of a later draft. No `$ref`: some plug-ins resolve it against `$id`.
//!
//! The schema accepts everything that the reader accepts. It cannot express all refusals: that ids are unique, what the
//! bounds of a time with its unit are, whether a host name can exist. `only1mcp validate` checks these.

use serde_json::{Map, Value, json};

use crate::layer::Table;
use crate::policy::{OF_SERVER, POLICY};
use crate::server::{self, Field};

/// The JSON Schema of a configuration file.
pub fn schema() -> Value {
    let mut schema = sections(&POLICY);
    let servers = json!({ "required": ["servers"], "properties": { "servers": { "type": "array", "minItems": 1 } } });
    let of_root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:only1mcp:configuration:1.0",
        "title": "Configuration of only1mcp",
        "description": "Which MCP servers the gateway has, and how it behaves",
        "type": "object",
        "if": { "properties": { "allow_empty": { "const": true } }, "required": ["allow_empty"] },
        "else": servers,
        "examples": [{
            "servers": [{ "id": "files", "transport": { "type": "stdio", "command": "npx", "args": ["-y", "some-server"] } }],
        }],
    });
    merge(&mut schema, of_root);
    schema
}

/// The keys of a table, each in the sections of its path.
fn sections<T: Default + Clone + PartialEq>(table: &Table<T>) -> Value {
    let mut root = section();
    for key in table.keys {
        let mut fragment = key.schema();
        if let Some(default) = key.default() {
            fragment["default"] = default;
        }
        let mut place = &mut root;
        let mut path = String::new();
        let (outer, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        for part in outer.split('.').filter(|part| !part.is_empty()) {
            crate::names::descend(&mut path, part);
            place = &mut place["properties"][part];
            if place.is_null() {
                *place = section();
                let doc = table.sections.iter().find(|(section, _)| *section == path);
                place["description"] = doc.map(|(_, doc)| *doc).into();
            }
        }
        place["properties"][name] = fragment;
    }
    root
}

/// A section whose lines are all comments is an empty one.
fn section() -> Value {
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": {} })
}

/// One entry of `servers`.
pub(crate) fn server() -> Value {
    let mut server = object(&server::KEYS, json!({ "required": ["id", "transport"] }));
    merge(&mut server["properties"], sections(&OF_SERVER)["properties"].take());
    server
}

pub(crate) fn transport() -> Value {
    let kind = |name: &str, doc: &str| json!({ "type": { "const": name, "description": doc } });
    let mut stdio = object(&server::STDIO, json!({ "title": "stdio", "required": ["type", "command"] }));
    merge(&mut stdio["properties"], kind("stdio", "a program that is started"));
    let several = json!({ "required": ["urls"], "properties": { "urls": { "type": "array", "minItems": 1 } } });
    let reached = json!({ "title": "http", "required": ["type"], "anyOf": [{ "required": ["url"] }, several] });
    let mut http = object(&server::HTTP, reached);
    merge(&mut http["properties"], kind("http", "Streamable HTTP"));
    json!({ "type": "object", "oneOf": [stdio, http] })
}

fn object<T>(fields: &[Field<T>], more: Value) -> Value {
    let properties = fields.iter().map(|field| {
        let mut fragment = (field.schema)();
        let mut doc = format!("{}; {}", field.doc, field.kind);
        if !matches!(field.default, "required" | "–") && fragment.get("default").is_none() {
            doc.push_str(&format!("; without it: {}", field.default));
        }
        fragment["description"] = doc.into();
        (field.name.to_owned(), fragment)
    });
    let properties: Map<_, _> = properties.collect();
    let mut object = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    merge(&mut object, more);
    object
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// The texts that a transport may have. Patterns use only syntax that every engine has, and have one way to match.
pub(crate) mod texts {
    use super::{Value, json};

    /// References are of a known kind and closed; `$${` is a literal `${`.
    pub(crate) const TEMPLATE: &str = r"^([^$]|\$\$+\{|\$+([^${]|$)|\$\{(env:[^}]+|file:/[^}]*)\})*$";
    /// Absolute, with a host, without user and fragment; or begun by a reference, which may hold all of that.
    const URL: &str = concat!(
        r"^(\$\{[^}]*\}([^\s#$]|\$+[^\s#${]|\$\{[^}]*\})*\$*|",
        r"[Hh][Tt][Tt][Pp][Ss]?://([^\s/?#@$]|\$\{[^}]*\})+([/?]([^\s#$]|\$+[^\s#${]|\$\{[^}]*\})*\$*)?)$",
    );
    const HEADER_NAME: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
    const HEADER_VALUE: &str = r"^([\t -#%-~]|\$+[\t -#%-z|}~]|\$\$+\{|\$\{[^}]*\})*\$*$";

    /// A value that a program or a header gets as a text, whatever its type.
    pub(crate) fn loose() -> Value {
        json!({ "type": ["string", "number", "boolean"], "pattern": TEMPLATE })
    }

    pub(crate) fn command(example: &str) -> Value {
        json!({ "type": "string", "pattern": TEMPLATE, "allOf": [{ "pattern": "[^\\s]" }], "examples": [example] })
    }

    pub(crate) fn absolute(example: &str) -> Value {
        json!({ "type": "string", "pattern": TEMPLATE, "allOf": [{ "pattern": r"^(/|\$\{)" }], "examples": [example] })
    }

    pub(crate) fn url(example: &str) -> Value {
        json!({ "type": "string", "pattern": TEMPLATE, "allOf": [{ "pattern": URL }], "examples": [example] })
    }

    pub(crate) fn mapping(names: &Value, values: &Value, name: &str, value: &str) -> Value {
        json!({
            "type": ["object", "null"],
            "propertyNames": names,
            "additionalProperties": values,
            "maxProperties": crate::server::MAX_ENTRIES,
            "examples": [{ name: value }],
        })
    }

    pub(crate) fn headers() -> Value {
        let owned: Vec<String> = model::OWNED_HEADERS.iter().map(|name| any_case(name)).collect();
        let names = json!({ "pattern": HEADER_NAME, "not": { "pattern": format!("^({})$", owned.join("|")) } });
        let mut values = loose();
        values["allOf"] = json!([{ "pattern": HEADER_VALUE }]);
        mapping(&names, &values, "Authorization", "Bearer ${file:/run/secrets/search}")
    }

    fn any_case(name: &str) -> String {
        let either = |c: char| match c {
            'a'..='z' => format!("[{}{c}]", c.to_ascii_uppercase()),
            _ => c.to_string(),
        };
        name.chars().map(either).collect()
    }
}
