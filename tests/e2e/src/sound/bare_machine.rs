//! The README's two commands on a machine that has nothing else.

use std::process::Command;

use testkit::{Fault, binaries, fault};

use crate::{Figures, Size, commands};

pub fn run(size: Size) -> Result<Figures, Fault> {
    if size == Size::Short {
        return Err(fault("this line has no short form: it is about building everything"));
    }
    let ran = commands::run("bare-machine", &mut Command::new(binaries::checkout().join("scripts/bare-machine")))?;
    let value = |name: &str| {
        let line = ran.output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.ok_or_else(|| fault(format!("scripts/bare-machine says no {name}")))
    };
    let mut figures = Figures::default();
    for name in ["root_s", "first_command_s", "scripts_test_s", "installed"] {
        figures.note(name, value(name)?);
    }
    figures.note("asked_for", value("asked_for")?.replace(' ', ","));
    let left_out = ran.output.lines().filter(|line| line.starts_with("left_out="));
    figures.note("left_out", left_out.count());
    let (hidden, wrong) = (value("hidden")?, value("wrong")?);
    figures.demand("hidden", hidden, "17", hidden == "17");
    figures.demand("said_nothing_clear", wrong, "0", wrong == "0");
    Ok(figures)
}
