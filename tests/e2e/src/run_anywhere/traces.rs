//! Traces as a receiver stores them (at full size a third-party receiver): a reload is one tree over all services, and
//! a call joins the context it came with to the one its server sees.

pub(crate) mod receiver;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::Duration,
};

use serde_json::json;
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Scratch, Server, Services, System, fault, services::Kind, wait,
};

use crate::{Figures, Size};
use receiver::{Receiver, Wire};

/// Until a finished span can be asked for.
const STORED: Duration = Duration::from_secs(20);
const RELOAD: &str = "only1mcp.config.v1.ConfigService/Reload";
/// The spans of a reload that moves a server, with two routers, and their least numbers.
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

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let mut stage = Stage::up(size)?;
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
    fn up(size: Size) -> Result<Self, Fault> {
        let scratch = Scratch::new("traces")?;
        let receiver = Receiver::start(size, &scratch)?;
        let places = [DemoServer::start("here", &scratch, &[])?, DemoServer::start("there", &scratch, &[])?];
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document(&places, 0).yaml())?;
        let mut services = Services::plan(&scratch, file.path(), 2)?;
        for kind in Kind::CONTROL {
            receiver.takes_from(services.service_mut(kind), Wire::Http);
            services.start(kind)?;
        }
        for number in 0..2 {
            receiver.takes_from(&mut services.routers[number], Wire::Grpc);
            services.start_router(number)?;
        }
        services.wait_ready()?;
        Ok(Self { scratch, places, file, services, receiver, changes: 0, seen: BTreeSet::new() })
    }

    fn next(&mut self) -> String {
        self.changes += 1;
        document(&self.places, self.changes).yaml()
    }

    /// Edits the file; the watcher notices it, without a reload command.
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
    fn id(&self) -> String {
        self.0.first().map(|span| span.trace.clone()).unwrap_or_default()
    }

    /// The reasons why the trace is not one whole tree below `root`.
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
