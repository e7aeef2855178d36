//! The spans of what config-manager has this router do, and in whose trace it is spoken about.
//!
//! What is said about an attempt or a revision carries the context of the span that did the work, also when the work is
//! over; where there was nothing to do, of whoever asked for it.

use model::{AttemptId, Revision};
use rollout::{Directive, Report};
use runtime::{Kind, Span, TraceContext, Tracer};

#[derive(Debug, Default)]
pub(super) struct Traces {
    tracer: Tracer,
    preparing: Story<AttemptId>,
    swapping: Story<Revision>,
}

/// The one attempt, or revision, that was heard of last, and the one that was worked on last.
#[derive(Debug)]
struct Story<Id> {
    told: Option<(Id, TraceContext)>,
    work: Option<Work<Id>>,
}

#[derive(Debug)]
struct Work<Id> {
    id: Id,
    context: TraceContext,
    /// Until it is over.
    span: Option<Span>,
    /// The fleet has answered: what is left is to say so.
    done: bool,
}

impl<Id> Default for Story<Id> {
    fn default() -> Self {
        Self { told: None, work: None }
    }
}

impl Traces {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self { tracer, ..Self::default() }
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

    pub(super) fn prepare(&mut self, attempt: AttemptId) -> TraceContext {
        let span = self.preparing.begin(&self.tracer, "router.prepare", attempt);
        span.set("only1mcp.attempt", attempt.to_string());
        span.context()
    }

    pub(super) fn swap(&mut self, revision: Revision) -> TraceContext {
        let span = self.swapping.begin(&self.tracer, "router.swap", revision);
        span.count("only1mcp.revision", revision.0);
        span.context()
    }

    /// The fleet has built it, or found that it cannot.
    pub(super) fn built(&mut self, attempt: AttemptId) {
        self.preparing.done(attempt);
    }

    /// The fleet has made it live, or found that it cannot.
    pub(super) fn swapped(&mut self, revision: Revision) {
        self.swapping.done(revision);
    }

    /// Nobody needs the attempt any more.
    pub(super) fn discarded(&mut self, attempt: AttemptId) {
        if let Some(span) = self.preparing.open(attempt) {
            span.fail("given up before it was ready");
        }
        self.preparing.done(attempt);
    }

    /// In whose trace `report` is said; what it says is the outcome of the work it is about.
    pub(super) fn said(&mut self, report: &Report) -> Option<TraceContext> {
        match report {
            Report::Vote { attempt, verdict, .. } => {
                if let Some(span) = self.preparing.span(*attempt) {
                    span.set("only1mcp.vote", if verdict.is_ok() { "yes" } else { "no" });
                    if let Err(refusal) = verdict {
                        span.fail(refusal.plain());
                    }
                }
                self.preparing.about(*attempt)
            }
            Report::Ack { revision, .. } => self.swapping.about(*revision),
            Report::Nack { revision, refusal } => {
                if let Some(span) = self.swapping.span(*revision) {
                    span.fail(refusal.plain());
                }
                self.swapping.about(*revision)
            }
            Report::Hello { .. } => None,
        }
    }

    /// Everything that had to be said was: what the fleet has answered is over.
    pub(super) fn settle(&mut self) {
        self.preparing.settle();
        self.swapping.settle();
    }
}

impl<Id: Copy + PartialEq> Story<Id> {
    fn begin(&mut self, tracer: &Tracer, name: &'static str, id: Id) -> &mut Span {
        let parent = self.told.filter(|(told, _)| *told == id).map(|(_, context)| context);
        let span = tracer.start_rare(name, Kind::Consumer, parent);
        let work = self.work.insert(Work { id, context: span.context(), span: None, done: false });
        work.span.insert(span)
    }

    fn of(&mut self, id: Id) -> Option<&mut Work<Id>> {
        self.work.as_mut().filter(|work| work.id == id)
    }

    fn span(&mut self, id: Id) -> Option<&mut Span> {
        self.of(id)?.span.as_mut()
    }

    /// Of work that the fleet has not answered.
    fn open(&mut self, id: Id) -> Option<&mut Span> {
        self.of(id).filter(|work| !work.done)?.span.as_mut()
    }

    fn about(&self, id: Id) -> Option<TraceContext> {
        let work = self.work.as_ref().filter(|work| work.id == id).map(|work| work.context);
        work.or_else(|| self.told.filter(|(told, _)| *told == id).map(|(_, context)| context))
    }

    fn done(&mut self, id: Id) {
        if let Some(work) = self.of(id) {
            work.done = true;
        }
    }

    fn settle(&mut self) {
        if let Some(work) = self.work.as_mut().filter(|work| work.done) {
            work.span = None;
        }
    }
}
