//! The JSON Schema and the reader agree, as `validate.py` checks with a validator that others wrote.

use std::process::Command;

use testkit::{Fault, Scratch, binaries};

use crate::{Figures, Size, commands};

pub fn run(_: Size) -> Result<Figures, Fault> {
    let foreign = commands::foreign()?;
    let scratch = Scratch::new("schema")?;
    let mut command = Command::new(foreign.join("venv/bin/python"));
    command.arg(foreign.join("validate.py")).arg(binaries::path("only1mcp")?).arg(binaries::checkout().join("docs"));
    let said = commands::run("schema-validator", command.arg(scratch.folder("faults")?))?;
    let mut figures = Figures::default();
    figures.note("judged_alike", said.figures());
    Ok(figures)
}
