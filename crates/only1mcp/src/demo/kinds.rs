//! Demo servers with a purpose: one calculates, one tells the time, one keeps notes. Without a kind, a demo server has
//! the tools of [`super::tools`], which are for tests and experiments.

use std::{collections::BTreeMap, time::Duration};

use clap::ValueEnum;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::tools::{Arguments, Deed, Tool, count, done, expected, number, optional_text, result, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Calculator,
    Clock,
    Notes,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calculator => "calculator",
            Self::Clock => "clock",
            Self::Notes => "notes",
        }
    }
}

/// A server of a kind, with what it keeps.
#[derive(Debug)]
pub(crate) struct Special {
    kind: Kind,
    now: fn() -> Timestamp,
    /// By number; numbers are not used again.
    notes: BTreeMap<u64, String>,
    last: u64,
}

/// So that a client cannot fill the memory.
const NOTES_MAX: usize = 1000;
const NOTE_MAX: usize = 10_000;
const WAIT_MAX: u64 = 3600;

impl Special {
    pub(crate) fn new(kind: Kind, now: fn() -> Timestamp) -> Self {
        Self { kind, now, notes: BTreeMap::new(), last: 0 }
    }

    pub(crate) fn tools(&self) -> Vec<Tool> {
        let string = |what: &str| json!({ "type": "string", "description": what });
        let zone = string("a name of the IANA time zone database, such as Europe/Berlin");
        match self.kind {
            Kind::Calculator => {
                let number = json!({ "type": "number" });
                let pair = json!({ "a": number, "b": number });
                let tool = |name, description| Tool::new(name, description, pair.clone(), &["a", "b"]).read_only();
                vec![
                    tool("add", "Adds two numbers."),
                    tool("subtract", "Subtracts `b` from `a`."),
                    tool("multiply", "Multiplies two numbers."),
                    tool("divide", "Divides `a` by `b`."),
                ]
            }
            Kind::Clock => {
                let convert = json!({ "time": string("RFC 3339, such as 2026-01-31T12:00:00Z"), "zone": zone });
                let seconds = json!({ "type": "integer", "minimum": 0, "maximum": WAIT_MAX });
                vec![
                    Tool::new("now", "The time now, in UTC or in a zone.", json!({ "zone": zone }), &[]),
                    Tool::new("convert", "A time, in another zone.", convert, &["time", "zone"]).read_only(),
                    Tool::new(
                        "wait",
                        "Answers after some seconds; reports progress if asked to.",
                        json!({ "seconds": seconds }),
                        &["seconds"],
                    ),
                ]
            }
            Kind::Notes => {
                let text = json!({ "text": string("what to write down, or to look for") });
                let number = json!({ "number": { "type": "integer", "minimum": 1 } });
                vec![
                    Tool::new("add", "Writes down a note.", text.clone(), &["text"]),
                    Tool::new("list", "All notes, with their numbers.", json!({}), &[]).read_only(),
                    Tool::new("search", "The notes that contain a text.", text, &["text"]).read_only(),
                    Tool::new("remove", "Throws a note away.", number, &["number"]),
                ]
            }
        }
    }

    pub(crate) fn call(&mut self, name: &str, arguments: &Arguments) -> Deed {
        let deed = match self.kind {
            Kind::Calculator => calculate(name, arguments).map(done),
            Kind::Clock if name == "wait" => wait(arguments),
            Kind::Clock => self.tell(name, arguments).map(done),
            Kind::Notes => self.note(name, arguments).map(done),
        };
        deed.unwrap_or_else(Deed::Misused)
    }

