//! Three routers behind a plain TCP balancer that goes by their readiness are restarted one after the other. Clients
//! keep their connections and never try again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::{
    ConfigFile, DemoServer, Document, Fault, Scratch, Server, Services,
    client::http_get,
    demo, fault,
    load::{Deed, Load, Outcome, Pick, Plan, Report},
    raw::Raw,
    services::Kind,
    wait,
};

use super::relay::{Ends, Relay};
use crate::{Figures, Size};

const ROUTERS: usize = 3;
const THINK: Duration = Duration::from_millis(10);
/// Connections with a session each on which nothing is said.
const IDLE: usize = 12;
/// Of the balancer.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ten looks of the balancer.
const MIN_DRAIN: &str = "500ms";
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(size: Size) -> Result<Figures, Fault> {
    let (rounds, clients) = (size.pick(10, 1), size.pick(64, 8));
    let mut stage = Stage::up()?;
    let mut load = stage.load(clients)?;
    load.wait_answered(20 * u64::try_from(clients)?)?;
    let mut idle = (0..IDLE).map(|_| Raw::open(stage.balancer.relay.address)).collect::<Result<Vec<_>, _>>()?;
    let (mut restarts, mut closed, mut lost) = (0, 0, Vec::new());
    for _ in 0..rounds {
        for number in 0..ROUTERS {
            stage.restart(number)?;
            restarts += 1;
            load.wait_answered(10 * u64::try_from(clients)?)?;
            for client in &mut idle {
                if is_closed(client)? {
                    closed += 1;
                    *client = client.again()?;
                    lost.extend(client.works().err().map(|error| error.to_string()));
                }
            }
        }
    }
    let report = load.stop()?;
    let mut figures = Figures::default();
    figures.demand("restarts", restarts, &(rounds * ROUTERS).to_string(), restarts == rounds * ROUTERS);
    judge(&report, &mut figures);
    figures.demand("idle_closed", closed, "at least one a round", closed >= rounds);
    figures.none("idle_sessions_lost", lost);
    connections(stage.balancer.relay.ends(), &mut figures);
    Ok(figures)
}

fn judge(report: &Report, figures: &mut Figures) {
    let calls = report.samples.len();
    figures.demand("calls", calls, "some", calls > 0);
    figures.none("failed", &report.failures);
    figures.demand("failures_counted", report.failed, "0", report.failed == 0);
    figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
    let lost = |outcome: &Outcome| match outcome {
        Outcome::Failed(why) => why.contains("HTTP status 404"),
        Outcome::UnknownTool => true,
        Outcome::Answered => false,
    };
    let lost = report.samples.iter().filter(|sample| lost(&sample.outcome));
    figures.none("sessions_or_tools_lost", lost.map(|sample| sample.text.as_str()));
    figures.demand("connected_anew", report.closed, "some", report.closed > 0);
    figures.note("p50/p99/max", report.latency());
}

fn connections(ends: Ends, figures: &mut Figures) {
    let Ends { carried, refused, fin_idle, fin_unanswered, reset_idle, reset_unanswered, held: _ } = ends;
    figures.note("connections", carried);
    figures.demand("fin_when_idle", fin_idle, "some", fin_idle > 0);
    for (name, count) in [
        ("refused", refused),
        ("fin_after_bytes", fin_unanswered),
        ("reset_when_idle", reset_idle),
        ("reset_after_bytes", reset_unanswered),
    ] {
        figures.demand(name, count, "0", count == 0);
    }
}

