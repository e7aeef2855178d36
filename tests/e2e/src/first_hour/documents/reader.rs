//! A person at a terminal of their own, who types what a page says.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use testkit::{
    DemoServer, Fault, Scratch, Supervised, binaries, client::http_get, fault, gateway::Cli, left_out, services, wait,
};

use super::{
    known::{ENDS, HANDS},
    markdown::Block,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Default addresses by the variable that sets them, for the program that has them.
const ADDRESSES: [(&str, &str, &str); 11] = [
    ("only1mcp", "ONLY1MCP_LISTEN", "127.0.0.1:8080"),
    ("only1mcp", "ONLY1MCP_ADMIN", "127.0.0.1:8081"),
    ("only1mcp", "ONLY1MCP_OPS", "127.0.0.1:8082"),
    ("config-manager", "ONLY1MCP_GRPC", "127.0.0.1:9441"),
    ("config-manager", "ONLY1MCP_OPS", "127.0.0.1:9451"),
    ("router", "ONLY1MCP_GRPC", "127.0.0.1:9442"),
    ("router", "ONLY1MCP_OPS", "127.0.0.1:9452"),
    ("health-monitor", "ONLY1MCP_GRPC", "127.0.0.1:9443"),
    ("health-monitor", "ONLY1MCP_OPS", "127.0.0.1:9453"),
    ("drain-coordinator", "ONLY1MCP_GRPC", "127.0.0.1:9444"),
    ("drain-coordinator", "ONLY1MCP_OPS", "127.0.0.1:9454"),
];

/// Processes that a page starts end before the folder goes.
pub(super) struct Reader<'a> {
    page: &'a str,
    running: Vec<(String, Supervised)>,
    /// Where things are here, by where a page says they are.
    places: Vec<(String, String)>,
    environment: Vec<(&'static str, &'static str, String)>,
    home: PathBuf,
    scratch: &'a Scratch,
    started: usize,
    /// What a page says is at `example.org`.
    _elsewhere: DemoServer,
}

/// Programs of the system that a page uses and a machine may lack.
const OPTIONAL: [&str; 2] = ["curl", "openssl"];

impl<'a> Reader<'a> {
    pub(super) fn new(page: &'a str, scratch: &'a Scratch) -> Result<Self, Fault> {
        let home = scratch.folder("home")?;
        let addresses = ADDRESSES.iter().map(|_| services::free_address()).collect::<Result<Vec<_>, _>>()?;
        let pairs = || ADDRESSES.iter().zip(&addresses);
        let mut places: Vec<(String, String)> =
            pairs().map(|((_, _, said), here)| ((*said).to_owned(), here.to_string())).collect();
        for place in ["/var/lib/only1mcp", "/var/backups", "/etc/only1mcp", "/run/secrets"] {
            places.push((place.to_owned(), scratch.folder(&place[1..])?.display().to_string()));
        }
        fs::write(scratch.file("run/secrets").join("search"), "a-value")?;
        let elsewhere = DemoServer::start("elsewhere", scratch, &[])?;
        places.push(("https://example.org/mcp".to_owned(), elsewhere.url()));
        let environment = pairs().map(|((program, name, _), here)| (*program, *name, here.to_string())).collect();
        install_npx(&scratch.folder("bin")?)?;
        Ok(Self { page, running: Vec::new(), places, environment, home, scratch, started: 0, _elsewhere: elsewhere })
    }

    /// Types a command, and waits until it has ended, or serves.
    pub(super) fn types(&mut self, command: &str) -> Result<(), Fault> {
        let page = self.page;
        for (.., act) in HANDS.iter().filter(|(of, begins, _)| *of == page && command.starts_with(begins)) {
            act(self)?;
        }
        let command = self.here(command);
        match serves(&command) {
            Some(program) => self.starts(program, &command),
            None => self.runs(&command),
        }
    }

    /// Writes an example into a file, and has it checked. A configuration is the reader's own from then on.
    pub(super) fn saves(&self, block: &Block) -> Result<(), Fault> {
        let text = self.here(&block.text);
        let is_client =
            ["mcpServers", "mcp_servers", "context_servers", "\"servers\""].iter().any(|key| text.contains(key));
        let name = format!("{}.{}", if is_client { "client" } else { "only1mcp" }, block.language);
        fs::write(self.home.join(&name), text)?;
        let mut command = self.shell(&format!("only1mcp validate {name}"), "only1mcp")?;
        if is_client {
            // Its servers are those that lead to the gateway.
            command = self.shell(&format!("only1mcp import {name} --config nothing.yaml --yes"), "only1mcp")?;
            let said = Cli::run(&mut command)?.expect(2)?;
            let is_known = said.stderr.contains("it is this gateway itself");
            return if is_known { Ok(()) } else { Err(fault(said.stderr)) };
        }
        Cli::run(&mut command)?.expect(0).map(drop)
    }

    /// Where the demo's configuration is said, the reader opens it and changes something.
    pub(super) fn edits_the_demo(&self) -> Result<(), Fault> {
        let file = self.home.join(".local/state/only1mcp/demo/only1mcp.yaml");
        let text = fs::read_to_string(&file)?;
        let notes = text.find("  - id: notes").ok_or_else(|| fault("the demo has no notes"))?;
        let clock = text.find("  - id: clock").ok_or_else(|| fault("the demo has no clock"))?;
        fs::write(&file, [&text[..notes], &text[clock..]].concat())?;
        wait::until_true("the edit to be live", LIMIT, || {
            let history =
                self.shell("only1mcp history --output json", "only1mcp").and_then(|mut asked| Cli::run(&mut asked));
            history.and_then(|said| said.json()).is_ok_and(|all| all[0]["revision"] == 2)
        })
    }

