//! A client on third-party code that knows no service of ours: it finds methods by reflection and calls them.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use testkit::{Fault, binaries, fault};

use crate::commands;

/// The program in `tests/fixtures/foreign/reflect.py`, running.
#[derive(Debug)]
pub(super) struct Reflector {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

/// How a failed call ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) reason: String,
    /// Names of the other details.
    pub(super) details: Vec<String>,
    pub(super) message: String,
}

impl Reflector {
    /// Installs what it needs, unless that was done before.
    pub(super) fn start(logs: &Path) -> Result<Self, Fault> {
        commands::run("foreign-install", &mut Command::new(binaries::checkout().join("scripts/foreign")))?;
        let folder = binaries::checkout().join("target/foreign");
        let mut command = Command::new(folder.join("venv/bin/python"));
        command.arg(folder.join("reflect.py")).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(std::fs::File::create(logs.join("reflect.err"))?);
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (say, hear) = pipes.ok_or_else(|| fault("the client has no pipes"))?;
        Ok(Self { child, say, hear: BufReader::new(hear) })
    }

    fn ask(&mut self, command: &Value) -> Result<Value, Fault> {
        writeln!(self.say, "{command}")?;
        let mut line = String::new();
        if self.hear.read_line(&mut line)? == 0 {
            return Err(fault(format!("the client ended at {command}; its stderr is in reflect.err of the logs")));
        }
        serde_json::from_str(&line).map_err(|error| Fault::from(error).during(line))
    }

    pub(super) fn connect(&mut self, name: &str, address: &str, token: Option<&str>) -> Result<(), Fault> {
        self.ask(&json!({ "do": "connect", "name": name, "address": address, "token": token })).map(drop)
    }

    /// `pkg.Service/Method` of all services of ours.
    pub(super) fn methods(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        let listed = self.ask(&json!({ "do": "list", "name": name }))?;
        let services = listed["services"].as_object().ok_or_else(|| fault(format!("no services: {listed}")))?;
        let ours = services.iter().filter(|(service, _)| service.starts_with("only1mcp."));
        let methods = ours.flat_map(|(service, methods)| {
            let names = methods.as_object().into_iter().flat_map(|methods| methods.keys());
            names.map(move |method| format!("{service}/{method}"))
        });
        Ok(methods.collect())
    }

    /// `more` is `{"request": …}`, with what else the program takes.
    pub(super) fn call(&mut self, name: &str, method: &str, more: Value) -> Result<Result<Value, Refusal>, Fault> {
        let ended = self.ask(&command("call", name, method, more))?;
        ended_as(&ended)
    }

    pub(super) fn start_call(&mut self, handle: &str, name: &str, method: &str, more: Value) -> Result<(), Fault> {
        let mut command = command("start", name, method, more);
        command["as"] = handle.into();
        self.ask(&command).map(drop)
    }

    pub(super) fn finish(&mut self, handle: &str) -> Result<Result<Value, Refusal>, Fault> {
        let ended = self.ask(&json!({ "do": "finish", "as": handle }))?;
        ended_as(&ended)
    }

    /// So many at once; those that did not end well.
    pub(super) fn many(&mut self, count: u64, name: &str, method: &str, more: Value) -> Result<Vec<Refusal>, Fault> {
        let mut command = command("many", name, method, more);
        command["count"] = count.into();
        let ended = self.ask(&command)?;
        let ended = ended["ended"].as_array().ok_or_else(|| fault(format!("no ends: {ended}")))?;
        let ended = ended.iter().map(ended_as).collect::<Result<Vec<_>, _>>()?;
        Ok(ended.into_iter().filter_map(Result::err).collect())
    }

    /// So many bytes of questions on one stream of reflection.
    pub(super) fn flood(&mut self, name: &str, bytes: u64) -> Result<Result<Value, Refusal>, Fault> {
        let ended = self.ask(&json!({ "do": "flood", "name": name, "bytes": bytes }))?;
        ended_as(&ended)
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        // The child may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(what: &str, name: &str, method: &str, mut more: Value) -> Value {
    if more["request"].is_null() {
        more["request"] = json!({});
    }
    let parts = [("do", what), ("name", name), ("method", method)];
    for (key, value) in parts {
        more[key] = value.into();
    }
    more
}

/// The one answer, or the list of a stream's.
fn ended_as(ended: &Value) -> Result<Result<Value, Refusal>, Fault> {
    if let Some(answers) = ended["answers"].as_array() {
        return Ok(Ok(if let [only] = answers.as_slice() { only.clone() } else { json!(answers) }));
    }
    let error = &ended["error"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if error.is_null() {
        return Err(fault(format!("neither an answer nor an error: {ended}")));
    }
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let named = |one: &Value| text(&one["@type"]).rsplit('.').next().unwrap_or_default().to_owned();
    let reason = details.iter().find(|one| named(one) == "ErrorInfo").map(|info| text(&info["reason"]));
    let mut names: Vec<String> = details.iter().map(named).filter(|name| name != "ErrorInfo").collect();
    names.sort_unstable();
    Ok(Err(Refusal {
        code: text(&error["code"]),
        reason: reason.unwrap_or_default(),
        details: names,
        message: text(&error["message"]),
    }))
}
