//! The life of a health-monitor process.

use std::error::Error;
use std::process::ExitCode;

use health_monitor::HealthMonitor;
use health_monitor::settings::Flags;
use runtime::grpc::{self, Auth};
use runtime::telemetry::log;
use runtime::{AdminToken, Ending, Process, Program};
use tonic::service::Routes;

fn main() -> ExitCode {
    Program { name: "health-monitor", version: env!("CARGO_PKG_VERSION"), threads: 1, sockets: &[] }.run(live)
}

async fn live(flags: Flags, mut process: Process) -> Result<ExitCode, Box<dyn Error>> {
    let token_file = flags.token_file.unwrap_or_else(|| flags.state_dir.join(AdminToken::FILE));
    let auth = Auth::new(Some(AdminToken::load_or_create(&token_file)?));
    let listeners = process.listen_grpc(flags.grpc, &auth).await?;
    process.serve_ops(flags.ops, flags.ops_names.clone()).await?;

    let scope = process.scope("health-monitor");
    let tracer = scope.tracer.clone();
    let (service, monitor) = HealthMonitor::new(&scope);
    process.tasks.spawn("health-monitor", monitor.run());
    let service = grpc::Service {
        routes: Routes::new(service).add_service(wire::process::Log { read: log::read, change: log::change }.service()),
        descriptors: &[wire::DESCRIPTORS],
        offers: vec![
            (wire::pb::health::v1::health_service_server::SERVICE_NAME, tracer.clone()),
            (wire::process::SERVICE_NAME, tracer),
        ],
        auth,
        readiness: process.readiness.clone(),
    };
    process.serve_grpc(service, listeners);

    process.serve_until_stopped().await;
    Ok(process.end(Ending::default()).await)
}
