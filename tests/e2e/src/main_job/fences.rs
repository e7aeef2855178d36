//! What keeps the code in shape: formatter, lints, layers, sizes, and a map that names every crate.

use std::fs;

use testkit::{Fault, binaries};

use crate::{Figures, Size, commands};

pub fn run(_: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    commands::run("fmt", &mut commands::cargo(None, &["fmt", "--all", "--check"]))?;
    figures.note("fmt", "clean");
    let lints = ["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    commands::run("clippy", &mut commands::cargo(None, &lints))?;
    figures.note("clippy", "clean");
    let tests = ["test", "--release", "-p", "e2e", "--test", "layers", "--test", "tidy"];
    let ran = commands::run("layers", &mut commands::cargo(None, &tests))?;
    let passed = ran.output.lines().filter(|line| line.starts_with("test ") && line.ends_with("ok")).count();
    figures.demand("layer_and_tidy_tests", passed, "some", passed > 5);
    let map = fs::read_to_string(binaries::checkout().join("ARCHITECTURE.md")).unwrap_or_default();
    let unnamed =
        crates()?.into_iter().filter(|name| !map.contains(&format!("`{name}`")) && !map.contains(&format!("{name}/")));
    figures.none("crates_missing_on_the_map", unnamed);
    Ok(figures)
}

fn crates() -> Result<Vec<String>, Fault> {
    let entries = fs::read_dir(binaries::checkout().join("crates"))?.flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    Ok(folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
