//! The spans of changes: what was judged, asked of routers, written down and made live, in one tree for each.
//!
//! Every message to a router carries the context of a span here, even if that span is over by then.

use std::collections::BTreeMap;

use model::{AttemptId, Digest, NodeId, Revision};
use rollout::{Directive, Refusal};
use runtime::{Kind, Span, TraceContext, Tracer};

#[derive(Debug)]
pub(super) struct Spans {
    tracer: Tracer,
    /// The attempt in progress.
    attempt: Option<Attempt>,
    /// The revision that each router is asked to make live, until it is live there.
    swaps: BTreeMap<NodeId, (Revision, Span)>,
}

#[derive(Debug)]
struct Attempt {
    id: AttemptId,
    /// The context of the change.
    root: TraceContext,
    /// Without a span once the router has voted.
    prepares: BTreeMap<NodeId, (TraceContext, Option<Span>)>,
    append: Option<Span>,
    /// Set once the attempt is decided.
    revision: Option<Revision>,
}

impl Spans {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self { tracer, attempt: None, swaps: BTreeMap::new() }
    }

    /// Starts the span of a whole change, for the caller to hold.
    pub(super) fn change(&self, parent: Option<TraceContext>, source: String, actor: String) -> Span {
        let mut span = self.tracer.start_rare("config.change", Kind::Internal, parent);
        span.set("only1mcp.source", source);
        span.set("only1mcp.actor", actor);
        span
    }

    pub(super) fn started(&mut self, id: AttemptId, root: TraceContext) {
        self.attempt = Some(Attempt { id, root, prepares: BTreeMap::new(), append: None, revision: None });
    }

    /// The context of the change that is being attempted.
    pub(super) fn of(&self, attempt: AttemptId) -> Option<TraceContext> {
        self.attempt.as_ref().filter(|known| known.id == attempt).map(|known| known.root)
    }

    /// The context in which `directive` goes to a router.
    pub(super) fn sent(&mut self, node: &NodeId, directive: &Directive) -> TraceContext {
        match directive {
            Directive::Prepare { attempt, .. } => self.prepare(node, *attempt),
            Directive::Renew { attempt, .. } | Directive::Abort { attempt } => {
                let known = self.attempt.as_ref().filter(|known| known.id == *attempt);
                let prepared = known.and_then(|known| known.prepares.get(node)).map(|(context, _)| *context);
                prepared.unwrap_or_else(TraceContext::new_unsampled)
            }
            Directive::Commit { revision, .. } => self.swap(node, *revision, None),
            Directive::Offer { revision, content } => self.swap(node, *revision, Some(content.digest)),
        }
    }

    fn prepare(&mut self, node: &NodeId, attempt: AttemptId) -> TraceContext {
        let Some(known) = self.attempt.as_mut().filter(|known| known.id == attempt) else {
            return TraceContext::new_unsampled();
        };
        let mut span = self.tracer.start("config.prepare", Kind::Client, Some(known.root));
        span.set("only1mcp.router", node.to_string());
        let context = span.context();
        known.prepares.insert(node.clone(), (context, Some(span)));
        context
    }

    /// The span of a swap. It is a part of the change that made the revision, while that change is not over. Afterwards
    /// it stands alone: a router joins, or tries again.
    fn swap(&mut self, node: &NodeId, revision: Revision, offered: Option<Digest>) -> TraceContext {
        let change = self.attempt.as_ref().filter(|known| known.revision == Some(revision));
        let mut span = match change {
            Some(change) => self.tracer.start("config.swap", Kind::Client, Some(change.root)),
            None => self.tracer.start_rare("config.offer", Kind::Client, None),
        };
        span.set("only1mcp.router", node.to_string());
        span.count("only1mcp.revision", revision.0);
        if let Some(digest) = offered {
            span.set("only1mcp.digest", digest.to_string());
        }
        let context = span.context();
        if let Some((_, mut older)) = self.swaps.insert(node.clone(), (revision, span)) {
            older.fail("a newer revision took its place");
        }
        context
    }

    pub(super) fn voted(&mut self, attempt: AttemptId, node: &NodeId, verdict: &Result<(), Refusal>) {
        let known = self.attempt.as_mut().filter(|known| known.id == attempt);
        let Some(mut span) = known.and_then(|known| known.prepares.get_mut(node)).and_then(|(_, span)| span.take())
        else {
            return;
        };
        span.set("only1mcp.vote", if verdict.is_ok() { "yes" } else { "no" });
        if let Err(refusal) = verdict {
            span.fail(refusal.plain());
        }
    }

    /// The stream of a router has ended.
    pub(super) fn left(&mut self, node: &NodeId) {
        let prepares = self.attempt.as_mut().and_then(|known| known.prepares.get_mut(node));
        let prepare = prepares.and_then(|(_, span)| span.take());
        let swap = self.swaps.remove(node).map(|(_, span)| span);
        for mut span in prepare.into_iter().chain(swap) {
            span.fail("its stream ended");
        }
    }

    /// The attempt ended without a revision.
    pub(super) fn ended(&mut self, attempt: AttemptId, why: &str) {
        let Some(known) = self.attempt.as_mut().filter(|known| known.id == attempt) else { return };
        for (_, span) in known.prepares.values_mut() {
            if let Some(mut span) = span.take() {
                span.fail(format!("the attempt ended: {why}"));
            }
        }
    }

    pub(super) fn append(&mut self, attempt: AttemptId, revision: Revision) {
        let known = self.attempt.as_mut().filter(|known| known.id == attempt);
        let parent = known.as_ref().map(|known| known.root);
        // Only an append that gives the live content a new number belongs to no change.
        let mut span = self.tracer.start_rare("config.append", Kind::Internal, parent);
        span.count("only1mcp.revision", revision.0);
        match known {
            Some(known) => known.append = Some(span),
            None => {
                self.started(attempt, span.context());
                self.attempt.as_mut().map(|known| known.append.insert(span));
            }
        }
    }

    /// The append is durable, or it failed, and why.
    pub(super) fn appended(&mut self, attempt: AttemptId, failure: Option<&str>) {
        let known = self.attempt.as_mut().filter(|known| known.id == attempt);
        let Some(mut span) = known.and_then(|known| known.append.take()) else { return };
        if let Some(failure) = failure {
            span.fail(failure.to_owned());
        }
    }

    pub(super) fn committed(&mut self, attempt: AttemptId, revision: Revision) {
        if let Some(known) = self.attempt.as_mut().filter(|known| known.id == attempt) {
            known.revision = Some(revision);
        }
    }

    /// A router has the revision live, or says why it cannot. Returns the context in which it was asked.
    pub(super) fn answered(
        &mut self,
        node: &NodeId,
        revision: Revision,
        refusal: Option<&Refusal>,
    ) -> Option<TraceContext> {
        self.swaps.get(node).filter(|(asked, _)| *asked <= revision)?;
        let (_, mut span) = self.swaps.remove(node)?;
        if let Some(refusal) = refusal {
            span.fail(refusal.plain());
        }
        Some(span.context())
    }

    /// Routers that have not answered are not waited for any more. Returns the context of the change.
    pub(super) fn applied(&mut self, revision: Revision) -> Option<TraceContext> {
        self.attempt.take_if(|known| known.revision == Some(revision)).map(|known| known.root)
    }
}
