//! Other programs that a line runs: their output into a log, their end awaited.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{Fault, binaries, fault};
use tokio::time::Instant;

/// Where the output of commands is kept.
pub fn logs() -> Result<PathBuf, Fault> {
    let folder = binaries::checkout().join("target/acceptance/logs");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Runs a program to its end; its output goes to `LOG.log`.
///
/// # Errors
/// When it cannot be run or fails, with the end of its output.
pub fn run(log: &str, command: &mut Command) -> Result<Ran, Fault> {
    let path = logs()?.join(format!("{log}.log"));
    let file = File::create(&path)?;
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status();
    let status = status.map_err(|error| Fault::from(error).during(format!("{command:?}")))?;
    let (output, took) = (fs::read_to_string(&path).unwrap_or_default(), start.elapsed());
    if !status.success() {
        let lines: Vec<&str> = output.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        return Err(fault(format!("{command:?} ended with {status}; all of it is in {}\n{tail}", path.display())));
    }
    Ok(Ran { output, took })
}

/// A program that has succeeded.
#[derive(Debug)]
pub struct Ran {
    /// Both streams.
    pub output: String,
    pub took: Duration,
}

impl Ran {
    /// The last line, as one figure.
    pub fn figures(&self) -> String {
        self.output.lines().last().unwrap_or_default().replace('=', ":").replace(' ', ",")
    }
}

/// Installs what others wrote, unless that was done before, and says where it is.
pub fn foreign() -> Result<PathBuf, Fault> {
    run("foreign-install", &mut Command::new(binaries::checkout().join("scripts/foreign")))?;
    Ok(binaries::checkout().join("target/foreign"))
}

/// `cargo` in the checkout, or in a folder elsewhere.
pub fn cargo(folder: Option<&Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder.map_or_else(binaries::checkout, Path::to_owned)).args(arguments);
    command
}
