//! The life of the config-manager process.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use config_manager::{ConfigManager, Origin, Scope, Settings, SourceState, Status};
use runtime::grpc::{self, Auth, Listener};
use runtime::state_dir::{self, StateDir};
use runtime::telemetry::log;
use runtime::{AdminToken, Ending, Gate, Process, Program, Shutdown, telemetry};
use tokio::sync::watch;
use tonic::service::Routes;

const SOCKET: &str = "admin.sock";

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = config_manager::arm_failpoints();
    Program { name: "config-manager", version: env!("CARGO_PKG_VERSION"), threads: 2, sockets: &[] }.run(live)
}

async fn live(settings: Settings, mut process: Process) -> Result<ExitCode, Box<dyn Error>> {
    let state = StateDir::lock(directory(&settings)?)?;
    let token_file = settings.token_file.unwrap_or_else(|| state.file(AdminToken::FILE));
    let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
    let mut listeners = process.listen_grpc(settings.grpc, &auth).await?;
    let grpc = listeners.iter().find_map(Listener::local_addr);
    listeners.push(Listener::unix(state_dir::socket_path(state.path(), SOCKET)).await?);
    let ops = process.serve_ops(settings.ops, settings.ops_names.clone()).await?;

    let gate = process.readiness.gate("revision");
    let origin = settings.config.map_or(Origin::None, Origin::File);
    let tracer = process.tracer("config-manager", &telemetry::host());
    let scope = Scope { clock: process.clock, tasks: process.tasks.clone(), tracer: tracer.clone() };
    let manager = ConfigManager::open(origin, &state, scope)?;
    manager.show_dependencies(&process.readiness);
    manager.reload_with(process.shutdown.clone());
    process.tasks.spawn("readiness", watch_revision(gate, manager.status(), process.shutdown.clone()));
    let service = grpc::Service {
        routes: Routes::new(manager.service())
            .add_service(wire::process::Log { read: log::read, change: log::change }.service()),
        descriptors: &[wire::DESCRIPTORS],
        offers: vec![
            (wire::pb::config::v1::config_service_server::SERVICE_NAME, tracer.clone()),
            (wire::process::SERVICE_NAME, tracer),
        ],
        auth,
        readiness: process.readiness.clone(),
    };
    process.serve_grpc(service, listeners);
    process.tasks.spawn_component("config engine", manager.run());
    tracing::info!(grpc = grpc.map(tracing::field::display), %ops, state = %state.path().display(), "config-manager runs");

    process.serve_until_stopped().await;
    // Streams end by themselves and nothing is handed over, so there is nothing to wait for.
    Ok(process.end(Ending::default()).await)
}

/// One per absolute path of the configuration file, as for `up`.
fn directory(settings: &Settings) -> Result<PathBuf, Box<dyn Error>> {
    if let Some(directory) = &settings.state_dir {
        return Ok(std::path::absolute(directory)?);
    }
    let home = state_dir::state_home().ok_or("there is no home directory for the state; give --state-dir DIR")?;
    Ok(match &settings.config {
        Some(file) => state_dir::for_path(&home, &std::path::absolute(file)?),
        None => home.join("config-manager"),
    })
}

/// Ready once something is live, and for good; until then says why nothing is.
async fn watch_revision(gate: Gate, mut status: watch::Receiver<Arc<Status>>, shutdown: Shutdown) {
    loop {
        {
            let status = status.borrow_and_update();
            match status.digest {
                Some(_) => gate.open_to(format!("revision {}", status.revision)),
                None => gate.close(why_nothing(&status)),
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = shutdown.triggered() => return,
        }
    }
}

fn why_nothing(status: &Status) -> String {
    let source = &status.source;
    match (source.state, source.violations.as_slice()) {
        (SourceState::None, _) => "no revision yet: there is no configuration file, and nothing was applied".into(),
        (_, []) => format!("no revision yet: {} is {}", source.name, source.state.as_str()),
        (_, [first, ..]) => format!("no revision yet, {} violations; the first: {first}", source.violations.len()),
    }
}
