//! What an import would do, and what clients need.

use clap::ValueEnum as _;

use super::*;
use crate::cli::tests::golden::Golden;

const INTO: &str = "~/.config/only1mcp/only1mcp.yaml";

fn plan() -> Plan {
    let (desktop, cursor) = ("~/.config/Claude/claude_desktop_config.json".to_owned(), "~/.cursor/mcp.json".to_owned());
    let files = json!({
        "id": "files",
        "transport": {
            "type": "stdio",
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/somebody/projects", "--token", "hunter2-hunter2-hunter2"],
        },
    });
    let search = json!({ "id": "search", "transport": { "type": "http", "url": "https://search/mcp?key=hunter2" } });
    let note = "not carried over: it is switched off";
    Plan {
        add: vec![(desktop.clone(), files), (cursor.clone(), search)],
        same: vec![("files".to_owned(), cursor.clone())],
        clashes: vec![("crm".to_owned(), cursor.clone(), INTO.to_owned())],
        notes: vec![Violation::new(None, "mcpServers.old", note)],
        broken: Vec::new(),
        files: vec![(desktop, Some(Client::ClaudeDesktop), 1), (cursor, Some(Client::Cursor), 3)],
    }
}

pub(in crate::cli) fn golden() -> Vec<Golden> {
    let message = "expected a comma between two values, and found the end of the file";
    let broken = Plan { broken: vec![Violation::new(None, "", message)], ..plan() };
    let answer = |plan: &Plan, last: Lines, written, code| {
        let mut text = plan.shown(INTO);
        text.append(&last);
        plan.answer(INTO, text, written, code)
    };
    let imports = [
        ("import", answer(&plan(), written(INTO), true, exit::DONE)),
        ("import_plan", plan().unasked(INTO, plan().shown(INTO), Answer::Text)),
        ("import_broken", answer(&broken, Lines::default(), false, exit::REFUSED)),
        ("import_nothing", answer(&Plan::default(), Lines::of("nothing to add"), false, exit::NOTHING_TO_DO)),
    ];
    let bridge = ["/usr/bin/only1mcp", "connect", "--config", "/srv/somebody/only1mcp.yaml"].map(str::to_owned);
    let export = |client: &Client| {
        let name = client.to_possible_value().map_or_else(String::new, |value| value.get_name().replace('-', "_"));
        let file = Some("~/.config/Code/User/globalStorage/settings.json");
        (format!("export_{name}"), exported(*client, file, "http://127.0.0.1:8080/mcp", &bridge))
    };
    let imports = imports.map(|(name, output)| (name.to_owned(), output));
    imports.into_iter().chain(Client::value_variants().iter().map(export)).collect()
}

#[test]
fn what_looks_like_a_secret_is_not_shown() {
    let text = plan().shown(INTO);
    assert!(text.as_str().contains("/srv/somebody/projects --token ***"), "{text:?}");
    assert!(text.as_str().contains("https://search/mcp\n") && !text.as_str().contains("hunter2"), "{text:?}");
}
