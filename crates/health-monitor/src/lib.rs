//! The health of endpoints: when routers probe, what the answers mean, and which routers and watchers hear of it.
//!
//! Only routers touch servers. This service asks them for pings on their live connections, hears what their real
//! traffic shows, and sends verdicts back. It keeps nothing: after a restart all is unknown until the first probes.
//! These come within a second, and unknown is routable.
//!
//! [`health::Monitor`] decides everything. This crate carries it out: one task that owns it, and the streams.

#![forbid(unsafe_code)]

mod command;
mod engine;
mod metrics;
mod service;
pub mod settings;

use health::Monitor;
use runtime::stream::attached::Owner;
use runtime::{Scope, telemetry};
use tokio::sync::{broadcast, mpsc};
use wire::pb::health::v1::health_service_server::HealthServiceServer;

use engine::Engine;
pub use metrics::METRICS;
pub use service::Service;

/// Changes that a slow watcher may be behind before it is told that it missed some.
const CHANGES: usize = 256;

/// The part that runs; it owns all state.
#[derive(Debug)]
pub struct HealthMonitor {
    engine: Engine,
    commands: mpsc::Receiver<command::Command>,
}

impl HealthMonitor {
    /// The gRPC service to mount, and the part to run beside it. There are no settings but those of the configuration,
    /// and these come from the routers.
    pub fn new(scope: &Scope) -> (HealthServiceServer<Service>, Self) {
        let changes = broadcast::Sender::new(CHANGES);
        telemetry::describe(METRICS);
        let (owner, commands) = Owner::new("health-monitor", "health_commands", scope.tasks.clone());
        metrics::watched(&changes);
        let service = Service::new(owner, changes.clone());
        let engine = Engine::new(Monitor::new(rand::random()), changes, scope);
        (service.into_server(), Self { engine, commands })
    }

    /// Runs until asked to stop.
    pub async fn run(self) {
        self.engine.run(self.commands).await;
    }
}
