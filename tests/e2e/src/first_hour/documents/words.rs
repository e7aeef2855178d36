//! Commands and flags that pages name within their sentences: each is one that the programs know.

use std::{collections::BTreeMap, process::Command};

use testkit::{Fault, binaries};

/// Programs whose flags can be asked for.
const SERVICES: [&str; 4] = ["config-manager", "health-monitor", "drain-coordinator", "router"];

/// Names in pages that no program knows, and commands that README does not name.
pub(super) fn unknown(pages: &[(String, String)]) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    let mut help = BTreeMap::new();
    for (page, text) in pages {
        for span in spans(text) {
            let mut words = span.split_whitespace();
            let (program, rest) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
            let is_service = SERVICES.contains(&program);
            if program != "only1mcp" && !is_service {
                continue;
            }
            let asks = rest.first().is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            let command = if is_service || !asks { "" } else { rest[0] };
            let text = match help.get(&(program, command)) {
                Some(text) => text,
                None => help.entry((program, command)).or_insert(help_of(program, command)?),
            };
            let Some(text) = text else {
                found.push(format!("{page}: {span}"));
                continue;
            };
            let flags =
                rest.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap_or(word));
            found.extend(flags.filter(|flag| !knows(text, flag)).map(|flag| format!("{page}: {flag} of {span}")));
        }
    }
    let all = help_of("only1mcp", "")?.unwrap_or_default();
    let readme = pages.iter().find(|(name, _)| name == "README.md").map_or("", |(_, text)| text);
    let commands = all.split("Commands:").nth(1).unwrap_or_default().split("Options:").next().unwrap_or_default();
    let names =
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let rows = || readme.lines().filter(|line| line.starts_with("| `"));
    let named = |name: &str| rows().any(|row| row.split([' ', '`']).any(|word| word == name));
    found.extend(
        names.filter(|name| *name != "help" && !named(name)).map(|name| format!("README has no row for {name}")),
    );
    Ok(found)
}

/// Whether the flag is in the help, as a word of its own.
fn knows(help: &str, flag: &str) -> bool {
    help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == flag)
}

/// What a program says of itself or of one of its commands; nothing if it does not know that.
fn help_of(program: &str, command: &str) -> Result<Option<String>, Fault> {
    let mut asked = Command::new(binaries::path(program)?);
    let asked = asked.args((!command.is_empty()).then_some(command)).arg("--help").output()?;
    Ok(asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).into_owned()))
}

/// What stands between two backquotes in one line, outside of blocks.
fn spans(text: &str) -> Vec<&str> {
    let mut is_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}
