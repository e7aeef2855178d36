//! The gateway in one process, as `only1mcp up` starts it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use crate::{
    binaries,
    client::http_get,
    fault::{Fault, fault},
    process::Supervised,
    scratch::Scratch,
};

const PROGRAM: &str = "only1mcp";

/// From the start of the process to its ready line.
const START: Duration = Duration::from_secs(60);

/// A gateway that is ready.
#[derive(Debug)]
pub struct Gateway {
    pub process: Supervised,
    /// The MCP endpoint.
    pub mcp: SocketAddr,
    /// gRPC.
    pub admin: SocketAddr,
    /// `/readyz`, `/metrics`.
    pub ops: SocketAddr,
    /// As the ready line said.
    pub revision: u64,
    state: PathBuf,
}

impl Gateway {
    /// Starts one whose state is in `state` of the scratch folder, and waits until it is ready.
    pub fn up(scratch: &Scratch, config: &Path) -> Result<Self, Fault> {
        Self::up_with(scratch, config, &[])
    }

    /// As [`Self::up`], with more in its environment.
    pub fn up_with(scratch: &Scratch, config: &Path, environment: &[(&str, &str)]) -> Result<Self, Fault> {
        Self::up_under(&[], scratch, config, environment)
    }

    /// As [`Self::up_with`], started by another program: `under` is its name and arguments before those of the gateway.
    pub fn up_under(
        under: &[&str],
        scratch: &Scratch,
        config: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Self, Fault> {
        Self::up_of(&binaries::path(PROGRAM)?, under, scratch, config, environment)
    }

    /// As [`Self::up_under`], of another build of the gateway.
    pub fn up_of(
        gateway: &Path,
        under: &[&str],
        scratch: &Scratch,
        config: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Self, Fault> {
        let state = scratch.file("state");
        let mut command = isolated(gateway, &scratch.folder("home")?);
        command.args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ops", "127.0.0.1:0"]);
        command.envs(environment.iter().copied());
        command.arg("--config").arg(config).arg("--state-dir").arg(&state);
        if let Some((program, arguments)) = under.split_first() {
            command = beneath(program, arguments, &command);
        }
        let process = Supervised::start("up", &mut command, &scratch.folder("logs")?)?;
        let ready = process.wait_stdout("the ready line", START, ReadyLine::parse)?;
        let ReadyLine { mcp, admin, ops, revision } = ready;
        Ok(Self { process, mcp, admin, ops, revision, state })
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Runs the command line tool against this gateway.
    pub fn cli(&self, args: &[&str]) -> Result<Cli, Fault> {
        let mut command = command(self.state.parent().unwrap_or(&self.state))?;
        command.args(args).arg("--state-dir").arg(&self.state);
        Cli::run(&mut command)
    }

    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The endpoints of a server: the beginning of each digest, and the weight of each in thousandths.
    pub fn weights(&self, server: &str) -> Result<Vec<(String, u64)>, Fault> {
        let status = self.cli(&["status", "--output", "json"])?.json()?;
        let servers = status["servers"].as_array().into_iter().flatten();
        let endpoints =
            servers.filter(|one| one["id"] == server).filter_map(|one| one["endpoints"].as_array()).flatten();
        let one = |one: &Value| Some((one["digest"].as_str()?[..12].to_owned(), one["weight_permille"].as_u64()?));
        Ok(endpoints.filter_map(one).collect())
    }

    /// The value of a metric, summed over its series that contain `part`; 0 while `/metrics` does not answer.
    pub fn metric(&self, name: &str, part: &str) -> u64 {
        let (_, page) = http_get(self.ops, "/metrics").unwrap_or_default();
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(part));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// A line of `/proc/PID/status` about memory, in bytes: `VmRSS:` is what the process has now, and `VmHWM:` the most
    /// it had since [`Self::forget_peak`].
    pub fn memory(&self, line: &str) -> Result<u64, Fault> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let kib = text.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| fault(format!("no {line} of process {}", self.pid())))? << 10)
    }

    pub fn forget_peak(&self) -> Result<(), Fault> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")?)
    }
}

/// `program` with `arguments`, which starts `command`.
fn beneath(program: &str, arguments: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

/// The command line tool, with nothing of the environment in which the tests run.
pub fn command(home: &Path) -> Result<Command, Fault> {
    Ok(isolated(&binaries::path(PROGRAM)?, home))
}

pub(crate) fn isolated(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    let ours = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("ONLY1MCP_") || name.starts_with("XDG_")
    });
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.env("HOME", home).current_dir(home);
    command
}

/// What the command line tool did.
#[derive(Debug)]
pub struct Cli {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cli {
    /// Runs it to its end.
    pub fn run(command: &mut Command) -> Result<Self, Fault> {
        let Output { status, stdout, stderr } = command.stdin(std::process::Stdio::null()).output()?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { code: status.code().unwrap_or(-1), stdout: text(&stdout), stderr: text(&stderr) })
    }

    /// The output of `--output json`.
    pub fn json(&self) -> Result<Value, Fault> {
        serde_json::from_str(&self.stdout).map_err(|error| {
            fault(format!("exit code {}, no JSON ({error}): {}{}", self.code, self.stdout, self.stderr))
        })
    }

    /// This, if it ended with `code`.
    ///
    /// # Errors
    /// With what it said, if not.
    pub fn expect(self, code: i32) -> Result<Self, Fault> {
        if self.code == code {
            return Ok(self);
        }
        Err(fault(format!("expected exit code {code}, got {}: {}{}", self.code, self.stdout, self.stderr)))
    }
}

/// The one line on stdout by which a gateway says that it is ready.
#[derive(Debug)]
struct ReadyLine {
    mcp: SocketAddr,
    admin: SocketAddr,
    ops: SocketAddr,
    revision: u64,
}

impl ReadyLine {
    /// Three addresses, in the order MCP, admin, ops, and `revision N`.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split([' ', ',', ';', '=', '(', ')']).collect();
        let mut addresses = words.iter().filter_map(|word| address(word));
        let revision = words.iter().position(|word| *word == "revision")?;
        let revision = words.get(revision + 1)?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
        Some(Self { mcp: addresses.next()?, admin: addresses.next()?, ops: addresses.next()?, revision })
    }
}

/// The address in a bare address, or in a URL.
fn address(word: &str) -> Option<SocketAddr> {
    let bare = word.split_once("://").map_or(word, |(_, rest)| rest);
    bare.split('/').next()?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests;
