//! How clients on two SDKs handle the gateway's own messages: servers that are missing from a list, a session that has
//! ended, and a session that stays with one of several `urls`.

use std::{
    io::{self, PipeWriter, Write},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    ConfigFile, Document, Fault, Gateway, Scratch, Server, Supervised, demo, fault,
    raw::{LIMIT, Raw},
    wait,
};
use tokio::time::Instant;

use super::Programs;
use crate::Figures;

/// A client does not hang: whatever it is told, it has answered by then.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many sessions the router remembers, and how long they live unused: the least of the one, and little of the
/// other.
const SESSIONS: usize = 100;
const IDLE: Duration = Duration::from_secs(2);

pub(super) fn run(programs: &Programs, figures: &mut Figures) -> Result<(), Fault> {
    let scratch = Scratch::new("foreign-told")?;
    let (one, one_url) = programs.weather("one", &scratch)?;
    let (other, other_url) = programs.weather("other", &scratch)?;
    let limits = json!({ "sessions": SESSIONS, "session_idle": format!("{}s", IDLE.as_secs()) });
    let document = Document::default()
        .key("limits", limits)
        .with(demo::stdio("demo", "demo", &scratch)?)
        .with(Server::http("away", "http://127.0.0.1:9/mcp"))
        .with(Server::http("twins", &one_url).transport("urls", json!([other_url])));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    wait::until_true("both of the twins", LIMIT, || {
        let status = gateway.cli(&["status", "--output", "json"]).and_then(|status| status.json()).unwrap_or_default();
        let servers = status["servers"].as_array().into_iter().flatten();
        let twins = servers.filter(|server| server["id"] == "twins");
        twins.flat_map(|server| server["endpoints"].as_array().into_iter().flatten()).count() == 2
    })?;
    for name in ["python", "typescript"] {
        figures.note("told", name);
        let mut client = Client::start(programs, name, &gateway, &scratch)?;
        missing(&mut client, figures)?;
        stays(&mut client, figures)?;
        crowded_out(&mut client, &gateway, figures)?;
        ended(&mut client, &gateway, figures)?;
    }
    drop((one, other));
    Ok(())
}

/// A list without a server that is down says so in `_meta`, which is no reason to refuse the list.
fn missing(client: &mut Client, figures: &mut Figures) -> Result<(), Fault> {
    client.connect()?;
    let listed = client.told("list", "")?;
    let tools = listed["tools"].as_array().into_iter().flatten();
    let good = tools.filter(|tool| tool.as_str().is_some_and(|tool| tool.starts_with("demo__"))).count();
    let named = listed["meta"]["only1mcp/missing"].to_string();
    figures.demand("tools_beside_a_missing_server", good, "some", good > 0);
    figures.demand("missing", &named, "names `away`", named.contains("away"));
    Ok(())
}

/// A server's counter in its session goes up by one with each call, in each session of the client.
fn stays(client: &mut Client, figures: &mut Figures) -> Result<(), Fault> {
    let mut strayed = Vec::new();
    for _ in 0..3 {
        client.connect()?;
        let mut last: Option<(String, u64)> = None;
        for _ in 0..8 {
            let said = client.told("call", "twins__count")?;
            let text = said["text"].as_str().unwrap_or_default();
            let now = text.split_once(' ').and_then(|(port, count)| Some((port.to_owned(), count.parse().ok()?)));
            let now: (String, u64) = now.ok_or_else(|| fault(format!("no count in {said}")))?;
            if last.as_ref().is_some_and(|(port, count)| *port != now.0 || count + 1 != now.1) {
                strayed.push(format!("{now:?} after {last:?}"));
            }
            last = Some(now);
        }
    }
    figures.none("sessions_that_strayed", &strayed);
    Ok(())
}

/// More sessions than the router remembers, all used later than that of the client: its open stream of announcements is
/// use, so it is not evicted.
fn crowded_out(client: &mut Client, gateway: &Gateway, figures: &mut Figures) -> Result<(), Fault> {
    client.connect()?;
    let begun = Instant::now();
    wait::until_true("the session to be older than an unused one may be", 2 * IDLE, || begun.elapsed() > IDLE)?;
    let evicted = || gateway.metric("only1mcp_router_sessions_evicted_total", "");
    let before = evicted();
    for _ in 0..2 * SESSIONS {
        Raw::open(gateway.mcp)?.works()?;
    }
    wait::until_true("sessions to be evicted", LIMIT, || evicted() > before)?;
    let asked = Instant::now();
    let said = client.told("call", "demo__whoami")?;
    figures.demand("a_call_in_a_crowd", &said, "a text", said["text"].is_string());
    figures.demand("answered_after_ms", asked.elapsed().as_millis(), "below 5000", asked.elapsed().as_secs() < 5);
    Ok(())
}

/// How SDKs report a 404: one repeats the gateway's message, the other has its own.
fn is_clear(said: &Value) -> bool {
    let error = said["error"].as_str().unwrap_or_default();
    error.contains("session not found") || error.contains("Session terminated")
}

/// A session that has ended is reported at once, and a new one works.
fn ended(client: &mut Client, gateway: &Gateway, figures: &mut Figures) -> Result<(), Fault> {
    let session = client.connect()?;
    let mut raw = Raw::connect(gateway.mcp)?;
    raw.session = Some(session);
    raw.bare("DELETE")?;
    let status = raw.response()?.status;
    figures.demand("ended", status, "204", status == 204);
    let asked = Instant::now();
    let said = client.told("call", "demo__whoami")?;
    figures.demand("a_call_in_an_ended_session", &said, "an error that says so", is_clear(&said));
    figures.demand("answered_after_ms", asked.elapsed().as_millis(), "below 5000", asked.elapsed().as_secs() < 5);
    client.connect()?;
    let said = client.told("call", "demo__whoami")?;
    figures.demand("a_call_in_a_new_session", &said, "a text", said["text"].is_string());
    Ok(())
}

/// A client that does one thing after another.
struct Client {
    process: Supervised,
    words: PipeWriter,
    turn: u64,
}

impl Client {
    fn start(programs: &Programs, name: &str, gateway: &Gateway, scratch: &Scratch) -> Result<Self, Fault> {
        let (program, script) =
            if name == "python" { (&programs.python, "told.py") } else { (&programs.node, "told.mjs") };
        let mut command = Command::new(program);
        command.arg(programs.folder.join(script)).arg(format!("http://{}/mcp", gateway.mcp));
        let (input, words) = io::pipe()?;
        let logs = scratch.folder("logs")?;
        let name = format!("told-{name}");
        let process = Supervised::start_with(input.into(), &name, command.current_dir(&programs.folder), &logs)?;
        Ok(Self { process, words, turn: 0 })
    }

    /// Begins a session, and returns its id.
    fn connect(&mut self) -> Result<String, Fault> {
        let said = self.told("connect", "")?;
        said["session"].as_str().map(str::to_owned).ok_or_else(|| fault(format!("no session: {said}")))
    }

    fn told(&mut self, step: &str, tool: &str) -> Result<Value, Fault> {
        self.turn += 1;
        let turn = self.turn;
        writeln!(self.words, "{}", json!({ "turn": turn, "step": step, "tool": tool }))?;
        self.process.wait_stdout(&format!("{step} {tool}"), PATIENCE, |line| {
            serde_json::from_str::<Value>(line).ok().filter(|said| said["turn"] == turn)
        })
    }
}
