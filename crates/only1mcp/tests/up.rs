//! `up` as its user meets it: one program, a file, and the commands beside it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

#[path = "up/connect.rs"]
mod connect;
#[path = "up/elsewhere.rs"]
mod elsewhere;
#[path = "up/signals.rs"]
mod signals;
#[path = "up/upgrade.rs"]
mod upgrade;

/// A home of its own, so that nothing of the machine is seen.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_only1mcp"));
        command.args(arguments).env_clear().env("HOME", self.path()).env("XDG_RUNTIME_DIR", self.path());
        command.env("PATH", "/usr/bin:/bin").current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (_, out, err) = self.run(arguments);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    }

    /// Asks the gateway that runs to stop, if one does.
    fn stop(&self) {
        let places = fs::read_dir(self.path().join(".local/state/only1mcp")).into_iter().flatten();
        let said = places.filter_map(|place| fs::read(place.ok()?.path().join("up.json")).ok());
        for said in said.filter_map(|said| serde_json::from_slice::<Value>(&said).ok()) {
            let pid = said["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a pid");
            // It may have ended by itself.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    fn up(&self, more: &[&str]) -> Up {
        self.up_at("127.0.0.1:0", more)
    }

    /// MCP is served at that address.
    fn up_at(&self, listen: &str, more: &[&str]) -> Up {
        let mut command = self.command(&["up", "--listen", listen, "--admin", "127.0.0.1:0", "--ops", "127.0.0.1:0"]);
        let log = self.path().join("up.log");
        let stderr = fs::File::create(&log).unwrap();
        let mut child = command.args(more).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Up { child, ready, log }
    }
}

/// Leaves no gateway behind, however the test ends.
struct Stops<'a>(&'a Home);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Up {
    child: Child,
    ready: String,
    log: PathBuf,
}

