//! The program on stdio that answers in every way, and keeps each call it has read.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::{Fault, Scratch, Server, stub};

use super::ways::{GOOD, Said, Way};

pub(super) struct StdioPeer {
    script: PathBuf,
    calls: PathBuf,
}

/// What every peer offers: one tool that is to run once, and one that may run again.
pub(super) fn tools() -> Value {
    json!([
        { "name": "once", "inputSchema": { "type": "object" } },
        { "name": "again", "inputSchema": { "type": "object" }, "annotations": { "idempotentHint": true } },
    ])
}

impl StdioPeer {
    pub(super) fn new(scratch: &Scratch, ways: &[Way]) -> Result<Self, Fault> {
        let (script, calls) = (scratch.file("once.sh"), scratch.file("CALLS"));
        std::fs::write(&calls, "")?;
        let cases: String =
            ways.iter().map(|way| format!("*'\"way\":\"{}\"'*) {};;\n", way.name, commands(*way))).collect();
        let (good, calls_path, greeting, tools) = (shown(GOOD), calls.display(), stub::hello(), tools());
        let text = format!(
            r#"while IFS= read -r line; do
id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
good="{good}"
case $line in
*'"method":"initialize"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{greeting}}}\n' "$id";;
*'"method":"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"tools":{tools}}}}}\n' "$id";;
*'"method":"ping"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{}}}}\n' "$id";;
*'"method":"tools/call"'*)
printf '%s\n' "$line" >> '{calls_path}'
case $line in
{cases}esac;;
esac
done
"#
        );
        std::fs::write(&script, text)?;
        Ok(Self { script, calls })
    }

    pub(super) fn entry(&self, id: &str) -> Server {
        Server::stdio(id, "/bin/sh".as_ref(), &[&self.script.to_string_lossy()])
    }

    /// How often a call was read.
    pub(super) fn executed(&self, key: &str) -> Result<usize, Fault> {
        let key = format!("\"key\":\"{key}\"");
        Ok(std::fs::read_to_string(&self.calls)?.lines().filter(|line| line.contains(&key)).count())
    }
}

/// In the double quotes of a shell, with the id of the request.
fn shown(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace("$ID", "$id")
}

fn commands(way: Way) -> String {
    let say = |text: &str| format!("printf '%s\\n' \"{}\"", shown(text));
    match way.said {
        Said::Messages(messages) => messages.iter().map(|text| say(text)).collect::<Vec<_>>().join("; "),
        Said::Halves(pause) => {
            let (first, second) = GOOD.split_at(30);
            format!("printf '%s' \"{}\"; {}; {}", shown(first), sleep(pause), say(second))
        }
        Said::Alive(time) => {
            let sign = say(
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$ID,"progress":1}}"#,
            );
            let signs = vec![format!("{sign}; {}", sleep(100)); usize::try_from(time / 100).unwrap_or(0)];
            format!("{}; {}", signs.join("; "), say(GOOD))
        }
        Said::Late(pause) => format!("{}; {}", sleep(pause), say(GOOD)),
        Said::Never => ":".to_owned(),
        Said::Shell(commands) => commands.to_owned(),
        Said::Status(..) | Said::Early(_) | Said::Forgotten(_) | Said::Cut(_) => {
            unreachable!("ways of HTTP are none of stdio")
        }
    }
}

fn sleep(milliseconds: u64) -> String {
    format!("sleep {}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
