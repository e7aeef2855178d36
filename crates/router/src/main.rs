//! The life of a router process.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use router::settings::{Flags, Peers, Settings, default_cores};
use router::{Router, Scope};
use runtime::grpc::{self, Auth, Listener, Target};
use runtime::ops::OpsListener;
use runtime::shutdown::{self, Phase, Shutdown, WoundDown};
use runtime::{AdminToken, Clock, Readiness, Tasks, exit, telemetry};

/// After the drain's deadline, for what is still being put away.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if router::keeper::is_keeper(std::env::args_os()) {
        return router::keeper::main();
    }
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::DONE };
            // Nothing better can be done about a closed stderr.
            drop(error.print());
            return code.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&error),
    };
    runtime.block_on(live(flags)).unwrap_or_else(|error| refused(error.as_ref()))
}

#[expect(clippy::print_stderr, reason = "the last word of a process that does not start")]
fn refused(error: &dyn std::error::Error) -> ExitCode {
    eprint!("router: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    exit::REFUSED.into()
}

async fn live(flags: Flags) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let signals = shutdown::signals()?;
    let shutdown = Shutdown::new();
    let tasks = Tasks::new(shutdown.clone());
    let readiness = Readiness::new(shutdown.clone());
    let metrics = telemetry::init("router", env!("CARGO_PKG_VERSION"));
    tasks.spawn("signals", shutdown.clone().follow(signals));

    let token = flags.token_file.as_deref().map(AdminToken::load).transpose()?;
    let auth = Auth::new(token.clone());
    let listener = Listener::tcp(flags.grpc, &auth).await?;
    OpsListener::bind(flags.ops).await?.serve(readiness.clone(), metrics, &tasks);

    let (min_drain, drain) = (flags.min_drain, flags.drain);
    let scope = Scope { clock: Clock::start(), shutdown: shutdown.clone(), readiness: readiness.clone() };
    let router = Router::start(settings(flags, token)?, scope).await?;
    tracing::info!(listen = %router.listen(), "serving MCP");
    let service = grpc::Service {
        routes: tonic::service::Routes::new(router.service()),
        descriptors: &[wire::DESCRIPTORS],
        names: &[wire::pb::router::v1::router_service_server::SERVICE_NAME],
        auth,
        readiness: readiness.clone(),
    };
    tasks.spawn_component("grpc", grpc::serve(service, vec![listener], shutdown.clone()));

    tokio::select! {
        () = readiness.ready() => shutdown.advance(Phase::Ready),
        () = shutdown.triggered() => {}
    }
    shutdown.triggered().await;
    let wound_down = shutdown.wind_down(min_drain, drain, router.drained()).await;
    let stopped = router.stop(GRACE).await;
    let joined = tasks.join(GRACE).await;
    let clean = stopped && joined.is_clean() && wound_down == WoundDown::Drained;
    Ok(if clean { exit::DONE } else { exit::REFUSED }.into())
}

fn settings(flags: Flags, token: Option<AdminToken>) -> Result<Settings, Box<dyn std::error::Error>> {
    let node = match flags.node {
        Some(node) => node,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let target = |url| Target::Url(url, token.clone());
    Ok(Settings {
        node: model::NodeId::new(&node)?,
        listen: flags.listen,
        state_dir: flags.state_dir,
        cores: flags.cores.unwrap_or_else(default_cores),
        access: flags.access,
        peers: Peers {
            config_manager: target(flags.config_manager),
            health_monitor: target(flags.health_monitor),
            drain_coordinator: target(flags.drain_coordinator),
        },
        session_key_file: flags.session_key_file,
    })
}