    fn tell(&self, name: &str, arguments: &Arguments) -> Result<String, String> {
        let time = match name {
            "convert" => {
                let time = text(arguments, "time")?;
                time.parse().map_err(|_| expected("time", "a time such as 2026-01-31T12:00:00Z", arguments))?
            }
            _ => (self.now)(),
        };
        let zone = optional_text(arguments, "zone")?.unwrap_or_else(|| "UTC".to_owned());
        let zone = TimeZone::get(&zone).map_err(|_| {
            expected("zone", "a time zone of this machine (/usr/share/zoneinfo), such as Europe/Berlin", arguments)
        })?;
        Ok(time.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z %A").to_string())
    }

    fn note(&mut self, name: &str, arguments: &Arguments) -> Result<String, String> {
        match name {
            "add" => {
                let text = text(arguments, "text")?;
                if text.len() > NOTE_MAX || self.notes.len() == NOTES_MAX {
                    return Err(format!("there is room for {NOTES_MAX} notes of {NOTE_MAX} bytes"));
                }
                self.last += 1;
                self.notes.insert(self.last, text);
                Ok(format!("note {} is written down", self.last))
            }
            "remove" => {
                let removed = count(arguments, "number")?;
                let removed = self.notes.remove(&removed).map(|_| format!("note {removed} is thrown away"));
                removed.ok_or_else(|| expected("number", "that of a note", arguments))
            }
            _ => {
                let wanted = if name == "search" { text(arguments, "text")? } else { String::new() };
                let found = self.notes.iter().filter(|(_, text)| text.contains(&wanted));
                let lines: Vec<_> = found.map(|(number, text)| format!("{number}: {text}")).collect();
                Ok(if lines.is_empty() { "no notes".to_owned() } else { lines.join("\n") })
            }
        }
    }
}

/// Whole numbers exactly, where they fit.
pub(super) fn calculate(name: &str, arguments: &Arguments) -> Result<String, String> {
    let integer = |key| arguments.get(key).and_then(Value::as_i64);
    if let (Some(a), Some(b)) = (integer("a"), integer("b")) {
        let exact = match name {
            "add" => a.checked_add(b),
            "subtract" => a.checked_sub(b),
            "multiply" => a.checked_mul(b),
            _ => a.checked_rem(b).filter(|rest| *rest == 0).and_then(|_| a.checked_div(b)),
        };
        if let Some(exact) = exact {
            return Ok(exact.to_string());
        }
    }
    let (a, b) = (number(arguments, "a")?, number(arguments, "b")?);
    match name {
        "add" => Ok((a + b).to_string()),
        "subtract" => Ok((a - b).to_string()),
        "multiply" => Ok((a * b).to_string()),
        _ if b == 0.0 => Err(expected("b", "a number other than 0", arguments)),
        _ => Ok((a / b).to_string()),
    }
}

fn wait(arguments: &Arguments) -> Result<Deed, String> {
    let seconds = count(arguments, "seconds")?;
    if seconds > WAIT_MAX {
        return Err(expected("seconds", "at most an hour", arguments));
    }
    let result = result(&format!("{seconds} s have passed"), false);
    Ok(Deed::Takes { steps: seconds, interval: Duration::from_secs(1), result })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(server: &mut Special, name: &str, arguments: &Value) -> String {
        assert!(server.tools().iter().any(|tool| tool.name == name), "{name} is listed");
        match server.call(name, arguments.as_object().unwrap()) {
            Deed::Done(result) | Deed::Takes { result, .. } => {
                result["content"][0]["text"].as_str().unwrap().to_owned()
            }
            Deed::Misused(text) => text,
            other @ (Deed::Exit(_) | Deed::Change { .. } | Deed::Identity) => panic!("{other:?}"),
        }
    }

    fn check(kind: Kind, calls: &[(&str, Value, &str)]) {
        let mut server = Special::new(kind, || "2026-06-30T23:30:00Z".parse().unwrap());
        for (name, arguments, expected) in calls {
            assert_eq!(said(&mut server, name, arguments), *expected, "{name} {arguments}");
        }
    }

    #[test]
    fn a_calculator_calculates() {
        check(
            Kind::Calculator,
            &[
                ("add", json!({ "a": 40, "b": 2 }), "42"),
                ("subtract", json!({ "a": 1, "b": 2.5 }), "-1.5"),
                ("multiply", json!({ "a": i64::MAX, "b": 2 }), "18446744073709552000"),
                ("divide", json!({ "a": 84, "b": 2 }), "42"),
                ("divide", json!({ "a": 1, "b": 4 }), "0.25"),
                ("divide", json!({ "a": 1, "b": 0 }), "b: expected a number other than 0, got 0"),
                ("add", json!({ "a": "4" }), "a: expected a number, got \"4\""),
            ],
        );
    }

    #[test]
    fn a_clock_tells_the_time() {
        check(
            Kind::Clock,
            &[
                ("now", json!({}), "2026-06-30T23:30:00+00:00 Tuesday"),
                (
                    "convert",
                    json!({ "time": "2026-01-31T12:00:00+02:00", "zone": "UTC" }),
                    "2026-01-31T10:00:00+00:00 Saturday",
                ),
                (
                    "convert",
                    json!({ "time": "noon", "zone": "UTC" }),
                    "time: expected a time such as 2026-01-31T12:00:00Z, got \"noon\"",
                ),
                (
                    "now",
                    json!({ "zone": "Nowhere/At_all" }),
                    "zone: expected a time zone of this machine (/usr/share/zoneinfo), such as Europe/Berlin, got \"Nowhere/At_all\"",
                ),
                ("wait", json!({ "seconds": 2 }), "2 s have passed"),
                ("wait", json!({ "seconds": 3601 }), "seconds: expected at most an hour, got 3601"),
            ],
        );
    }

    #[test]
    fn notes_are_kept() {
        check(
            Kind::Notes,
            &[
                ("list", json!({}), "no notes"),
                ("add", json!({ "text": "milk" }), "note 1 is written down"),
                ("add", json!({ "text": "bread" }), "note 2 is written down"),
                ("search", json!({ "text": "rea" }), "2: bread"),
                ("remove", json!({ "number": 1 }), "note 1 is thrown away"),
                ("remove", json!({ "number": 1 }), "number: expected that of a note, got 1"),
                ("add", json!({ "text": "eggs" }), "note 3 is written down"),
                ("list", json!({}), "2: bread\n3: eggs"),
                ("add", json!({ "text": "x".repeat(NOTE_MAX + 1) }), "there is room for 1000 notes of 10000 bytes"),
            ],
        );
    }
}
