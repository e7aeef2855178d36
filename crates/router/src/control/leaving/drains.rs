//! The spans of drains: one per endpoint, from its cordon to its end.

use std::collections::{BTreeMap, VecDeque};

use drain::Departure;
use model::{EndpointKey, Revision};
use runtime::{Kind, Span, TraceContext, Tracer};

/// Ends that may still be reported, of which the context is kept.
const ENDED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Drains {
    running: BTreeMap<EndpointKey, Span>,
    /// Oldest first.
    ended: VecDeque<(EndpointKey, TraceContext)>,
}

impl Drains {
    /// Cordoned because of `parent`, with `revision` live. A drain that is running goes on, for one more reason.
    pub(crate) fn begin(
        &mut self,
        tracer: &Tracer,
        endpoint: &EndpointKey,
        revision: Revision,
        parent: Option<TraceContext>,
    ) {
        if let Some(running) = self.running.get_mut(endpoint) {
            running.event("cordoned again", Vec::new());
            return;
        }
        let mut span = tracer.start_rare("router.drain", Kind::Internal, parent);
        span.count("only1mcp.revision", revision.0);
        span.set("only1mcp.server", endpoint.backend.to_string());
        span.set("only1mcp.endpoint", endpoint.to_string());
        self.ended.retain(|(ended, _)| ended != endpoint);
        self.running.insert(endpoint.clone(), span);
    }

    /// The drain's deadline has passed.
    pub(crate) fn evicting(&mut self, endpoint: &EndpointKey) {
        if let Some(span) = self.running.get_mut(endpoint) {
            span.event("deadline", Vec::new());
        }
    }

    /// The trace in which the drain is reported.
    pub(crate) fn about(&self, endpoint: &EndpointKey) -> Option<TraceContext> {
        let ended = || self.ended.iter().find(|(ended, _)| ended == endpoint).map(|(_, context)| *context);
        self.running.get(endpoint).map(Span::context).or_else(ended)
    }

    /// `result`: `closed`, `drained` (it stays cordoned) or `reopened`. `totals`, if they are known.
    pub(crate) fn end(&mut self, endpoint: &EndpointKey, result: &'static str, totals: Option<&Departure>) {
        let Some(mut span) = self.running.remove(endpoint) else { return };
        span.set("only1mcp.result", result);
        if let Some(totals) = totals {
            let counts = [
                ("only1mcp.drain.total", totals.total),
                ("only1mcp.drain.finished", totals.finished),
                ("only1mcp.drain.evicted", totals.evicted),
            ];
            for (key, count) in counts {
                span.count(key, count);
            }
        }
        self.ended.push_back((endpoint.clone(), span.context()));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    /// The drain is on record: nothing more will be said about it.
    pub(crate) fn recorded(&mut self, endpoint: &EndpointKey) {
        self.ended.retain(|(ended, _)| ended != endpoint);
    }
}
