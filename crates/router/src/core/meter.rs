//! The metrics of calls. Handles are looked up once per endpoint and core, not per call.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use metrics::{Counter, Histogram, counter, histogram};

use crate::endpoint::{Endpoint, Recent};

pub(crate) const CALL_SECONDS: &str = "only1mcp_call_seconds";

type BySerial = std::collections::HashMap<u64, Rc<Meter>, ahash::RandomState>;

/// The meters of the endpoints this core has sent calls to.
#[derive(Debug, Default)]
pub(crate) struct Meters(RefCell<BySerial>);

/// The metrics of one server, as seen by one core; all cores add to the same series.
pub(crate) struct Meter {
    endpoint: Weak<Endpoint>,
    pub(crate) answered: Counter,
    pub(crate) failed: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) evicted: Counter,
    pub(crate) timed_out: Counter,
    /// Of the answered ones, those in which the tool says that it failed.
    pub(crate) tool_errors: Counter,
    /// Counted by the control thread, and shown from the first call on.
    ejections: Counter,
    pub(crate) seconds: Histogram,
    /// For status displays; of this core alone.
    pub(crate) recent: Arc<Recent>,
}

impl Meters {
    pub(crate) fn of(&self, endpoint: &Arc<Endpoint>) -> Rc<Meter> {
        if let Some(meter) = self.0.borrow().get(&endpoint.number) {
            return Rc::clone(meter);
        }
        let meter = Rc::new(Meter::of(endpoint, endpoint.recent.open()));
        self.0.borrow_mut().insert(endpoint.number, Rc::clone(&meter));
        meter
    }

    /// Forgets endpoints that are gone. The series of the other endpoints are looked up anew, so that they are not
    /// forgotten.
    pub(crate) fn sweep(&self) {
        self.0.borrow_mut().retain(|_, meter| {
            let endpoint = meter.endpoint.upgrade();
            if let Some(endpoint) = &endpoint {
                *meter = Rc::new(Meter::of(endpoint, Arc::clone(&meter.recent)));
                meter.touch();
            }
            endpoint.is_some()
        });
    }
}

impl Meter {
    fn of(endpoint: &Arc<Endpoint>, recent: Arc<Recent>) -> Self {
        let server = endpoint.key.backend.to_string();
        let count =
            |result: &'static str| counter!("only1mcp_calls_total", "server" => server.clone(), "result" => result);
        Self {
            endpoint: Arc::downgrade(endpoint),
            answered: count("answered"),
            failed: count("failed"),
            cancelled: count("cancelled"),
            evicted: count("evicted"),
            timed_out: count("timed_out"),
            tool_errors: counter!("only1mcp_tool_errors_total", "server" => server.clone()),
            ejections: counter!("only1mcp_server_ejections_total", "server" => server.clone()),
            seconds: histogram!(CALL_SECONDS, "server" => server),
            recent,
        }
    }

    /// A histogram cannot be touched without recording a value: without a call for a long while it begins anew at 0.
    fn touch(&self) {
        let Self { answered, failed, cancelled, evicted, timed_out, tool_errors, ejections, .. } = self;
        for counter in [answered, failed, cancelled, evicted, timed_out, tool_errors, ejections] {
            counter.increment(0);
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meter")
    }
}
