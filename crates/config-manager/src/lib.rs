//! Decides what should be live: follows the configured file and the admin API, has the routers agree to every change,
//! records it, and tells the routers.
//!
//! The service is opened on a locked state directory, offered as a gRPC service on any listener of the process, run as
//! a future, and seen through a `watch`. Nothing here is global, so several can live in one process.

#![forbid(unsafe_code)]

mod admin;
mod command;
mod dependencies;
mod engine;
mod follow;
pub mod log;
mod metrics;
mod outcome;
mod provenance;
mod service;
mod settings;
mod source;
mod status;
mod work_pool;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::{Mask, Owner, Revision, WallTime};
use rollout::reconciler::Head;
use runtime::grpc::MESSAGE_BYTES_MAX;
use runtime::state_dir::StateDir;
use runtime::telemetry::{self, sampled};
use runtime::{Clock, Readiness, Shutdown, Tasks, Tracer};
use tokio::sync::{broadcast, mpsc, watch};
use wire::pb::config::v1::config_service_server::ConfigServiceServer;

pub use engine::RunError;
pub use metrics::METRICS;
pub use provenance::Provenance;
pub use service::Service;
pub use settings::Settings;
pub use source::{Method, Origin};
pub use status::{Happened, NodeRefusal, Pending, PendingStage, RouterView, SourceState, SourceStatus, Status};

use command::Command;
use engine::{Engine, Parts};
use log::{Layers, Log, LogError, Opened, layers_digest};
use source::Signals;
use work_pool::WorkPool;

/// The name of the log in the state directory.
pub const LOG_FILE: &str = "revisions.redb";

/// How many calls may wait for the engine; more wait for a place.
const COMMANDS: usize = 256;
/// How many documents may wait to be validated; more are refused. One is parsed at a time.
const DOCUMENTS_MAX: usize = 16;
/// How many questions are answered from the log at a time.
const READS_AT_ONCE: usize = 4;
/// The length of the queue from the file's task to the engine.
const SIGHTS: usize = 16;
/// Events that a slow watcher may be behind before it misses some.
const EVENTS: usize = 256;

/// The actor of a reload by SIGHUP: of the process that sends a signal, only its right to send it is known.
const SIGNAL: &str = "SIGHUP";

/// What the process gives to this service.
#[derive(Debug, Clone)]
pub struct Scope {
    pub clock: Clock,
    /// Holds the readers of router streams; its shutdown ends everything.
    pub tasks: Tasks,
    pub tracer: Tracer,
}

/// The one writer of revisions, opened and not yet running.
#[derive(Debug)]
pub struct ConfigManager {
    engine: Engine,
    commands: (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    sights: (mpsc::Sender<source::FromSource>, mpsc::Receiver<source::FromSource>),
    origin: Origin,
    signals: Arc<Signals>,
    log: Arc<Log>,
    status: watch::Receiver<Arc<Status>>,
    events: broadcast::Sender<Happened>,
    scope: Scope,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the path {path} cannot be made absolute")]
    Path { path: PathBuf, source: std::io::Error },
}

/// From the one source of randomness at hand: 148 of the 256 bits are random.
fn random() -> Vec<u8> {
    [uuid::Uuid::now_v7(), uuid::Uuid::now_v7()].iter().flat_map(|uuid| *uuid.as_bytes()).collect()
}

/// A layer that was not changed by one of so many revisions has been there for long.
const LOOKED_BACK: usize = 1000;

fn came_from(log: &Log, live: Revision, layers: &Layers) -> Provenance {
    // Only shown: without it, all else is as well known.
    let records = log.revisions(LOOKED_BACK).inspect_err(|error| tracing::warn!(%error, "the history cannot be read"));
    let records = records.unwrap_or_default();
    let known = records.iter().map(|(record, _)| record);
    Provenance::of(layers, known.skip_while(|record| record.revision > live))
}

impl ConfigManager {
    /// Opens the log in the locked directory and restores its head. Blocks on the disk; must be called within a
    /// runtime.
    ///
    /// # Errors
    /// See [`OpenError`]. A broken or missing configuration file is no error: the status reports it.
    pub fn open(origin: Origin, state: &StateDir, scope: Scope) -> Result<Self, OpenError> {
        let origin = match origin {
            Origin::File(path) => {
                let absolute = std::path::absolute(&path);
                Origin::File(absolute.map_err(|source| OpenError::Path { path, source })?)
            }
            other @ (Origin::Text { .. } | Origin::None) => other,
        };
        let Opened { log, head, cursors, fault } =
            Log::open(&state.file(LOG_FILE), WallTime(scope.clock.unix_millis()))?;
        let mut log_fault = fault;
        if let Some((damaged, why)) = head.as_ref().and_then(|head| head.instead_of.as_ref()) {
            tracing::error!(revision = %damaged, why, "the newest revision cannot be read; an older one is live");
            log_fault = Some(format!("revision {damaged} cannot be read: {why}"));
        }
        if let Some(fault) = &log_fault {
            tracing::error!(fault, "the revision log is damaged");
        }
        let head = head.map(|head| head.kept);
        if let Some(kept) = &head {
            tracing::info!(revision = %kept.record.revision, digest = kept.record.digest.short(), "restored");
        }
        let layers = head.as_ref().map(|kept| Arc::clone(&kept.layers)).unwrap_or_default();
        let provenance = match &head {
            Some(kept) => came_from(&log, kept.record.revision, &layers),
            None => Provenance::default(),
        };
        let cursor = cursors.get(&Owner::file()).copied();
        let log = Arc::new(log);
        let signals = Arc::new(Signals::default());
        let (events, _) = broadcast::channel(EVENTS);
        let parts = Parts {
            clock: scope.clock,
            tracer: scope.tracer.clone(),
            log: log.clone(),
            log_fault,
            layers,
            provenance,
            head: head.map(|kept| Head {
                revision: kept.record.revision,
                content: kept.content,
                layers: layers_digest(&kept.layers),
            }),
            cursor,
            origin: origin.clone(),
            signals: signals.clone(),
            events: events.clone(),
        };
        let (engine, status) = Engine::new(parts);
        let (commands, sights) = (mpsc::channel(COMMANDS), mpsc::channel(SIGHTS));
        METRICS.iter().for_each(|part| telemetry::describe(part));
        metrics::show(status.clone(), &events);
        sampled::queue("config_commands", &commands.0);
        sampled::queue("config_file", &sights.0);
        Ok(Self { engine, commands, sights, origin, signals, log, status, events, scope })
    }

