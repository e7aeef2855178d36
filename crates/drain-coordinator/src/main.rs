//! The life of a drain-coordinator process.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use drain_coordinator::settings::Flags;
use drain_coordinator::{DrainCoordinator, Scope, Settings};
use runtime::grpc::{self, Auth, Listener};
use runtime::ops::OpsListener;
use runtime::shutdown::{self, Phase, Shutdown};
use runtime::state_dir::StateDir;
use runtime::{AdminToken, Clock, Readiness, Tasks, exit, telemetry};

/// For calls that are just being answered when stopping is asked for.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
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
    eprint!("drain-coordinator: {error}");
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
    let metrics = telemetry::init("drain-coordinator", env!("CARGO_PKG_VERSION"));
    let following = shutdown.clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            () = following.clone().follow(signals) => {}
            () = following.reached(Phase::Closing) => {}
        }
    });

    let state = StateDir::lock(flags.state_dir)?;
    let token = AdminToken::load_or_create(&flags.token_file.unwrap_or_else(|| state.file("admin-token")))?;
    let auth = Auth::new(Some(token));
    let listener = Listener::tcp(flags.grpc, &auth).await?;
    OpsListener::bind(flags.ops).await?.serve(readiness.clone(), metrics, &tasks);

    let settings =
        Settings { state_dir: state.path().to_owned(), lost_after: flags.lost_after, history: flags.history };
    let scope = Scope { clock: Clock::start(), tasks: tasks.clone(), readiness: readiness.clone() };
    let (service, coordinator) = DrainCoordinator::open(&settings, &scope)?;
    tasks.spawn("drain-coordinator", coordinator.run());
    let service = grpc::Service {
        routes: tonic::service::Routes::new(service),
        descriptors: &[wire::DESCRIPTORS],
        names: &[wire::pb::drain::v1::drain_service_server::SERVICE_NAME],
        auth,
        readiness: readiness.clone(),
    };
    tasks.spawn_component("grpc", grpc::serve(service, vec![listener], shutdown.clone()));

    tokio::select! {
        () = readiness.ready() => shutdown.advance(Phase::Ready),
        () = shutdown.triggered() => {}
    }
    shutdown.triggered().await;
    let joined = tasks.join(GRACE).await;
    drop(state);
    Ok(if joined.is_clean() { exit::DONE } else { exit::REFUSED }.into())
}
