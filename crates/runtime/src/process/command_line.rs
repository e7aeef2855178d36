//! The command line of a service: its flags run it, its subcommand `healthcheck` asks one that runs.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

use crate::healthcheck::{Healthcheck, Question};

const HEALTHCHECK: &str = "healthcheck";

/// What the command line asks for.
pub(super) enum Asked<F> {
    Serve(F),
    Healthcheck(Healthcheck),
}

/// Without a subcommand, the flags are those of `F`.
///
/// # Errors
/// When the command line cannot be parsed; help and version are returned as errors, too.
pub(super) fn read<F: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked<F>, clap::Error> {
    let flags = F::command();
    // The same flag as the service's, so that one environment serves both.
    let ops = flags.get_arguments().find(|argument| argument.get_id() == "ops").cloned();
    let mut command = flags.args_conflicts_with_subcommands(true).subcommand(healthcheck(ops));
    let matches = command.try_get_matches_from_mut(arguments)?;
    match matches.subcommand() {
        Some((_, check)) => Ok(Asked::Healthcheck(asked(check))),
        None => F::from_arg_matches(&matches).map(Asked::Serve).map_err(|error| error.format(&mut command)),
    }
}

fn healthcheck(ops: Option<Arg>) -> Command {
    Command::new(HEALTHCHECK)
        .about("Ask the process that runs with this --ops address; exit code 0 when it is ready, 1 when not")
        .args(ops)
        .arg(
            Arg::new("live")
                .long("live")
                .env("ONLY1MCP_HEALTHCHECK_LIVE")
                .action(ArgAction::SetTrue)
                .help("Ask whether it is alive, ready or not"),
        )
}

fn asked(matches: &ArgMatches) -> Healthcheck {
    let question = if matches.get_flag("live") { Question::Live } else { Question::Ready };
    let ops = matches.get_one("ops").copied().expect("every service has --ops, with a default");
    Healthcheck { ops, question }
}