    /// The service to mount on one server of the process. Calls wait until [`ConfigManager::run`] runs.
    pub fn service(&self) -> ConfigServiceServer<Service> {
        let service = Service {
            engine: self.commands.0.clone(),
            log: self.log.clone(),
            status: self.status.clone(),
            events: self.events.clone(),
            clock: self.scope.clock,
            tasks: self.scope.tasks.clone(),
            documents: WorkPool::new("DOCUMENTS", "documents to validate", 1, DOCUMENTS_MAX),
            reads: WorkPool::without_refusals("questions to the log", READS_AT_ONCE),
            mask: Mask::new(&random()),
            links: AtomicU64::new(1),
        };
        ConfigServiceServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Shows the state of its dependencies in `readiness`: `log` and, with a file, `file`.
    pub fn show_dependencies(&self, readiness: &Readiness) {
        let file = (!matches!(self.origin, Origin::None)).then(|| readiness.dependency("file"));
        let watch = dependencies::watch(readiness.dependency("log"), file, self.status.clone());
        let shutdown = self.scope.tasks.shutdown().clone();
        self.scope.tasks.spawn("dependencies", async move {
            tokio::select! {
                () = watch => {}
                () = shutdown.triggered() => {}
            }
        });
    }

    /// Reads the file again each time when that process is asked to.
    pub fn reload_with(&self, process: Shutdown) {
        let (engine, clock) = (self.commands.0.clone(), self.scope.clock);
        let stop = self.scope.tasks.shutdown().token();
        self.scope.tasks.spawn("reload by signal", async move {
            while stop.run_until_cancelled(process.reload_wanted()).await.is_some() {
                let read = admin::reload(&engine, clock.now_nanos(), SIGNAL);
                if stop.run_until_cancelled(read).await.is_none() {
                    return;
                }
            }
        });
    }

    /// The live revision, and why the file is not live if it is not.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Runs until asked to stop. A write under way then is completed.
    ///
    /// # Errors
    /// When a part of it panicked.
    pub async fn run(self) -> Result<(), RunError> {
        let shutdown = self.scope.tasks.shutdown().clone();
        let (commands, sights) = (self.commands.1, self.sights.1);
        let following = source::follow(self.origin, self.signals, self.sights.0, shutdown.token());
        self.scope.tasks.spawn("configuration file", following);
        // The shutdown ends the engine; the end of all callers does not.
        drop(self.commands.0);
        self.engine.run(commands, sights, shutdown).await
    }
}

/// Arms the points named in `FAILPOINTS`, in the build that has them, for as long as the result lives.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn arm_failpoints() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}
