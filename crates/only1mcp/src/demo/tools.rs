//! The tools: what the list says of each, and what a call of it does, as values.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::kinds::calculate;

pub(super) type Arguments = Map<String, Value>;

/// The outcome of a call of a tool.
#[derive(Debug, PartialEq)]
pub(crate) enum Deed {
    /// Answers with this result at once.
    Done(Value),
    /// Answers after `steps` waits of `interval`.
    Takes { steps: u64, interval: Duration, result: Value },
    /// The process ends without an answer.
    Exit(u8),
    /// The list of tools changes first.
    Change { add: Option<String>, remove: Option<String> },
    /// The caller asks for the identity of the server.
    Identity,
    /// The tool does not take these arguments.
    Misused(String),
}

/// A tool as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    description: &'static str,
    schema: Value,
    /// Calling the tool twice is as good as once. Not set for `echo`, because tests count its calls.
    read_only: bool,
}

impl Tool {
    pub(super) fn new(name: &str, description: &'static str, properties: Value, required: &[&str]) -> Self {
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        Self { name: name.to_owned(), description, schema, read_only: false }
    }

    pub(super) fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    pub(crate) fn listed(&self) -> Value {
        let mut tool = json!({ "name": self.name, "description": self.description, "inputSchema": self.schema });
        if self.read_only {
            tool["annotations"] = json!({ "readOnlyHint": true, "idempotentHint": true });
        }
        tool
    }

    /// A tool that was added on request; it answers with its own name.
    pub(crate) fn added(name: &str) -> Self {
        let schema = json!({ "type": "object" });
        Self { name: name.to_owned(), description: "Added on request.", schema, read_only: true }
    }
}

pub(crate) fn built_in() -> Vec<Tool> {
    let tool = |name: &str, description, properties: Value, required: &[&str], read_only| Tool {
        read_only,
        ..Tool::new(name, description, properties, required)
    };
    let text = json!({ "type": "string" });
    let number = json!({ "type": "number" });
    let count = json!({ "type": "integer", "minimum": 0 });
    vec![
        tool("echo", "Answers with the text it was given.", json!({ "text": text }), &["text"], false),
        tool("add", "Adds two numbers.", json!({ "a": number, "b": number }), &["a", "b"], true),
        tool("sleep", "Answers after some time; reports progress if asked to.", json!({ "ms": count }), &["ms"], false),
        tool(
            "progress",
            "Takes a number of steps and reports each if asked to.",
            json!({ "steps": count, "interval_ms": count }),
            &["steps"],
            false,
        ),
        tool("fail", "Answers with an error result.", json!({ "message": text }), &[], false),
        tool("crash", "Ends the server process without an answer.", json!({ "code": count }), &[], false),
        tool(
            "tools",
            "Adds a tool to the list, or removes one, and says so to the clients.",
            json!({ "add": text, "remove": text }),
            &[],
            false,
        ),
        tool("env", "The value of one environment variable.", json!({ "name": text }), &["name"], true),
        tool("whoami", "Which process answers, and how many calls it has served.", json!({}), &[], true),
    ]
}

/// What calling the tool `name` of the list with `arguments` does.
pub(crate) fn call(name: &str, arguments: &Arguments, environment: &BTreeMap<String, String>) -> Deed {
    let deed = match name {
        "echo" => text(arguments, "text").map(done),
        "add" => calculate("add", arguments).map(done),
        "sleep" => sleep(arguments),
        "progress" => progress(arguments),
        "fail" => optional_text(arguments, "message")
            .map(|message| Deed::Done(result(&message.unwrap_or_else(|| "failed on request".to_owned()), true))),
        "crash" => optional_count(arguments, "code").and_then(|code| {
            u8::try_from(code.unwrap_or(1)).map(Deed::Exit).map_err(|_| "code: expected at most 255".to_owned())
        }),
        "tools" => change(arguments),
        "env" => text(arguments, "name").map(|name| {
            environment
                .get(&name)
                .map_or_else(|| Deed::Done(result(&format!("{name} is not set"), true)), |value| done(value.clone()))
        }),
        "whoami" => Ok(Deed::Identity),
        added => Ok(done(added.to_owned())),
    };
    deed.unwrap_or_else(Deed::Misused)
}

/// The line for this call in the file that counts executed calls.
pub(crate) fn count_line(name: &str, arguments: &Arguments) -> String {
    let tag = arguments.get("text").or_else(|| arguments.get("id"));
    let line = tag.map_or_else(|| name.to_owned(), |tag| tag.as_str().map_or_else(|| tag.to_string(), str::to_owned));
    line.replace(['\n', '\r'], " ")
}

pub(super) fn result(text: &str, is_error: bool) -> Value {
    super::message::text_content(text, is_error)
}

pub(super) fn done(text: String) -> Deed {
    Deed::Done(result(&text, false))
}

pub(super) fn number(arguments: &Arguments, key: &str) -> Result<f64, String> {
    arguments.get(key).and_then(Value::as_f64).ok_or_else(|| expected(key, "a number", arguments))
}

fn sleep(arguments: &Arguments) -> Result<Deed, String> {
    let ms = count(arguments, "ms")?;
    let steps = ms.clamp(1, 10);
    let interval = Duration::from_micros(ms.saturating_mul(1000) / steps);
    Ok(Deed::Takes { steps, interval, result: result(&format!("slept {ms} ms"), false) })
}

fn progress(arguments: &Arguments) -> Result<Deed, String> {
    let steps = count(arguments, "steps")?;
    let interval = Duration::from_millis(optional_count(arguments, "interval_ms")?.unwrap_or(100));
    Ok(Deed::Takes { steps, interval, result: result(&format!("{steps} steps done"), false) })
}

fn change(arguments: &Arguments) -> Result<Deed, String> {
    let (add, remove) = (optional_text(arguments, "add")?, optional_text(arguments, "remove")?);
    if add.is_none() && remove.is_none() {
        return Err("expected `add` or `remove` with the name of a tool".to_owned());
    }
    Ok(Deed::Change { add, remove })
}

pub(super) fn text(arguments: &Arguments, key: &str) -> Result<String, String> {
    optional_text(arguments, key)?.ok_or_else(|| expected(key, "a string", arguments))
}

pub(super) fn optional_text(arguments: &Arguments, key: &str) -> Result<Option<String>, String> {
    match arguments.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(expected(key, "a string", arguments)),
    }
}

pub(super) fn count(arguments: &Arguments, key: &str) -> Result<u64, String> {
    optional_count(arguments, key)?.ok_or_else(|| expected(key, COUNT, arguments))
}

const COUNT: &str = "a whole number from 0";

fn optional_count(arguments: &Arguments, key: &str) -> Result<Option<u64>, String> {
    match arguments.get(key) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| expected(key, COUNT, arguments)),
    }
}

pub(super) fn expected(key: &str, what: &str, arguments: &Arguments) -> String {
    let got = arguments.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
    format!("{key}: expected {what}, got {got}")
}
