//! The life of the config-manager process.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use config_manager::{ConfigManager, Origin, Settings, SourceState, Status};
use runtime::grpc::{self, Auth, Listener};
use runtime::ops::OpsListener;
use runtime::shutdown::signals;
use runtime::state_dir::{self, StateDir};
use runtime::{AdminToken, Clock, Gate, Phase, Readiness, Shutdown, Tasks, exit, telemetry};
use tokio::sync::watch;
use tonic::service::Routes;

const SOCKET: &str = "admin.sock";
const TOKEN: &str = "admin-token";
const JOIN_GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::DONE };
            drop(error.print());
            return code.into();
        }
    };
    #[cfg(feature = "failpoints")]
    let _armed = config_manager::arm_failpoints();
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match built {
        Ok(runtime) => {
            let ended = runtime.block_on(live(settings));
            // A disk that does not answer must not keep the process.
            runtime.shutdown_timeout(JOIN_GRACE);
            ended
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => code.into(),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            tracing::error!("{text}");
            exit::REFUSED.into()
        }
    }
}

async fn live(settings: Settings) -> Result<u8, Box<dyn Error>> {
    let signals = signals()?;
    let shutdown = Shutdown::new();
    let tasks = Tasks::new(shutdown.clone());
    let readiness = Readiness::new(shutdown.clone());
    let metrics = telemetry::init("config-manager", env!("CARGO_PKG_VERSION"));
    tasks.spawn("signals", shutdown.clone().follow(signals));

    let state = StateDir::lock(directory(&settings)?)?;
    let token_file = settings.token_file.unwrap_or_else(|| state.file(TOKEN));
    let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
    let ops = OpsListener::bind(settings.ops).await?;
    let tcp = Listener::tcp(settings.grpc, &auth).await?;
    let unix = Listener::unix(state_dir::socket_path(state.path(), SOCKET)).await?;
    let (ops_address, grpc_address) = (ops.local_addr(), tcp.local_addr().unwrap_or(settings.grpc));
    ops.serve(readiness.clone(), metrics, &tasks);

    let gate = readiness.gate("revision");
    let origin = settings.config.map_or(Origin::None, Origin::File);
    let manager = ConfigManager::open(origin, &state, Clock::start(), tasks.clone())?;
    tasks.spawn("readiness", watch_revision(gate, manager.status(), shutdown.clone()));
    let service = grpc::Service {
        routes: Routes::new(manager.service()),
        descriptors: &[wire::DESCRIPTORS],
        names: &[wire::pb::config::v1::config_service_server::SERVICE_NAME],
        auth,
        readiness: readiness.clone(),
    };
    tasks.spawn_component("grpc", grpc::serve(service, vec![tcp, unix], shutdown.clone()));
    tasks.spawn_component("config engine", manager.run());
    tracing::info!(grpc = %grpc_address, ops = %ops_address, state = %state.path().display(), "config-manager runs");

    tokio::select! {
        () = readiness.ready() => shutdown.advance(Phase::Ready),
        () = shutdown.triggered() => {}
    }
    shutdown.triggered().await;
    // Streams end by themselves and nothing is handed over, so there is nothing to wait for.
    let joined = tasks.join(JOIN_GRACE).await;
    for failure in &joined.failures {
        tracing::error!(%failure, "config-manager ended");
    }
    Ok(if joined.failures.is_empty() { exit::DONE } else { exit::REFUSED })
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

/// Ready once something is live; until then says why nothing is.
async fn watch_revision(gate: Gate, mut status: watch::Receiver<Arc<Status>>, shutdown: Shutdown) {
    loop {
        let reason = {
            let status = status.borrow_and_update();
            if status.digest.is_some() {
                gate.open();
                return;
            }
            why_nothing(&status)
        };
        gate.close(reason);
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
