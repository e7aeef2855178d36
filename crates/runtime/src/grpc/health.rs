//! `grpc.health.v1`: of the process under the empty name and under each of its services' names, and of what it depends
//! on under `only1mcp.dependency/NAME`.

use std::collections::BTreeMap;

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::readiness::Readiness;

/// Before the name of a gate or of a dependency.
const DEPENDENCY: &str = "only1mcp.dependency/";

/// Keeps the health service in step with the readiness. Never returns.
pub(super) async fn report(readiness: &Readiness, names: &[&str], reporter: &HealthReporter) {
    let mut moves = readiness.moves();
    let mut said = BTreeMap::new();
    loop {
        let report = readiness.report();
        let parts = report.gates.iter().chain(&report.dependencies);
        let parts = parts.map(|part| (format!("{DEPENDENCY}{}", part.name.replace(' ', "-")), part.open));
        let whole = names.iter().chain(&[""]).map(|name| ((*name).to_owned(), report.ready));
        for (name, open) in whole.chain(parts) {
            if said.insert(name.clone(), open) != Some(open) {
                let status = if open { ServingStatus::Serving } else { ServingStatus::NotServing };
                reporter.set_service_status(name, status).await;
            }
        }
        moves.next().await;
    }
}
