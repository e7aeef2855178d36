//! Operators drain and cancel while clients call and the configuration changes five times a second: what they asked for
//! holds until they take it back, and no client notices.

mod drained;

use std::{sync::Arc, thread, time::Duration};

use serde_json::json;
use testkit::{
    ConfigFile, DemoServer, Document, Fault, Gateway, Scratch, Server, System, Tally, demo, fault,
    load::{Deed, Load, Outcome, Pick, Plan, Report},
};
use tokio::time::Instant;

use crate::{Figures, Size};
use drained::{Drained, Operator};

const CLIENTS: usize = 32;
const CALLS_A_SECOND: u32 = 400;
const TAG: &str = "storm-";
const CHANGE_EVERY: Duration = Duration::from_millis(200);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let (drains, every) = size.pick((50, Duration::from_secs(6)), (5, Duration::from_secs(2)));
    let changes = u32::try_from((every * drains).as_millis() / CHANGE_EVERY.as_millis())?;
    let stage = Stage::up()?;
    let mut operator = Operator::new(&stage)?;
    let before = stage.gateway.revision()?;
    let mut load = calls(&stage)?;
    let start = Instant::now();
    let drained = thread::scope(|scope| {
        let storm = scope.spawn(|| change(&stage, start, changes));
        let drained: Result<Vec<Drained>, Fault> = (0..drains)
            .map(|number| {
                // The pace of the drains, whatever each of them takes.
                thread::sleep((start + every * number).saturating_duration_since(Instant::now()));
                operator.drain(number, every / 2)
            })
            .collect();
        storm.join().map_err(|_| fault("the storm panicked"))??;
        drained
    })?;
    load.wait_revision(before + u64::from(changes))?;
    load.wait_answered(u64::from(CALLS_A_SECOND))?;
    let mut figures = Figures::default();
    let live = stage.gateway.revision()? - before;
    figures.demand("changes", live, &changes.to_string(), live == u64::from(changes));
    let report = load.stop()?;
    operator.judge(&drained, drains, &mut figures)?;
    judge(&stage, &report, &mut figures)?;
    Ok(figures)
}

/// A server of two endpoints, one that changes all the time, a child, and one that gets no calls of the load.
struct Stage {
    scratch: Scratch,
    file: ConfigFile,
    document: Document,
    backends: [DemoServer; 4],
    gateway: Gateway,
}

/// The endpoints of the server `pair`.
const PAIR: [&str; 2] = ["one", "other"];

impl Stage {
    fn up() -> Result<Self, Fault> {
        let scratch = Scratch::new("drainstorm")?;
        let start = |name| DemoServer::start(name, &scratch, &[]);
        let backends = [start(PAIR[0])?, start(PAIR[1])?, start("turning")?, start("quiet")?];
        let [one, other, _, quiet] = &backends;
        let mut document = Document::default()
            .with(Server::http("pair", &one.url()).transport("urls", json!([other.url()])))
            .with(Server::http("quiet", &quiet.url()))
            .with(demo::stdio("child", "child", &scratch)?);
        document.put(turning(&backends, 0));
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let gateway = Gateway::up(&scratch, file.path())?;
        Ok(Self { scratch, file, document, backends, gateway })
    }
}

fn turning(backends: &[DemoServer; 4], turn: u32) -> Server {
    Server::http("turning", &backends[2].url()).transport("headers", json!({ "x-turn": turn.to_string() }))
}

/// Three calls in five go to the server whose endpoints are drained; one in ten takes a while.
fn calls(stage: &Stage) -> Result<Load, Fault> {
    let [pair, turning, child] = ["pair", "turning", "child"].map(Arc::<str>::from);
    let choose = move |slot: u64| {
        let server = match slot % 5 {
            0 => &turning,
            1 => &child,
            _ => &pair,
        };
        let lasting = u16::try_from(20 + slot * 37 % 180).unwrap_or_default();
        let deed = if slot % 10 == 3 { Deed::Sleep(lasting) } else { Deed::Echo };
        Pick { server: Arc::clone(server), deed }
    };
    Load::start(Plan {
        endpoints: vec![stage.gateway.mcp],
        clients: CLIENTS,
        balanced: false,
        rate: CALLS_A_SECOND,
        tag: TAG.to_owned(),
        choose: Box::new(choose),
    })
}

/// All changes, at their pace.
fn change(stage: &Stage, start: Instant, changes: u32) -> Result<(), Fault> {
    let mut document = stage.document.clone();
    for turn in 1..=changes {
        // The pace of the changes, whatever each of them takes.
        thread::sleep((start + CHANGE_EVERY * turn).saturating_duration_since(Instant::now()));
        document.put(turning(&stage.backends, turn));
        stage.file.replace(&document.yaml())?;
    }
    Ok(())
}

fn judge(stage: &Stage, report: &Report, figures: &mut Figures) -> Result<(), Fault> {
    figures.note("calls", report.samples.len());
    figures.none("failed", &report.failures);
    figures.demand("failures_counted", report.failed, "0", report.failed == 0);
    let unknown = report.samples.iter().filter(|sample| sample.outcome == Outcome::UnknownTool);
    figures.none("unknown_tool", unknown.map(|sample| &sample.text));
    figures.demand("closed", report.closed, "0", report.closed == 0);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
    let tally = Tally::read(&stage.scratch.folder("counts")?)?;
    let tally = tally.compare(TAG, &report.answered(), &report.uncertain());
    figures.none("lost", tally.lost);
    figures.none("duplicated", tally.duplicated);
    figures.none("extra", tally.extra);
    figures.note("p50/p99/max", report.latency());
    Ok(())
}
