//! On a terminal: a line for each server as it comes up, leaves, or does not come up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use config_manager::Status;
use model::{EndpointKey, Verdict};
use runtime::escape::{line, say};
use tokio::{sync::watch, time::Instant};

use crate::cli::{because, count, duration};

/// A server that has not come up after that time is spoken of.
const PATIENCE: Duration = Duration::from_secs(1);

/// Speaks until config-manager has ended.
pub(super) async fn tell(mut status: watch::Receiver<Arc<Status>>) {
    let (begun, mut told) = (Instant::now(), Told::default());
    loop {
        let now = Arc::clone(&status.borrow_and_update());
        let servers = now.routers.iter().flat_map(|view| view.servers.iter());
        let servers: Vec<_> = servers
            .map(|server| Seen {
                endpoint: server.endpoint.clone(),
                verdict: server.verdict,
                tools: server.tools,
                error: server.error.clone(),
            })
            .collect();
        for text in told.news(begun.elapsed(), &servers) {
            say(&format!("{}\n", line(&text)));
        }
        let due = told.next(begun.elapsed());
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(due.unwrap_or(Duration::MAX)), if due.is_some() => {}
        }
    }
}

/// A server as it is now.
#[derive(Debug, Clone)]
struct Seen {
    endpoint: EndpointKey,
    verdict: Verdict,
    tools: u32,
    /// Why it is not up; empty if that is not known.
    error: String,
}

/// What was said of each server so far.
#[derive(Debug, Default)]
struct Told(BTreeMap<EndpointKey, Said>);

#[derive(Debug)]
struct Said {
    /// Since when it is not up; nothing while it is.
    waits: Option<Duration>,
    /// Why it does not come up, as far as it was said: the first clause of each reason; an empty one when it was only
    /// said that it is being started.
    reasons: BTreeSet<String>,
}

/// A server that fails in more ways has said enough.
const REASONS_MAX: usize = 8;

/// What is behind it may differ from one attempt to the next, as a time in what the server said.
fn cause(error: &str) -> String {
    error.split("; ").next().unwrap_or_default().to_owned()
}

impl Told {
    fn news(&mut self, now: Duration, servers: &[Seen]) -> Vec<String> {
        let mut news = Vec::new();
        let mut present = BTreeMap::new();
        for server in servers {
            let id = &server.endpoint.backend;
            let before = self.0.remove(&server.endpoint);
            let is_seen = before.is_some();
            let mut said = before.unwrap_or_else(|| Said { waits: Some(now), reasons: BTreeSet::new() });
            match (server.verdict.is_routable(), said.waits) {
                (true, Some(since)) => {
                    // One that was up before this looked has taken a time that is not known.
                    let took = is_seen.then(|| format!(", {}", duration(now.saturating_sub(since))));
                    let took = took.unwrap_or_default();
                    news.push(format!("{id} up, {}{took}", count(server.tools, "tool")));
                    said = Said { waits: None, reasons: BTreeSet::new() };
                }
                (false, None) => {
                    news.push(format!("{id} is {}{}", server.verdict, because(&server.error)));
                    said = Said { waits: Some(now), reasons: BTreeSet::from([cause(&server.error)]) };
                }
                (false, Some(since)) => {
                    let is_late = now.saturating_sub(since) >= PATIENCE;
                    let has_reason = !server.error.is_empty() && said.reasons.len() < REASONS_MAX;
                    if has_reason && said.reasons.insert(cause(&server.error)) {
                        news.push(format!("{id} is not up yet{}", because(&server.error)));
                    } else if is_late && said.reasons.is_empty() {
                        news.push(format!("{id} is being started"));
                        said.reasons.insert(String::new());
                    }
                }
                (true, None) => {}
            }
            present.insert(server.endpoint.clone(), said);
        }
        // Those that are left were there before.
        let gone = std::mem::replace(&mut self.0, present);
        let replaced = |gone: &EndpointKey| self.0.keys().any(|key| key.backend == gone.backend);
        news.extend(gone.keys().filter(|key| !replaced(key)).map(|key| format!("{} is gone", key.backend)));
        news
    }

