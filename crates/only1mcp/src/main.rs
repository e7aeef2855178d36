//! `only1mcp`: the command line, and the gateway in one process.

mod admin;
mod args;
mod cli;
mod connect;
mod demo;
mod failure;
mod manual;
mod mcp_client;
mod place;
mod up;

use std::process::ExitCode;

use runtime::exit;

use args::{Command, CommandLine};

fn main() -> ExitCode {
    runtime::panics::escape();
    if router::keeper::is_keeper(std::env::args_os()) {
        return router::keeper::main();
    }
    let line = match CommandLine::read() {
        Ok(line) => line,
        Err(error) if error.use_stderr() && args::wants_json(std::env::args_os()) => {
            let text = error.render().to_string();
            cli::fail_as_json(text.trim_start_matches("error: ").trim_end(), None, exit::USAGE);
            return exit::USAGE.into();
        }
        Err(error) => return exit::usage(&error),
    };
    match line.command {
        Command::Operate(command) => cli::run(command),
        Command::Up(args) => up::run(&args),
        Command::Healthcheck(args) => args.check().run(),
        Command::DemoServer(settings) => demo::run(settings),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { folder } => manual::pages(&folder),
    }
}
