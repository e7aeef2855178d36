//! The four services of this process: what each is given, and the one gRPC server they share.
//!
//! The services reach each other over an in-memory connection to that same server, so an operator outside sees the same
//! API as they do.

use std::{path::PathBuf, sync::Arc, time::Duration};

use backoff::Backoff;
use config_manager::{ConfigManager, Origin, Status as ConfigStatus};
use drain_coordinator::DrainCoordinator;
use health_monitor::HealthMonitor;
use model::{NodeId, Revision};
use router::{
    Router,
    settings::{Access, Peers, Settings as RouterSettings, default_cores},
};
use runtime::escape::say;
use runtime::{
    Scope, Tracer, fault,
    grpc::{self, Auth, DuplexConnector, Listener, Target},
    state_dir::StateDir,
    telemetry::log,
};
use tokio::sync::watch;
use tonic::service::RoutesBuilder;

use wire::pb::{
    config::v1::config_service_server::SERVICE_NAME as CONFIG, drain::v1::drain_service_server::SERVICE_NAME as DRAIN,
    health::v1::health_service_server::SERVICE_NAME as HEALTH,
    router::v1::router_service_server::SERVICE_NAME as ROUTER,
};

use super::Halves;

/// The name of the one router in votes and in the status.
const NODE: &str = "local";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("config-manager does not start")]
    ConfigManager(#[from] config_manager::OpenError),
    #[error("drain-coordinator does not start")]
    DrainCoordinator(#[from] drain_coordinator::RecordError),
    #[error("the router does not start")]
    Router(#[from] router::StartError),
}

/// The delay between two tries to open config-manager's log.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The control services, and the API of all four.
#[derive(Debug)]
pub(crate) struct Services {
    routes: RoutesBuilder,
    /// The names of the services, each with the tracer that records its calls.
    offers: Vec<(&'static str, Tracer)>,
}

impl Services {
    /// Starts health-monitor and drain-coordinator; what the router asks them waits until [`Services::serve`] was called.
    pub(crate) fn start(halves: &Halves, router: &Router, state: &StateDir) -> Result<Self, ServiceError> {
        let (clock, tasks) = (halves.process.clock, &halves.control);
        // Trouble of the control services is shown. It does not affect clients, so it must not make the process
        // unready.
        let shown = halves.process.readiness.only_shown();
        let mut routes = RoutesBuilder::default();

        let tracer = halves.tracer("health-monitor");
        let mut offers = vec![(HEALTH, tracer.clone())];
        let scope = Scope { clock, tasks: tasks.clone(), readiness: shown.clone(), tracer };
        let (service, monitor) = HealthMonitor::new(&scope);
        routes.add_service(service);
        tasks.spawn("health-monitor", monitor.run());

        let settings = drain_coordinator::Settings::new(state.file("drain-coordinator"));
        let tracer = halves.tracer("drain-coordinator");
        offers.push((DRAIN, tracer.clone()));
        let scope = Scope { clock, tasks: tasks.clone(), readiness: shown, tracer };
        let (service, coordinator) = DrainCoordinator::open(&settings, &scope)?;
        routes.add_service(service);
        tasks.spawn("drain-coordinator", coordinator.run());

        offers.push((ROUTER, halves.tracer("router")));
        routes.add_service(router.service());
        routes.add_service(wire::process::Log { read: log::read, change: log::change }.service());
        Ok(Self { routes, offers })
    }

    /// Starts config-manager and says what it says of itself; nothing when stopping was asked for before.
    ///
    /// While its log cannot be opened (the disk is full, say), the router serves what it has on disk. Only when it has
    /// nothing is that the end.
    pub(crate) async fn add_manager(
        &mut self,
        halves: &Halves,
        router: &Router,
        config: PathBuf,
        state: &StateDir,
    ) -> Result<Option<watch::Receiver<Arc<ConfigStatus>>>, ServiceError> {
        let (tasks, readiness) = (&halves.control, &halves.process.readiness);
        let tracer = halves.tracer("config-manager");
        let log = readiness.dependency("log");
        let mut failures = 0;
        let manager = loop {
            let scope =
                config_manager::Scope { clock: halves.process.clock, tasks: tasks.clone(), tracer: tracer.clone() };
            let error = match ConfigManager::open(Origin::File(config.clone()), state, scope) {
                Ok(manager) => break manager,
                Err(error) => ServiceError::from(error),
            };
            if router.revision() == Revision::NONE {
                return Err(error);
            }
            let reason = fault::chain(&error);
            say(&format!("only1mcp: {reason}; trying again, and serving revision {} meanwhile\n", router.revision()));
            log.close(reason);
            tokio::select! {
                () = tokio::time::sleep(RETRY.ceiling(failures)) => {}
                () = halves.process.shutdown.triggered() => return Ok(None),
            }
            failures += 1;
        };
        manager.show_dependencies(readiness);
        manager.reload_with(halves.process.shutdown.clone());
        let status = manager.status();
        self.routes.add_service(manager.service());
        self.offers.extend([(wire::process::SERVICE_NAME, tracer.clone()), (CONFIG, tracer)]);
        tasks.spawn_component("config-manager", manager.run());
        Ok(Some(status))
    }

    /// Offers all four on `listeners`.
    pub(crate) fn serve(self, halves: &Halves, auth: Auth, listeners: Vec<Listener>) {
        let service = grpc::Service {
            routes: self.routes.routes(),
            descriptors: &[wire::DESCRIPTORS],
            offers: self.offers,
            auth,
            readiness: halves.process.readiness.clone(),
        };
        let control = &halves.control;
        control.spawn_component("grpc", grpc::serve(service, listeners, control.shutdown().clone()));
    }
}

/// The router's settings: it reaches the other three through `inside`.
pub(crate) fn router_settings(access: Access, state: &StateDir, inside: &DuplexConnector) -> RouterSettings {
    let inside = || Target::Duplex(inside.clone());
    RouterSettings {
        node: NodeId::new(NODE).expect("the name is a valid one"),
        state_dir: state.file("router"),
        cores: default_cores(),
        access,
        peers: Peers { config_manager: inside(), health_monitor: inside(), drain_coordinator: inside() },
        session_key_file: None,
    }
}
