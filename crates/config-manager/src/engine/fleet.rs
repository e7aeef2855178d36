//! The streams of routers: their reports go to the reconciler, and its directives go to them.

use std::time::Duration;

use model::{Digest, NodeId, Time};
use rollout::reconciler::{Event, Link};
use rollout::{Content, Directive, Report};
use runtime::grpc::refusal;
use tokio::sync::mpsc::error::TrySendError;
use wire::pb::config::v1 as pb;

use super::Engine;
use crate::command::{Outgoing, Said, Stream};

/// How many contents are remembered because a router may hold them, so that it can be sent a difference.
const RECENT: usize = 8;

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
    /// The content that the router is known to hold; none is known while it swaps.
    holds: Option<Content>,
    pub(super) servers: Vec<pb::ServerState>,
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
        let (holds, boot) = match &report {
            Report::Hello { digest, boot, .. } => (digest.as_ref().and_then(|digest| self.known(digest)), boot.clone()),
            Report::Vote { .. } | Report::Ack { .. } | Report::Nack { .. } => (None, String::new()),
        };
        let now = self.now();
        let mut attached = Attached { link, boot, displaced: None, rival: false, stream, holds, servers: Vec::new() };
        if let Some(before) = self.attached.remove(&node) {
            attached.takes_the_place_of(&node, &before, now);
            self.spans.left(&node);
        }
        self.attached.insert(node.clone(), attached);
        self.rollout.handle(now, Event::Report { node, link, report });
    }

    pub(super) fn detach(&mut self, node: NodeId, link: Link) {
        if self.attached.get(&node).is_some_and(|attached| attached.link == link) {
            self.attached.remove(&node);
            self.spans.left(&node);
        }
        let now = self.now();
        self.rollout.handle(now, Event::RouterDetached { node, link });
    }

    pub(super) fn send(&mut self, node: &NodeId, link: Link, directive: Directive) {
        let Some(attached) = self.attached.get_mut(node).filter(|attached| attached.link == link) else { return };
        let trace = self.spans.sent(node, &directive);
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
            // The reader of the stream reports that in a moment.
            Err(TrySendError::Closed(_)) => {}
        }
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
