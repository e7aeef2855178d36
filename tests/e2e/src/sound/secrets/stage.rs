//! The gateway with its most verbose log, all that is done to it, and all of its output.

use std::{
    fmt::Display,
    fs::{self, Permissions},
    io::{BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use nix::sys::signal::Signal;
use runtime::AdminToken;
use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, Document, Fault, Gateway, Scratch, Server,
    client::http_get,
    process_tree,
    stub::{self, RAW, Request, Stub},
    wait,
};

use super::planted::*;
use crate::run_anywhere::traces::receiver::Collector;

const LIMIT: Duration = Duration::from_secs(30);
/// The title of a window, a colour, a line of its own, and a C1 control.
const ESCAPES: &str = "\u{1b}]0;pwned\u{7}\u{1b}[31m\u{9b}2J\u{202e}";

/// Everything that left the gateway, by place and source.
#[derive(Default)]
pub(super) struct Heard {
    texts: Vec<(Place, String, String)>,
    /// Of the state directory: those that tell too much, or to too many.
    pub(super) open_files: Vec<String>,
    /// How often a service that is none of ours was called, and how often with the token of the gateway.
    pub(super) strangers_asked: usize,
    pub(super) strangers_told: usize,
}

impl Heard {
    fn add(&mut self, place: Place, whose: impl Display, text: impl Into<String>) {
        self.texts.push((place, whose.to_string(), text.into()));
    }

    pub(super) fn texts_of(&self, place: Place) -> impl Iterator<Item = (&str, &str)> {
        let of_place = self.texts.iter().filter(move |(known, ..)| *known == place);
        of_place.map(|(_, whose, text)| (whose.as_str(), text.as_str()))
    }

    /// What people look at.
    pub(super) fn for_terminals(&self) -> impl Iterator<Item = (&str, &str)> {
        [Place::Log, Place::Cli, Place::Ready].into_iter().flat_map(|place| self.texts_of(place))
    }
}

pub(super) struct Stage {
    scratch: Scratch,
    collector: Collector,
    gateway: Gateway,
    document: Document,
    file: ConfigFile,
    heard: Heard,
}

impl Stage {
    pub(super) fn new(format: &str) -> Result<Self, Fault> {
        let scratch = Scratch::new(&format!("secrets-{format}"))?;
        let collector = Collector::start()?;
        for (name, value) in [("env", FILE_ENV), ("header", FILE_HEADER), ("query", FILE_QUERY)] {
            private(&scratch.file(name), value)?;
        }
        let document = document(&scratch)?;
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let endpoint = format!("http://{}", collector.address());
        let gateway = Gateway::up_with(
            &scratch,
            file.path(),
            &[
                ("ONLY1MCP_LOG", "trace"),
                ("ONLY1MCP_LOG_FORMAT", format),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_BSP_SCHEDULE_DELAY", "100"),
                ("OTEL_TRACES_SAMPLER", "always_on"),
                ("P_ENV", ENV_ENV),
                ("P_HEADER", ENV_HEADER),
                ("P_QUERY", ENV_QUERY),
                ("P_ARG", ENV_ARG),
                ("P_DOWN", ENV_DOWN),
                ("P_HOST", &format!("{ENV_HOST}.invalid")),
                ("P_MOVED", ENV_MOVED),
                ("P_ECHOED", ENV_ECHOED),
                ("P_REFUSED", ENV_REFUSED),
                ("P_CRASH", &format!("{ESCAPES}{STDERR_CRASH}")),
            ],
        )?;
        Ok(Self { scratch, collector, gateway, document, file, heard: Heard::default() })
    }

    pub(super) fn play(mut self) -> Result<Heard, Fault> {
        // Servers that cannot come up have failed by then.
        wait::until_true("each server was tried", LIMIT, || {
            self.gateway.cli(&["status", "--output", "json"]).is_ok_and(|status| {
                let servers = status.json().unwrap_or_default()["servers"].clone();
                servers.as_array().is_some_and(|all| all.iter().all(tried))
            })
        })?;
        self.call()?;
        self.processes();
        self.ask()?;
        self.change()?;
        self.ask()?;
        self.intrude()?;
        for (place, path) in [(Place::Metric, "/metrics"), (Place::Ready, "/readyz")] {
            let (_, text) = http_get(self.gateway.ops, path)?;
            self.heard.add(place, path, text);
        }
        self.gateway.process.signal(Signal::SIGTERM);
        self.gateway.process.wait(LIMIT)?;
        // The last spans leave before the process does.
        self.heard.add(Place::Span, "all", self.collector.everything());
        for name in ["up.err", "up.out"] {
            let text = fs::read(self.scratch.folder("logs")?.join(name))?;
            self.heard.add(Place::Log, name, String::from_utf8_lossy(&text));
        }
        let mut open = Vec::new();
        open_files(self.gateway.state_dir(), &mut open)?;
        self.heard.open_files = open;
        Ok(self.heard)
    }

    /// Calls as clients make them, with secrets that they should not have sent.
    fn call(&mut self) -> Result<(), Fault> {
        let mut client = Client::connect(self.gateway.mcp)?;
        client.set_header("authorization", &format!("Bearer {CLIENT_AUTHORIZATION}"))?;
        client.set_header("cookie", &format!("id={CLIENT_COOKIE}"))?;
        client.initialize()?;
        let arguments = |value: &str| json!({ "secret": value });
        let post = || "POST".parse().expect("a method of HTTP");
        for (tool, argument) in [
            ("web__good", CALL_ARGUMENT),
            ("web__fails", CALL_ARGUMENT),
            ("web__refuses", CALL_ARGUMENT),
            ("child__do", CALL_ARGUMENT),
            ("child__nothing", CALL_REFUSED),
            ("dead__do", CALL_REFUSED),
            ("starts__do", CALL_REFUSED),
            ("elsewhere__do", CALL_REFUSED),
            ("follows__do", CALL_REFUSED),
            ("leaves__do", CALL_REFUSED),
            ("leaves-too__do", CALL_REFUSED),
        ] {
            let params = json!({ "name": tool, "arguments": arguments(argument) });
            let body = json!({ "jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params });
            let (status, headers, body) = client.exchange(post(), body.to_string())?;
            self.heard.add(Place::Client, tool, format!("{status} {headers:?} {}", String::from_utf8_lossy(&body)));
        }
        for method in ["tools/list", "no/such", "resources/list"] {
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": arguments(CALL_REFUSED) });
            let (status, headers, body) = client.exchange(post(), body.to_string())?;
            self.heard.add(Place::Client, method, format!("{status} {headers:?} {}", String::from_utf8_lossy(&body)));
        }
        let (status, _, body) = client.exchange(post(), format!("{{\"jsonrpc\": \"{CALL_REFUSED}\", \"id\": 1"))?;
        self.heard.add(Place::Client, "no JSON", format!("{status} {}", String::from_utf8_lossy(&body)));
        Ok(())
    }

    /// Everything that shows anything, for people and for programs.
    fn ask(&mut self) -> Result<(), Fault> {
        let file = self.file.path().display().to_string();
        let url = format!("http://{}/mcp", self.gateway.mcp);
        let commands: [&[&str]; 11] = [
            &["status"],
            &["history", "--refused"],
            &["diff"],
            &["diff", "1"],
            &["diff", &file],
            &["drains", "--all"],
            &["log"],
            &["reload", "--force"],
            &["tools", "--url", &url],
            &["call", "web__fails", "--url", &url],
            &["call", "web__refuses", "--url", &url],
        ];
        for command in commands {
            self.say(command)?;
        }
        let validated = testkit::gateway::command(&self.scratch.folder("home")?)?.args(["validate", &file]).output()?;
        self.heard.add(Place::Cli, "validate", String::from_utf8_lossy(&[validated.stdout, validated.stderr].concat()));
        Ok(())
    }

    fn say(&mut self, command: &[&str]) -> Result<(), Fault> {
        for output in ["text", "json"] {
            let said = self.gateway.cli(&[command, &["--output", output]].concat())?;
            let whose = format!("{} {output} ({})", command.join(" "), said.code);
            self.heard.add(Place::Cli, whose, said.stdout + "\n" + &said.stderr);
        }
        Ok(())
    }

    /// Good ones and bad ones.
    fn change(&mut self) -> Result<(), Fault> {
        private(&self.scratch.file("header"), FILE_RENEWED)?;
        let child = child(&self.scratch)?.env("LITERAL", LITERAL_CHANGED);
        self.document.put(child);
        self.file.replace(&self.document.yaml())?;
        self.say(&["reload"])?;
        let layer = format!(
            "servers: [{{ id: layered, transport: {{ type: http, url: 'http://127.0.0.1:9/', headers: {{ X-Key: {LITERAL_LAYER} }} }} }}]\n"
        );
        let path = self.scratch.file("layer.yaml");
        fs::write(&path, layer)?;
        self.say(&["apply", "--owner", "team", &path.display().to_string()])?;
        let good = self.document.yaml();
        let bad = Server::http("bad", "http://127.0.0.1:9/mcp")
            .transport("headers", json!({ "X-One": format!("${{{BAD_TEMPLATE}"), "X-Two": format!("a\n{BAD_HEADER}") }))
            .transport("env", json!({ "KEY": BAD_KEY }));
        self.document.put(bad);
        self.file.replace(&self.document.yaml())?;
        self.say(&["reload"])?;
        let file = self.file.path().display().to_string();
        self.say(&["diff", &file])?;
        self.document.remove("bad");
        self.document.put(Server::http("must", &refuses("500 Oops", BODY_START)?).key("critical", true.into()));
        self.file.replace(&self.document.yaml())?;
        self.say(&["reload"])?;
        self.document.remove("must");
        self.file.replace(&good)?;
        self.say(&["rollback", "1", "--reason", "they were planted"])
    }

    /// A client with a wrong token, and a service of others that the command line tool is pointed at.
    fn intrude(&mut self) -> Result<(), Fault> {
        let stranger = self.scratch.file("stranger");
        private(&stranger, WRONG_TOKEN)?;
        let admin = format!("http://{}", self.gateway.admin);
        self.say(&["status", "--admin", &admin, "--token-file", &stranger.display().to_string()])?;
        // A foreign service gets no token of ours.
        self.say(&["status", "--admin", &format!("http://{}", self.collector.address())])?;
        let token = fs::read_to_string(self.gateway.state_dir().join(AdminToken::FILE))?;
        let credentials = self.collector.credentials();
        self.heard.strangers_told = credentials.iter().filter(|sent| sent.contains(token.trim())).count();
        self.heard.strangers_asked = credentials.len();
        Ok(())
    }

    fn processes(&mut self) {
        let root = self.gateway.pid();
        for pid in process_tree::descendants(root).into_iter().map(|process| process.pid).chain([root]) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            self.heard.add(Place::Ps, pid, String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
}

fn tried(server: &Value) -> bool {
    server["verdict"] != "starting"
        || server["endpoints"].as_array().is_some_and(|all| all.iter().all(|one| !one["error"].is_null()))
}

fn document(scratch: &Scratch) -> Result<Document, Fault> {
    let web = Stub::start(["good", "fails", "refuses"].map(str::to_owned).into(), answer)?;
    let file = |name: &str| format!("${{file:{}}}", scratch.file(name).display());
    let query = format!("{}?f={}&e=${{env:P_QUERY}}&l={LITERAL_QUERY}", web.url(), file("query"));
    let headers = json!({
        "Authorization": format!("Bearer {}", file("header")),
        "X-Env": "${env:P_HEADER}",
        "X-Literal": LITERAL_HEADER,
        "X-Bearer": format!("Bearer {LITERAL_BEARER}"),
        "X-Mixed": format!("{LITERAL_MIXED}:${{env:P_HEADER}}"),
    });
    let crashes = Server::stdio("crashes", "/bin/sh".as_ref(), &["-c", "printf '%s\\n' \"$SAY\" >&2; exit 3"]);
    Ok(Document::default()
        .with(child(scratch)?)
        .with(Server::http("web", &query).transport("headers", headers))
        .with(Server::http("down", &format!("http://127.0.0.1:9/mcp?k={DOWN_QUERY}&e=${{env:P_DOWN}}")))
        .with(Server::http("nowhere", &format!("http://nowhere.invalid/mcp?k={NOWHERE_QUERY}")))
        .with(Server::http("starts", &refuses("500 Internal Server Error", BODY_START)?))
        .with(Server::http("elsewhere", "http://${env:P_HOST}/mcp"))
        .with(Server::http("follows", &redirects("/", MOVED_PATH)?))
        .with(Server::http("leaves", &format!("{}?e=${{env:P_MOVED}}", redirects("https://127.0.0.1:9", "")?)))
        .with(Server::http("leaves-too", &redirects("https://127.0.0.1:9/mcp?k=", MOVED_QUERY)?))
        .with(Server::http("locked", &refuses("401 Unauthorized", BODY_LOCKED)?))
        .with(echoes("echoes", refuses("401 Unauthorized", ENV_ECHOED)?, "${env:P_ECHOED}"))
        .with(echoes("refuses", answers(|_| refused(ENV_REFUSED))?, "${env:P_REFUSED}"))
        .with(crashes.env("SAY", "${env:P_CRASH}")))
}

/// On stdio, with an argument of each kind; talks on stderr at the start and in calls.
fn child(scratch: &Scratch) -> Result<Server, Fault> {
    let cases = format!(
        "*'\"tools/call\"'*) printf '{STDERR_CALL}\\033[2J\\n' >&2; printf '{{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{{\"code\":-32000,\"message\":\"it went wrong\"}}}}\\n' \"$id\";;"
    );
    stub::script("child", scratch, &cases)?;
    let script = scratch.file("server.sh");
    let body = fs::read_to_string(&script)?;
    let greeting = format!("printf '{STDERR_START}\\033]0;pwned\\007\\n' >&2\n");
    if !body.contains(STDERR_START) {
        fs::write(&script, greeting + &body)?;
    }
    let (script, lines) = (script.display().to_string(), scratch.file("LINES").display().to_string());
    Ok(Server::stdio("child", "/bin/sh".as_ref(), &[&script, LITERAL_ARG, "${env:P_ARG}"])
        .env("LINES", &lines)
        .env("FILE", &format!("${{file:{}}}", scratch.file("env").display()))
        .env("REFERENCE", "${env:P_ENV}")
        .env("LITERAL", LITERAL_ENV))
}

/// By the tool's name.
fn answer(request: &Request) -> stub::Reply {
    let (id, json) = (&request.body["id"], "application/json");
    match request.body["params"]["name"].as_str() {
        Some("good") => Some((json, stub::text(id, RESULT_TEXT))),
        Some("refuses") => {
            let body = format!("{BODY_CALL}{ESCAPES}\r\nproblem: forged");
            let length = body.len();
            Some((
                RAW,
                format!(
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
                ),
            ))
        }
        _ => {
            let content = json!([{ "type": "text", "text": format!("{RESULT_ERROR}{ESCAPES}") }]);
            let result = json!({ "content": content, "isError": true });
            Some((json, json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()))
        }
    }
}

/// The URL of a server that answers everything with `status` and a body that holds `secret`.
fn refuses(status: &'static str, secret: &'static str) -> Result<String, Fault> {
    answers(move |_| {
        let body = format!("{secret}{ESCAPES}\r\nforged");
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

/// One that is given what it says.
fn echoes(name: &str, url: String, reference: &str) -> Server {
    Server::http(name, &url).transport("headers", json!({ "X-Key": reference }))
}

/// A JSON-RPC error to whatever was asked, which says `secret`.
fn refused(secret: &str) -> String {
    let message = format!("no such key: {secret}{ESCAPES}");
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": message } }).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The URL of a server that redirects every client to `place`, with `secret` or the request's path behind it, and
/// refuses it there.
fn redirects(place: &'static str, secret: &'static str) -> Result<String, Fault> {
    answers(move |target| {
        let status = if target.starts_with("/mcp") { "307 Temporary Redirect" } else { "500 Oops" };
        let rest = if secret.is_empty() { target } else { secret };
        format!("HTTP/1.1 {status}\r\nLocation: {place}{rest}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    })
}

/// The URL of a server that answers each request by what it asks for.
fn answers(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Result<String, Fault> {
    let address = stub::listen(move |mut stream| {
        let Some(request) = Request::read(&mut BufReader::new(stream))? else { return Ok(()) };
        Ok(stream.write_all(answer(&request.path).as_bytes())?)
    })?;
    Ok(format!("http://{address}/mcp"))
}

fn private(path: &Path, text: &str) -> Result<(), Fault> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// Files below `folder` that others than their owner may touch, and those that hold what a reference stands for.
fn open_files(folder: &Path, open: &mut Vec<String>) -> Result<(), Fault> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            open_files(&path, open)?;
            continue;
        }
        if mode != 0o600 {
            open.push(format!("{} has mode {mode:04o}", path.display()));
        }
        let text = if metadata.is_file() { fs::read(&path)? } else { Vec::new() };
        let text = String::from_utf8_lossy(&text);
        let resolved = PLANTED.iter().filter(|secret| secret.is_behind_a_reference() && text.contains(secret.value));
        open.extend(resolved.map(|secret| format!("{} holds {}", path.display(), secret.what)));
    }
    Ok(())
}