    /// In what time it is to be said that a server is being started.
    fn next(&self, now: Duration) -> Option<Duration> {
        let silent = self.0.values().filter(|said| said.reasons.is_empty());
        silent.filter_map(|said| Some((said.waits? + PATIENCE).saturating_sub(now))).min()
    }
}

#[cfg(test)]
mod tests {
    use model::{BackendId, Digest, VariantId};

    use super::*;

    fn server(id: &str, verdict: Verdict, tools: u32, error: &str) -> Seen {
        let backend = BackendId::new(id).unwrap();
        let endpoint = EndpointKey { backend, variant: VariantId::only(), digest: Digest::of_bytes(id.as_bytes()) };
        Seen { endpoint, verdict, tools, error: error.into() }
    }

    #[test]
    fn each_server_is_spoken_of_once_as_it_comes_and_goes() {
        let mut told = Told::default();
        let mut at = |ms: u64, servers: &[Seen]| {
            let news = told.news(Duration::from_millis(ms), servers);
            (news.join("; "), told.next(Duration::from_millis(ms)).map(|due| due.as_millis()))
        };
        let (files, crm) = (server("files", Verdict::Healthy, 14, ""), server("crm", Verdict::Starting, 0, ""));
        let broken = server("crm", Verdict::Starting, 0, "exit 127");
        let starting = server("files", Verdict::Starting, 0, "");
        assert_eq!(at(100, &[starting, crm.clone()]), (String::new(), Some(1000)));
        assert_eq!(at(600, &[files.clone(), crm.clone()]), ("files up, 14 tools, 500 ms".into(), Some(500)));
        assert_eq!(at(1100, &[files.clone(), crm]), ("crm is being started".into(), None));
        assert_eq!(at(1200, &[files.clone(), broken.clone()]).0, "crm is not up yet: exit 127");
        assert_eq!(at(1300, &[files.clone(), broken]).0, "", "it was said");
        let up = server("crm", Verdict::Healthy, 1, "");
        assert_eq!(at(3200, &[files.clone(), up]).0, "crm up, 1 tool, 3.1 s");
        let hung = server("crm", Verdict::Unhealthy, 1, "ping: no answer");
        assert_eq!(at(4000, &[files.clone(), hung.clone()]).0, "crm is unhealthy: ping: no answer");
        assert_eq!(at(9000, &[files.clone(), hung]), (String::new(), None), "it was said");
        assert_eq!(at(9500, &[files]).0, "crm is gone");
    }

    #[test]
    fn each_reason_why_a_server_does_not_come_up_is_said_once() {
        let mut told = Told::default();
        let mut at = |seconds: u64, verdict, error: &str| {
            told.news(Duration::from_secs(seconds), &[server("gh", verdict, 0, error)]).join("; ")
        };
        let exits = |time: &str| format!("its process exited with status 1; it said on stderr: {time} no network");
        assert_eq!(at(1, Verdict::Starting, &exits("12:00:01")), format!("gh is not up yet: {}", exits("12:00:01")));
        assert_eq!(at(4, Verdict::Starting, ""), "", "the next attempt");
        assert_eq!(at(5, Verdict::Failing, &exits("12:00:05")), "", "only what it said is another text");
        assert_eq!(at(9, Verdict::Failing, "not ready within 10 s"), "gh is not up yet: not ready within 10 s");
        assert_eq!(at(12, Verdict::Failing, &exits("12:00:12")), "", "that was said");
        assert_eq!(at(20, Verdict::Healthy, ""), "gh up, 0 tools, 19 s");
        assert!(at(30, Verdict::Failing, &exits("12:00:30")).starts_with("gh is failing: its process exited"));
        let first = Told::default().news(Duration::ZERO, &[server("gh", Verdict::Healthy, 13, "")]);
        assert_eq!(first, ["gh up, 13 tools"], "how long it took is not known");
    }
}
