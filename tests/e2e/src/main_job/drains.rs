//! Calls on a server that leaves: the short one ends by itself, the long one at the deadline, and the counts add up.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Gateway, Reply, Scratch, Server, Services, System, Tally, demo,
    fault, services::Kind, wait,
};
use tokio::time::Instant;

use crate::{Figures, Size};

/// How far from the deadline a call may end; in the short form other tests run beside.
const TOLERANCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));
const LIMIT: Duration = Duration::from_secs(20);

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let stage = Stage::new(size)?;
    let gateway = Gateway::up(&stage.scratch, stage.file.path())?;
    let leaving = stage.remove(&gateway, &mut figures)?;
    stage.finish(leaving, &mut figures)?;
    books(&gateway, &mut figures)?;
    drop(gateway);
    // The same, with the coordinator killed in the middle.
    let stage = Stage::new(size)?;
    let mut services = Services::up(&stage.scratch, stage.file.path(), 1)?;
    let leaving = stage.remove(&services, &mut figures)?;
    services.service_mut(Kind::DrainCoordinator).kill()?;
    services.start(Kind::DrainCoordinator)?;
    stage.finish(leaving, &mut figures)?;
    books(&services, &mut figures)?;
    Ok(figures)
}

/// Two servers that will leave, and one that stays.
struct Stage {
    scratch: Scratch,
    file: ConfigFile,
    staying: Document,
    _backends: [DemoServer; 2],
    deadline: Duration,
    short: Duration,
    tolerance: Duration,
}

/// A call on a thread of its own, and when it ended.
type Call = JoinHandle<Result<(Reply, Instant), Fault>>;

impl Stage {
    fn new(size: Size) -> Result<Self, Fault> {
        let scratch = Scratch::new("drain")?;
        let backends = [DemoServer::start("stays", &scratch, &[])?, DemoServer::start("http", &scratch, &[])?];
        let seconds = size.pick(10, 2);
        let staying = Document::default()
            .key("drain", json!({ "graceful": { "timeout_seconds": seconds } }))
            .with(Server::http("stays", &backends[0].url()));
        let leaving = staying
            .clone()
            .with(Server::http("http", &backends[1].url()))
            .with(demo::stdio("stdio", "stdio", &scratch)?);
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &leaving.yaml())?;
        let deadline = Duration::from_secs(seconds);
        let tolerance = size.pick(TOLERANCE.0, TOLERANCE.1);
        Ok(Self { scratch, file, staying, _backends: backends, deadline, short: deadline / 2, tolerance })
    }

    /// Begins a call and returns once the backend has it.
    fn begin(&self, endpoint: SocketAddr, server: &str, lasts: Duration) -> Result<Call, Fault> {
        let id = format!("{server}-{}", lasts.as_millis());
        let arguments = json!({ "ms": u64::try_from(lasts.as_millis())?, "id": id });
        let tool = format!("{server}__sleep");
        let call = thread::Builder::new().spawn(move || {
            let mut client = Client::open(endpoint)?;
            let reply = client.call(&tool, &arguments)?;
            Ok((reply, Instant::now()))
        })?;
        let counts = self.scratch.folder("counts")?;
        let counted = || Tally::read(&counts).is_ok_and(|tally| tally.count(&id) == 1);
        wait::until_true("the backend to have the call", LIMIT, counted)?;
        Ok(call)
    }

    /// Begins the calls, then takes both servers out of the file.
    fn remove(&self, system: &dyn System, figures: &mut Figures) -> Result<Leaving, Fault> {
        let endpoint = system.endpoints()[0];
        let mut client = Client::open(endpoint)?;
        let before = system.revision()?;
        let untouched = self.begin(endpoint, "stays", self.deadline + Duration::from_secs(1))?;
        let begin =
            |server| Ok((self.begin(endpoint, server, self.short)?, self.begin(endpoint, server, self.deadline * 6)?));
        let calls = ["http", "stdio"].into_iter().map(begin).collect::<Result<_, Fault>>()?;
        let written = Instant::now();
        self.file.replace(&self.staying.yaml())?;
        let removed = client.wait_revision(before + 1, LIMIT)?;
        let took = removed - written;
        figures.demand("applied_beside_long_calls_ms", took.as_millis(), "1000 at most", took < Duration::from_secs(1));
        Ok(Leaving { removed, untouched, calls })
    }

    /// Waits for all calls, and judges how they ended.
    fn finish(&self, leaving: Leaving, figures: &mut Figures) -> Result<(), Fault> {
        for (short, long) in leaving.calls {
            let (reply, _) = join(short)?;
            figures.demand("short_call", u8::from(reply.text().is_ok()), "1", reply.text().is_ok());
            let (reply, ended) = join(long)?;
            let after = ended - leaving.removed;
            let off = after.abs_diff(self.deadline);
            figures.demand("long_call_ms", after.as_millis(), "the deadline", off <= self.tolerance);
            let code = reply.content.as_ref().err().map(|error| error.code);
            figures.demand("its_error", code.unwrap_or_default(), "a JSON-RPC error", code.is_some());
        }
        let (reply, _) = join(leaving.untouched)?;
        figures.demand("untouched_call", u8::from(reply.text().is_ok()), "1", reply.text().is_ok());
        Ok(())
    }
}

/// What runs while two servers leave.
struct Leaving {
    /// When the revision without them was first seen to answer.
    removed: Instant,
    untouched: Call,
    /// Of each server, the short call and the long one.
    calls: Vec<(Call, Call)>,
}

/// Both drains are over and add up: one call finished and one evicted each.
fn books(system: &dyn System, figures: &mut Figures) -> Result<(), Fault> {
    let mut last = String::new();
    let drains = wait::until("the end of both drains", LIMIT, || {
        let listed = system.cli(&["drains", "--all", "--output", "json"]).and_then(|listed| listed.json());
        last = listed.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        let drains = listed.ok()?;
        let ours = drains.as_array()?.iter().filter(|drain| drain["cause"] == "removal");
        let over: Vec<Value> = ours.filter(|drain| drain["state"] == "done").cloned().collect();
        (over.len() == 2).then_some(over)
    });
    let drains = drains.map_err(|error| error.during(&last))?;
    for drain in drains {
        let count = |key: &str| drain[key].as_u64().unwrap_or(u64::MAX);
        let ended = [count("finished"), count("evicted"), count("lost")];
        let balanced = ended.iter().sum::<u64>() == count("total") && ended == [1, 1, 0];
        let [finished, evicted, lost] = ended;
        figures.demand(
            "finished+evicted+lost",
            format!("{finished}+{evicted}+{lost}"),
            &format!("1+1+0: {drain}"),
            balanced,
        );
    }
    Ok(())
}

fn join(call: Call) -> Result<(Reply, Instant), Fault> {
    call.join().map_err(|_| fault("the caller panicked"))?
}
