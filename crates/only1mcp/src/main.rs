//! `only1mcp`: the command line, and the gateway in one process.

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtime::exit;

/// One MCP endpoint in front of many MCP servers; change anything under it while agents work
#[derive(Debug, Parser)]
#[command(name = "only1mcp", version, propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A small real MCP server with tools to try the gateway with
    DemoServer(demo::Settings),
}

fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::DONE };
            drop(error.print());
            return code.into();
        }
    };
    match line.command {
        Command::DemoServer(settings) => demo::run(settings),
    }
}
