//! What the command line says: help texts and errors, word for word.
//!
//! After a change that is meant, `INSTA_UPDATE=always cargo test -p only1mcp --test golden` writes the new texts.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

/// The program in an empty home and a working directory of its own.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_only1mcp"));
    command.args(arguments).env_clear().env("HOME", directory).env("XDG_RUNTIME_DIR", directory);
    command.current_dir(directory).stdin(Stdio::null());
    command
}

fn only1mcp(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().expect("the program starts")
}

fn transcript(directory: &Path, arguments: &[&str]) -> String {
    let output = only1mcp(directory, arguments);
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).replace(&*directory.to_string_lossy(), "HOME");
        let digest = text.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64).map(str::to_owned);
        digest.map_or_else(|| text.clone(), |digest| text.replace(&digest, "DIGEST"))
    };
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    format!("exit {}\n--- stdout\n{out}--- stderr\n{err}", output.status.code().expect("no signal"))
}

#[test]
fn help() {
    let home = tempfile::tempdir().unwrap();
    let all = transcript(home.path(), &["--help"]);
    let commands = all.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    for command in commands {
        insta::assert_snapshot!(format!("help_{command}"), transcript(home.path(), &[command, "--help"]));
    }
    insta::assert_snapshot!("help", all);
    for columns in ["80", "120"] {
        // Nothing is a terminal here, so that the variable says the width.
        let output = command(home.path(), &["--help"]).env("COLUMNS", columns).output().expect("the program starts");
        insta::assert_snapshot!(format!("help_at_{columns}_columns"), String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn every_flag_has_a_variable_and_every_command_an_example() {
    let home = tempfile::tempdir().unwrap();
    let help = |arguments: &[&str]| String::from_utf8(only1mcp(home.path(), arguments).stdout).unwrap();
    let all = help(&["--help"]);
    let commands = all.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        let text = help(&[command, "--help"]);
        assert!(text.contains("Examples:"), "{command} has no example");
        let options = text.split("Options:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let flags = options.lines().filter(|line| line.trim_start().starts_with('-')).count() - 2; // --help, --version
        assert_eq!(flags, options.matches("ONLY1MCP_").count(), "{command} has a flag without a variable");
    }
}

#[test]
fn errors() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    file("good.yaml", GOOD);
    file("bad.yaml", BAD);
    file("empty.yaml", "");
    file("good.toml", GOOD_TOML);
    file("bad.toml", BAD_TOML);
    file("token", "0123456789abcdef0123456789abcdef");
    std::fs::set_permissions(home.path().join("token"), PermissionsExt::from_mode(0o600)).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("no_command", &[]),
        ("unknown_command", &["staus"]),
        ("unknown_flag", &["status", "--frob"]),
        ("bad_duration", &["status", "--timeout", "5x"]),
        ("drain_rate_of_no_steps", &["drain", "search", "--strategy", "immediate", "--rate", "5"]),
        ("drain_interval_alone", &["drain", "search", "--interval", "5s"]),
        ("drain_interval_of_none", &["drain", "search", "--strategy", "progressive", "--interval", "0s"]),
        ("drain_rate_of_none", &["drain", "search", "--strategy", "progressive", "--rate", "0"]),
        ("drain_no_time", &["drain", "search", "--deadline", "0s"]),
        ("drain_time_of_immediate", &["drain", "search", "--strategy", "immediate", "--deadline", "5s"]),
        ("drain_cancel_by_a_time", &["drain", "--cancel", "search", "--deadline", "5s"]),
        ("nothing_runs", &["status"]),
        ("nothing_runs_for_file", &["reload", "--config", "good.yaml", "--state-dir", "state"]),
        ("unreachable", &["history", "--admin", "http://127.0.0.1:1"]),
        ("bad_admin_url", &["history", "--admin", "ftp://example.org"]),
        ("no_mcp", &["tools", "--url", "http://127.0.0.1:1/mcp"]),
        ("bogus_mcp_url", &["tools", "--url", "bogus"]),
        ("unknown_flag_json", &["status", "--frob", "--output", "json"]),
        ("unreachable_json", &["history", "--admin", "http://127.0.0.1:1", "--output", "json"]),
        ("valid_toml", &["validate", "good.toml"]),
        ("invalid_toml", &["validate", "bad.toml"]),
        ("bad_mcp_url", &["tools", "--url", "https://127.0.0.1:1/mcp"]),
        ("bad_arguments", &["call", "echo", "[]"]),
        ("valid", &["validate", "good.yaml"]),
        ("valid_json", &["validate", "good.yaml", "--output", "json"]),
        ("invalid", &["validate", "bad.yaml"]),
        ("invalid_json", &["validate", "bad.yaml", "--output", "json"]),
        ("missing", &["validate", "missing.yaml"]),
        ("empty_layer", &["apply", "empty.yaml", "--owner", "me"]),
        ("token_in_clear_text", &["status", "--admin", "http://10.0.0.7:9441", "--token-file", "token"]),
        ("no_token", &["status", "--admin", "http://127.0.0.1:1", "--token-file", "missing"]),
    ];
    for (name, arguments) in cases {
        insta::assert_snapshot!(format!("error_{name}"), transcript(home.path(), arguments));
    }
}

const GOOD: &str = r#"version: "1.0"
naming: prefix
servers:
  - id: files
    transport: { type: stdio, command: cat }
"#;

const GOOD_TOML: &str = r#"version = "1.0"
[[servers]]
id = "files"
transport = { type = "stdio", command = "cat" }
"#;

const BAD_TOML: &str = r#"version = "1.0"
naming = "prefx"
[[servers]]
id = "files"
transport = { type = "stdio", comand = "cat" }
"#;

const BAD: &str = r#"version: "1.0"
naming: prefx
servers:
  - id: files
    transport: { type: stdio, comand: cat }
  - id: files
    transport: { type: http, url: "nowhere" }
"#;
