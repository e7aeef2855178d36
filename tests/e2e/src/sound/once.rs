//! Once: however a server answers a call, it executes it as often as it may, and the client hears of it exactly once.
//!
//! Executions are counted at the server, when it has read a call whole. A call of a tool without a hint is executed
//! once; one of an idempotent tool may be executed a second time, if the connection ended before anything of an answer
//! came. After each way the client makes another call, which must get its own answer and no late one of the call
//! before.

mod http_peer;
mod stdio_peer;
mod ways;

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    net::SocketAddr,
    thread,
};

use serde_json::{Value, json};
use testkit::{
    ConfigFile, Document, Fault, Gateway, Scratch, fault,
    raw::{Raw, call},
};

use crate::{Figures, Size};
use http_peer::HttpPeer;
use stdio_peer::StdioPeer;
use ways::{HTTP, Heard, Repeated, STDIO, Said, Way};

/// A call is given up after this long without any sign of life. Ways that show some take longer.
const IDLE_MS: u64 = 1_000;
/// Of each transport.
const WAYS: usize = 40;

/// How a call reaches its server, and an answer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Json,
    Events,
    Stdio,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Json, Self::Events, Self::Stdio];

    fn id(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Events => "events",
            Self::Stdio => "stdio",
        }
    }

    fn ways(self) -> Vec<Way> {
        let own = if self == Self::Stdio { STDIO } else { HTTP };
        let all = ways::ANY.iter().chain(own);
        all.filter(|way| way.only.is_none_or(|only| only == self)).copied().collect()
    }
}

/// One way of answering one tool.
struct Row {
    way: Way,
    transport: Transport,
    idempotent: bool,
    executed: usize,
    heard: Result<String, String>,
}

impl Row {
    fn allowed(&self) -> usize {
        match (self.way.repeated, self.idempotent) {
            (Repeated::NotExecuted, _) => 0,
            (Repeated::LostBeforeAnAnswer, true) => 2,
            (Repeated::LostWithinAJsonAnswer, true) if self.transport == Transport::Json => 2,
            _ => 1,
        }
    }

    fn holds(&self) -> bool {
        self.executed == self.allowed() && self.heard.is_ok()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.idempotent { "idempotent" } else { "once" };
        let (heard, verdict) = match &self.heard {
            Ok(heard) => (heard, if self.holds() { "" } else { "  WRONG" }),
            Err(wrong) => (wrong, "  WRONG"),
        };
        let (transport, way, executed, allowed) = (self.transport.id(), self.way.name, self.executed, self.allowed());
        write!(f, "{transport:7} {kind:10} {way:42} executed {executed} of {allowed}  {heard}{verdict}")
    }
}

pub fn run(size: Size) -> Result<Figures, Fault> {
    let scratch = Scratch::new("once")?;
    let stdio = StdioPeer::new(&scratch, &Transport::Stdio.ways())?;
    let peer = |transport| Ok::<_, Fault>([HttpPeer::start(transport)?, HttpPeer::start(transport)?]);
    let (bodies, streams) = (peer(Transport::Json)?, peer(Transport::Events)?);
    let limits = json!({ "idle": format!("{IDLE_MS}ms"), "connect": "5s" });
    // A ping that waits at a child would be one more for whom an error without an id may be.
    let mut document = Document::default().key("limits", limits).key("health", json!({ "interval": "1h" }));
    for idempotent in [false, true] {
        for (transport, peers) in [(Transport::Json, &bodies), (Transport::Events, &streams)] {
            let way = transport.ways()[0];
            document.put(peers[usize::from(idempotent)].entry(&server(transport, idempotent, 0, way)));
        }
        for (number, way) in Transport::Stdio.ways().into_iter().enumerate() {
            document.put(stdio.entry(&server(Transport::Stdio, idempotent, number, way)));
        }
    }
    let file = ConfigFile::create(scratch.file("once.yaml"), &document.yaml())?;
    let gateway = Gateway::up(&scratch, file.path())?;
    let played = Played { gateway: gateway.mcp, bodies, streams, stdio, size };
    let rows = played.all()?;
    report(size, &rows)
}

/// What one call does to a session or a child, it does for all calls there. So the two tools have servers of their own,
/// and so has each way that ends a child.
fn server(transport: Transport, idempotent: bool, number: usize, way: Way) -> String {
    let (id, tool) = (transport.id(), u8::from(idempotent));
    if transport == Transport::Stdio && way.repeated != Repeated::Never {
        format!("{id}{tool}x{number}")
    } else {
        format!("{id}{tool}")
    }
}

struct Played {
    gateway: SocketAddr,
    /// By tool.
    bodies: [HttpPeer; 2],
    streams: [HttpPeer; 2],
    stdio: StdioPeer,
    size: Size,
}

