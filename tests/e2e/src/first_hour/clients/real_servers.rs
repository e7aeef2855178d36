//! Two servers that others wrote, imported from the file of a desktop client, and called through each client's entry.

use std::fs;

use serde_json::json;
use testkit::{
    Fault, Gateway, Scratch,
    gateway::{self, Cli},
    wait,
};

use super::led::{LIMIT, Led};
use crate::{Figures, commands, main_job::foreign::node};

/// By their names for `export`.
const CLIENTS: [&str; 8] =
    ["claude-desktop", "claude-code", "cursor", "vscode", "windsurf", "zed", "gemini-cli", "codex"];

pub(super) fn run(figures: &mut Figures) -> Result<(), Fault> {
    let foreign = commands::foreign()?;
    let scratch = Scratch::new("real-servers")?;
    let letter = scratch.folder("files")?.join("letter.txt");
    fs::write(&letter, "Dear client")?;
    let packages = foreign.join("node_modules/@modelcontextprotocol");
    let script = |name: &str| packages.join(name).join("dist/index.js").display().to_string();
    let node = node(&foreign)?.display().to_string();
    let file = json!({ "mcpServers": {
        "everything": { "command": node, "args": [script("server-everything"), "stdio"] },
        "filesystem": { "command": node, "args": [script("server-filesystem"), scratch.file("files")] },
    } });
    let (client, config) = (scratch.file("claude_desktop_config.json"), scratch.file("only1mcp.yaml"));
    fs::write(&client, file.to_string())?;
    let mut import = gateway::command(&scratch.folder("home")?)?;
    Cli::run(import.arg("import").arg(&client).arg("--config").arg(&config).arg("--yes"))?.expect(0)?;
    let gateway = Gateway::up(&scratch, &config)?;
    wait::until_true("both servers to be up", LIMIT, || gateway.cli(&["status"]).is_ok_and(|said| said.code == 0))?;
    let (mut tools, mut wrong) = (0, Vec::new());
    for name in CLIENTS {
        let exported = gateway.cli(&["export", "--client", name])?.expect(0)?;
        let mut client = Led::by(name, &exported.stdout, &scratch).map_err(|error| error.during(name))?;
        tools = client.tools()?.len();
        for (tool, arguments, expected) in [
            ("everything__echo", json!({ "message": "hello" }), "hello"),
            ("everything__get-sum", json!({ "a": 40, "b": 2 }), "42"),
            ("filesystem__read_text_file", json!({ "path": letter }), "Dear client"),
        ] {
            let said = client.text(tool, &arguments).map_err(|error| error.during(name))?;
            if !said.contains(expected) {
                wrong.push(format!("{name}: {tool} answers {said}"));
            }
        }
    }
    figures.note("clients", CLIENTS.len());
    figures.demand("tools_of_real_servers", tools, "more than 15", tools > 15);
    figures.none("wrong_answers", wrong);
    Ok(())
}
