//! Which lines have passed with the code as it is, so that they can be run in several sittings.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use testkit::{Fault, binaries, fault};

/// What the figures depend on: a change elsewhere leaves them valid.
const CODE: [&str; 7] = ["Cargo.toml", "Cargo.lock", "crates", "deploy", "proto", "scripts", "tests"];

/// One line of JSON per run, the newest last.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// Hash of the code as it lies in the working tree.
    code: String,
    commit: String,
}

/// How a line was run.
#[derive(Debug)]
pub struct Run<'a> {
    pub name: &'a str,
    pub line: u8,
    pub passed: bool,
    pub figures: &'a str,
    pub seconds: f64,
}

impl Ledger {
    pub fn open() -> Result<Self, Fault> {
        let folder = binaries::checkout().join("target/acceptance");
        fs::create_dir_all(&folder)?;
        let commit = git(&["rev-parse", "--short", "HEAD"], None)?;
        Ok(Self { code: hash_of_code(&folder)?, path: folder.join("ledger.jsonl"), commit })
    }

    /// The figures of the last passed run of a line with this very code.
    pub fn passed(&self, name: &str, line: u8) -> Option<String> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let runs = text.lines().rev().filter_map(|run| serde_json::from_str::<Value>(run).ok());
        let mut of_line = runs.filter(|run| run["name"] == name && run["line"] == line && run["code"] == *self.code);
        let last = of_line.next().filter(|run| run["passed"] == true)?;
        last["figures"].as_str().map(str::to_owned)
    }

    pub fn add(&self, run: &Run<'_>) -> Result<(), Fault> {
        let Run { name, line, passed, figures, seconds } = run;
        let entry = json!({
            "name": name, "line": line, "passed": passed, "figures": figures, "seconds": seconds,
            "commit": self.commit, "code": self.code, "time_unix_ms": runtime::Clock::start().unix_millis(),
        });
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        Ok(writeln!(file, "{entry}")?)
    }
}

/// The hash of the files as they are, committed or not; made through an index of our own, so that the user's is not
/// touched.
fn hash_of_code(folder: &Path) -> Result<String, Fault> {
    let index = folder.join("index");
    git(&["read-tree", "HEAD"], Some(&index))?;
    let present = CODE.iter().filter(|path| binaries::checkout().join(path).exists());
    let mut add = vec!["add", "--all", "--"];
    add.extend(present);
    git(&add, Some(&index))?;
    let listed = git(&[&["ls-files", "--stage", "--"], &CODE[..]].concat(), Some(&index))?;
    fs::write(folder.join("code"), listed)?;
    git(&["hash-object", "target/acceptance/code"], None)
}

fn git(arguments: &[&str], index: Option<&Path>) -> Result<String, Fault> {
    let mut command = Command::new("git");
    command.current_dir(binaries::checkout()).args(arguments);
    if let Some(index) = index {
        command.env("GIT_INDEX_FILE", index);
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(fault(format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