impl Played {
    fn all(&self) -> Result<Vec<Row>, Fault> {
        let rows = thread::scope(|scope| {
            let playing: Vec<_> = Transport::ALL
                .into_iter()
                .flat_map(|transport| [false, true].map(|idempotent| (transport, idempotent)))
                .map(|(transport, idempotent)| scope.spawn(move || self.play(transport, idempotent)))
                .collect();
            let rows: Result<Vec<Vec<Row>>, Fault> = playing
                .into_iter()
                .map(|rows| rows.join().unwrap_or_else(|_| Err(fault("a client panicked"))))
                .collect();
            rows
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// All ways of one tool, one after the other: one client, in one session.
    fn play(&self, transport: Transport, idempotent: bool) -> Result<Vec<Row>, Fault> {
        let mut client = Raw::open(self.gateway)?;
        let ways = transport.ways();
        // Those that are told apart by an offset come all, over the two tools and three transports.
        let offset = usize::from(idempotent) + transport as usize * 2;
        let step = self.size.pick(1, 6);
        let chosen = ways.into_iter().enumerate().filter(|(number, _)| number % step == offset % step);
        chosen.map(|(number, way)| self.judge(&mut client, transport, idempotent, number, way)).collect()
    }

    fn judge(
        &self,
        client: &mut Raw,
        transport: Transport,
        idempotent: bool,
        number: usize,
        way: Way,
    ) -> Result<Row, Fault> {
        let server = server(transport, idempotent, number, way);
        let tool = format!("{server}__{}", if idempotent { "again" } else { "once" });
        let key = format!("{tool}-{number}");
        let mut message = call(key.as_str(), &tool, json!({ "way": way.name, "key": key }));
        if matches!(way.said, Said::Alive(_)) {
            message["params"]["_meta"] = json!({ "progressToken": key });
        }
        let heard = ask(client, &key, &message)
            .map_err(|error| error.during(format!("{tool}, {}", way.name)))?
            .and_then(|message| judge_answer(way, &message));
        let next = format!("{key}-next");
        let after = ask(client, &next, &call(next.as_str(), &tool, json!({ "way": "good", "key": next })))?;
        let heard = heard.and_then(|heard| match after {
            Ok(message) if message.get("result").is_some() => Ok(heard),
            // A child that ended twice is started again after a while.
            Ok(_) if transport == Transport::Stdio && way.repeated != Repeated::Never => Ok(heard),
            Ok(message) => Err(format!("the next call got {message}")),
            Err(wrong) => Err(format!("the next call: {wrong}")),
        });
        let executed = match transport {
            Transport::Json => self.bodies[usize::from(idempotent)].executed(&key),
            Transport::Events => self.streams[usize::from(idempotent)].executed(&key),
            Transport::Stdio => self.stdio.executed(&key)?,
        };
        Ok(Row { way, transport, idempotent, executed, heard })
    }
}

/// The one answer to a call, or what came instead of exactly one.
fn ask(client: &mut Raw, id: &str, message: &Value) -> Result<Result<Value, String>, Fault> {
    let response = client.ask(message)?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let is_stream = response.header("content-type").is_some_and(|media| media.starts_with("text/event-stream"));
    let texts: Vec<&str> =
        if is_stream { text.lines().filter_map(|line| line.strip_prefix("data: ")).collect() } else { vec![&text] };
    let mut messages = Vec::new();
    for text in texts {
        match serde_json::from_str::<Value>(text) {
            Ok(message) => messages.push(message),
            Err(error) => return Ok(Err(format!("no JSON ({error}): {text:.200}"))),
        }
    }
    messages.retain(|message| message.get("method").is_none());
    Ok(match &messages[..] {
        [one] if one["id"] == id => Ok(one.clone()),
        [one] => Err(format!("an answer to another call: {one}")),
        many => Err(format!("{} answers", many.len())),
    })
}

fn judge_answer(way: Way, message: &Value) -> Result<String, String> {
    let (code, text) = (message["error"]["code"].as_i64(), message["error"]["message"].as_str().unwrap_or_default());
    let right = match way.heard {
        Heard::Result => message.get("result").is_some(),
        Heard::Theirs => code == Some(ways::THEIR_CODE) && text == ways::THEIR_WORDS,
        Heard::Failure => code == Some(-32603),
        Heard::TimedOut => code == Some(1504),
    };
    // 1503 says that nothing was executed; Debug text and bodies of refusals are nothing for clients.
    let silent = !text.contains(ways::NOT_FOR_CLIENTS) && !text.contains("Span {");
    let heard = code.map_or_else(|| "result".to_owned(), |code| format!("{code} {text:.110}"));
    if right && silent { Ok(heard) } else { Err(format!("{heard} (wanted {:?})", way.heard)) }
}

fn report(size: Size, rows: &[Row]) -> Result<Figures, Fault> {
    let mut table = String::new();
    for row in rows {
        writeln!(table, "{row}")?;
    }
    std::io::stderr().write_all(table.as_bytes())?;
    let mut figures = Figures::default();
    for (name, transport) in
        [("ways_json", Transport::Json), ("ways_events", Transport::Events), ("ways_stdio", Transport::Stdio)]
    {
        let (played, wanted) = (transport.ways().len(), WAYS);
        figures.demand(name, played, &format!("at least {wanted}"), played >= wanted);
    }
    let wanted = size.pick(6 * WAYS, 36);
    figures.demand("played", rows.len(), &format!("at least {wanted}"), rows.len() >= wanted);
    let total = |count: fn(&Row) -> usize| rows.iter().map(count).sum::<usize>();
    figures.note("executed", total(|row| row.executed));
    figures.note("allowed", total(Row::allowed));
    figures.none("executed_too_often", rows.iter().filter(|row| row.executed > row.allowed()));
    figures.none("executed_too_rarely", rows.iter().filter(|row| row.executed < row.allowed()));
    figures.none("answers_wrong", rows.iter().filter(|row| !row.holds()));
    figures.into_result()
}
