//! The lines of the table "when a service is away", each as something that clients and operators see.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use testkit::{
    Client, ConfigFile, DemoServer, Document, Fault, Reply, Scratch, Server, Services, System, Tally,
    client::http_get,
    demo, fault,
    load::{Deed, Load, Pick, Plan},
    raw::{Raw, call},
    services::Kind,
    wait,
};
use tokio::time::Instant;

use super::super::{
    backend::{Backend, Ill},
    relay::Relay,
};
use crate::{Figures, Size};

const ROUTERS: usize = 2;
const LIMIT: Duration = Duration::from_secs(60);
/// Of drains, in the configuration.
const DEADLINE: Duration = Duration::from_secs(1);
/// In the short form other tests run beside.
const TOLERANCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1000));

/// Four services with two routers, of which each reaches the two services that may be away through a wire that can be
/// cut.
pub(super) struct Stage {
    pub(super) services: Services,
    pub(super) load: Load,
    links: [(Kind, Relay); 2],
    falls: Backend,
    document: Document,
    leaves: Server,
    file: ConfigFile,
    revision: u64,
    calls_made: u64,
    tolerance: Duration,
    scratch: Scratch,
    _backends: Vec<DemoServer>,
}

impl Stage {
    pub(super) fn up(size: Size) -> Result<Self, Fault> {
        let scratch = Scratch::new("away")?;
        let backend = |name: &str| DemoServer::start(name, &scratch, &[]);
        let backends = ["steady", "quiet", "held", "leaves"].map(backend).into_iter().collect::<Result<Vec<_>, _>>()?;
        let falls = Backend::start()?;
        let health =
            json!({ "interval": "300ms", "timeout": "200ms", "unhealthy_threshold": 2, "healthy_threshold": 1 });
        let document = Document::default()
            .key("health", health)
            .key("drain", json!({ "graceful": { "timeout_seconds": DEADLINE.as_secs() } }))
            .with(Server::http("steady", &backends[0].url()))
            .with(demo::stdio("stdio", "stdio", &scratch)?)
            .with(Server::http("quiet", &backends[1].url()))
            .with(Server::http("held", &backends[2].url()))
            .with(Server::http("falls", &falls.url("mcp")));
        let leaves = Server::http("leaves", &backends[3].url());
        let text = document.clone().with(leaves.clone()).yaml();
        let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &text)?;
        let mut services = Services::plan(&scratch, file.path(), ROUTERS)?;
        let link = |kind: Kind| {
            let place = services.service(kind).grpc;
            Ok::<_, Fault>((kind, Relay::start(move || Some(place))?))
        };
        let links = [link(Kind::HealthMonitor)?, link(Kind::DrainCoordinator)?];
        let key = scratch.file("session.key").display().to_string();
        for (kind, relay) in &links {
            services.detour(*kind, relay.address);
        }
        for kind in Kind::CONTROL {
            services.start(kind)?;
        }
        for number in 0..ROUTERS {
            services.routers[number].set_env("ONLY1MCP_SESSION_KEY_FILE", &key);
            services.start_router(number)?;
        }
        services.wait_ready()?;
        let load = start(&services, size)?;
        let revision = services.revision()?;
        load.wait_revision(revision)?;
        let (tolerance, calls_made) = (size.pick(TOLERANCE.0, TOLERANCE.1), 0);
        Ok(Self {
            services,
            load,
            links,
            falls,
            document,
            leaves,
            file,
            revision,
            calls_made,
            tolerance,
            scratch,
            _backends: backends,
        })
    }

    /// The wire between the routers and a service.
    pub(super) fn link(&self, kind: Kind) -> &Relay {
        let of_it = self.links.iter().find(|(known, _)| *known == kind);
        &of_it.expect("a wire was laid to each service that is away").1
    }

    /// Each router finds out by its own calls that a server has fallen, and that it is back.
    pub(super) fn passive_verdicts(&mut self) -> Result<(), Fault> {
        self.falls.fail(Ill::Killed)?;
        let fallen = self.each_router_sees("falls", 0);
        self.falls.mend()?;
        fallen?;
        self.each_router_sees("falls", 1)
    }

    fn each_router_sees(&self, server: &str, up: u64) -> Result<(), Fault> {
        for router in &self.services.routers {
            let mut client = Client::open(router.mcp)?;
            wait::until_true(&format!("{up} endpoints of {server} to be well"), LIMIT, || {
                // An answer is as good as none: what matters is what the router makes of it.
                drop(client.call(&format!("{server}__echo"), &json!({ "text": "how are you" })));
                let page = router.metrics().unwrap_or_default();
                value(&page, "only1mcp_server_up{", &format!("server=\"{server}\"")) == up
            })?;
        }
        Ok(())
    }

    /// The last active verdict on a server that gets no calls ages, and then it is called all the same.
    pub(super) fn unknown_is_routable(&self) -> Result<(), Fault> {
        for router in &self.services.routers {
            is_in_state(router.ops, "quiet", "unknown")?;
            Client::open(router.mcp)?.text("quiet__echo", &json!({ "text": "still" }))?;
        }
        Ok(())
    }

    /// Two changes: a server goes, and comes again.
    pub(super) fn changes_go_on(&mut self) -> Result<(), Fault> {
        self.file.replace(&self.document.yaml())?;
        self.live()?;
        self.file.replace(&self.document.clone().with(self.leaves.clone()).yaml())?;
        self.live()
    }

    fn live(&mut self) -> Result<(), Fault> {
        self.revision += 1;
        self.load.wait_revision(self.revision)
    }

    /// A call on a server that is removed ends at the deadline of the configuration, by the router alone.
    pub(super) fn routers_drain_by_themselves(&mut self) -> Result<(), Fault> {
        let calls = (0..ROUTERS).map(|number| self.begin(number)).collect::<Result<Vec<_>, Fault>>()?;
        let mut client = Client::open(self.services.routers[0].mcp)?;
        self.file.replace(&self.document.yaml())?;
        let removed = client.wait_revision(self.revision + 1, LIMIT)?;
        self.live()?;
        for call in calls {
            let (reply, ended) = call.join().map_err(|_| fault("the caller panicked"))??;
            let off = ended.saturating_duration_since(removed + DEADLINE);
            let off = off.max((removed + DEADLINE).saturating_duration_since(ended));
            if reply.content.is_ok() || off > self.tolerance {
                return Err(fault(format!("{off:?} from the deadline: {:?}", reply.content)));
            }
        }
        self.file.replace(&self.document.clone().with(self.leaves.clone()).yaml())?;
        self.live()
    }

    /// A call that lasts far beyond the deadline; returns once the server has it.
    fn begin(&mut self, router: usize) -> Result<JoinHandle<Result<(Reply, Instant), Fault>>, Fault> {
        self.calls_made += 1;
        let (endpoint, id) = (self.services.routers[router].mcp, format!("long-{}", self.calls_made));
        let arguments = json!({ "ms": 60_000, "id": id });
        let call = thread::Builder::new().spawn(move || {
            let reply = Client::open(endpoint)?.call("leaves__sleep", &arguments)?;
            Ok((reply, Instant::now()))
        })?;
        let counts = self.scratch.folder("counts")?;
        let counted = || Tally::read(&counts).is_ok_and(|tally| tally.count(&id) == 1);
        wait::until_true("the server to have the call", LIMIT, counted)?;
        Ok(call)
    }

    /// What an operator asks for is neither done nor lost in silence.
    pub(super) fn drains_of_operators_wait(&self) -> Result<(), Fault> {
        self.services.cli(&["drain", "held", "--timeout", "2s"])?.expect(69)?;
        for router in &self.services.routers {
            Client::open(router.mcp)?.text("held__echo", &json!({ "text": "not drained" }))?;
        }
        Ok(())
    }

    /// Calls, health and drains go on; nothing changes, and the history is the same afterwards.
    pub(super) fn config_manager_away(&mut self, size: Size) -> Result<(), Fault> {
        self.services.service_mut(Kind::ConfigManager).kill()?;
        self.file.replace(&self.document.yaml())?;
        let lasts = size.pick(Duration::from_secs(120), Duration::from_secs(1));
        self.services.cli(&["reload", "--timeout", "2s"])?.expect(69)?;
        self.passive_verdicts()?;
        self.services.cli(&["drain", "quiet"])?.expect(0)?;
        for router in &self.services.routers {
            is_in_state(router.ops, "quiet", "cordoned")?;
        }
        self.services.cli(&["drain", "--cancel", "quiet"])?.expect(0)?;
        wait::holds_for("the revision from before", lasts, || Ok(self.load.revision() == self.revision))?;
        self.file.replace(&self.document.clone().with(self.leaves.clone()).yaml())?;
        self.services.start(Kind::ConfigManager)?;
        self.services.service_mut(Kind::ConfigManager).wait_ready()?;
        let revision = self.services.revision()?;
        if revision == self.revision { Ok(()) } else { Err(fault(format!("{revision} after {}", self.revision))) }
    }

    /// Of all calls while services were away.
    pub(super) fn judge(&mut self, figures: &mut Figures) -> Result<(), Fault> {
        let report = self.load.stop()?;
        figures.demand("calls", report.samples.len(), "some", !report.samples.is_empty());
        figures.none("failed", &report.failures);
        figures.demand("failures_counted", report.failed, "0", report.failed == 0);
        figures.demand("closed", report.closed, "0", report.closed == 0);
        figures.demand("unanswered", report.unanswered, "0", report.unanswered == 0);
        figures.note("p50/p99/max", report.latency());
        Ok(())
    }

    /// The other router goes on with the sessions of one that is killed.
    pub(super) fn router_away(&mut self) -> Result<(), Fault> {
        let session = Raw::open(self.services.routers[0].mcp)?;
        self.services.routers[0].kill()?;
        let mut elsewhere = session.session_at(self.services.routers[1].mcp)?;
        elsewhere.works()?;
        let answer = elsewhere.ask(&call(1, "steady__echo", json!({ "text": "elsewhere" })))?;
        let text = answer.json()["result"]["content"][0]["text"].clone();
        if text == "elsewhere" { Ok(()) } else { Err(fault(format!("{answer:?}"))) }
    }

    /// A router starts with no control service at all.
    pub(super) fn cold_start(&mut self) -> Result<(), Fault> {
        for kind in Kind::CONTROL {
            self.services.service_mut(kind).kill()?;
        }
        self.services.routers[1].kill()?;
        self.services.start_router(0)?;
        let endpoint = self.services.routers[0].mcp;
        let found = wait::until("an answer of a router alone", LIMIT, || {
            let mut client = Client::open(endpoint).ok()?;
            client.text("steady__echo", &json!({ "text": "alone" })).ok()?;
            Some(client.revision())
        })?;
        if found == self.revision { Ok(()) } else { Err(fault(format!("revision {found}, not {}", self.revision))) }
    }
}

fn start(services: &Services, size: Size) -> Result<Load, Fault> {
    let names: [Arc<str>; 2] = ["steady".into(), "stdio".into()];
    let choose = move |slot: u64| Pick {
        server: Arc::clone(&names[usize::from(slot % 2 == 1)]),
        deed: if slot % 16 == 5 { Deed::Sleep(100) } else { Deed::Echo },
    };
    Load::start(Plan {
        endpoints: services.endpoints(),
        clients: size.pick(64, 8),
        balanced: false,
        rate: size.pick(800, 150),
        tag: "away-".to_owned(),
        choose: Box::new(choose),
    })
}

fn is_in_state(ops: SocketAddr, server: &str, state: &str) -> Result<(), Fault> {
    let labels = format!("server=\"{server}\",state=\"{state}\"");
    let page = || http_get(ops, "/metrics").map_or_else(|_| String::new(), |(_, page)| page);
    wait::until_true(&format!("{server} to be {state}"), LIMIT, || {
        value(&page(), "only1mcp_server_state{", &labels) == 1
    })
}

/// Of a page of metrics: the sum of the series whose line begins with `name` and contains `labels`.
pub(super) fn value(page: &str, name: &str, labels: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
