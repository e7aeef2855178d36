//! The log of a process: lines that programs can read, none with a secret in it, and as many as were asked for.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use runtime::AdminToken;
use serde_json::{Value, json};
use testkit::{Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, binaries, demo, fault};

const LIMIT: Duration = Duration::from_secs(30);
const IN_ENVIRONMENT: &str = "planted-in-the-environment-5f1c9a";
const IN_FILE: &str = "planted-in-a-file-77b2e0";
const WRONG_TOKEN: &str = "planted-as-a-wrong-token-0c4d51";

/// A gateway with its most verbose log, and secrets wherever one can be.
struct Stage {
    scratch: Scratch,
    gateway: Gateway,
    document: Document,
    file: ConfigFile,
    backend: DemoServer,
}

impl Stage {
    fn new(name: &str) -> Result<Self, Fault> {
        let scratch = Scratch::new(name)?;
        let secret = scratch.file("secret");
        fs::write(&secret, IN_FILE)?;
        let backend = DemoServer::start("http", &scratch, &[])?;
        let bearer = format!("Bearer ${{file:{}}}", secret.display());
        let document = Document::default()
            .with(demo::stdio("child", "child", &scratch)?.env("KEY", "${env:PLANTED}"))
            .with(Server::http("http", &backend.url()).transport("headers", json!({ "Authorization": bearer })));
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let environment = [("PLANTED", IN_ENVIRONMENT), ("ONLY1MCP_LOG", "trace"), ("ONLY1MCP_LOG_FORMAT", "json")];
        let gateway = Gateway::up_with(&scratch, file.path(), &environment)?;
        Ok(Self { scratch, gateway, document, file, backend })
    }

    /// Calls, changes, refusals, and a caller with the wrong token.
    fn live(&mut self) -> Result<(), Fault> {
        let mut client = Client::open(self.gateway.mcp)?;
        for server in ["child", "http"] {
            client.text(&format!("{server}__echo"), &json!({ "text": "hello" }))?;
        }
        client.call("child__nothing", &json!({})).ok();
        let stranger = self.scratch.file("stranger");
        fs::write(&stranger, WRONG_TOKEN)?;
        restrict(&stranger)?;
        let admin = format!("http://{}", self.gateway.admin);
        let file = stranger.display().to_string();
        self.gateway.cli(&["status", "--admin", &admin, "--token-file", &file])?.expect(1)?;
        let token = self.gateway.state_dir().join(AdminToken::FILE).display().to_string();
        self.gateway.cli(&["log", "trace,router=trace", "--admin", &admin, "--token-file", &token])?.expect(0)?;
        self.document
            .put(Server::http("late", &self.backend.url()).transport("headers", json!({ "X": "${env:PLANTED}" })));
        self.document.put(demo::stdio("child", "child", &self.scratch)?.env("KEY", "again ${env:PLANTED}"));
        self.file.replace(&self.document.yaml())?;
        let reloaded = self.gateway.cli(&["reload", "--output", "json"])?;
        if !matches!(reloaded.code, 0 | 2) {
            return reloaded.expect(0).map(drop);
        }
        client.text("late__echo", &json!({ "text": "hello" }))?;
        self.document
            .put(Server::http("lost", &self.backend.url()).transport("headers", json!({ "X": "${env:NOT_SET}" })));
        self.file.replace(&self.document.yaml())?;
        self.gateway.cli(&["reload"])?.expect(1)?;
        self.gateway.cli(&["rollback"])?.expect(0)?;
        self.gateway.process.signal(Signal::SIGTERM);
        self.gateway.process.wait(LIMIT)?;
        Ok(())
    }

