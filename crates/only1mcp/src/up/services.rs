//! The four services of this process: what each is given, and the one gRPC server they share.
//!
//! They reach each other over an in-memory connection to that same server, so what an operator sees from outside is what
//! they see.

use std::{path::PathBuf, time::Duration};

use config_manager::{ConfigManager, Origin, Status as ConfigStatus};
use drain_coordinator::DrainCoordinator;
use health_monitor::HealthMonitor;
use model::NodeId;
use router::{
    Router,
    settings::{Access, Listen, Peers, Settings as RouterSettings, default_cores},
};
use runtime::{
    Tracer,
    grpc::{self, Auth, DuplexConnector, Listener, Target},
    state_dir::StateDir,
    telemetry::log,
};
use tokio::sync::watch;
use tonic::service::{Routes, RoutesBuilder};

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

/// All four, running.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) router: Router,
    pub(crate) config: watch::Receiver<std::sync::Arc<ConfigStatus>>,
    routes: Routes,
    /// Their names, and who records their calls.
    offers: Vec<(&'static str, Tracer)>,
}

impl Services {
    /// Starts all four; they find each other once [`Services::serve`] was called.
    pub(crate) async fn start(
        halves: &Halves,
        listen: Listen,
        config: PathBuf,
        state: &StateDir,
        router: RouterSettings,
    ) -> Result<Self, ServiceError> {
        let (clock, tasks) = (halves.process.clock, &halves.control);
        // What troubles them is shown; it takes nothing from clients, so it must not keep them away.
        let shown = halves.process.readiness.only_shown();
        let mut routes = RoutesBuilder::default();

        let tracer = halves.tracer("config-manager");
        let mut offers = vec![(wire::process::SERVICE_NAME, tracer.clone()), (CONFIG, tracer.clone())];
        let scope = config_manager::Scope { clock, tasks: tasks.clone(), tracer };
        let manager = ConfigManager::open(Origin::File(config), state, scope)?;
        manager.show_dependencies(&halves.process.readiness);
        let status = manager.status();
        routes.add_service(manager.service());
        tasks.spawn_component("config-manager", manager.run());

        let tracer = halves.tracer("health-monitor");
        offers.push((HEALTH, tracer.clone()));
        let scope = health_monitor::Scope { clock, tasks: tasks.clone(), readiness: shown.clone(), tracer };
        let (service, monitor) = HealthMonitor::new(&scope);
        routes.add_service(service);
        tasks.spawn("health-monitor", monitor.run());

        let settings = drain_coordinator::Settings::new(state.file("drain-coordinator"));
        let tracer = halves.tracer("drain-coordinator");
        offers.push((DRAIN, tracer.clone()));
        let scope = drain_coordinator::Scope { clock, tasks: tasks.clone(), readiness: shown, tracer };
        let (service, coordinator) = DrainCoordinator::open(&settings, &scope)?;
        routes.add_service(service);
        tasks.spawn("drain-coordinator", coordinator.run());

        let scope = halves.router_scope();
        offers.push((ROUTER, scope.tracer.clone()));
        let router = Router::start(router, listen, scope).await?;
        routes.add_service(router.service());
        routes.add_service(wire::process::Log { read: log::read, change: log::change }.service());
        Ok(Self { router, config: status, routes: routes.routes(), offers })
    }

    /// Offers all four on `listeners`.
    pub(crate) fn serve(&self, halves: &Halves, auth: Auth, listeners: Vec<Listener>) {
        let service = grpc::Service {
            routes: self.routes.clone(),
            descriptors: &[wire::DESCRIPTORS],
            offers: self.offers.clone(),
            auth,
            readiness: halves.process.readiness.clone(),
        };
        let control = &halves.control;
        control.spawn_component("grpc", grpc::serve(service, listeners, control.shutdown().clone()));
    }

    /// Whether everything ended in time and in peace.
    pub(crate) async fn stop(self, grace: Duration) -> bool {
        self.router.stop(grace).await
    }
}

/// It reaches the other three through `inside`.
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
