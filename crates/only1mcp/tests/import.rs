//! `import` and `export` as their user meets them: files of clients in a home, a plan, a yes, one file of ours.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

const SECRET: &str = "hunter22hunter22";
/// Each client by its name for `export`, with its file in a home.
const CLIENTS: [(&str, &str); 8] = [
    ("claude-desktop", ".config/Claude/claude_desktop_config.json"),
    ("claude-code", ".claude.json"),
    ("cursor", ".cursor/mcp.json"),
    ("vscode", ".config/Code/User/mcp.json"),
    ("windsurf", ".codeium/windsurf/mcp_config.json"),
    ("zed", ".config/zed/settings.json"),
    ("gemini-cli", ".gemini/settings.json"),
    ("codex", ".codex/config.toml"),
];

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// One server for each client, in its own format.
    fn of_all_clients() -> Self {
        let home = Self::new();
        for (i, (name, file)) in CLIENTS.iter().enumerate() {
            let server = json!({ "command": "cat", "args": [format!("--{i}")], "env": { "TOKEN": SECRET } });
            let text = match *name {
                "vscode" => format!("// mine\n{}", json!({ "servers": { "vscode": server } })),
                "zed" => json!({ "theme": "x", "context_servers": { "zed": server } }).to_string(),
                "codex" => format!("[mcp_servers.codex]\ncommand = \"cat\"\nargs = [\"--{i}\"]\n"),
                name => json!({ "mcpServers": { name: server } }).to_string(),
            };
            home.write(file, &text);
        }
        home
    }

    fn target(&self) -> PathBuf {
        self.0.path().join(".config/only1mcp/only1mcp.yaml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_only1mcp"));
        command.args(arguments).env_clear().env("HOME", self.0.path()).env("XDG_RUNTIME_DIR", self.0.path());
        command.current_dir(self.0.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let said = said(&self.command(arguments).output().unwrap());
        assert!(!said.1.contains(SECRET) && !said.2.contains(SECRET), "{said:?}");
        said
    }
}

