//! Clients whose sessions are new: a session stays with the endpoint that it had first, so shares show in these alone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use testkit::{
    Fault, fault,
    load::{Outcome, Report},
    raw::{Raw, call},
};
use tokio::time::Instant;

use super::super::backend::VISIT;

const VISITORS: usize = 4;
/// Of each.
const PACE: Duration = Duration::from_millis(20);

pub(super) struct Visitors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Visits>>,
}

#[derive(Default)]
pub(super) struct Visits {
    pub(super) count: usize,
    failed: Vec<Failure>,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) server: String,
    pub(super) sent: Instant,
    pub(super) ended: Instant,
    pub(super) why: String,
}

impl Visitors {
    /// They call the server `pool`, each time in another session.
    pub(super) fn come(endpoint: SocketAddr) -> Result<Self, Fault> {
        let stop = Arc::new(AtomicBool::new(false));
        let visit = |_| {
            let stop = Arc::clone(&stop);
            thread::Builder::new().name("visitor".to_owned()).spawn(move || {
                let mut visits = Visits::default();
                while !stop.load(Ordering::SeqCst) {
                    let sent = Instant::now();
                    if let Err(error) = once(endpoint, visits.count) {
                        let (server, why) = ("pool".to_owned(), error.to_string());
                        visits.failed.push(Failure { server, sent, ended: Instant::now(), why });
                    }
                    visits.count += 1;
                    // The pace of the visits.
                    thread::sleep(PACE.saturating_sub(sent.elapsed()));
                }
                visits
            })
        };
        let threads = (0..VISITORS).map(visit).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { stop, threads })
    }

    pub(super) fn leave(self) -> Result<Visits, Fault> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Visits::default();
        for thread in self.threads {
            let Visits { count, failed } = thread.join().map_err(|_| fault("a visitor panicked"))?;
            all.count += count;
            all.failed.extend(failed);
        }
        Ok(all)
    }
}

impl Visits {
    /// All that failed, of visits and of a load that began then.
    pub(super) fn failures(self, report: &Report, began: Instant) -> Vec<Failure> {
        let mut failures = self.failed;
        for sample in &report.samples {
            let why = match &sample.outcome {
                Outcome::Answered => continue,
                Outcome::UnknownTool => "unknown tool".to_owned(),
                Outcome::Failed(why) => why.to_string(),
            };
            let sent = began + sample.sent;
            failures.push(Failure { server: sample.server.to_string(), sent, ended: sent + sample.latency, why });
        }
        failures
    }
}

fn once(endpoint: SocketAddr, number: usize) -> Result<(), Fault> {
    let mut client = Raw::open(endpoint)?;
    let text = format!("{VISIT} {number}");
    let answer = client.ask(&call(1, "pool__echo", json!({ "text": text })))?;
    let good = answer.status == 200 && answer.json()["result"]["content"][0]["text"] == text;
    if good { Ok(()) } else { Err(fault(format!("{answer:?}"))) }
}
