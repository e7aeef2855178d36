//! Drains as a person sees them who takes servers away while clients work: what they type, and what it says. The page is
//! `docs/drains.md`; with `UPDATE_GOLDEN` set it is written anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, demo, fault, gateway::Cli, wait,
};

use crate::{
    Figures, Size,
    transcript::{self, Typed},
};

/// Longer than any wait of the gateway here.
const LIMIT: Duration = Duration::from_secs(60);
const PAGE: &str = "drains.md";
const HEAD: &str = "\
# Drains at noon

Servers leave while clients work, as it looks from a terminal: `files` has three calls that take a minute, and `search`
has two endpoints behind one name. This page is what was printed by a real gateway: `scripts/acceptance leaving 10` plays
it and compares (`UPDATE_GOLDEN=1` writes the page anew). A command whose exit code is not 0 has it below its output.
What the words mean is in [configuration.md](configuration.md); what to do when an alert fires is in
[runbooks.md](runbooks.md).
";
/// Calls that take a minute, at the server `files`.
const LONG_CALLS: usize = 3;

/// Both sizes are the same.
pub(super) fn run(_: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let scratch = Scratch::new("noon")?;
    let mut noon = Noon::begin(&scratch)?;
    noon.play()?;
    figures.note("commands", noon.commands);
    figures.none("transcript_differs", transcript::differs(PAGE, &noon.page)?);
    Ok(figures)
}

struct Noon {
    calls: Calls,
    gateway: Gateway,
    _upstreams: [DemoServer; 2],
    places: Vec<(String, &'static str)>,
    page: String,
    commands: usize,
}

impl Noon {
    fn begin(scratch: &Scratch) -> Result<Self, Fault> {
        let upstreams = [DemoServer::start("one", scratch, &[])?, DemoServer::start("other", scratch, &[])?];
        let search = Server::http("search", &upstreams[0].url()).transport("urls", json!([upstreams[1].url()]));
        let document = Document::default().with(demo::stdio("files", "files", scratch)?).with(search);
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(scratch, file.path())?;
        let places = transcript::places(scratch)?;
        let mut noon = Self {
            calls: Calls::default(),
            gateway,
            _upstreams: upstreams,
            places,
            page: HEAD.to_owned(),
            commands: 0,
        };
        noon.until("all servers to be up", |status, _| {
            let endpoints = status["servers"].as_array().into_iter().flatten();
            let endpoints = endpoints.flat_map(|server| server["endpoints"].as_array().into_iter().flatten());
            endpoints.filter(|one| one["verdict"] == "healthy").count() == 3
        })?;
        noon.name_endpoints()?;
        noon.calls.start(&noon.gateway, "files__sleep", json!({ "ms": 60_000 }), LONG_CALLS);
        noon.calls.start(&noon.gateway, "search__sleep", json!({ "ms": 20 }), 2);
        noon.until("the calls", |status, _| {
            let files = server(status, "files")["in_flight"] == LONG_CALLS;
            let search = server(status, "search")["endpoints"].as_array().into_iter().flatten();
            files && search.filter(|one| one["recent"]["answered"].as_u64() > Some(20)).count() == 2
        })?;
        Ok(noon)
    }

    /// The digest and the address of an endpoint differ from run to run, and endpoints are shown by their digests.
    fn name_endpoints(&mut self) -> Result<(), Fault> {
        let status = self.gateway.status()?;
        let mut endpoints: Vec<_> = server(&status, "search")["endpoints"].as_array().into_iter().flatten().collect();
        endpoints.sort_by_key(|one| one["digest"].as_str());
        let names = [("30bc18f5a2c4", "127.0.0.1:9001"), ("c61fe0d37b92", "127.0.0.1:9002")];
        for (one, (digest, address)) in endpoints.into_iter().zip(names) {
            let [Some(own), Some(at)] = [&one["digest"], &one["address"]].map(Value::as_str) else { continue };
            let own = own.to_owned();
            self.places.extend([
                (own[..12].to_owned(), digest),
                (own[..8].to_owned(), &digest[..8]),
                (at.to_owned(), address),
            ]);
        }
        Ok(())
    }

