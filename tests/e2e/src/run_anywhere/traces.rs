//! Traces as a receiver that nobody here wrote stores them: a reload is one tree over all services, and a call joins the
//! context it came with to the one its server sees.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Scratch, Server, Services, Supervised, System, binaries,
    client::http_get, fault, services::Kind, wait,
};

use crate::{Figures, Size};

/// Until a finished span can be asked for.
const STORED: Duration = Duration::from_secs(20);
const RELOAD: &str = "only1mcp.config.v1.ConfigService/Reload";
/// What a reload that moves a server shows with two routers, and how often at least.
const STAGES: [(&str, usize); 12] = [
    (RELOAD, 1),
    ("config.change", 1),
    ("config.judge", 1),
    ("config.prepare", 2),
    ("config.append", 1),
    ("config.swap", 2),
    ("router.prepare", 2),
    ("router.bring_up", 2),
    ("router.swap", 2),
    ("router.drain", 2),
    ("drain.gather", 1),
    ("health.watch", 2),
];
const SERVICES: usize = 4;

/// # Errors
/// When the scenario cannot be played to its end.
pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let Some(program) = program(size)? else {
        figures.note("receiver", "absent, so nothing was run; scripts/otlp-receiver installs it");
        return Ok(figures);
    };
    let mut stage = Stage::up(&program)?;
    let (mut trees, mut spans) = (Vec::new(), 0);
    let rounds = size.pick(5, 1);
    for _ in 0..rounds {
        stage.edit()?;
        let trace = stage.reload()?;
        spans += trace.0.len();
        trees.extend(trace.faults(RELOAD));
    }
    figures.demand("reloads", rounds, "at least 1", rounds > 0);
    figures.note("spans_per_reload", spans / rounds);
    figures.none("reloads_that_are_no_whole_tree", &trees);
    let calls = size.pick(50, 4);
    let mut apart = Vec::new();
    for number in 0..calls {
        apart.extend(stage.call(number, number % 2 == 0)?);
    }
    figures.note("calls", calls);
    figures.none("calls_whose_contexts_are_not_joined", &apart);
    figures.into_result()
}

/// The receiver; the short form does not install it.
fn program(size: Size) -> Result<Option<PathBuf>, Fault> {
    let mut command = Command::new(binaries::checkout().join("scripts/otlp-receiver"));
    if size == Size::Short {
        command.arg("--present");
    }
    let found = command.stderr(Stdio::inherit()).output()?;
    match (found.status.success(), size) {
        (true, _) => Ok(Some(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))),
        (false, Size::Short) => Ok(None),
        (false, Size::Full) => Err(fault("the receiver cannot be installed, see above")),
    }
}

/// The four services, two routers, two places for one server, and a receiver.
struct Stage {
    scratch: Scratch,
    places: [DemoServer; 2],
    file: ConfigFile,
    services: Services,
    receiver: Receiver,
    changes: usize,
    /// Reloads whose traces were looked at.
    seen: BTreeSet<String>,
}

impl Stage {
    fn up(program: &Path) -> Result<Self, Fault> {
        let scratch = Scratch::new("traces")?;
        let receiver = Receiver::start(program, &scratch)?;
        let places = [DemoServer::start("here", &scratch, &[])?, DemoServer::start("there", &scratch, &[])?];
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document(&places, 0).yaml())?;
        let mut services = Services::plan(&scratch, file.path(), 2)?;
        let variables = [
            // The control services over HTTP, the routers over gRPC.
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", receiver.http)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ];
        for kind in Kind::CONTROL {
            variables.iter().for_each(|(name, value)| services.service_mut(kind).set_env(name, value));
            services.start(kind)?;
        }
        for number in 0..2 {
            let router = &mut services.routers[number];
            variables.iter().for_each(|(name, value)| router.set_env(name, value));
            router.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", receiver.grpc));
            router.set_env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
            services.start_router(number)?;
        }
        services.wait_ready()?;
        Ok(Self { scratch, places, file, services, receiver, changes: 0, seen: BTreeSet::new() })
    }

