//! What is said of servers to people and to clients: descriptions, labels, instructions.

use std::collections::BTreeMap;

use model::Instructions;
use serde_json::{Value as Json, json};

use crate::names::show;
use crate::tree::{Node, Value};
use crate::values::{self, Wrong, is_null};

/// Of one server.
const LABELS_MAX: usize = 32;
/// In letters.
const LABEL_MAX: usize = 256;
/// Names of labels, as other systems have them, so that they can be taken from there.
const LABEL_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$";
/// Bytes of all instructions that a client gets.
const INSTRUCTIONS_MAX: usize = 16 << 10;

fn wrong(message: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), suggestion: None }
}

pub(crate) fn text(node: &Node, most: usize) -> Result<String, Wrong> {
    let text = values::text(node)?;
    match text.chars().count() {
        0 => Err(wrong("the text is empty; leave the key out for none")),
        letters if letters > most => Err(wrong(format!("the text has {letters} letters; expected at most {most}"))),
        _ => Ok(text),
    }
}

pub(crate) fn labels(node: &Node) -> Result<BTreeMap<String, String>, Wrong> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ if is_null(node) => &[],
        Value::Scalar { .. } | Value::List(_) => return Err(wrong("expected a mapping of names to texts")),
    };
    if entries.len() > LABELS_MAX {
        return Err(wrong(format!("{} labels; expected at most {LABELS_MAX}", entries.len())));
    }
    let mut labels = BTreeMap::new();
    for entry in entries {
        let name = show(&entry.key);
        if !is_label_name(&entry.key) {
            let expected = "1 to 63 of `A-Z a-z 0-9 _ - . /`, the first a letter or digit";
            return Err(wrong(format!("`{name}` is no name of a label; expected {expected}")));
        }
        let of_it = |wrong: Wrong| Wrong { message: format!("label `{name}`: {}", wrong.message), ..wrong };
        let value = values::loose_text(&entry.value).map_err(of_it)?;
        if value.chars().count() > LABEL_MAX {
            return Err(of_it(wrong(format!("expected at most {LABEL_MAX} letters"))));
        }
        labels.insert(entry.key.clone(), value);
    }
    Ok(labels)
}

/// See [`LABEL_NAME`].
fn is_label_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte))
}

pub(crate) fn schema_of_labels() -> Json {
    json!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": LABEL_NAME },
        "additionalProperties": { "type": ["string", "number", "boolean"], "maxLength": LABEL_MAX },
        "maxProperties": LABELS_MAX,
        "examples": [{ "team": "search" }],
    })
}

/// One word is no text for clients: it is another word than those that are known.
pub(crate) fn instructions(node: &Node) -> Result<Instructions, Wrong> {
    let text = values::text(node)?;
    let said = text.trim();
    if said.contains(|letter: char| letter.is_ascii_whitespace()) {
        return if said.len() <= INSTRUCTIONS_MAX {
            Ok(Instructions::Text(text))
        } else {
            Err(wrong(format!("the text has {} bytes; expected at most {INSTRUCTIONS_MAX}", said.len())))
        };
    }
    match values::choice(node, &["merge", "off"], &[]) {
        Ok("merge") => Ok(Instructions::Merge),
        Ok(_) => Ok(Instructions::Off),
        Err(wrong) => Err(Wrong { message: format!("{}, or a text of several words", wrong.message), ..wrong }),
    }
}

pub(crate) fn instructions_as_written(instructions: &Instructions) -> &str {
    match instructions {
        Instructions::Merge => "merge",
        Instructions::Off => "off",
        Instructions::Text(text) => text,
    }
}

pub(crate) fn schema_of_instructions() -> Json {
    let text = json!({ "pattern": "[^\\s]\\s+[^\\s]" });
    json!({
        "type": "string",
        "anyOf": [{ "enum": ["merge", "off"] }, text],
        "examples": ["off", "Ask before you write to any of these servers."],
    })
}
