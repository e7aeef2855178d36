//! The thread of a load: its clients, each a loop of "take the next call, wait until it is due, send, check".

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use runtime::{Shutdown, Tasks};
use serde_json::json;
use tokio::{
    task::LocalSet,
    time::{Instant, sleep_until},
};

use super::{
    Deed, Pick, Plan, Shared,
    report::{Outcome, Report, Sample},
};
use crate::{
    client::{CallError, Connection, Reply},
    fault::Fault,
};

/// Calls in flight at the end have this long.
const LAST_CALLS: Duration = Duration::from_secs(60);

/// What the clients of one load share on their thread.
struct Run {
    plan: Plan,
    /// In place of the rate.
    think: Option<Duration>,
    shared: Arc<Shared>,
    start: Instant,
    next: Cell<u64>,
    report: RefCell<Report>,
}

pub(super) fn run(plan: Plan, think: Option<Duration>, shared: Arc<Shared>) -> Result<Report, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut connections = Vec::new();
        for client in 0..plan.clients {
            let endpoint = client % plan.endpoints.len();
            let mut connection = Connection::open(plan.endpoints[endpoint]).await?.balanced(plan.balanced);
            connection.initialize().await?;
            connections.push((endpoint, connection));
        }
        let (start, next) = (*shared.began.get_or_init(Instant::now), Cell::new(0));
        let run = Rc::new(Run { plan, think, shared, start, next, report: RefCell::default() });
        let tasks = Tasks::new(Shutdown::new());
        for (endpoint, connection) in connections {
            tasks.spawn_local("client", Rc::clone(&run).client(endpoint, connection));
        }
        let mut stop = run.shared.stop.subscribe();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            // A client panicked.
            () = tasks.shutdown().triggered() => {}
        }
        let elapsed = start.elapsed();
        let joined = tasks.join(LAST_CALLS).await;
        let mut report = run.report.take();
        report.duration = elapsed;
        report.unanswered = joined.aborted.len();
        Ok(report)
    })
}

impl Run {
    async fn client(self: Rc<Self>, endpoint: usize, mut connection: Connection) {
        while !*self.shared.stop.borrow() {
            let slot = self.next.replace(self.next.get() + 1);
            let due = self.due(slot);
            sleep_until(due).await;
            if connection.is_closed() {
                self.report.borrow_mut().closed += 1;
                if let Err(error) = connection.reconnect().await {
                    self.report.borrow_mut().fail(slot, &format!("cannot connect again: {error}"));
                    continue;
                }
            }
            self.call(slot, due, endpoint, &mut connection).await;
        }
        self.report.borrow_mut().closed += usize::from(connection.is_closed());
    }

    fn due(&self, slot: u64) -> Instant {
        match self.think {
            // Spread, so that clients do not march in step.
            Some(think) => Instant::now() + think / 2 + think * u32::try_from(slot * 7919 % 500).unwrap_or(0) / 1000,
            None => self.start + Duration::from_secs(slot) / self.plan.rate,
        }
    }

    async fn call(&self, slot: u64, due: Instant, endpoint: usize, connection: &mut Connection) {
        let Pick { server, deed } = (self.plan.choose)(slot);
        let text = format!("{}{slot}", self.plan.tag);
        let (tool, arguments, expected) = match deed {
            Deed::Echo => ("echo", json!({ "text": text }), text.clone()),
            Deed::Sleep(ms) => ("sleep", json!({ "ms": ms, "id": text }), format!("slept {ms} ms")),
        };
        let sent = Instant::now();
        let answer = connection.call(&format!("{server}__{tool}"), &arguments).await;
        let outcome = judge(&answer, &expected);
        let revision = answer.as_ref().map_or_else(|_| connection.revision(), |reply| reply.revision);
        let now = Instant::now();
        let mut report = self.report.borrow_mut();
        if let Outcome::Failed(why) = &outcome {
            report.fail(slot, &format!("{server}__{tool} at revision {revision}: {why}"));
        }
        report.samples.push(Sample {
            slot,
            text,
            server,
            revision,
            sent: sent - self.start,
            latency: now - due,
            outcome,
        });
        self.shared.revisions[endpoint].fetch_max(revision, Ordering::Relaxed);
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn judge(answer: &Result<Reply, CallError>, expected: &str) -> Outcome {
    let failed = |why: String| Outcome::Failed(why.into());
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return failed(error.to_string()),
    };
    if reply.revision == 0 {
        return failed("the answer names no revision".to_owned());
    }
    match (&reply.content, reply.text()) {
        (Ok(_), Ok(text)) if text == expected => Outcome::Answered,
        (Ok(_), Ok(text)) => failed(format!("expected {expected}, got {text}")),
        (Err(error), _) if is_unknown_tool(error.code, &error.message) => Outcome::UnknownTool,
        (Err(error), _) => failed(error.to_string()),
        (Ok(_), Err(why)) => failed(why.to_string()),
    }
}

/// The protocol gives this case no code of its own.
fn is_unknown_tool(code: i64, message: &str) -> bool {
    code == -32602 && message.to_ascii_lowercase().contains("unknown tool")
}