    fn log(&self) -> Result<Vec<String>, Fault> {
        let text = fs::read_to_string(self.scratch.file("logs").join("up.err"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// All texts that only their owners may see.
    fn secrets(&self) -> Result<Vec<String>, Fault> {
        let state = self.gateway.state_dir();
        let mut secrets = vec![IN_ENVIRONMENT.to_owned(), IN_FILE.to_owned(), WRONG_TOKEN.to_owned()];
        for kept in [AdminToken::FILE, "router/session.key"] {
            secrets.extend(fs::read_to_string(state.join(kept))?.lines().map(|line| line.trim().to_owned()));
        }
        secrets.retain(|secret| !secret.is_empty());
        if secrets.len() < 5 { Err(fault(format!("only {} secrets", secrets.len()))) } else { Ok(secrets) }
    }
}

fn restrict(path: &std::path::Path) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

#[test]
fn the_loudest_log_is_readable_by_programs_and_tells_no_secret() -> Result<(), Fault> {
    let mut stage = Stage::new("logs")?;
    stage.live()?;
    let lines = stage.log()?;
    assert!(lines.len() > 50, "only {} lines at trace", lines.len());
    for secret in stage.secrets()? {
        let leak = lines.iter().find(|line| line.contains(&secret));
        assert!(leak.is_none(), "{leak:?} tells a secret");
    }
    let mut entries = Vec::new();
    for line in &lines {
        let entry: Value = serde_json::from_str(line).map_err(|error| Fault::from(error).during(line))?;
        for key in ["timestamp", "level", "target", "message"] {
            assert!(entry[key].is_string(), "no {key} in {line}");
        }
        entries.push(entry);
    }
    let said = |message: &str| entries.iter().filter(|entry| entry["message"] == message).collect::<Vec<_>>();
    // The log line of a change names its actor and its content.
    let last = said("committed").into_iter().find(|entry| entry["changes"].to_string().contains("+late"));
    let last = last.ok_or_else(|| fault("no line says what the change was about"))?;
    let counts = (&last["added"], &last["removed"], &last["changed"]);
    assert_eq!(counts, (&json!(1), &json!(0), &json!(1)), "{last}");
    let actors: Vec<&Value> = said("committed").iter().map(|entry| &entry["actor"]).collect();
    assert!(actors.iter().all(|actor| actor.is_string()), "{actors:?}");
    assert!(actors.iter().any(|actor| actor.as_str().is_some_and(|actor| actor.starts_with("uid:"))), "{actors:?}");
    // The actor that raised the log level is on record, too.
    let turned = said("the log filter was changed");
    assert!(turned.iter().any(|entry| entry["actor"] == "token"), "{turned:?}");
    // Four calls of tools; none of them writes a line at the default level.
    let calls: Vec<_> = said("call");
    assert!(calls.len() >= 4 && calls.iter().all(|entry| entry["level"] == "DEBUG"), "{calls:?}");
    Ok(())
}

#[test]
fn a_log_that_makes_no_sense_is_refused_at_start() -> Result<(), Fault> {
    let scratch = Scratch::new("logs-refused")?;
    for (program, arguments) in [
        ("only1mcp", &["up"][..]),
        ("config-manager", &[]),
        ("router", &[]),
        ("health-monitor", &[]),
        ("drain-coordinator", &[]),
    ] {
        for (name, value, wanted) in [
            ("ONLY1MCP_LOG", "loud", "expected one of off, error, warn, info, debug, trace"),
            (
                "ONLY1MCP_LOG",
                "h2=trace",
                "config_manager, drain_coordinator, health_monitor, only1mcp, router, runtime",
            ),
            ("ONLY1MCP_LOG_FORMAT", "xml", "expected pretty, logfmt or json"),
        ] {
            let mut command = Command::new(binaries::path(program)?);
            command.args(arguments).env(name, value).env("HOME", scratch.path()).stdin(Stdio::null());
            let Output { status, stderr, .. } = command.output()?;
            let text = String::from_utf8_lossy(&stderr);
            assert_eq!(status.code(), Some(64), "{program} {name}={value}: {text}");
            assert!(text.contains(wanted), "{program} {name}={value}: {text}");
        }
    }
    Ok(())
}
