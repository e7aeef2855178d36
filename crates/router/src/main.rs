//! The life of a router process.

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use router::settings::{Flags, Listen, MCP, Peers, Settings, default_cores};
use router::{Router, Scope};
use runtime::grpc::{self, Auth, Presented, Target};
use runtime::shutdown::WoundDown;
use runtime::telemetry::log;
use runtime::{AdminToken, Process, Program, exit, process::GRACE, telemetry};
use tonic::service::Routes;

fn main() -> ExitCode {
    if router::keeper::is_keeper(std::env::args_os()) {
        return router::keeper::main();
    }
    Program { name: "router", version: env!("CARGO_PKG_VERSION"), threads: 1, sockets: &[MCP] }.run(live)
}

async fn live(flags: Flags, mut process: Process) -> Result<ExitCode, Box<dyn Error>> {
    let token = flags.token_file.as_deref().map(AdminToken::load).transpose()?;
    let auth = Auth::new(token.clone());
    let listeners = process.listen_grpc(flags.grpc, &auth).await?;
    process.serve_ops(flags.ops, flags.ops_names.clone()).await?;

    let (min_drain, drain) = (flags.min_drain, flags.drain);
    let listen = Listen::new(flags.listen, process.inherited.tcp(MCP));
    let settings = settings(flags, token)?;
    let tracer = process.tracer("router", settings.node.as_str());
    let scope = Scope {
        clock: process.clock,
        shutdown: process.shutdown.clone(),
        readiness: process.readiness.clone(),
        tracer: tracer.clone(),
    };
    let router = Router::start(settings, listen, scope).await?;
    tracing::info!(listen = %router.listen(), "serving MCP");
    let service = grpc::Service {
        routes: Routes::new(router.service())
            .add_service(wire::process::Log { read: log::read, change: log::change }.service()),
        descriptors: &[wire::DESCRIPTORS],
        offers: vec![
            (wire::pb::router::v1::router_service_server::SERVICE_NAME, tracer.clone()),
            (wire::process::SERVICE_NAME, tracer),
        ],
        auth,
        readiness: process.readiness.clone(),
    };
    process.serve_grpc(service, listeners);

    process.serve_until_stopped().await;
    let wound_down = process.shutdown.wind_down(min_drain, drain, router.drained()).await;
    let stopped = router.stop(GRACE).await;
    let joined = process.join().await;
    Ok(exit::of(stopped && joined.is_clean() && wound_down == WoundDown::Drained))
}

fn settings(flags: Flags, token: Option<AdminToken>) -> Result<Settings, Box<dyn Error>> {
    let node = match flags.node {
        Some(node) => node,
        None => telemetry::host(),
    };
    let reach = flags.insecure_token.reach();
    let presented = token.map(|token| Presented { token, reach });
    let target = |url| Target::Url(url, presented.clone());
    Ok(Settings {
        node: model::NodeId::new(&node)?,
        state_dir: flags.state_dir,
        cores: flags.cores.map_or_else(default_cores, NonZeroUsize::get),
        access: flags.access,
        peers: Peers {
            config_manager: target(flags.config_manager),
            health_monitor: target(flags.health_monitor),
            drain_coordinator: target(flags.drain_coordinator),
        },
        session_key_file: flags.session_key_file,
    })
}
