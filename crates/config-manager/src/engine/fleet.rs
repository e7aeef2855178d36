//! The streams of routers: their reports go to the reconciler, and its directives go to them.

use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, Time};
use rollout::reconciler::{Event, Link};
use rollout::{Content, Directive, Report, ServerState};
use runtime::grpc::refusal;
use tokio::sync::mpsc::error::TrySendError;

use super::Engine;
use crate::command::{Outgoing, Said, Stream};

/// Two streams of one name that each ended another within this time belong to two processes.
const RIVALRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) link: Link,
    /// The boot id of the process at the other end.
    boot: String,
    /// When this stream took the place of a stream of another process of that name.
    displaced: Option<Time>,
    /// Whether that other stream had done the same, not long before.
    rival: bool,
    stream: Stream,
    pub(super) servers: Arc<[ServerState]>,
}

impl Attached {
    fn takes_the_place_of(&mut self, node: &NodeId, before: &Self, now: Time) {
        let other_process = self.boot != before.boot;
        self.displaced = other_process.then_some(now);
        let lately = |at: Time| now.since(at) < RIVALRY;
        self.rival = other_process && before.displaced.is_some_and(lately);
        let reason = if self.rival {
            format!("another process calls itself router {node}, too; give each a --node of its own")
        } else {
            format!("a new stream of router {node} takes the place of one that is still open")
        };
        tracing::warn!(router = %node, "{reason}");
        // The router learns the reason if there is room, and the end of its stream in any case.
        drop(before.stream.outbox.try_send(Err(refusal::aborted("DISPLACED", "router", reason))));
    }

    /// Whether this router and another process fight over one name.
    pub(super) fn has_rival(&self, now: Time) -> bool {
        self.rival && self.displaced.is_some_and(|at| now.since(at) < RIVALRY)
    }
}

impl Engine {
    pub(super) fn router_said(&mut self, node: NodeId, link: Link, said: Said) {
        match said {
            Said::Hello { report, stream } => self.attach(node, link, report, stream),
            Said::Report(report) => {
                if matches!(report, Report::Ack { .. }) {
                    fail::fail_point!("ack-received");
                }
                self.tell_reconciler(Event::Report { node, link, report });
            }
            Said::Observed(servers) => {
                if let Some(attached) = self.attached.get_mut(&node).filter(|attached| attached.link == link) {
                    attached.servers = servers.into();
                }
            }
            Said::Gone => self.detach(node, link),
        }
        self.changed = true;
    }

    /// An older stream of the same router ends with this.
    fn attach(&mut self, node: NodeId, link: Link, report: Report, stream: Stream) {
        let boot = match &report {
            Report::Hello { boot, .. } => boot.clone(),
            Report::Vote { .. } | Report::Ack { .. } | Report::Nack { .. } => String::new(),
        };
        let now = Time::from_nanos(self.clock.now_nanos());
        let mut attached = Attached { link, boot, displaced: None, rival: false, stream, servers: Arc::default() };
        if let Some(before) = self.attached.remove(&node) {
            attached.takes_the_place_of(&node, &before, now);
            self.spans.left(&node);
        }
        self.attached.insert(node.clone(), attached);
        self.tell_reconciler(Event::Report { node, link, report });
    }

    pub(super) fn detach(&mut self, node: NodeId, link: Link) {
        if self.attached.get(&node).is_some_and(|attached| attached.link == link) {
            self.attached.remove(&node);
            self.spans.left(&node);
        }
        self.tell_reconciler(Event::RouterDetached { node, link });
    }

    pub(super) fn send(&mut self, node: &NodeId, link: Link, directive: Directive, base: Option<Content>) {
        let Some(attached) = self.attached.get_mut(node).filter(|attached| attached.link == link) else { return };
        let trace = self.spans.sent(node, &directive);
        if matches!(directive, Directive::Commit { .. }) {
            fail::fail_point!("commit-before-send");
        }
        let prepares = matches!(directive, Directive::Prepare { .. });
        match attached.stream.outbox.try_send(Ok(Outgoing { directive, base, trace })) {
            Ok(()) if prepares => fail::fail_point!("prepare-sent"),
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(router = %node, "it takes nothing from its stream; the stream ends");
                self.detach(node.clone(), link);
            }
            // The reader of the stream reports that in a moment.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}
