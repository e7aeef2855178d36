//! How commands behave where something is not as they wish: no gateway, two of them, that of another user, unknown
//! names, readers that have gone. The exit codes are those of `only1mcp --help`, and a program can read every failure.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_only1mcp");
/// No gateway is asked there.
const NOWHERE: &str = "http://127.0.0.1:1/mcp";

/// A home of its own, so that nothing of the machine is seen.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, directory: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("HOME", self.0.path()).env("XDG_RUNTIME_DIR", self.0.path());
        command.env("PATH", "/usr/bin:/bin").current_dir(self.0.path().join(directory)).stdin(Stdio::null());
        command
    }

    fn run(&self, directory: &str, arguments: &[&str]) -> Said {
        said(&mut self.command(directory, arguments))
    }

    /// A folder with a configuration of one server, of that name.
    fn project(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let server = format!("{{ type: stdio, command: {PROGRAM}, args: [demo-server, --stdio] }}");
        let text = format!("version: \"1.0\"\nservers:\n  - id: {name}\n    transport: {server}\n");
        for file in ["only1mcp.yaml", "layer.yaml"] {
            fs::write(folder.join(file), &text).unwrap();
        }
        folder
    }

    fn up(&self, directory: &str) -> Up {
        let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ops", "127.0.0.1:0"];
        let mut command = self.command(directory, &[&["up"], &free[..]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready: "), "{ready}");
        Up(child)
    }
}

struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGTERM);
        drop(self.0.wait());
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!(output.status.signal(), None, "{command:?}");
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Said {
    /// What a program reads of a failure: one line on stderr, of one shape.
    fn failure(&self) -> Value {
        let error: Value = serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        let mut keys: Vec<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "error", "next"], "{self:?}");
        assert_eq!(error["code"], self.code, "{self:?}");
        let text = error["error"].as_str().unwrap();
        assert!(!text.is_empty() && !text.starts_with("error:") && !text.starts_with("only1mcp:"), "{self:?}");
        error
    }
}

/// Commands that ask a gateway, each as a person would type it.
const ASKING: [&[&str]; 25] = [
    &["status"],
    &["top"],
    &["reload"],
    &["history"],
    &["show"],
    &["diff"],
    &["rollback"],
    &["apply", "layer.yaml", "--owner", "me"],
    &["apply", "layer.yaml", "--owner", "me", "--dry-run"],
    &["validate", "layer.yaml", "--try"],
    &["watch"],
    &["log"],
    &["log", "info,router=debug"],
    &["logs", "shop"],
    &["drain", "shop"],
    &["drain", "--cancel", "shop"],
    &["drains"],
    &["drains", "--all"],
    &["stats", "--drains"],
    &["restart", "shop"],
    &["disable", "shop"],
    &["enable", "shop"],
    &["tools", "--url", NOWHERE],
    &["call", "shop__add", "--url", NOWHERE],
    &["rollback", "1", "--reason", "it was better"],
];

/// Runs it as text and as JSON; both say the same by their exit code.
fn fails_with(home: &Home, directory: &str, arguments: &[&str], code: i32) -> Said {
    let text = home.run(directory, arguments);
    assert!(text.code == code && !text.err.is_empty(), "{arguments:?}: {text:?}");
    assert!(!text.err.contains("panicked"), "{arguments:?}: {text:?}");
    let json = home.run(directory, &[arguments, &["--output", "json"]].concat());
    assert_eq!(json.code, code, "{arguments:?}: {json:?}");
    json.failure();
    assert!(json.out.is_empty() || serde_json::from_str::<Value>(&json.out).is_ok(), "{json:?}");
    text
}

#[test]
fn without_a_gateway_each_command_says_so() {
    let home = Home::new();
    home.project("shop");
    for arguments in ASKING {
        fails_with(&home, "shop", arguments, 69);
    }
    let text = home.run("shop", &["status"]);
    assert!(
        text.err.contains("nothing runs for") && text.err.contains("next: start it with `only1mcp up`"),
        "{text:?}"
    );
}

