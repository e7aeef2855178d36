//! Drains over all routers: what left and what became of its exchanges, and what operators want to have drained.
//!
//! Routers cordon, evict and close by themselves. This service adds up their counts, keeps operators' cordons over
//! restarts of any process, and answers for both. While it is away, only operators' drains have to wait.
//!
//! [`drain::Ledger`] decides everything. This crate carries it out: one task that owns the ledger, the streams of the
//! routers, and a file.

#![forbid(unsafe_code)]

mod command;
mod engine;
mod metrics;
mod record;
mod service;
pub mod settings;

use drain::Ledger;
use drain::ledger::Limits;
use model::{Time, WallTime};
use runtime::stream::attached::Owner;
use runtime::{Scope, telemetry};
use tokio::sync::{broadcast, mpsc};
use wire::pb::drain::v1::drain_service_server::DrainServiceServer;

use engine::Engine;
pub use metrics::METRICS;
use record::Record;
pub use record::RecordError;
pub use service::Service;
pub use settings::Settings;

/// Changes that a slow watcher may be behind before it is told that it missed some.
const CHANGES: usize = 256;

/// The part that runs; it owns all state.
#[derive(Debug)]
pub struct DrainCoordinator {
    engine: Engine,
    commands: mpsc::Receiver<command::Command>,
}

impl DrainCoordinator {
    /// Reads what was kept, and returns the gRPC service to be mounted and the part to be run beside it.
    ///
    /// # Errors
    /// When the state directory cannot be used. A record that cannot be understood is set aside, loudly: no error.
    pub fn open(settings: &Settings, scope: &Scope) -> Result<(DrainServiceServer<Service>, Self), RecordError> {
        let (record, image) = Record::open(&settings.state_dir)?;
        let (now, wall) = (Time::from_nanos(scope.clock.now_nanos()), WallTime(scope.clock.unix_millis()));
        let limits = Limits { lost_after: settings.lost_after, history: settings.history };
        let ledger = Ledger::new(now, wall, image, limits);
        let changes = broadcast::Sender::new(CHANGES);
        telemetry::describe(METRICS);
        let (owner, commands) = Owner::new("drain-coordinator", "drain_commands", scope.tasks.clone());
        metrics::watched(&changes);
        let service = Service::new(owner, changes.clone());
        let engine = Engine::new(ledger, record, changes, scope);
        Ok((service.into_server(), Self { engine, commands }))
    }

    /// Runs until asked to stop. Nothing is left to save then: what matters is on disk before it is sent to any peer.
    pub async fn run(self) {
        self.engine.run(self.commands).await;
    }
}
