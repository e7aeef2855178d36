//! The README's two commands on a clean clone, nothing else typed, with their times.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Fault, Scratch, Supervised, binaries, distribution::ms, fault};
use tokio::time::Instant;

use crate::{Figures, Size, commands};

/// For a build from nothing on two slow cores.
const BUILD: Duration = Duration::from_secs(1800);
const CI_MAX: Duration = Duration::from_secs(1800);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    if size == Size::Short {
        return Err(fault("this line has no short form: it is about building everything"));
    }
    let scratch = Scratch::new("clone")?;
    let clone = scratch.file("only1mcp");
    let source = binaries::checkout();
    commands::run("clone", Command::new("git").args(["clone", "-q", "--no-hardlinks"]).arg(source).arg(&clone))?;
    first_command("cold", &clone, &scratch, &mut figures)?;
    first_command("warm", &clone, &scratch, &mut figures)?;
    let mut test = Command::new(clone.join("scripts/test"));
    let ran = commands::run("scripts-test", scrub(test.current_dir(&clone)))?;
    figures.demand("scripts_test_s", ran.took.as_secs(), "below 1800", ran.took < CI_MAX);
    let ran = commands::run("scripts-test-warm", scrub(Command::new(clone.join("scripts/test")).current_dir(&clone)))?;
    figures.note("scripts_test_warm_s", ran.took.as_secs());
    Ok(figures)
}

/// `cargo run --release -- up`, until it is ready and the demo answers.
fn first_command(how: &'static str, clone: &Path, scratch: &Scratch, figures: &mut Figures) -> Result<(), Fault> {
    let home = scratch.folder(&format!("home-{how}"))?;
    // Another home would hide the toolchain and the registry's cache.
    let state = |command: &mut Command| {
        scrub(command.env("XDG_STATE_HOME", &home).env("XDG_CONFIG_HOME", &home)).stdin(Stdio::null());
    };
    let start = Instant::now();
    let mut up = commands::cargo(Some(clone), &["run", "--release", "--", "up"]);
    state(&mut up);
    let mut up = Supervised::start(&format!("up-{how}"), &mut up, &commands::logs()?)?;
    up.wait_stdout("the ready line", BUILD, |line| line.starts_with("ready").then_some(()))?;
    figures.note(
        if how == "cold" { "cold_ready_s" } else { "warm_ready_s" },
        format!("{:.1}", start.elapsed().as_secs_f64()),
    );
    let mut call =
        commands::cargo(Some(clone), &["run", "--release", "--", "call", "calculator__add", r#"{"a": 40, "b": 2}"#]);
    state(&mut call);
    let ran = commands::run(&format!("call-{how}"), &mut call)?;
    let right = ran.output.lines().any(|line| line.trim() == "42");
    figures.demand("call_ms", ms(ran.took), "42 as the answer", right);
    // On Unix `cargo run` becomes the program, so the signal reaches it.
    let ended = up.stop()?;
    figures.demand("exit", ended, "0", ended.success());
    Ok(())
}

/// Nothing of this run's settings may help the clone.
fn scrub(command: &mut Command) -> &mut Command {
    let cargo = ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "RUSTFLAGS", "ONLY1MCP_BIN_DIR", "CARGO"];
    for name in cargo {
        command.env_remove(name);
    }
    command
}