#[test]
fn names_that_nobody_has_are_refused_and_nonsense_is_wrong_usage() {
    let home = Home::new();
    home.project("shop");
    let _up = home.up("shop");
    for (arguments, code) in [
        (&["logs", "ghost"][..], 1),
        (&["drain", "ghost"], 1),
        (&["drain", "shop", "--endpoint", "ffff"], 1),
        (&["drain", "--cancel", "ghost"], 1),
        (&["restart", "ghost"], 1),
        (&["disable", "ghost"], 1),
        (&["enable", "ghost"], 1),
        (&["show", "99"], 1),
        (&["diff", "99"], 1),
        (&["diff", "1", "ghost.yaml"], 1),
        (&["rollback", "99"], 1),
        (&["validate", "ghost.yaml"], 1),
        (&["import", "ghost.json"], 1),
        (&["call", "ghost"], 1),
        (&["apply", "ghost.yaml", "--owner", "me"], 1),
        (&["apply", "layer.yaml", "--owner", "no such name"], 64),
        (&["log", "blah"], 64),
        (&["log", "info", "--for", "8d"], 64),
        (&["log", "ghost=debug"], 64),
        (&["drain", "no such name"], 64),
        (&["drain", "shop", "--weight", "200%"], 64),
        (&["drain", "shop", "--strategy", "slowly"], 64),
        (&["drain", "shop", "--strategy", "progressive", "--rate", "0"], 64),
        (&["drain", "shop", "--strategy", "immediate", "--deadline", "1s"], 64),
        (&["stats"], 64),
        (&["drain"], 64),
        (&["restart"], 64),
        (&["restart", "no such name"], 64),
        (&["rollback", "0"], 64),
        (&["rollback", "one"], 64),
        (&["show", "0"], 64),
        (&["diff", "0"], 64),
        (&["history", "--last", "0"], 64),
        (&["status", "--timeout", "soon"], 64),
        (&["call", "shop__add", "[]"], 64),
        (&["tools", "--url", "nowhere"], 64),
        (&["export", "--client", "ghost"], 64),
        (&["status", "--ghost"], 64),
        (&["ghost"], 64),
    ] {
        fails_with(&home, "shop", arguments, code);
    }
    for (arguments, expected) in [
        (&["rollback", "abc"][..], "expected the number of a revision, from 1 on; `only1mcp history` lists them"),
        (&["show", "0"], "expected the number of a revision"),
        (&["history", "--last", "many"], "expected a number, at least 1"),
        (&["call", "shop__add", "notjson"], "not a JSON object: they do not begin with `{`"),
    ] {
        let refused = home.run("shop", arguments);
        assert!(refused.err.contains(expected), "{arguments:?}: {refused:?}");
    }
    let bare = fails_with(&home, "shop", &["call", "add"], 1);
    assert!(bare.err.contains("next: did you mean shop__add? `only1mcp tools` lists"), "{bare:?}");
}