    /// A client of theirs has a server.
    pub(super) fn has_a_client(&self) -> Result<(), Fault> {
        fs::create_dir_all(self.home.join(".cursor"))?;
        let file = r#"{ "mcpServers": { "theirs": { "command": "npx", "args": ["-y", "some-server"] } } }"#;
        Ok(fs::write(self.home.join(".cursor/mcp.json"), file)?)
    }

    /// There is a configuration where a service has it.
    pub(super) fn has_a_configuration(&self) -> Result<(), Fault> {
        let text = "servers:\n  - id: files\n    transport: { type: stdio, command: npx }\n";
        Ok(fs::write(self.scratch.file("etc/only1mcp").join("only1mcp.yaml"), text)?)
    }

    pub(super) fn stops_all(&mut self) -> Result<(), Fault> {
        for (_, mut process) in self.running.drain(..).rev() {
            process.stop()?;
        }
        Ok(())
    }

    fn starts(&mut self, program: &str, command: &str) -> Result<(), Fault> {
        // One gateway at a time: who types `up` has ended what ran before, and who starts the services has ended `up`.
        match program {
            "watch" => {}
            "up" => self.stops_all()?,
            _ if self.running.iter().any(|(program, _)| program == "up") => self.stops_all()?,
            _ => {}
        }
        self.started += 1;
        let owner = if ["up", "watch"].contains(&program) { "only1mcp" } else { program };
        let command = format!("exec {}", command.trim_end_matches(['&', ' ']));
        // A variable before the command is for the shell to set.
        let command = command.replacen("exec OTEL", "exec env OTEL", 1);
        let logs = self.scratch.folder("logs")?;
        let mut shell = self.shell(&command, owner)?;
        let mut process = Supervised::start(&format!("{program}-{}", self.started), &mut shell, &logs)?;
        match program {
            "up" => process.wait_stdout("the ready line", LIMIT, |line| line.starts_with("ready").then_some(()))?,
            "watch" => {
                process.wait_stdout("the first event", LIMIT, |_| Some(()))?;
                process.stop()?;
                return Ok(());
            }
            // A router is ready when the others are there.
            "router" => {
                let ops: SocketAddr = self.address(program, "ONLY1MCP_OPS").parse()?;
                wait::until_true("the router to be ready", LIMIT, || {
                    http_get(ops, "/readyz").is_ok_and(|(status, _)| status == 200) || !process.is_alive()
                })?;
            }
            _ => {}
        }
        if !process.is_alive() {
            return Err(fault(format!("it ended: {}", process.stderr_tail(5))));
        }
        self.running.push((program.to_owned(), process));
        Ok(())
    }

    fn runs(&self, command: &str) -> Result<(), Fault> {
        let ends = ENDS.iter().find(|(page, begins, ..)| *page == self.page && command.starts_with(begins));
        let wanted = ends.map_or(0, |(_, _, code, _)| *code);
        let said = Cli::run(&mut self.shell(command, "only1mcp")?)?;
        let lacks = |program: &str| said.code == 127 && said.stderr.contains(program);
        match OPTIONAL.iter().find(|program| lacks(program)) {
            Some(program) => left_out(&format!("a command of {} that needs {program}", self.page)),
            None => said.expect(wanted).map(drop),
        }
    }

    fn shell(&self, command: &str, program: &str) -> Result<Command, Fault> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.home).env_clear().env("HOME", &self.home);
        let path = std::env::var("PATH").unwrap_or_default();
        let (bin, programs) = (self.scratch.file("bin"), binaries::folder()?);
        shell.env("PATH", format!("{}:{}:{path}", bin.display(), programs.display()));
        let own = self
            .environment
            .iter()
            .filter(|(of, name, _)| *of == program || (program == "router" && *name == "ONLY1MCP_LISTEN"));
        shell.envs(own.map(|(_, name, value)| (name, value)));
        Ok(shell)
    }

    fn address(&self, program: &str, variable: &str) -> &str {
        let found = self.environment.iter().find(|(of, name, _)| *of == program && *name == variable);
        found.map_or("", |(.., address)| address)
    }

    fn here(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (said, here)| text.replace(said, here))
    }
}

/// What a command starts, if it goes on until it is stopped.
fn serves(command: &str) -> Option<&'static str> {
    let mut words = command.split_whitespace().skip_while(|word| word.contains('=') && !word.starts_with('-'));
    let (program, next) = (words.next()?, words.next().unwrap_or_default());
    match (program, next) {
        ("only1mcp", "up") => Some("up"),
        ("only1mcp", "watch") => Some("watch"),
        (service, next) if next != "healthcheck" => ["config-manager", "health-monitor", "drain-coordinator", "router"]
            .into_iter()
            .find(|known| *known == service),
        _ => None,
    }
}

/// A package that is fetched and started elsewhere is a demo server here.
fn install_npx(bin: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt;
    let script = format!("#!/bin/sh\nexec {} demo-server --stdio\n", binaries::path("only1mcp")?.display());
    let path = bin.join("npx");
    fs::write(&path, script)?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o755))?)
}