    fn play(&mut self) -> Result<(), Fault> {
        self.says("Before anything leaves, all is well.", &["status"])?;
        self.says(
            "`files` is to leave. It gets no new calls from now on; those that run may take as long as this says.",
            &["drain", "files", "--deadline", "90s"],
        )?;
        self.until("the drain", |_, drains| drain(drains, "files")["in_flight"] == LONG_CALLS)?;
        self.says("What it waits for, and for how long:", &["drains"])?;
        let digests = self.gateway.weights("search")?.into_iter().map(|(digest, _)| digest);
        let digest = digests.max().ok_or_else(|| fault("no endpoint of search is up"))?;
        self.says(
            "Of `search`, one endpoint is to leave step by step: the other one takes over a quarter of the calls at a time.",
            &["drain", "search", "--endpoint", &digest, "--strategy", "progressive", "--weight-reduction", "25", "--interval", "3s"],
        )?;
        self.until("the first step", |status, drains| {
            let mut endpoints = server(status, "search")["endpoints"].as_array().into_iter().flatten();
            drain(drains, "search")["weight_permille"] == 750 && endpoints.any(|one| one["weight_permille"] == 750)
        })?;
        self.says("Both at a time:", &["drains"])?;
        self.says(
            "`top` shows the same with the servers, anew every second; where it writes to no terminal, once.",
            &["top"],
        )?;
        self.says(
            "The step by step was not needed after all: its endpoint has its whole share again.",
            &["drain", "--cancel", "search"],
        )?;
        self.says(
            "The calls of `files` cannot be waited for. A drain that runs is only ever made stronger: the calls end now, each \
             with an error that says so.",
            &["drain", "files", "--strategy", "immediate", "--wait"],
        )?;
        self.calls.long_ones_ended()?;
        self.until("the end", |_, drains| drain(drains, "files")["evicted"] == LONG_CALLS)?;
        self.says("`status` says why `files` gets no calls, and how it comes back.", &["status"])?;
        self.says("It is back:", &["drain", "--cancel", "files"])?;
        self.until("all to be well", |status, _| status["problems"].as_array().is_some_and(Vec::is_empty))?;
        self.says("Those that are over:", &["drains", "--all"])?;
        self.says("How long they took, and what became of the calls:", &["stats", "--drains"])
    }

    /// Types it, and writes that down below `text`.
    fn says(&mut self, text: &str, arguments: &[&str]) -> Result<(), Fault> {
        let said = self.gateway.cli(arguments)?;
        self.commands += 1;
        let typed = Typed::new(arguments, &said).shown(&self.places);
        self.page.push_str(&format!("\n{text}\n{typed}"));
        Ok(())
    }

    /// Looks until it is so, by the JSON of `status` and of `drains`.
    fn until(&self, what: &str, holds: impl Fn(&Value, &Value) -> bool) -> Result<(), Fault> {
        let mut last = Value::Null;
        let json = |arguments: &[&str]| {
            self.gateway.cli(&[arguments, &["--output", "json"]].concat()).and_then(|said| Cli::json(&said))
        };
        let waited = wait::until_true(what, LIMIT, || {
            let (Ok(status), Ok(drains)) = (json(&["status"]), json(&["drains", "--all"])) else { return false };
            let holds = holds(&status, &drains);
            last = json!([status, drains]);
            holds
        });
        waited.map_err(|error| error.during(last.to_string()))
    }
}

fn server<'v>(status: &'v Value, id: &str) -> &'v Value {
    let servers = status["servers"].as_array();
    servers.and_then(|all| all.iter().find(|one| one["id"] == id)).unwrap_or(&Value::Null)
}

/// The drain of that server that began last.
fn drain<'v>(drains: &'v Value, server: &str) -> &'v Value {
    let drains = drains.as_array();
    drains.and_then(|all| all.iter().rfind(|one| one["server"] == server)).unwrap_or(&Value::Null)
}

/// Clients that call until this is dropped.
#[derive(Default)]
struct Calls {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl Calls {
    fn start(&mut self, gateway: &Gateway, tool: &'static str, arguments: Value, clients: usize) {
        for _ in 0..clients {
            let (address, arguments, stop) = (gateway.mcp, arguments.clone(), Arc::clone(&self.stop));
            let is_long = tool == "files__sleep";
            let thread = thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // With a session of its own each: the share of an endpoint is that of new sessions.
                    let Ok(mut client) = Client::open(address) else { return };
                    // How it ends is for the page to say.
                    drop(client.call(tool, &arguments));
                    if is_long {
                        return;
                    }
                }
            });
            self.threads.push((tool, thread));
        }
    }

    /// Each has its answer.
    fn long_ones_ended(&mut self) -> Result<(), Fault> {
        for (_, thread) in self.threads.extract_if(.., |(tool, _)| *tool == "files__sleep") {
            thread.join().map_err(|_| fault("a client panicked"))?;
        }
        Ok(())
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, thread) in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}