#[test]
fn a_server_is_switched_off_over_a_restart_and_on_again() {
    let home = Home::new();
    home.project("shop");
    let call = || home.run("shop", &["call", "shop__add", r#"{"a": 40, "b": 2}"#]);
    let status = || serde_json::from_str::<Value>(&home.run("shop", &["status", "--output", "json"]).out).unwrap();
    {
        let _up = home.up("shop");
        assert_eq!(home.run("shop", &["enable", "shop"]).code, 2);
        let off = home.run("shop", &["disable", "shop"]);
        assert!(off.code == 0 && off.out.contains("shop is disabled until `only1mcp enable shop`"), "{off:?}");
        let refused = call();
        assert!(refused.code == 1 && refused.err.contains("`shop`"), "{refused:?}");
        let tools = home.run("shop", &["tools"]);
        assert!(tools.out.contains("shop__add"), "they stay listed: {tools:?}");
    }
    let _up = home.up("shop");
    let shown = home.run("shop", &["status"]);
    assert!(shown.out.contains("disabled by an operator"), "{shown:?}");
    assert!(status()["servers"][0]["disabled_by_operator"] == true, "{:#}", status());
    assert_eq!(call().code, 1);
    let on = home.run("shop", &["enable", "shop"]);
    assert!(on.code == 0 && on.out.contains("shop is open again"), "{on:?}");
    assert_eq!(call().out, "42\n");
    assert!(!home.run("shop", &["status"]).out.contains("disabled by an operator"));
}

#[test]
fn a_server_that_is_off_in_the_configuration_is_called_that() {
    let home = Home::new();
    let file = home.project("shop").join("only1mcp.yaml");
    let off = "  - { id: fm, enabled: false, transport: { type: http, url: 'http://127.0.0.1:1/mcp' } }\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + off).unwrap();
    let _up = home.up("shop");
    for arguments in [
        &["logs", "fm"][..],
        &["logs", "fm", "--follow"],
        &["restart", "fm"],
        &["drain", "fm"],
        &["disable", "fm"],
        &["enable", "fm"],
    ] {
        let text = fails_with(&home, "shop", arguments, 1);
        assert!(text.err.contains("server fm is disabled in the configuration"), "{arguments:?}: {text:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let home = Home::new();
    home.project("shop");
    let _up = home.up("shop");
    for arguments in [
        &["--help"][..],
        &["status", "--help"],
        &["status"],
        &["top"],
        &["status", "--output", "json"],
        &["history"],
        &["show"],
        &["tools"],
        &["drains", "--all"],
        &["schema"],
        &["export", "--client", "cursor"],
        &["completions", "bash"],
        &["call", "shop__add", r#"{"a": 1, "b": 1}"#],
        &["healthcheck"],
        &["watch"],
        &["logs", "shop", "--follow"],
    ] {
        let mut child = home.command("shop", arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(0) && !err.contains("panicked"), "{arguments:?}: {err}");
    }
}

#[test]
fn a_command_that_waits_for_news_ends_when_its_reader_has_gone() {
    let home = Home::new();
    home.project("shop");
    let _up = home.up("shop");
    // After this line nothing happens that would be printed.
    let mut command = home.command("shop", &["watch", "--kind", "drain"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("drain-coordinator  connected"), "{first}");
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.code() == Some(0) && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn the_gateway_that_runs_is_found_from_everywhere_and_of_two_one_is_named() {
    let home = Home::new();
    home.project("shop");
    let bank = home.project("bank");
    fs::remove_file(home.project("elsewhere").join("only1mcp.yaml")).unwrap();
    let shop = home.up("shop");
    let tools = home.run("elsewhere", &["tools"]);
    assert!(tools.code == 0 && tools.out.contains("shop__add"), "{tools:?}");
    let status = home.run("elsewhere", &["status"]);
    assert!(status.code == 0 && status.out.contains("shop/only1mcp.yaml"), "{status:?}");
    for arguments in [
        &["history"][..],
        &["drains"],
        &["stats", "--drains"],
        &["log"],
        &["show"],
        &["logs", "shop"],
        &["healthcheck"],
    ] {
        assert_eq!(home.run("elsewhere", arguments).code, 0, "{arguments:?}");
    }
    let export = home.run("elsewhere", &["export", "--client", "claude-desktop"]);
    assert!(export.out.contains("shop/only1mcp.yaml"), "{export:?}");
    let other = home.run("bank", &["status"]);
    assert!(
        other.code == 69 && other.err.contains("these run:") && other.err.contains("shop/only1mcp.yaml"),
        "{other:?}"
    );
    assert!(other.err.contains("next: start it with `only1mcp up`"), "{other:?}");

    let bank_up = home.up("bank");
    let commands = ASKING.into_iter().filter(|command| !command.contains(&NOWHERE));
    for arguments in commands.chain([&["tools"][..], &["call", "x"], &["export", "--client", "zed"]]) {
        let text = fails_with(&home, "elsewhere", arguments, 64);
        assert!(text.err.contains("2 gateways run"), "{text:?}");
        for project in ["shop", "bank"] {
            assert!(text.err.contains(&format!("({})", home.0.path().join(project).join("only1mcp.yaml").display())));
        }
    }
    let connect = home.run("elsewhere", &["connect"]);
    assert!(connect.code == 64 && connect.err.contains("2 gateways run"), "{connect:?}");
    let text = home.run("elsewhere", &["status"]).err;
    let named =
        text.lines().find(|line| line.contains("bank/only1mcp.yaml")).unwrap().split_whitespace().nth(1).unwrap();
    let chosen = home.run("elsewhere", &["status", "--state-dir", named]);
    assert!(chosen.code == 0 && chosen.out.contains("bank/only1mcp.yaml"), "{chosen:?}");
    let config = bank.join("only1mcp.yaml").display().to_string();
    assert_eq!(home.run("elsewhere", &["status", "--config", &config]).code, 0);
    let own = home.run("shop", &["status"]);
    assert!(own.code == 0 && own.out.contains("shop/only1mcp.yaml"), "{own:?}");
    drop(shop);
    let last = home.run("elsewhere", &["status"]);
    assert!(last.code == 0 && last.out.contains("bank/only1mcp.yaml"), "{last:?}");
    drop(bank_up);
    assert_eq!(home.run("elsewhere", &["status"]).code, 69);
}

/// The user of a command for whom a directory without permissions is closed; root is not such a user.
const NOBODY: u32 = 65_534;

fn as_somebody_else(command: &Command, program: &Path) -> Said {
    // The program that the test was built with may be in a folder that is closed to others.
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut other = Command::new(program);
    other.args(arguments).env_clear().current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        other.env(name, value.unwrap());
    }
    if geteuid().is_root() {
        other.uid(NOBODY).gid(NOBODY);
    }
    said(&mut other)
}

#[test]
fn a_gateway_of_another_user_is_not_touched_and_that_is_said() {
    let home = Home::new();
    home.project("shop");
    fs::set_permissions(home.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let _up = home.up("shop");
    let program = home.0.path().join("program");
    fs::copy(PROGRAM, &program).unwrap();
    let places = home.0.path().join(".local/state/only1mcp");
    let place = fs::read_dir(&places).unwrap().next().unwrap().unwrap().path();
    for folder in [home.0.path().join(".local"), home.0.path().join(".local/state"), places] {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    // As it is made anyway, but closed to its owner as well where that is who runs this test.
    let closed = if geteuid().is_root() { 0o700 } else { 0o000 };
    fs::set_permissions(&place, PermissionsExt::from_mode(closed)).unwrap();
    for arguments in ASKING.into_iter().filter(|command| !command.contains(&NOWHERE)) {
        let text = as_somebody_else(&home.command("shop", arguments), &program);
        assert!(text.code == 69 && text.err.contains("no access to the gateway at"), "{arguments:?}: {text:?}");
        let arguments = [arguments, &["--output", "json"]].concat();
        let json = as_somebody_else(&home.command("shop", &arguments), &program);
        assert!(json.failure()["next"].as_str().unwrap().contains("run this as the user"), "{json:?}");
    }
    let up = as_somebody_else(&home.command("shop", &["up", "--listen", "127.0.0.1:0"]), &program);
    assert!(up.code == 1 && up.err.contains("Permission denied") && up.err.contains("only1mcp-"), "{up:?}");
    fs::set_permissions(&place, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn help_fits_a_narrow_terminal() {
    let home = Home::new();
    let help = home.run("", &["--help"]);
    let commands = help.out.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let helps: Vec<Vec<&str>> = commands.map(|command| vec![command, "--help"]).chain([vec!["--help"]]).collect();
    assert!(helps.len() > 20, "{helps:?}");
    // A usage is one line at any width, and a word that is longer than a line, as a path, is not broken.
    let may_be_wide = |line: &str| line.starts_with("Usage: ") || line.split_whitespace().count() == 1;
    for columns in [40_usize, 80] {
        for help in &helps {
            // Nothing is a terminal here, so that the variable says the width.
            let said = said(home.command("", help).env("COLUMNS", columns.to_string()));
            assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
            let wide = said.out.lines().find(|line| line.chars().count() > columns && !may_be_wide(line));
            assert_eq!(wide, None, "{help:?} at {columns} columns");
        }
    }
}
