//! The life of a drain-coordinator process.

use std::error::Error;
use std::process::ExitCode;

use drain_coordinator::settings::Flags;
use drain_coordinator::{DrainCoordinator, Settings};
use runtime::grpc::{self, Auth};
use runtime::state_dir::StateDir;
use runtime::telemetry::log;
use runtime::{AdminToken, Ending, Process, Program};
use tonic::service::Routes;

fn main() -> ExitCode {
    Program { name: "drain-coordinator", version: env!("CARGO_PKG_VERSION"), threads: 1, sockets: &[] }.run(live)
}

async fn live(flags: Flags, mut process: Process) -> Result<ExitCode, Box<dyn Error>> {
    let state = StateDir::lock(flags.state_dir)?;
    let token_file = flags.token_file.unwrap_or_else(|| state.file(AdminToken::FILE));
    let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
    let listeners = process.listen_grpc(flags.grpc, &auth).await?;
    process.serve_ops(flags.ops, flags.ops_names.clone()).await?;

    let settings =
        Settings { state_dir: state.path().to_owned(), lost_after: flags.lost_after, history: flags.history };
    let scope = process.scope("drain-coordinator");
    let tracer = scope.tracer.clone();
    let (service, coordinator) = DrainCoordinator::open(&settings, &scope)?;
    process.tasks.spawn("drain-coordinator", coordinator.run());
    let service = grpc::Service {
        routes: Routes::new(service).add_service(wire::process::Log { read: log::read, change: log::change }.service()),
        descriptors: &[wire::DESCRIPTORS],
        offers: vec![
            (wire::pb::drain::v1::drain_service_server::SERVICE_NAME, tracer.clone()),
            (wire::process::SERVICE_NAME, tracer),
        ],
        auth,
        readiness: process.readiness.clone(),
    };
    process.serve_grpc(service, listeners);

    process.serve_until_stopped().await;
    let ended = process.end(Ending::default()).await;
    drop(state);
    Ok(ended)
}
