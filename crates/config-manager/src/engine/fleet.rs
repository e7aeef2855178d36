//! The streams of routers: what came over one goes to the reconciler, and what that says goes over it.

use model::{Digest, NodeId};
use rollout::reconciler::{Event, Link};
use rollout::{Content, Directive, Report};
use runtime::TraceContext;
use tokio::sync::mpsc::error::TrySendError;
use wire::pb::config::v1 as pb;

use super::Engine;
use crate::command::{Outgoing, Said, Stream};

/// Contents that are remembered as what a router may hold, so that it can be sent a difference.
const RECENT: usize = 8;

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) link: Link,
    stream: Stream,
    /// What it is known to hold; nothing is known while it swaps.
    holds: Option<Content>,
    pub(super) servers: Vec<pb::ServerState>,
}

impl Engine {
    pub(super) fn router_said(&mut self, node: NodeId, link: Link, said: Said) {
        match said {
            Said::Hello { report, stream } => self.attach(node, link, report, stream),
            Said::Report(report) => {
                if let Report::Ack { digest, .. } = &report {
                    fail::fail_point!("ack-received");
                    let holds = self.known(digest);
                    if let Some(attached) = self.attached.get_mut(&node).filter(|attached| attached.link == link) {
                        attached.holds = holds;
                    }
                }
                let now = self.now();
                self.rollout.handle(now, Event::Report { node, link, report });
            }
            Said::Observed(observed) => {
                if let Some(attached) = self.attached.get_mut(&node).filter(|attached| attached.link == link) {
                    attached.servers = observed.servers;
                }
            }
            Said::Gone => self.detach(node, link),
        }
        self.changed = true;
    }

    /// An older stream of the same router ends with this.
    fn attach(&mut self, node: NodeId, link: Link, report: Report, stream: Stream) {
        let holds = match &report {
            Report::Hello { digest, .. } => digest.as_ref().and_then(|digest| self.known(digest)),
            Report::Vote { .. } | Report::Ack { .. } | Report::Nack { .. } => None,
        };
        let attached = Attached { link, stream, holds, servers: Vec::new() };
        if self.attached.insert(node.clone(), attached).is_some() {
            tracing::warn!(router = %node, "a new stream takes the place of one that is still open");
        }
        let now = self.now();
        self.rollout.handle(now, Event::Report { node, link, report });
    }

    pub(super) fn detach(&mut self, node: NodeId, link: Link) {
        if self.attached.get(&node).is_some_and(|attached| attached.link == link) {
            self.attached.remove(&node);
        }
        let now = self.now();
        self.rollout.handle(now, Event::RouterDetached { node, link });
    }

    pub(super) fn send(&mut self, node: &NodeId, link: Link, directive: Directive) {
        let trace = self.trace_of(&directive);
        let Some(attached) = self.attached.get_mut(node).filter(|attached| attached.link == link) else { return };
        let base = match &directive {
            Directive::Prepare { .. } => attached.holds.clone(),
            Directive::Commit { .. } => {
                fail::fail_point!("commit-before-send");
                attached.holds.take()
            }
            Directive::Offer { .. } => attached.holds.take(),
            Directive::Renew { .. } | Directive::Abort { .. } => None,
        };
        let prepares = matches!(directive, Directive::Prepare { .. });
        match attached.stream.outbox.try_send(Ok(Outgoing { directive, base, trace })) {
            Ok(()) if prepares => fail::fail_point!("prepare-sent"),
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(router = %node, "it takes nothing from its stream; the stream ends");
                self.detach(node.clone(), link);
            }
            // Its reader says so in a moment.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// The attempt's own, or that of the revision that is offered.
    fn trace_of(&self, directive: &Directive) -> TraceContext {
        let wanted = match directive {
            Directive::Prepare { attempt, .. }
            | Directive::Renew { attempt, .. }
            | Directive::Abort { attempt }
            | Directive::Commit { attempt, .. } => Some(*attempt),
            Directive::Offer { .. } => None,
        };
        let known = self.trace.filter(|(attempt, _)| wanted.is_none_or(|wanted| wanted == *attempt));
        known.map_or_else(TraceContext::new_root, |(_, trace)| trace.child())
    }

    fn known(&self, digest: &Digest) -> Option<Content> {
        self.recent.iter().find(|content| content.digest == *digest).cloned()
    }

    pub(super) fn remember(&mut self, content: Content) {
        self.recent.retain(|known| known.digest != content.digest);
        self.recent.push_back(content);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}
