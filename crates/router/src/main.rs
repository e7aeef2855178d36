//! The life of a router process.

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use router::settings::{Flags, LOCK, Listen, MCP, Peers, Settings, default_cores};
use router::{Router, Scope};
use runtime::grpc::{self, Auth, Listener, Presented, Target};
use runtime::handover::{self, Predecessor, Step};
use runtime::telemetry::log;
use runtime::{AdminToken, Ending, Process, Program, Tracer, process::GRACE, telemetry};
use tonic::service::Routes;

fn main() -> ExitCode {
    if router::keeper::is_keeper(std::env::args_os()) {
        return router::keeper::main();
    }
    Program { name: "router", version: env!("CARGO_PKG_VERSION"), threads: 1, sockets: &[MCP] }.run(live)
}

async fn live(flags: Flags, mut process: Process) -> Result<ExitCode, Box<dyn Error>> {
    let way = handover::way(&flags.state_dir)?;
    let mut predecessor = if flags.upgrade { Some(process.succeed(&way).await?) } else { None };
    let over = process.hand_over(&way).await?;
    let (min_drain, drain) = (flags.min_drain, flags.drain);
    let started = start(flags, &mut process, &mut predecessor).await;
    if let Some(kept) = predecessor {
        kept.gives_up().await;
    }
    let mut router = started?;
    tracing::info!(listen = %router.listen(), "serving MCP");
    over.until_left(async |step| match step {
        Step::LetGo => router.let_go().await,
        Step::TakeBack => router.take_back().await,
    })
    .await;
    let wound_down = process.shutdown.wind_down(min_drain, drain, router.drained(drain)).await;
    let stopped = router.stop(GRACE).await;
    let mut ending = Ending::of(wound_down, &stopped.cut_off);
    ending.part(stopped.in_peace, "the router");
    Ok(process.end(ending).await)
}

/// Returns when the router is ready, or a stop was requested. It takes the predecessor's place, if there is one; one that
/// is still there in the end keeps its place.
async fn start(
    flags: Flags,
    process: &mut Process,
    predecessor: &mut Option<Predecessor>,
) -> Result<Router, Box<dyn Error>> {
    let token = flags.token_file.as_deref().map(AdminToken::load).transpose()?;
    let auth = Auth::new(token.clone());
    let listeners = process.listen_grpc(flags.grpc, &auth).await?;
    let ops = process.listen_ops(flags.ops).await?;
    let ops_names = flags.ops_names.clone();
    let listen = Listen::new(flags.listen, &mut process.inherited);
    let lock = process.inherited.descriptor(LOCK);
    let settings = settings(flags, token)?;
    let tracer = process.tracer("router", settings.node.as_str());
    let scope = Scope {
        clock: process.clock,
        shutdown: process.shutdown.clone(),
        readiness: process.readiness.clone(),
        tracer: tracer.clone(),
    };
    let warm = Router::warm(settings, listen, lock, scope).await?;
    if let Some(predecessor) = predecessor {
        predecessor.lets_go(warm.warmed()).await?;
    }
    let mut router = warm.take_charge(&process.held).await?;
    let open = |router: &mut Router, process: &Process| {
        ops.serve(ops_names, process.readiness.clone(), process.metrics.clone(), &process.tasks);
        router.open()
    };
    let Some(before) = predecessor else {
        open(&mut router, process)?;
        serve_grpc(process, &router, tracer, auth, listeners);
        process.follow(None, router.alone());
        process.until_ready().await;
        return Ok(router);
    };
    serve_grpc(process, &router, tracer, auth, listeners);
    router.confirmed().await;
    process.until_ready().await;
    before.leaves().await?;
    open(&mut router, process)?;
    process.follow(predecessor.take(), router.alone());
    Ok(router)
}

fn serve_grpc(process: &Process, router: &Router, tracer: Tracer, auth: Auth, listeners: Vec<Listener>) {
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
