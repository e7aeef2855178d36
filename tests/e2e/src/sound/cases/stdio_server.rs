//! Programs on stdio that write what their script says, byte by byte, and keep what they were told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testkit::{Fault, Server};

use super::http_server::{greeting, tool};

/// Where in an output the id of the request stands.
pub(super) const ID: &str = "$ID$";

/// What a program writes when it is asked something.
#[derive(Clone, Debug)]
pub(super) struct StdioServer {
    /// Before it reads anything; commands of a shell.
    start: String,
    initialize: Vec<u8>,
    list: Vec<u8>,
    call: Vec<u8>,
}

/// As a server does that keeps to the protocol, with the tools `t` and `u`.
impl Default for StdioServer {
    fn default() -> Self {
        Self {
            start: String::new(),
            initialize: answer(&greeting(&json!({ "tools": {} }))),
            list: answer(&json!({ "tools": [tool("t"), tool("u")] })),
            call: answer(&json!({ "content": [{ "type": "text", "text": "fine" }] })),
        }
    }
}

/// A line with a result.
pub(super) fn answer(result: &Value) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "id": ID, "result": result }).to_string().replace(&format!("\"{ID}\""), ID))
}

pub(super) fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

impl StdioServer {
    pub(super) fn start(mut self, commands: &str) -> Self {
        commands.clone_into(&mut self.start);
        self
    }

    pub(super) fn initialize(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.initialize = bytes.into();
        self
    }

    pub(super) fn list(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.list = bytes.into();
        self
    }

    pub(super) fn call(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.call = bytes.into();
        self
    }

    /// Writes the script into the folder, and returns the entry.
    pub(super) fn entry(&self, id: &str, folder: &Path) -> Result<Server, Fault> {
        let script = folder.join(format!("{id}.sh"));
        fs::write(&script, self.script(&told(folder, id)))?;
        Ok(Server::stdio(id, "/bin/sh".as_ref(), &[&script.to_string_lossy()]))
    }

    fn script(&self, told: &Path) -> String {
        let (start, told) = (&self.start, told.display());
        let [initialize, list, call] = [&self.initialize, &self.list, &self.call].map(|bytes| printf(bytes));
        let ping = printf(&answer(&json!({})));
        format!(
            r#"{start}
while IFS= read -r line; do
printf '%s\n' "$line" >> '{told}'
id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
case $line in
*'"method":"initialize"'*) {initialize};;
*'"method":"tools/list"'*) {list};;
*'"method":"tools/call"'*) {call};;
*'"method":"ping"'*) {ping};;
esac
done
"#
        )
    }
}

/// The command that writes these bytes.
fn printf(bytes: &[u8]) -> String {
    let mut format = String::new();
    let mut arguments = String::new();
    let mut rest = bytes;
    while let Some((first, more)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(ID.as_bytes()) {
            format.push_str("%s");
            arguments.push_str(" \"$id\"");
            rest = after;
            continue;
        }
        match first {
            b'%' => format.push_str("%%"),
            b'\'' | b'\\' => format.push_str(&format!("\\{first:03o}")),
            b' '..=b'~' => format.push(char::from(*first)),
            _ => format.push_str(&format!("\\{first:03o}")),
        }
        rest = more;
    }
    format!("printf '{format}'{arguments}")
}

/// The requests with this method that the server of that id was sent.
pub(super) fn count(folder: &Path, id: &str, method: &str) -> usize {
    let text = fs::read_to_string(told(folder, id)).unwrap_or_default();
    let wanted = format!("\"method\":\"{method}\"");
    text.lines().filter(|line| line.contains(&wanted)).count()
}

fn told(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.told"))
}
