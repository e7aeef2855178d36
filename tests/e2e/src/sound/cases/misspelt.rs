//! Mistakes in a configuration that are easily made are named in one step, with what to write instead. Files of clients
//! are none.

use std::fs;

use serde_json::json;
use testkit::{Fault, Server, gateway::Cli};

use super::{Cases, expect, hall::Hall, says, stdio_server::StdioServer};

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    filters(cases)?;
    commands(cases);
    others(cases);
    Ok(())
}

/// A filter that names no tool of its server.
fn filters(cases: &mut Cases) -> Result<(), Fault> {
    let case = "tools-filter-typo";
    let ways = [
        ("the name that clients see", vec!["q__t"]),
        ("another case", vec!["T"]),
        ("one of two", vec!["t", "tee"]),
        ("a pattern", vec!["t*"]),
    ];
    for (name, tools) in ways {
        let server = StdioServer::default().entry(&cases.next_id(case), &cases.scripts)?;
        let missing = tools.last().copied().unwrap_or_default().to_owned();
        cases.serve(case, name, server.key("tools", json!(tools)), move |hall, id| {
            hall.warned(id, &[&missing]).map(|_| ())
        });
    }
    Ok(())
}

/// Commands that only a shell would understand.
fn commands(cases: &mut Cases) {
    let ways: [(_, _, &[&str]); 5] = [
        ("arguments in the command", "npx -y @scope/server", &["args", "npx"]),
        ("a flag in the command", "no-such-program --stdio", &["args"]),
        ("the home folder as shells write it", "~/bin/server", &["~"]),
        ("a variable as shells write it", "$HOME/bin/server", &["$"]),
        ("quotes around the command", "'no-such-program' 'serve'", &["args"]),
    ];
    for (name, command, wanted) in ways {
        let server = Server::stdio(&cases.next_id("command-line-in-command"), command.as_ref(), &[]);
        cases.serve("command-line-in-command", name, server, move |hall, id| says(&hall.trouble(id)?, wanted, &[]));
    }
}

/// Files of clients, as they are.
fn others(cases: &mut Cases) {
    let ways = [
        ("mcp.json", r#"{ "mcpServers": { "files": { "command": "npx", "args": ["-y", "pkg"] } } }"#),
        (
            "with-a-url.json",
            r#"{ "mcpServers": { "remote": { "url": "https://mcp.example.com/mcp", "type": "http" } } }"#,
        ),
        ("editor.json", r#"{ "servers": { "files": { "type": "stdio", "command": "npx", "args": ["-y", "pkg"] } } }"#),
        (
            "commented.json",
            "{\n  // my servers\n  \"mcpServers\": {\n    \"files\": { \"command\": \"npx\" }\n  }\n}\n",
        ),
        ("mcp.yaml", "mcpServers:\n  files: {command: npx, args: [-y, pkg]}\n"),
    ];
    for (file, text) in ways {
        cases.alone("mcpservers-json", file, move |hall| {
            let said = validated(hall, &format!("clients-{file}"), text.as_bytes())?;
            expect(said.code == 0, "a configuration", format!("{} {}", said.code, said.stderr))?;
            says(&said.stdout, &["valid, 1 server"], &[])
        });
    }
}

/// What `validate` says of a file with this content.
pub(super) fn validated(hall: &Hall, name: &str, content: &[u8]) -> Result<Cli, Fault> {
    let path = hall.scratch.file(name);
    fs::write(&path, content)?;
    let mut command = testkit::gateway::command(&hall.scratch.folder("home")?)?;
    Cli::run(command.arg("validate").arg(path))
}
