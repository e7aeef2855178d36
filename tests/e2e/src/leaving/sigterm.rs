//! SIGTERM under load, with a server that never answers: the gateway ends at its deadline, says what it cut off, and
//! leaves neither processes behind nor records unwritten.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Reply, Scratch, Server, demo, fault,
    load::{Deed, Load, Outcome, Pick, Plan, Report},
    process_tree,
    stub::Stub,
    wait,
};
use tokio::time::Instant;

use crate::{Figures, Size, run_anywhere::traces::receiver::Collector};

/// Calls that never have an answer.
const HANGING: usize = 3;
/// In the short form other tests run beside.
const TOLERANCE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1000));
const LIMIT: Duration = Duration::from_secs(60);
/// Of the traces of the last calls: one that is answered, and the first that is cut off.
const TRACES: [u128; 2] = [0xabcd_0000_0000_0000_0000_0000_0000_0001, 0xabcd_0000_0000_0000_0000_0000_0000_0002];

pub(crate) fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let rounds = size.pick(10, 1);
    for _ in 0..rounds {
        let mut stage = Stage::up(size)?;
        stage.stop(&mut figures)?;
        stage.records(&mut figures)?;
    }
    figures.note("stops", rounds);
    Ok(figures)
}

type Hanging = JoinHandle<Result<Reply, Fault>>;

struct Stage {
    scratch: Scratch,
    file: ConfigFile,
    document: Document,
    gateway: Gateway,
    collector: Collector,
    mute: Stub,
    _good: DemoServer,
    deadline: Duration,
    tolerance: Duration,
}