/// Whether the other side has closed; nothing is waited for.
fn is_closed(client: &Raw) -> Result<bool, Fault> {
    client.stream.set_nonblocking(true)?;
    let peeked = client.stream.peek(&mut [0; 1]);
    client.stream.set_nonblocking(false)?;
    match peeked {
        Ok(0) => Ok(true),
        Ok(_) => Err(fault("bytes came that nothing asked for")),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The routers, all services and servers, and the balancer.
struct Stage {
    balancer: Balancer,
    services: Services,
    _backend: DemoServer,
    _file: ConfigFile,
    _scratch: Scratch,
}

impl Stage {
    fn up() -> Result<Self, Fault> {
        let scratch = Scratch::new("rolling")?;
        let backend = DemoServer::start("http", &scratch, &[])?;
        let document = Document::default()
            .with(Server::http("http", &backend.url()))
            .with(demo::stdio("stdio", "stdio", &scratch)?);
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
        let mut services = Services::plan(&scratch, file.path(), ROUTERS)?;
        let key = scratch.file("session.key").display().to_string();
        for kind in Kind::CONTROL {
            services.start(kind)?;
        }
        for number in 0..ROUTERS {
            services.routers[number].set_env("ONLY1MCP_SESSION_KEY_FILE", &key);
            services.routers[number].set_env("ONLY1MCP_MIN_DRAIN", MIN_DRAIN);
            services.start_router(number)?;
        }
        services.wait_ready()?;
        let balancer = Balancer::start(services.routers.iter().map(|router| (router.ops, router.mcp)).collect())?;
        Ok(Self { balancer, services, _backend: backend, _file: file, _scratch: scratch })
    }

    fn load(&self, clients: usize) -> Result<Load, Fault> {
        let names: [Arc<str>; 2] = ["http".into(), "stdio".into()];
        let choose = move |slot: u64| Pick {
            server: Arc::clone(&names[usize::from(slot % 2 == 1)]),
            deed: if slot % 16 == 5 { Deed::Sleep(100) } else { Deed::Echo },
        };
        let plan = Plan {
            endpoints: vec![self.balancer.relay.address],
            clients,
            balanced: true,
            rate: 1,
            tag: "rolling-".to_owned(),
            choose: Box::new(choose),
        };
        Load::start_thinking(plan, THINK)
    }

    /// An orderly end, and another process in its place, which is back when the balancer has seen it.
    fn restart(&mut self, number: usize) -> Result<(), Fault> {
        let status = self.services.routers[number].process().stop()?;
        if !status.success() {
            let said = self.services.routers[number].process().stderr_tail(5);
            return Err(fault(format!("router {number} ended with {status}: {said}")));
        }
        self.services.start_router(number)?;
        self.services.routers[number].wait_ready()?;
        wait::until_true("the balancer to see it", LIMIT, || self.balancer.is_ready(number))
    }
}

/// Sends each new connection to the next router that is ready.
struct Balancer {
    relay: Relay,
    ready: Arc<Vec<AtomicBool>>,
    stop: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

impl Balancer {
    /// Of each router, where it says whether it is ready, and where it serves.
    fn start(routers: Vec<(SocketAddr, SocketAddr)>) -> Result<Self, Fault> {
        let ready: Arc<Vec<AtomicBool>> = Arc::new(routers.iter().map(|_| AtomicBool::new(true)).collect());
        let (seen, next) = (Arc::clone(&ready), AtomicUsize::new(0));
        let places: Vec<SocketAddr> = routers.iter().map(|(_, mcp)| *mcp).collect();
        let relay = Relay::start(move || {
            let first = next.fetch_add(1, Ordering::Relaxed);
            let mut turns = (0..places.len()).map(|turn| (first + turn) % places.len());
            turns.find(|at| seen[*at].load(Ordering::SeqCst)).map(|at| places[at])
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (looked, stopped) = (Arc::clone(&ready), Arc::clone(&stop));
        let watch = thread::Builder::new().name("balancer".to_owned()).spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for ((ops, _), ready) in routers.iter().zip(&*looked) {
                    let answer = http_get(*ops, "/readyz");
                    ready.store(answer.is_ok_and(|(status, _)| status == 200), Ordering::SeqCst);
                }
                // The interval of a balancer's checks.
                thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(Self { relay, ready, stop, watch: Some(watch) })
    }

    fn is_ready(&self, number: usize) -> bool {
        self.ready[number].load(Ordering::SeqCst)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A balancer that panicked has been noticed by its clients.
        drop(self.watch.take().map(JoinHandle::join));
    }
}
