//! Everything that metrics are about, happening within a minute or so.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{Client, ConfigFile, Document, Fault, Scratch, Server, Services, System, demo, services::Kind, wait};

use super::prometheus::Prometheus;
use crate::Figures;

const LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Storm<'a> {
    pub(super) scratch: &'a Scratch,
    pub(super) file: &'a ConfigFile,
    pub(super) document: Document,
    pub(super) services: &'a mut Services,
    pub(super) prometheus: &'a Prometheus,
}

impl Storm<'_> {
    /// Calls on all routers while the configuration, servers and control services change.
    pub(super) fn play(&mut self, figures: &mut Figures) -> Result<(), Fault> {
        let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
        let endpoints = self.services.endpoints();
        let played = thread::scope(|scope| {
            for endpoint in &endpoints {
                let (stop, calls) = (&stop, &calls);
                scope.spawn(move || call_on(*endpoint, stop, calls));
            }
            let played = self.change_and_kill(&endpoints);
            stop.store(true, Ordering::Relaxed);
            played
        });
        figures.note("calls", calls.load(Ordering::Relaxed));
        played
    }

    fn change_and_kill(&mut self, endpoints: &[SocketAddr]) -> Result<(), Fault> {
        for turn in 0..2 {
            self.guest_comes_and_goes(endpoints, turn)?;
            self.refusals()?;
            // A process takes what it has counted with it.
            self.prometheus.wait_scraped()?;
            // The child is lost and brought up again.
            for endpoint in endpoints {
                drop(Client::open(*endpoint)?.call("child__crash", &json!({})));
            }
            for kind in [Kind::HealthMonitor, Kind::DrainCoordinator, Kind::ConfigManager] {
                self.services.service_mut(kind).kill()?;
                self.services.start(kind)?;
                self.services.wait_ready()?;
            }
            wait::until_true("all routers to be at the revision", LIMIT, || self.is_settled())?;
        }
        // A server that is lost has no process to restart.
        let answers = |at: &SocketAddr| Client::open(*at)?.text("child__echo", &json!({ "text": "back" }));
        wait::until_true("the child to be back", LIMIT, || endpoints.iter().all(|at| answers(at).is_ok()))?;
        self.services.cli(&["restart", "child"])?.expect(0)?;
        let child = demo::stdio("child", "child", self.scratch)?.env("TURN", "last");
        self.apply(&self.document.clone().with(child))?;
        self.prometheus.wait_scraped()?;
        self.services.cli(&["rollback"])?.expect(0)?;
        self.services.cli(&["drain", "child", "--deadline", "1s", "--wait"])?.expect(0)?;
        Ok(())
    }

    /// A server that leaves with calls in flight: some end by themselves, one at the deadline.
    fn guest_comes_and_goes(&self, endpoints: &[SocketAddr], turn: u32) -> Result<(), Fault> {
        let guest = demo::stdio("guest", "guest", self.scratch)?.env("TURN", &turn.to_string());
        self.apply(&self.document.clone().with(guest))?;
        thread::scope(|scope| {
            for endpoint in endpoints {
                for ms in [1_000, 60_000] {
                    scope.spawn(move || Client::open(*endpoint)?.text("guest__sleep", &json!({ "ms": ms })));
                }
            }
            let at_guest = || {
                let shown = self.services.routers.iter().filter_map(|router| router.metrics().ok());
                shown.filter(|text| text.contains("only1mcp_server_in_flight{server=\"guest\"} 2\n")).count()
            };
            wait::until_true("the calls to be at the guest", LIMIT, || at_guest() == endpoints.len())?;
            self.apply(&self.document)
        })
    }

    /// Refusals of the file, for its content; and of a server that cannot start, by the routers.
    fn refusals(&self) -> Result<(), Fault> {
        self.file.replace("version: \"1.0\"\nservers: [{ id: 1 }]\n")?;
        self.services.cli(&["reload", "--output", "json"])?.expect(1)?;
        let lost = Server::stdio("lost", &self.scratch.file("no-such-program"), &[]).key("critical", true.into());
        self.file.replace(&self.document.clone().with(lost).yaml())?;
        self.services.cli(&["reload", "--output", "json"])?.expect(1)?;
        self.file.replace(&self.document.yaml())?;
        self.services.cli(&["reload", "--output", "json"])?;
        Ok(())
    }

    fn apply(&self, document: &Document) -> Result<(), Fault> {
        self.file.replace(&document.yaml())?;
        let answer: Value = self.services.cli(&["reload", "--output", "json"])?.json()?;
        let revision = answer["revision"].as_u64().unwrap_or_default();
        wait::until_true("the revision to be live everywhere", LIMIT, || {
            self.is_settled() && self.services.revision().is_ok_and(|live| live >= revision)
        })
    }

    fn is_settled(&self) -> bool {
        let Ok(status) = self.services.status() else { return false };
        let routers = status["routers"].as_array().map(Vec::as_slice).unwrap_or_default();
        routers.len() == self.services.routers.len() && routers.iter().all(|router| router["state"] == "live")
    }
}

/// Calls of every sort until `stop`; what becomes of one is what the metrics are about.
fn call_on(endpoint: SocketAddr, stop: &AtomicBool, calls: &AtomicU64) {
    let sorts = [
        ("steady__echo", json!({ "text": "hello" })),
        // Long enough that this is no benchmark.
        ("child__sleep", json!({ "ms": 50 })),
        ("steady__fail", json!({})),
        ("nobody__has", json!({})),
        ("guest__echo", json!({ "text": "who is there?" })),
    ];
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = &mut client else {
            client = Client::open(endpoint).ok();
            continue;
        };
        for (tool, arguments) in &sorts {
            calls.fetch_add(1, Ordering::Relaxed);
            if open.call(tool, arguments).is_err() {
                client = None;
                break;
            }
        }
    }
}