    fn next(&mut self) -> String {
        self.changes += 1;
        document(&self.places, self.changes).yaml()
    }

    /// The watcher sees it, and nobody asks.
    fn edit(&mut self) -> Result<(), Fault> {
        let before = self.services.revision()?;
        let text = self.next();
        self.file.replace(&text)?;
        wait::until_true("the edit to be live", STORED, || self.services.revision().is_ok_and(|now| now > before))
    }

    /// A change that `reload` brings, with a call in flight on what it removes; and its trace.
    fn reload(&mut self) -> Result<Trace, Fault> {
        let (router, before) = (self.services.routers[0].mcp, self.sleeps());
        let in_flight = thread::spawn(move || Client::open(router)?.text("moving__sleep", &json!({ "ms": 700 })));
        wait::until_true("a call to be in flight", STORED, || self.sleeps() > before)?;
        // Written in place, it is not judged before it has held for a while; reload does not wait for that.
        let text = self.next();
        self.file.overwrite(&text)?;
        self.services.cli(&["reload"])?.expect(0)?;
        in_flight.join().map_err(|_| fault("the calling thread panicked"))??;
        let mut last = String::new();
        let found = wait::until("the trace of the reload to be whole", STORED, || {
            let trace = self.receiver.newest(RELOAD, &self.seen).ok()??;
            last = trace.faults(RELOAD).join("; ");
            (last.is_empty()).then_some(trace)
        });
        let trace = found.map_err(|error| error.during(format!("the trace lacks: {last}")))?;
        self.seen.insert(trace.id());
        Ok(trace)
    }

    /// Calls of `sleep` that the present place has begun.
    fn sleeps(&self) -> usize {
        let counts = self.scratch.file("counts").join(["here", "there"][self.changes % 2]);
        fs::read_to_string(counts).unwrap_or_default().lines().filter(|line| *line == "sleep").count()
    }

    /// What is wrong with the trace of a call that comes with a context, in a header or in its message.
    fn call(&self, number: usize, in_header: bool) -> Result<Option<String>, Fault> {
        let (trace, parent) = (format!("{:032x}", 0xabcd_0000 + number), format!("{:016x}", 0x77 + number));
        let context = format!("00-{trace}-{parent}-01");
        let mut client = Client::open(self.services.routers[number % 2].mcp)?;
        let mut params = json!({ "name": "moving__whoami", "arguments": {} });
        if in_header {
            client.set_header("traceparent", &context)?;
        } else {
            params["_meta"] = json!({ "traceparent": context });
        }
        let answer = client.request("tools/call", &params)?.content?;
        let passed = answer["structuredContent"]["traceparent"].as_str().unwrap_or_default().to_owned();
        let is_joined = |spans: &Trace| {
            let server = spans.0.iter().find(|span| span.parent.as_deref() == Some(parent.as_str()))?;
            let client = spans.0.iter().find(|span| span.parent.as_deref() == Some(server.id.as_str()))?;
            (passed == format!("00-{trace}-{}-01", client.id)).then_some(())
        };
        let joined =
            wait::until("the call's trace", STORED, || self.receiver.trace(&trace).ok().as_ref().and_then(is_joined));
        Ok(joined.err().map(|_| format!("in {context}, out {passed}, stored {:?}", self.receiver.trace(&trace))))
    }
}

fn document(places: &[DemoServer; 2], changes: usize) -> Document {
    Document::default()
        .with(Server::http("moving", &places[changes % 2].url()))
        .with(Server::http("steady", &places[0].url()))
}

/// A program that takes OTLP and can be asked what it got.
struct Receiver {
    _process: Supervised,
    grpc: SocketAddr,
    http: SocketAddr,
    asked: SocketAddr,
    questions: Cell<u64>,
}

