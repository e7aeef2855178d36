//! From the start until something is live and settled, or until it is clear that nothing will be.

use std::{fmt, sync::Arc, time::Duration};

use config_manager::{SourceStatus, Status};
use runtime::Readiness;
use tokio::sync::watch;

use crate::cli::{because, first_of};

/// The configuration gives nothing to serve, and there is no revision from before.
#[derive(Debug, thiserror::Error)]
pub(crate) struct NoRevision(SourceStatus);

impl fmt::Display for NoRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SourceStatus { name, state, violations, refusals, .. } = &self.0;
        for violation in violations {
            writeln!(f, "{violation}")?;
        }
        for refusal in refusals {
            writeln!(f, "{}", refusal.reason)?;
        }
        write!(f, "only1mcp: {name}: {}, and there is no revision from before", state.as_str().replace('_', " "))
    }
}

/// Returns once a revision is live and its servers are up, have failed to come up, or had a moment to do so.
pub(crate) async fn wait(readiness: &Readiness, mut status: watch::Receiver<Arc<Status>>) -> Result<(), NoRevision> {
    let refused = async {
        let refused = status.wait_for(|status| status.nothing_good().is_some()).await;
        let source = refused.ok().and_then(|status| status.nothing_good().cloned());
        match source {
            Some(source) => source,
            // config-manager has ended; its supervising task ends the process.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness.ready() => Ok(()),
        source = refused => Err(NoRevision(source)),
    }
}

/// A router that serves from its copy on the disk takes a moment to learn of a newer revision; one that cannot hold it
/// never does.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Returns once the router serves what is live, or is not going to.
pub(crate) async fn on_the_router(mut status: watch::Receiver<Arc<Status>>) {
    let served = |status: &Arc<Status>| status.routers.iter().any(|view| view.router.applied == status.revision);
    // Either way there is something that serves.
    drop(tokio::time::timeout(CATCH_UP, status.wait_for(served)).await);
}

/// As many servers are named; the others are counted.
const NAMED: usize = 10;

/// The servers that get no calls, each with its state and the reason; none if there are none.
pub(crate) fn not_up(status: &Status) -> Option<String> {
    let servers = status.routers.iter().flat_map(|view| view.servers.iter());
    let not_up: Vec<_> = servers
        .filter(|server| !server.verdict.is_routable())
        .map(|server| format!("{} ({}{})", server.endpoint.backend, server.verdict, because(&server.error)))
        .collect();
    (!not_up.is_empty()).then(|| first_of(&not_up, NAMED))
}
