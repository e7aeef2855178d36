//! What README tells a new user to type, typed by `scripts/newcomer` on a machine that has nothing yet: each way to install,
//! and each client's file.

use std::process::Command;

use testkit::{Fault, binaries};

use crate::{Figures, Size, commands};

/// Of the short form.
const SOME: [&str; 3] = ["tarball", "claude-desktop", "cursor"];
/// Five ways to install, and eight clients.
const ALL: usize = 13;
/// From the moment the program is there until a tool has answered.
const COMMANDS_MAX: u32 = 2;
const SECONDS_MAX: f64 = 60.0;

pub fn run(size: Size) -> Result<Figures, Fault> {
    binaries::path("only1mcp")?;
    let mut script = Command::new(binaries::checkout().join("scripts/newcomer"));
    script.env("PROGRAMS", binaries::folder()?).args(size.pick(&[][..], &SOME[..]));
    let said = commands::run("newcomer", &mut script)?.output;
    let mut figures = Figures::default();
    for (name, ending) in [("install_commands", "_install_commands="), ("install_s", "_install_s=")] {
        figures.note(name, listed(&values(&said, ending)));
    }
    let typed: Vec<_> =
        values(&said, "_commands=").into_iter().filter(|(name, _)| !name.ends_with("_install")).collect();
    let (wanted, took) = (size.pick(ALL, SOME.len()), values(&said, "_first_call_s="));
    figures.demand("tried", took.len(), &wanted.to_string(), took.len() == wanted);
    let within = |(_, count): &(_, &str)| count.parse().is_ok_and(|count: u32| count <= COMMANDS_MAX);
    figures.demand("commands", listed(&typed), "at most 2 each", typed.len() == wanted && typed.iter().all(within));
    let within = |(_, seconds): &(_, &str)| seconds.parse().is_ok_and(|seconds: f64| seconds < SECONDS_MAX);
    figures.demand("first_call_s", listed(&took), "less than 60 each", took.iter().all(within));
    Ok(figures)
}

/// What was tried, with its value, from lines that have this between the two.
fn values<'a>(said: &'a str, between: &str) -> Vec<(&'a str, &'a str)> {
    said.lines().filter_map(|line| line.split_once(between)).collect()
}

fn listed(values: &[(&str, &str)]) -> String {
    values.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(",")
}