impl Up {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Asks it to stop and returns its exit code.
    fn stop(mut self) -> i32 {
        signal(&self.child, Signal::SIGTERM);
        self.child.wait().unwrap().code().expect("no signal")
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_demo_is_served_edited_and_left() {
    let home = Home::new();
    let up = home.up(&[]);
    assert!(up.ready.starts_with("ready: MCP http://127.0.0.1:") && up.ready.ends_with("revision 1\n"), "{}", up.ready);
    assert!(up.said().contains("built-in demo"), "{}", up.said());
    assert_eq!(home.run(&["call", "calculator__add", r#"{"a": 40, "b": 2}"#]).1, "42\n");
    assert_eq!(home.run(&["call", "notes__add", r#"{"text": "milk"}"#]).1, "note 1 is written down\n");
    let status = home.json(&["status", "--output", "json"]);
    assert_eq!(status["revision"], 1);
    assert_eq!(status["servers"].as_array().unwrap().len(), 3);

    let file = home.path().join(".local/state/only1mcp/demo/only1mcp.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("id: clock", "id: watch")).unwrap();
    let (code, out, err) = home.run(&["reload"]);
    // The watcher may have been faster.
    assert!(code == 0 || code == 2, "{code}: {out}{err}");
    assert_eq!(home.run(&["call", "watch__wait", r#"{"seconds": 0}"#]).1, "0 s have passed\n");
    assert_eq!(home.run(&["call", "notes__list", "{}"]).1, "1: milk\n", "a server that was not edited goes on");
    let history = home.json(&["history", "--output", "json"]);
    assert_eq!(history[0]["revision"], 2);
    assert_eq!(home.run(&["rollback"]).0, 0);
    assert_eq!(home.run(&["call", "clock__wait", r#"{"seconds": 0}"#]).1, "0 s have passed\n");

    let (code, _, err) = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(err.contains(&up.child.id().to_string()), "it names the process that runs: {err}");
    assert_eq!(up.stop(), 0);
    assert_eq!(home.run(&["status"]).0, 69);
}

/// As after `import`, while the demo still runs in another terminal.
#[test]
fn an_address_that_is_taken_leads_to_the_gateway_that_has_it() {
    let home = Home::new();
    let up = home.up(&[]);
    fs::write(home.path().join("only1mcp.yaml"), "servers: []\n").unwrap();
    for (flag, place) in [("--listen", "MCP http://"), ("--admin", "admin http://"), ("--ops", "ops http://")] {
        let address = up.ready.split(place).nth(1).unwrap().split(['/', ',']).next().unwrap();
        let mut arguments = vec!["up", flag, address];
        let free = ["--listen", "--admin", "--ops"].into_iter().filter(|other| *other != flag);
        arguments.extend(free.flat_map(|flag| [flag, "127.0.0.1:0"]));
        let (code, _, err) = home.run(&arguments);
        let next = format!("\n  next: stop the gateway of the built-in demo (process {})", up.child.id());
        assert!(code == 1 && err.contains(address) && err.contains(&next), "{flag}: {code}: {err}");
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_broken_file_is_fatal_only_while_there_is_nothing_better() {
    let home = Home::new();
    let file = home.path().join("only1mcp.yaml");
    fs::write(&file, "version: \"1.0\"\nservers:\n  - id: a\n    transport: { type: stdio, comand: x }\n").unwrap();
    let mut up = home.up(&[]);
    assert_eq!(up.ready, "");
    assert_eq!(up.child.wait().unwrap().code(), Some(1));
    assert!(up.said().contains("only1mcp.yaml:4:"), "{}", up.said());

    let program = env!("CARGO_BIN_EXE_only1mcp");
    let good = format!(
        "version: \"1.0\"\nservers:\n  - id: a\n    transport: {{ type: stdio, command: {program}, args: [demo-server] }}\n"
    );
    fs::write(&file, good).unwrap();
    let up = home.up(&[]);
    assert!(up.ready.ends_with("revision 1\n"), "{}{}", up.ready, up.said());
    assert_eq!(up.stop(), 0);

    fs::write(&file, "servers: [").unwrap();
    let up = home.up(&[]);
    assert!(up.ready.ends_with("revision 1\n"), "the last good revision serves: {}{}", up.ready, up.said());
    assert_eq!(home.run(&["call", "a__add", r#"{"a": 1, "b": 1}"#]).1, "2\n");
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_is_live_is_served_while_the_log_cannot_be_opened() {
    let home = Home::new();
    assert_eq!(home.up(&[]).stop(), 0);
    let log = home.path().join(".local/state/only1mcp/demo/revisions.redb");
    let kept = log.with_extension("kept");
    fs::rename(&log, &kept).unwrap();
    fs::create_dir(&log).unwrap();

    let mut command =
        home.command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ops", "127.0.0.1:0"]);
    let mut up = Up { child: command.stdout(Stdio::piped()).spawn().unwrap(), ready: String::new(), log: kept.clone() };
    while home.run(&["call", "calculator__add", r#"{"a": 40, "b": 2}"#]).1 != "42\n" {
        assert_eq!(up.child.try_wait().unwrap(), None, "what is on the router's disk is served");
    }
    while home.run(&["healthcheck"]).0 != 0 {
        assert_eq!(up.child.try_wait().unwrap(), None);
    }
    fs::remove_dir(&log).unwrap();
    fs::rename(&kept, &log).unwrap();
    BufReader::new(up.child.stdout.take().unwrap()).read_line(&mut up.ready).unwrap();
    assert!(up.ready.ends_with("revision 1\n"), "{}", up.ready);
    assert_eq!(home.json(&["status", "--output", "json"])["revision"], 1);
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_call_in_flight_ends_before_the_process_does() {
    let home = Home::new();
    let up = home.up(&[]);
    let mut call = home.command(&["call", "clock__wait", r#"{"seconds": 2}"#]);
    let mut call = call.stdout(Stdio::piped()).spawn().unwrap();
    while home.json(&["status", "--output", "json"])["routers"][0]["in_flight"] != 1 {}
    assert_eq!(up.stop(), 0);
    let mut said = String::new();
    call.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((call.wait().unwrap().code(), said.as_str()), (Some(0), "2 s have passed\n"));
}

/// The content of what is live can be written back; what a server says can be read.
#[test]
fn what_is_live_is_shown_as_a_file_and_what_servers_say_is_shown() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_only1mcp");
    let server = format!(
        "{{ type: stdio, command: {program}, args: [demo-server, --stderr, \"the disk is slow\"], env: {{ KEY: \"${{env:HOME}}\" }} }}"
    );
    let text = format!("version: \"1.0\"\nlimits: {{ idle: 77s }}\nservers:\n  - id: a\n    transport: {server}\n");
    let file = home.path().join("only1mcp.yaml");
    fs::write(&file, text).unwrap();
    let up = home.up(&[]);
    let (code, shown, _) = home.run(&["show"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.starts_with("version: '1.0'\n") && shown.contains("idle: 77s"), "{shown}");
    fs::write(&file, &shown).unwrap();
    assert_eq!(home.run(&["reload"]).0, 2, "it is the same content");
    fs::write(&file, shown.replace("${env:HOME}", "a secret")).unwrap();
    // The watcher may have been faster.
    assert!([0, 2].contains(&home.run(&["reload"]).0));
    let (code, shown, said) = home.run(&["show"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        shown.contains("***(") && !shown.contains("a secret") && said.contains("1 value under `env`"),
        "{shown}{said}"
    );
    assert!(home.run(&["show", "1"]).1.contains("${env:HOME}"));
    assert_eq!(home.run(&["show", "9"]).0, 1);

    let (code, said, _) = home.run(&["logs", "a"]);
    assert_eq!((code, said.as_str()), (0, "the disk is slow\n"));
    assert_eq!(home.json(&["logs", "a", "--output", "json"])[0]["stderr"], json!(["the disk is slow"]));
    let (code, _, said) = home.run(&["logs", "b"]);
    assert!(code == 1 && said.contains("there is no server `b`"), "{code} {said}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_is_off_in_the_configuration_is_told_from_what_is_not_there_and_a_dry_run_advises() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_only1mcp");
    let server = format!("transport: {{ type: stdio, command: {program}, args: [demo-server] }}");
    let text = format!("servers:\n  - {{ id: a, {server} }}\n  - {{ id: spare, enabled: false, {server} }}\n");
    fs::write(home.path().join("only1mcp.yaml"), text).unwrap();
    let up = home.up(&[]);
    for command in ["disable", "drain"] {
        let (code, _, said) = home.run(&[command, "spare"]);
        assert!(code == 1 && said.contains("spare is disabled in the configuration"), "{code} {said}");
        assert!(said.contains("take `enabled: false` out of it"), "{said}");
        let (code, _, said) = home.run(&[command, "none"]);
        assert!(code == 1 && !said.contains("configuration"), "{code} {said}");
    }

    let layer = home.path().join("layer.yaml");
    let would = |key: &str| {
        let transport =
            format!("{{ type: http, url: \"http://127.0.0.1:9/mcp\", headers: {{ X-Api-Key: \"{key}\" }} }}");
        let gone = "{ type: stdio, command: /no/such/program }";
        let text = format!("servers:\n  - {{ id: b, transport: {transport} }}\n  - {{ id: c, transport: {gone} }}\n");
        fs::write(&layer, text).unwrap();
        home.run(&["apply", layer.to_str().unwrap(), "--owner", "me", "--dry-run"])
    };
    let (code, shown, said) = would("abcdef123");
    assert!(code == 0 && shown.contains("+ server b: added"), "{code} {shown}{said}");
    assert!(said.contains("looks like a secret") && said.contains("there is no such program here"), "{said}");
    let (code, _, said) = would("***(1a2b3c4d)");
    assert!(code == 1 && said.contains("is not the secret but what `only1mcp show` prints"), "{code} {said}");
    assert_eq!(up.stop(), 0);
}

/// Reads the events of a `watch` up to one of config-manager of that kind.
fn next_event(lines: &mut impl Iterator<Item = std::io::Result<String>>, kind: &str) -> Value {
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let wanted = |event: &Value| event["kind"] == kind && event["service"] == "config-manager";
    events.find(wanted).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn a_toml_file_is_served_compared_and_watched_over_a_restart() {
    let home = Home::new();
    let file = home.path().join("only1mcp.toml");
    let text = format!(
        "[[servers]]\nid = \"a\"\ntransport = {{ type = \"stdio\", command = {:?}, args = [\"demo-server\", \"--stdio\"], env = {{ KEY = \"literal\" }} }}\n",
        env!("CARGO_BIN_EXE_only1mcp")
    );
    fs::write(&file, &text).unwrap();
    let up = home.up(&[]);
    assert!(up.ready.ends_with("revision 1\n"), "{}{}", up.ready, up.said());
    let mut watch = home.command(&["watch", "--output", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert_eq!(next_event(&mut events, "connected")["revision"], 1);

    let renamed = home.path().join("new.toml");
    fs::write(&renamed, format!("naming = \"none\"\n{text}")).unwrap();
    let planned = home.json(&["diff", "new.toml", "--output", "json"]);
    fs::rename(&renamed, &file).unwrap();
    home.run(&["reload"]);
    assert_eq!(next_event(&mut events, "committed")["revision"], 2);
    let done = home.json(&["diff", "--output", "json"]);
    assert_eq!(done["policy"], serde_json::json!([{ "key": "naming", "old": "prefix", "new": "none" }]));
    assert_eq!((&done["policy"], &done["servers"]), (&planned["policy"], &planned["servers"]));
    assert_eq!(done["to"]["digest"], planned["to"]["digest"]);
    assert_eq!(home.run(&["diff", "only1mcp.toml"]).0, 2);
    let (code, out, err) = home.run(&["diff", "1", "2"]);
    let renamed = "~ naming: \"prefix\" → \"none\"\n    clients see all tools under other names\n";
    assert_eq!((code, out, &*err), (0, format!("revision 1 → revision 2\n{renamed}"), ""));
    fs::write(home.path().join("bad.toml"), "naming = 1\n").unwrap();
    assert_eq!(home.run(&["diff", "bad.toml"]).0, 1);

    assert_eq!(up.stop(), 0);
    next_event(&mut events, "disconnected");
    let again = home.up(&[]);
    let connected = next_event(&mut events, "connected");
    assert_eq!(connected["revision"], 2);
    assert!(connected["message"].as_str().unwrap().starts_with("again after"), "{connected}");
    signal(&watch, Signal::SIGINT);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    assert_eq!(again.stop(), 0);

    fs::write(home.path().join("only1mcp.yaml"), "servers: []\n").unwrap();
    let (code, _, err) = home.run(&["status"]);
    assert_eq!(code, 64);
    assert!(err.contains("only1mcp.yaml and only1mcp.toml"), "{err}");
}

#[test]
fn a_file_of_a_client_is_served_as_it_is() {
    let home = Home::new();
    let project = home.path().join("shop/.vscode");
    fs::create_dir_all(&project).unwrap();
    let program = env!("CARGO_BIN_EXE_only1mcp");
    let text = format!(
        "{{\n  // mine\n  \"servers\": {{\n    \"a\": {{ \"command\": \"{program}\", \"args\": [\"demo-server\", \"--stdio\"],\n      \
         \"envFile\": \".env\" }},\n    \"off\": {{ \"command\": \"x\", \"disabled\": true }},\n  }},\n}}\n"
    );
    fs::write(project.join("mcp.json"), text).unwrap();
    let (code, out, err) = home.run(&["validate", "shop/.vscode/mcp.json"]);
    assert!(code == 0 && out.contains("valid, 1 server") && err.lines().count() == 2, "{code}: {out}{err}");
    let up = home.up(&["--config", "shop/.vscode/mcp.json"]);
    assert!(up.ready.ends_with("revision 1\n"), "{}{}", up.ready, up.said());
    let config = ["--config", "shop/.vscode/mcp.json"];
    let (code, out, err) = home.run(&[&["call", "a__add", r#"{"a": 40, "b": 2}"#], &config[..]].concat());
    assert_eq!((code, &*out), (0, "42\n"), "{err}");
    for note in
        ["mcp.json:5:7: servers.a.envFile: not carried over", "servers.off: not carried over: it is switched off"]
    {
        assert!(up.said().contains(note), "{note}: {}", up.said());
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_client_that_is_configured_by_export_gets_the_tools() {
    let home = Home::new();
    let up = home.up(&[]);
    for client in ["claude-code", "cursor", "vscode", "windsurf", "zed", "gemini-cli", "codex"] {
        let (code, entry, err) = home.run(&["export", "--client", client]);
        assert_eq!(code, 0, "{client}: {err}");
        let url =
            entry.split('"').find(|text| text.starts_with("http://")).unwrap_or_else(|| panic!("{client}: {entry}"));
        let (code, tools, err) = home.run(&["tools", "--url", url]);
        assert!(code == 0 && tools.contains("calculator__add"), "{client}: {code}: {tools}{err}");
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_server_that_hangs_is_restarted_by_its_policy_and_by_hand() {
    let home = Home::new();
    let text = format!(
        "version: \"1.0\"\nhealth: {{ interval: 200ms, timeout: 200ms, unhealthy_threshold: 2 }}\nservers:\n  - id: a\n    \
         restart_unhealthy: true\n    transport: {{ type: stdio, command: {}, args: [demo-server, --stdio] }}\n  - id: loop\n    \
         transport: {{ type: stdio, command: sh, args: [-c, \"echo not today; exit 3\"] }}\n",
        env!("CARGO_BIN_EXE_only1mcp")
    );
    fs::write(home.path().join("only1mcp.yaml"), text).unwrap();
    let up = home.up(&[]);
    let server = |id: &str| {
        let status = home.json(&["status", "--output", "json"]);
        let servers = status["servers"].as_array().unwrap();
        servers.iter().find(|server| server["id"] == id).unwrap().clone()
    };
    let pid = |server: &Value| server["endpoints"][0]["pid"].as_u64();
    let first = pid(&server("a")).unwrap();
    let restarted = home.json(&["restart", "a", "--output", "json"]);
    let second = restarted["endpoints"][0]["pid"].as_u64().unwrap();
    assert_eq!(restarted["endpoints"][0]["previous_pid"].as_u64(), Some(first), "{restarted}");
    assert!(second != first && pid(&server("a")) == Some(second), "{restarted}");
    let (code, _, said) = home.run(&["restart", "nowhere"]);
    let unknown = "only1mcp: there is no server `nowhere`\n  next: `only1mcp status` lists those that there are\n";
    assert_eq!((code, &*said), (1, unknown));
    let mut watch = home.command(&["watch", "--server", "nowhere"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = BufReader::new(watch.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(Some(&*first), unknown.lines().next());
    signal(&watch, Signal::SIGINT);
    assert_eq!(watch.wait().unwrap().code(), Some(0), "it goes on, for a server that may come");

    // One call is in its hands when it stops to live.
    let mut call = home.command(&["call", "a__sleep", r#"{"ms": 60000}"#]);
    let call = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while server("a")["in_flight"] != 1 {}
    kill(Pid::from_raw(second.try_into().unwrap()), Signal::SIGSTOP).unwrap();
    let ended = call.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
    assert!(said.contains("was restarted while the call was running: it was judged unhealthy"), "{said}");
    while pid(&server("a")).is_none_or(|pid| pid == second) {}
    assert_eq!(home.run(&["call", "a__echo", r#"{"text": "again"}"#]).1, "again\n");

    // A server that ends over and over is not restarted for ever.
    while server("loop")["verdict"] != "failing" {}
    let (code, _, said) = home.run(&["restart", "loop"]);
    assert!(code == 1 && said.contains("exited with status 3") && said.contains("not today"), "{code}: {said}");
    let (code, shown, _) = home.run(&["status"]);
    assert!(code == 1 && shown.contains("problem: server loop is failing"), "{shown}");
    let (code, shown, said) = home.run(&["tools"]);
    assert!(code == 0 && shown.contains("a__echo") && said.contains("note: server loop is not up"), "{shown}{said}");
    let (code, _, said) = home.run(&["call", "loop__x"]);
    assert!(code == 1 && said.contains("server `loop` is not up: ") && said.contains("only1mcp logs loop"), "{said}");
    assert_eq!(up.stop(), 0);
}
