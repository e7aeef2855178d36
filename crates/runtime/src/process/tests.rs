//! What command lines mean.

use super::command_line::{Asked, read};
use super::*;
use crate::healthcheck::{Healthcheck, Question};

#[derive(Debug, Parser)]
#[command(name = "service", version)]
struct Flags {
    #[arg(long, env = "ONLY1MCP_TEST_OPS", default_value = "127.0.0.1:9000")]
    ops: SocketAddr,
    #[arg(long)]
    name: Option<String>,
}

fn asked(line: &str) -> Result<Asked<Flags>, clap::Error> {
    read(line.split(' ').map(Into::into))
}

#[test]
fn flags_run_the_service_and_the_subcommand_asks_it() {
    let Ok(Asked::Serve(flags)) = asked("service --name x") else { panic!("bare flags serve") };
    assert_eq!((flags.ops.port(), flags.name.as_deref()), (9000, Some("x")));

    let check = |line, port, question| {
        let Ok(Asked::Healthcheck(check)) = asked(line) else { panic!("{line} asks") };
        assert_eq!(check, Healthcheck { ops: SocketAddr::from(([127, 0, 0, 1], port)), question });
    };
    check("service healthcheck", 9000, Question::Ready);
    check("service healthcheck --live --ops 127.0.0.1:1", 1, Question::Live);
}

#[test]
fn what_cannot_be_meant_is_wrong_usage() {
    for line in
        ["service healthchekc", "service --name x healthcheck", "service healthcheck --name x", "service --ops 1"]
    {
        assert!(asked(line).is_err_and(|error| error.use_stderr()), "{line}");
    }
    assert!(asked("service --version").is_err_and(|error| !error.use_stderr()));
}