impl Receiver {
    fn start(program: &Path, scratch: &Scratch) -> Result<Self, Fault> {
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let mut addresses = Vec::new();
        for listener in free {
            addresses.push(listener?.local_addr()?);
        }
        let [grpc, http, asked] = addresses[..] else { return Err(fault("three ports were asked for")) };
        let mut command = Command::new(program);
        command.args(["serve", "--addr", &asked.to_string(), "--storage-path"]).arg(scratch.folder("otlp")?);
        command.env("HOME", scratch.folder("receiver")?).env("OTELITE_OTLP_GRPC_PORT", grpc.port().to_string());
        command.env("OTELITE_OTLP_HTTP_PORT", http.port().to_string());
        let process = Supervised::start("receiver", &mut command, &scratch.folder("logs")?)?;
        wait::until_true("the receiver", STORED, || {
            http_get(asked, "/api/traces").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { _process: process, grpc, http, asked, questions: Cell::new(0) })
    }

    fn ask(&self, path: &str) -> Result<Value, Fault> {
        let (status, body) = http_get(self.asked, path)?;
        if status == 200 { Ok(serde_json::from_str(&body)?) } else { Err(fault(format!("{path}: {status} {body}"))) }
    }

    fn trace(&self, id: &str) -> Result<Trace, Fault> {
        Trace::read(&self.ask(&format!("/api/traces/{id}"))?)
    }

    /// The trace with such a root that is not among `seen`.
    fn newest(&self, root: &str, seen: &BTreeSet<String>) -> Result<Option<Trace>, Fault> {
        // An answer is remembered by its question for a while: no question is asked twice.
        let asked = self.questions.replace(self.questions.get() + 1);
        let list = self.ask(&format!("/api/traces?limit=1000&start_time={asked}"))?;
        let traces = list["traces"].as_array().into_iter().flatten();
        let mut ids = traces.filter(|trace| trace["root_span_name"] == root).filter_map(|one| one["trace_id"].as_str());
        ids.find(|id| !seen.contains(*id)).map(|id| self.trace(id)).transpose()
    }
}

#[derive(Debug)]
struct Trace(Vec<Span>);

#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    service: String,
}

impl Trace {
    fn read(detail: &Value) -> Result<Self, Fault> {
        let spans = detail["spans"].as_array().ok_or_else(|| fault(format!("no spans in {detail}")))?;
        let text = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
        let read = |span: &Value| Span {
            trace: text(span, "trace_id"),
            id: text(span, "span_id"),
            parent: span["parent_span_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
            name: text(span, "name"),
            service: text(&span["resource"]["attributes"], "service.name"),
        };
        Ok(Self(spans.iter().map(read).collect()))
    }

    fn id(&self) -> String {
        self.0.first().map(|span| span.trace.clone()).unwrap_or_default()
    }

    /// What keeps it from being one whole tree below `root`.
    fn faults(&self, root: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let known: BTreeSet<&str> = self.0.iter().map(|span| span.id.as_str()).collect();
        for span in &self.0 {
            match &span.parent {
                None if span.name == root => {}
                None => faults.push(format!("{} is another root", span.name)),
                Some(parent) if known.contains(parent.as_str()) => {}
                Some(parent) => faults.push(format!("the parent {parent} of {} is missing", span.name)),
            }
        }
        let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
        self.0.iter().for_each(|span| *stages.entry(span.name.as_str()).or_default() += 1);
        let found = |name| stages.get(name).copied().unwrap_or_default();
        let lacking = STAGES.iter().filter(|(name, wanted)| found(name) < *wanted);
        faults.extend(lacking.map(|(name, wanted)| format!("{} of {wanted} {name}", found(name))));
        let services: BTreeSet<&str> = self.0.iter().map(|span| span.service.as_str()).collect();
        if services.len() < SERVICES {
            faults.push(format!("only of {services:?}"));
        }
        faults
    }
}