/// Of a file that has each server on lines of its own.
fn ids(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let ids = text.lines().filter_map(|line| line.trim().strip_prefix("- id: "));
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.sort();
    ids
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn all_clients_are_found_and_nothing_is_written_without_a_yes() {
    let home = Home::of_all_clients();
    let (code, out, err) = home.run(&["import"]);
    let unasked = "nothing is written: a yes cannot be asked for here\n  next: add --yes\n";
    assert!(code == 1 && err.ends_with(unasked), "{code}: {out}{err}");
    assert!(err.contains("TOKEN: this looks like a secret"), "{err}");
    assert!(!home.target().exists());
    let (code, out, err) = home.run(&["import", "--output", "json"]);
    let plan: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!((code, &plan["written"], plan["add"].as_array().unwrap().len()), (1, &json!(false), 8), "{plan:#}");
    assert_eq!(plan["into"], "~/.config/only1mcp/only1mcp.yaml");
    assert!(!plan["notes"].as_array().unwrap().is_empty(), "{plan:#}");
    let error: Value = serde_json::from_str(&err).unwrap();
    let expected =
        json!({ "error": "nothing is written: a yes cannot be asked for here", "next": "add --yes", "code": 1 });
    assert_eq!(error, expected);

    let (code, out, err) = home.run(&["import", "--yes"]);
    assert!(code == 0 && out.contains("into ~/.config/only1mcp/only1mcp.yaml: 8 servers"), "{code}: {out}{err}");
    assert_eq!(fs::metadata(home.target()).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, out, err) = home.run(&["validate", ".config/only1mcp/only1mcp.yaml"]);
    assert!(code == 0 && out.contains("valid, 8 servers"), "{code}: {out}{err}");
    let written = fs::read_to_string(home.target()).unwrap();
    assert!(written.contains(SECRET), "what was written out is carried over: {written}");

    let (code, out, _) = home.run(&["import", "--yes"]);
    assert!(code == 2 && out.ends_with("nothing to add\n") && out.contains("= zed: is there already"), "{code}: {out}");
    assert_eq!(fs::read_to_string(home.target()).unwrap(), written);
}

#[test]
fn what_was_there_stays_and_names_that_clash_are_said() {
    let home = Home::new();
    let own = "# mine\nservers:\n  - id: files # kept\n    transport: { type: stdio, command: own }\nnaming: none\n";
    let target = home.write("only1mcp.yaml", own);
    fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
    home.write("a.json", r#"{"mcpServers": {"files": {"command": "theirs"}, "b c": {"command": "x"}}}"#);
    home.write("b.json", r#"{"servers": {"b-c": {"command": "x"}}}"#);
    let (code, out, err) = home.run(&["import", "a.json", "b.json", "--yes"]);
    assert_eq!(code, 0, "{out}{err}");
    for line in [
        "  ! files: not carried over, since another server of this name is in ~/only1mcp.yaml",
        "  + b-c: starts x",
        "  = b-c: is there already",
    ] {
        assert!(out.lines().any(|said| said == line), "{line}: {out}");
    }
    assert!(err.contains("mcpServers.b c: this server is called `b-c` here"), "{err}");
    let expected = own.replace("naming:", "  - id: b-c\n    transport:\n      type: stdio\n      command: x\nnaming:");
    assert_eq!(fs::read_to_string(&target).unwrap(), expected);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_plan_shows_what_is_started_and_no_secret() {
    let home = Home::new();
    let server = json!({ "command": "npx", "args": ["-y", "some-server", "--token", SECRET, format!("--api-key={SECRET}"), "/data"] });
    let remote = json!({ "url": format!("https://h.example.org/mcp?token={SECRET}") });
    let text = json!({ "mcpServers": { "a": server, "b": remote } }).to_string();
    let plan = |more: &[&str]| {
        let mut import = home.command(&[&["import", "-"], more].concat()).stdin(Stdio::piped()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        said(&import.wait_with_output().unwrap())
    };
    let (code, out, err) = plan(&[]);
    assert!(code == 1 && !out.contains(SECRET) && !err.contains(SECRET), "{code}: {out}{err}");
    assert!(out.contains("  + a: starts npx -y some-server --token *** *** /data\n"), "{out}");
    assert!(
        out.starts_with("(standard input): 2 servers\n") && out.contains("  + b: https://h.example.org/mcp\n"),
        "{out}"
    );
    assert_eq!(err.matches("this looks like a secret").count(), 3, "{err}");
    let (_, out, _) = plan(&["--output", "json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["add"][0]["args"], json!(["-y", "some-server", "--token", "***", "***", "/data"]));
    assert_eq!(plan["add"][1]["url"], "https://h.example.org/mcp");
}

#[test]
fn a_variable_that_is_not_set_is_told() {
    let home = Home::new();
    let server = r#"{"command": "/bin/cat", "env": {"A": "${HOME}", "B": "${WEATHER}"}}"#;
    home.write("mcp.json", &format!("{{\"mcpServers\":\n{{\"a\": {server}}}}}"));
    for arguments in [&["validate", "mcp.json"][..], &["import", "mcp.json", "--yes"]] {
        let (code, out, err) = home.run(arguments);
        let told = "mcp.json:2:60: mcpServers.a.env.B: `${env:WEATHER}` is not set here; set it where `up` runs";
        assert!(code == 0 && err.contains(told) && !err.contains("env:HOME"), "{arguments:?}: {code}: {out}{err}");
    }
}

#[test]
fn bad_files_change_nothing() {
    let home = Home::new();
    home.write("good.json", r#"{"mcpServers": {"a": {"command": "x"}}}"#);
    home.write("broken.json", r#"{"mcpServers": {"a": {"command": "x" "#);
    home.write("wrong.json", &format!(r#"{{"mcpServers": {{"a": {{"command": ["{SECRET}"]}}}}}}"#));
    home.write("other.json", r#"{"theme": "dark"}"#);
    home.write("deep.json", &"[".repeat(100_000));
    home.write("huge.json", &" ".repeat((16 << 20) + 1));
    home.write("own.yaml", "servers:\n  - id: a\n    transport: { type: stdio, command: x }\n");
    home.write("nul.json", "{\"mcpServers\": {}}\0\0\0");
    let text = "&a { mcpServers: { a: { command: x, env: { K: *a } } } }\n";
    home.write("cycle.yaml", text);
    symlink("loop.json", home.0.path().join("loop.json")).unwrap();
    for (file, why) in [
        ("broken.json", "broken.json:2:1: mcpServers.a: not valid JSON: a bracket is not closed"),
        ("wrong.json", "wrong.json:1:34: mcpServers.a.command: expected a text, found a list"),
        ("other.json", "other.json: no servers of an MCP client are in this file"),
        ("deep.json", "deep.json:1:"),
        ("huge.json", "huge.json: larger than 16777216 bytes"),
        ("own.yaml", "this is a configuration of Only1MCP already"),
        ("nul.json", "the control character U+0000"),
        ("cycle.yaml", "this alias stands inside the value it refers to"),
        ("loop.json", "cannot be opened"),
        ("missing.json", "there is no such file"),
    ] {
        let (code, out, err) = home.run(&["import", "good.json", file, "--yes"]);
        assert!(code == 1 && err.contains(why), "{file}: {code}: {out}{err}");
        assert!(out.ends_with("name those to import, to leave it out\n"), "{file}: {out}");
        assert!(!home.target().exists(), "{file}");
    }
    let laid_out = home.write("flat.yaml", "servers: [{ id: own, transport: { type: stdio, command: x } }]\n");
    let before = fs::read_to_string(&laid_out).unwrap();
    let (code, _, err) = home.run(&["import", "good.json", "--config", "flat.yaml", "--yes"]);
    assert!(code == 1 && err.contains("no place for more servers"), "{code}: {err}");
    assert_eq!(fs::read_to_string(&laid_out).unwrap(), before);
    home.write("bad.yaml", "servers: 1\n");
    let (code, _, err) = home.run(&["import", "good.json", "--config", "bad.yaml", "--yes"]);
    assert!(code == 1 && err.contains("expected a list of servers, found the number `1`"), "{code}: {err}");
    assert_eq!(home.run(&["import"]).0, 2, "no file of a client is here");
}

#[test]
fn imports_at_the_same_time_lose_nothing() {
    for there_is_one in [false, true] {
        let home = Home::new();
        let target = home.0.path().join("only1mcp.yaml");
        if there_is_one {
            home.write("only1mcp.yaml", "servers:\n  - id: own\n    transport: { type: stdio, command: x }\n");
        }
        let name = target.display().to_string();
        let started: Vec<_> = (0..8)
            .map(|i| {
                let file = home.write(
                    &format!("{i}.json"),
                    &json!({ "mcpServers": { format!("s{i}"): { "command": "x" } } }).to_string(),
                );
                let file = file.display().to_string();
                (i, home.command(&["import", &file, "--config", &name, "--yes"]).spawn().unwrap())
            })
            .collect();
        let mut expected: Vec<String> = if there_is_one { vec!["own".into()] } else { Vec::new() };
        for (i, import) in started {
            let (code, out, err) = said(&import.wait_with_output().unwrap());
            match code {
                0 => expected.push(format!("s{i}")),
                _ => assert!(code == 1 && err.contains("was changed while this was decided"), "{code}: {out}{err}"),
            }
        }
        expected.sort();
        assert_eq!(ids(&target), expected);
        assert_eq!(home.run(&["validate", "only1mcp.yaml"]).0, 0);
        let left: Vec<_> = fs::read_dir(home.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    }
}

#[test]
fn what_is_exported_leads_to_the_gateway_and_is_not_imported() {
    for (client, file) in CLIENTS {
        let home = Home::new();
        let (code, snippet, err) = home.run(&["export", "--client", client]);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains(file), "{client}: {err}");
        home.write(file, &snippet);
        let (code, out, err) = home.run(&["import", "--yes"]);
        assert!(
            code == 2 && err.contains("not carried over: it is this gateway itself"),
            "{client}: {code}: {out}{err}"
        );
        let way = if client == "claude-desktop" { "\"connect\"" } else { "\"http://127.0.0.1:8080/mcp\"" };
        assert!(snippet.contains(way), "{client}: {snippet}");
    }
}

#[test]
fn readme_has_what_export_prints_for_each_client() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for (client, _) in CLIENTS {
        let (_, snippet, said) = Home::new().run(&["export", "--client", client]);
        // Where a package puts the program.
        let snippet = snippet.replace(env!("CARGO_BIN_EXE_only1mcp"), "/usr/bin/only1mcp");
        assert!(readme.contains(&format!("\n{snippet}```\n")), "README has not for {client}:\n{snippet}");
        let (title, file) = said.trim().trim_start_matches("for ").trim_end_matches(':').split_once(", in ").unwrap();
        assert!(readme.contains(&format!("**{title}**, `{file}`")), "README does not say: {title}, {file}");
    }
}