impl Stage {
    fn up(size: Size) -> Result<Self, Fault> {
        let scratch = Scratch::new("sigterm")?;
        let (collector, good) = (Collector::start()?, DemoServer::start("http", &scratch, &[])?);
        let mute = Stub::start(vec!["ask".to_owned()], |_| None)?;
        let document = Document::default()
            // It answers no ping either, which is not what this is about.
            .key("health", json!({ "interval": "1h" }))
            .with(Server::http("http", &good.url()))
            .with(demo::stdio("stdio", "stdio", &scratch)?)
            .with(Server::http("mute", &mute.url()));
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let deadline = size.pick(10, 2);
        let (drain, otlp) = (format!("{deadline}s"), format!("http://{}", collector.address()));
        let environment = [
            ("ONLY1MCP_DRAIN", &*drain),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &otlp),
            // What is sent is sent at the end.
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ];
        let gateway = Gateway::up_with(&scratch, file.path(), &environment)?;
        let (deadline, tolerance) = (Duration::from_secs(deadline), size.pick(TOLERANCE.0, TOLERANCE.1));
        Ok(Self { scratch, file, document, gateway, collector, mute, _good: good, deadline, tolerance })
    }

    fn stop(&mut self, figures: &mut Figures) -> Result<(), Fault> {
        let mut load = self.load()?;
        load.wait_answered(100)?;
        self.decisions()?;
        let hanging = self.hang()?;
        traced(&mut Client::open(self.gateway.mcp)?, TRACES[0])?
            .call("http__echo", &json!({ "text": "last" }))?
            .text()?;
        load.wait_answered(50)?;
        let children = process_tree::descendants(self.gateway.pid());

        self.gateway.process.signal(Signal::SIGTERM);
        let asked = Instant::now();
        let report = load.stop()?;
        let status = self.gateway.process.wait(self.deadline + LIMIT);
        let took = asked.elapsed();
        let off = took.max(self.deadline) - took.min(self.deadline);
        let wanted = format!("{}, {} more or less", self.deadline.as_millis(), self.tolerance.as_millis());
        figures.demand("exit_after_ms", took.as_millis(), &wanted, off <= self.tolerance);
        let code = status?.code().unwrap_or(-1);
        figures.demand("exit_code", code, "1, for what was forced", code == 1);
        let said = self.gateway.process.stderr_tail(20);
        let named = said.lines().any(|line| line.contains("cut off") && line.contains(&format!("mute ({HANGING})")));
        figures.demand("report_names_it", u8::from(named), &format!("1: {said}"), named);
        answered(&report, figures);
        ended(hanging, figures)?;
        let running = || {
            let found = children.iter().filter_map(|child| process_tree::find(child.pid));
            found.filter(|child| child.state != 'Z').map(|child| format!("{} {}", child.pid, child.name))
        };
        figures.demand("children", children.len(), "some", !children.is_empty());
        figures.none("orphans", running());
        Ok(())
    }

    fn load(&self) -> Result<Load, Fault> {
        let names: [Arc<str>; 2] = ["http".into(), "stdio".into()];
        let choose = move |slot: u64| Pick {
            server: Arc::clone(&names[usize::from(slot % 2 == 1)]),
            deed: if slot % 8 == 5 { Deed::Sleep(100) } else { Deed::Echo },
        };
        Load::start(Plan {
            endpoints: vec![self.gateway.mcp],
            clients: 16,
            balanced: false,
            rate: 300,
            tag: "sigterm-".to_owned(),
            choose: Box::new(choose),
        })
    }

    /// A change that is applied, and one that is refused: the last records of the audit.
    fn decisions(&self) -> Result<(), Fault> {
        let applied = self.document.clone().with(Server::http("more", &self.mute.url()));
        self.file.replace(&applied.yaml())?;
        Client::open(self.gateway.mcp)?.wait_revision(self.gateway.revision + 1, LIMIT)?;
        self.file.replace(&format!("{}nonsense: true\n", applied.yaml()))?;
        self.gateway.cli(&["reload"])?.expect(1)?;
        Ok(())
    }

    /// Returns when the server has all of the calls.
    fn hang(&self) -> Result<Vec<Hanging>, Fault> {
        let endpoint = self.gateway.mcp;
        let begin = |number: usize| {
            thread::Builder::new().spawn(move || {
                let mut client = Client::open(endpoint)?;
                let arguments = json!({ "number": number });
                if number > 0 {
                    return Ok(client.call("mute__ask", &arguments)?);
                }
                Ok(traced(&mut client, TRACES[1])?.call("mute__ask", &arguments)?)
            })
        };
        let begun = (0..HANGING).map(begin).collect::<Result<Vec<_>, _>>()?;
        let calls = || self.mute.seen().iter().filter(|request| request.is_call()).count();
        wait::until_true("the server to have the calls", LIMIT, || calls() == HANGING)?;
        Ok(begun)
    }

    /// What the process had to write last is there.
    fn records(self, figures: &mut Figures) -> Result<(), Fault> {
        let received = self.collector.everything();
        let missing = TRACES.iter().filter(|trace| !received.contains(&format!("{:?}", trace.to_be_bytes())));
        figures.none("last_traces_missing", missing.map(|trace| format!("{trace:x}")));
        let applied = self.gateway.revision + 1;
        self.file.replace(&self.document.clone().with(Server::http("more", &self.mute.url())).yaml())?;
        drop(self.gateway);
        let again = Gateway::up(&self.scratch, self.file.path())?;
        let history = again.cli(&["history", "--refused", "--output", "json"])?.expect(0)?.json()?;
        let records = || history.as_array().into_iter().flatten();
        let is_whole = |record: &serde_json::Value| !record["actor"].is_null() && !record["time"].is_null();
        let revision = records().any(|record| record["revision"] == applied && is_whole(record));
        let refusal = records().any(|record| record["result"] == "refused" && is_whole(record));
        figures.demand("last_revision_on_record", u8::from(revision), "1", revision);
        figures.demand("last_refusal_on_record", u8::from(refusal), &format!("1: {history}"), refusal);
        figures.demand("live_again", again.revision, &applied.to_string(), again.revision == applied);
        Ok(())
    }
}

/// With this trace as its context.
fn traced(client: &mut Client, trace: u128) -> Result<&mut Client, Fault> {
    client.set_header("traceparent", &format!("00-{trace:032x}-00000000000000ab-01"))?;
    Ok(client)
}

/// Of the calls that got in, none is without its answer; after that nobody can get in.
fn answered(report: &Report, figures: &mut Figures) {
    let failed = report.samples.iter().filter_map(|sample| match &sample.outcome {
        Outcome::Failed(why) => Some(format!("{}: {why}", sample.text)),
        Outcome::Answered | Outcome::UnknownTool => None,
    });
    figures.none("failed_of_those_that_got_in", failed);
    let refused = report.failures.iter().filter(|why| why.contains("cannot connect again")).count();
    figures.note("refused_after_the_signal", refused);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
}

/// What is cut off is told so, in the words of the protocol.
fn ended(hanging: Vec<Hanging>, figures: &mut Figures) -> Result<(), Fault> {
    let (mut defined, all) = (0, hanging.len());
    for call in hanging {
        let ended = call.join().map_err(|_| fault("the caller panicked"))?;
        defined += usize::from(ended.is_ok_and(|reply| reply.content.is_err()));
    }
    figures.demand("cut_off_with_an_error", defined, &all.to_string(), defined == all);
    Ok(())
}
