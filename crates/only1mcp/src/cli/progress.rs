//! What a command waits for, on a terminal, when it has waited for a second.

use std::{
    io::{self, Write},
    time::Duration,
};

use runtime::escape;
use tokio::time::Instant;
use wire::pb::{
    config::v1::GetStatusRequest,
    router::v1::{InspectRequest, InspectResponse},
};

use super::render;
use crate::admin::Admin;

const EVERY: Duration = Duration::from_secs(1);
/// As many servers are named.
const NAMED: usize = 3;
/// Back to the beginning of the line, and nothing left of it.
const CLEAR: &str = "\r\u{1b}[K";

/// Does `work`, which changes what is live. One line tells how far that is; it is gone when the work is done.
pub(super) async fn during<T>(admin: &Admin, what: &str, work: impl Future<Output = T>) -> T {
    let Some(columns) = render::columns(io::stderr()) else { return work.await };
    let begun = Instant::now();
    let told = Box::pin(async {
        loop {
            tokio::time::sleep(EVERY).await;
            let (stage, routers) = look(admin).await;
            let text = line(what, begun.elapsed(), &stage, &routers);
            let text: String = escape::line(&text).chars().take(columns.saturating_sub(1)).collect();
            write(&format!("{CLEAR}{text}"));
        }
    });
    let done = tokio::select! {
        done = work => done,
        () = told => unreachable!("it has no end"),
    };
    if begun.elapsed() >= EVERY {
        write(CLEAR);
    }
    done
}

/// A closed stderr loses nothing but this.
fn write(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// The stage of the change that is decided now, and what the routers have. A service that does not answer is left out.
async fn look(admin: &Admin) -> (String, Vec<InspectResponse>) {
    let mut stage = String::new();
    if let Ok(mut config) = admin.config()
        && let Ok(status) = admin.ask(&config.target, config.client.get_status(GetStatusRequest {})).await
    {
        stage = status.pending.first().map(|pending| pending.stage.replace('_', " ")).unwrap_or_default();
    }
    let mut routers = Vec::new();
    for mut router in admin.routers() {
        routers.extend(admin.ask(&router.target, router.client.inspect(InspectRequest::default())).await);
    }
    (stage, routers)
}

/// `reload: preparing, waiting for crm and files, 3 s`.
fn line(what: &str, waited: Duration, stage: &str, routers: &[InspectResponse]) -> String {
    let all = routers.iter().flat_map(|router| &router.endpoints);
    let candidates =
        all.filter(|one| one.role == "candidate" && wire::verdict(one.verdict) == model::Verdict::Starting);
    let mut servers: Vec<&str> =
        candidates.filter_map(|one| one.key.as_ref()).map(|key| key.backend.as_str()).collect();
    servers.sort_unstable();
    servers.dedup();
    let waiting = (!servers.is_empty()).then(|| format!("waiting for {}", render::first_of(&servers, NAMED)));
    let stage = render::some(stage).map(str::to_owned);
    let parts: Vec<String> = stage.into_iter().chain(waiting).chain([format!("{} s", waited.as_secs())]).collect();
    format!("{what}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use wire::pb::{
        router::v1::Endpoint,
        words::v1::{EndpointKey, Verdict},
    };

    use super::*;

    #[test]
    fn it_says_the_stage_and_which_servers_are_waited_for() {
        let endpoint = |id: &str, role: &str, verdict: Verdict| Endpoint {
            key: Some(EndpointKey { backend: id.into(), ..EndpointKey::default() }),
            role: role.into(),
            verdict: verdict.into(),
            ..Endpoint::default()
        };
        let starting = |id| endpoint(id, "candidate", Verdict::Starting);
        let router = |endpoints| InspectResponse { endpoints, ..InspectResponse::default() };
        let waited = Duration::from_millis(3200);
        assert_eq!(line("reload", waited, "", &[]), "reload: 3 s");
        let two = [
            router(vec![starting("crm"), endpoint("live", "live", Verdict::Starting)]),
            router(vec![starting("crm"), starting("box"), endpoint("ok", "candidate", Verdict::Healthy)]),
        ];
        assert_eq!(line("reload", waited, "preparing", &two), "reload: preparing, waiting for box, crm, 3 s");
        let many = [router(["a", "b", "c", "d", "e"].map(starting).into())];
        assert_eq!(line("apply", waited, "", &many), "apply: waiting for a, b, c and 2 more, 3 s");
    }
}
