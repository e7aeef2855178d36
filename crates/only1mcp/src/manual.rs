//! What is generated from the command line's own description: completions for shells, and manual pages.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::CommandFactory;
use clap_complete::Shell;
use runtime::{escape::say, exit};

use crate::args::CommandLine;

const NAME: &str = "only1mcp";

pub(crate) fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), NAME, &mut text);
    match io::stdout().write_all(&text) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed("the completions cannot be written", &error),
        Ok(()) | Err(_) => exit::DONE.into(),
    }
}

/// `only1mcp.1`, and `only1mcp-COMMAND.1` for each command.
pub(crate) fn pages(folder: &Path) -> ExitCode {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(CommandLine::command(), folder));
    match written {
        Ok(()) => exit::DONE.into(),
        Err(error) => failed(&format!("no manual in {}", folder.display()), &error),
    }
}

fn failed(what: &str, error: &io::Error) -> ExitCode {
    say(&format!("only1mcp: {what}: {error}\n"));
    exit::REFUSED.into()
}
