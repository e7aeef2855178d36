//! The spans of the work that config-manager gives this router, and the traces of the reports about that work.
//!
//! A report about an attempt or a revision carries the context of the span that did the work, also when the work is
//! over. Where there was nothing to do, the report carries the context of the directive.

use model::{AttemptId, Revision};
use rollout::{Directive, Report};
use runtime::{Kind, Span, TraceContext, Tracer};

#[derive(Debug)]
pub(crate) struct Traces {
    tracer: Tracer,
    preparing: Story<AttemptId>,
    swapping: Story<Revision>,
}

/// The attempt, or revision, of the last directive, and the one that was worked on last.
#[derive(Debug)]
struct Story<Id> {
    told: Option<(Id, TraceContext)>,
    work: Option<Work<Id>>,
}

#[derive(Debug)]
struct Work<Id> {
    id: Id,
    context: TraceContext,
    /// Until the work is over.
    span: Option<Span>,
}

impl<Id> Default for Story<Id> {
    fn default() -> Self {
        Self { told: None, work: None }
    }
}

impl Traces {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self { tracer, preparing: Story::default(), swapping: Story::default() }
    }

    /// A directive came in the trace of `context`.
    pub(super) fn told(&mut self, directive: &Directive, context: Option<TraceContext>) {
        match directive {
            Directive::Prepare { attempt, .. } => self.preparing.told = context.map(|context| (*attempt, context)),
            Directive::Commit { revision, .. } | Directive::Offer { revision, .. } => {
                self.swapping.told = context.map(|context| (*revision, context));
            }
            Directive::Renew { .. } | Directive::Abort { .. } => {}
        }
    }

    /// Begins the work on that attempt.
    pub(crate) fn prepare(&mut self, attempt: AttemptId) -> TraceContext {
        let span = self.preparing.begin(&self.tracer, "router.prepare", attempt);
        span.set("only1mcp.attempt", attempt.to_string());
        span.context()
    }

    /// The trace in which that attempt is worked on.
    pub(crate) fn preparing(&self, attempt: AttemptId) -> Option<TraceContext> {
        self.preparing.about(attempt)
    }

    /// Begins the work that makes that revision live.
    pub(crate) fn swap(&mut self, revision: Revision) -> TraceContext {
        let span = self.swapping.begin(&self.tracer, "router.swap", revision);
        span.count("only1mcp.revision", revision.0);
        span.context()
    }

    /// The revision is live.
    pub(crate) fn swapped(&mut self) {
        self.swapping.end();
    }

    /// The trace of `report`; a vote ends the work that it is about.
    pub(super) fn said(&mut self, report: &Report) -> Option<TraceContext> {
        match report {
            Report::Vote { attempt, verdict, .. } => {
                let about = self.preparing.about(*attempt);
                if let Some(span) = self.preparing.span(*attempt) {
                    span.set("only1mcp.vote", if verdict.is_ok() { "yes" } else { "no" });
                    if let Err(refusal) = verdict {
                        span.fail(refusal.plain());
                    }
                    self.preparing.end();
                }
                about
            }
            Report::Ack { revision, .. } | Report::Nack { revision, .. } => self.swapping.about(*revision),
            Report::Hello { .. } => None,
        }
    }

    /// `held` is the attempt that is still wanted.
    pub(crate) fn settle(&mut self, held: Option<AttemptId>) {
        let given_up = self.preparing.work.as_mut().filter(|work| held != Some(work.id));
        if let Some(mut span) = given_up.and_then(|work| work.span.take()) {
            span.fail("given up before there was a vote");
        }
    }
}

impl<Id: Copy + PartialEq> Story<Id> {
    fn begin(&mut self, tracer: &Tracer, name: &'static str, id: Id) -> &mut Span {
        let parent = self.told.filter(|(told, _)| *told == id).map(|(_, context)| context);
        let span = tracer.start_rare(name, Kind::Consumer, parent);
        let work = self.work.insert(Work { id, context: span.context(), span: None });
        work.span.insert(span)
    }

    fn span(&mut self, id: Id) -> Option<&mut Span> {
        self.work.as_mut().filter(|work| work.id == id)?.span.as_mut()
    }

    fn about(&self, id: Id) -> Option<TraceContext> {
        let work = self.work.as_ref().filter(|work| work.id == id).map(|work| work.context);
        work.or_else(|| self.told.filter(|(told, _)| *told == id).map(|(_, context)| context))
    }

    fn end(&mut self) {
        if let Some(work) = &mut self.work {
            work.span = None;
        }
    }
}
