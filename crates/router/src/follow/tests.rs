//! The shell, told and listened to in the wire's own messages.

use model::{AttemptId, LogId, NodeId, Policy, Revision};
use opentelemetry_sdk::trace::SpanData;
use rollout::{Content, Directive};
use wire::config::Said;

use super::*;

struct Case {
    lines: mpsc::Sender<Line<pb::FollowRequest, pb::FollowResponse>>,
    answers: mpsc::Sender<Event>,
    commands: mpsc::Receiver<Command>,
    following: watch::Receiver<Following>,
    _status: watch::Sender<Arc<Status>>,
    /// In which directives are given.
    trace: TraceContext,
    spans: mpsc::Receiver<SpanData>,
}

impl Case {
    /// Follows, with `saved` live from disk.
    fn start(saved: Option<Saved>) -> Self {
        let (lines, heard) = mpsc::channel(8);
        let (answers, answered) = mpsc::channel(8);
        let (commands, told) = mpsc::channel(8);
        let (_status, status) = watch::channel(Arc::default());
        let (following, seen) = watch::channel(Following { attached: false, from_disk: saved.is_some() });
        let (finished, spans) = mpsc::channel(8);
        let scope = opentelemetry::InstrumentationScope::builder("test").build();
        let tracer = Tracer::new(runtime::telemetry::sampler::Sampler::default(), scope, finished);
        let identity = Identity { node: NodeId::new("r").unwrap(), boot: "b".into(), features: Vec::new() };
        let follow = Follow {
            follower: Follower::new(identity, saved.as_ref()),
            speaking: None,
            live: saved.map(|saved| (saved.content.digest, saved.content.snapshot)),
            attempt: None,
            following,
            commands,
            traces: Traces::new(tracer),
            clock: Clock::start(),
        };
        tokio::task::spawn_local(follow.run(heard, answered, status));
        let trace = TraceContext::new_root();
        Self { lines, answers, commands: told, following: seen, _status, trace, spans }
    }

    /// A new line, on which the hello was heard.
    async fn attach(&self) -> (mpsc::Receiver<pb::FollowRequest>, Report) {
        let (outgoing, mut said) = Outgoing::test();
        self.lines.send(Line::Up(outgoing)).await.unwrap();
        self.lines.send(Line::Answered).await.unwrap();
        let hello = heard(&mut said).await;
        (said, hello)
    }

    async fn tell(&self, directive: &Directive, base: Option<&Content>) {
        let envelope = Some(wire::envelope(Some(&sender()), &self.trace.to_string(), 1));
        let directive = Some(wire::config::directive_to_pb(directive, base));
        self.lines.send(Line::Heard(pb::FollowResponse { envelope, directive })).await.unwrap();
    }
}

async fn heard(said: &mut mpsc::Receiver<pb::FollowRequest>) -> Report {
    heard_in(said).await.0
}

/// A report, and in which trace.
async fn heard_in(said: &mut mpsc::Receiver<pb::FollowRequest>) -> (Report, Option<TraceContext>) {
    loop {
        let request = said.recv().await.expect("not hung up");
        let trace = request.envelope.as_ref().and_then(|envelope| envelope.traceparent.parse().ok());
        match wire::config::report(request).unwrap() {
            Said::Report(report) => return (report, trace),
            Said::Observed(_) => {}
        }
    }
}

fn sender() -> Sender {
    Sender { log: LogId("l".into()), epoch: 1 }
}

fn content(allow_empty: bool) -> Content {
    let policy = Policy { allow_empty, ..Policy::default() };
    Content::new(Arc::new(Snapshot { policy, backends: Vec::new() }))
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn what_is_decided_goes_to_the_fleet_and_is_acknowledged_when_it_is_live() {
    run(async {
        let mut case = Case::start(None);
        let (mut said, hello) = case.attach().await;
        assert!(matches!(hello, Report::Hello { applied: Revision::NONE, .. }), "{hello:?}");
        let attempt = AttemptId { epoch: 1, sequence: 1 };
        let prepare = Directive::Prepare { attempt, content: content(true), lease: Duration::from_secs(60) };
        case.tell(&prepare, None).await;
        assert!(matches!(case.commands.recv().await, Some(Command::Prepare { .. })));
        case.answers.send(Event::Built { attempt, outcomes: Vec::new(), refusal: None }).await.unwrap();
        assert_eq!(heard(&mut said).await, Report::Vote { attempt, verdict: Ok(()), outcomes: Vec::new() });
        let (revision, digest) = (Revision(1), content(true).digest);
        case.tell(&Directive::Commit { attempt, revision, digest }, None).await;
        let Some(Command::Swap { prepared, .. }) = case.commands.recv().await else { panic!("a swap") };
        assert_eq!(prepared, Some(attempt));
        case.answers.send(Event::Swapped { revision }).await.unwrap();
        assert_eq!(heard(&mut said).await, Report::Ack { revision, digest });
        assert!(matches!(case.commands.recv().await, Some(Command::Save(saved)) if saved.revision == revision));
        // From what is live now, a difference is understood.
        let offer = Directive::Offer { revision: Revision(2), content: content(false) };
        case.tell(&offer, Some(&content(true))).await;
        assert!(matches!(case.commands.recv().await, Some(Command::Swap { revision: Revision(2), .. })));
        case.answers.send(Event::Swapped { revision: Revision(2) }).await.unwrap();
        let digest = content(false).digest;
        assert_eq!(heard(&mut said).await, Report::Ack { revision: Revision(2), digest });
    });
}

#[test]
fn votes_and_acknowledgements_are_in_the_trace_of_the_work_they_are_about() {
    run(async {
        let mut case = Case::start(None);
        let (mut said, _) = case.attach().await;
        let attempt = AttemptId { epoch: 1, sequence: 1 };
        let prepare = Directive::Prepare { attempt, content: content(true), lease: Duration::from_secs(60) };
        case.tell(&prepare, None).await;
        let Some(Command::Prepare { trace: preparing, .. }) = case.commands.recv().await else { panic!("to prepare") };
        case.answers.send(Event::Built { attempt, outcomes: Vec::new(), refusal: None }).await.unwrap();
        let (_, vote) = heard_in(&mut said).await;
        let (asked, of_commit) = (case.trace, TraceContext::new_root());
        let (revision, digest) = (Revision(1), content(true).digest);
        case.trace = of_commit;
        case.tell(&Directive::Commit { attempt, revision, digest }, None).await;
        let Some(Command::Swap { trace: swapping, .. }) = case.commands.recv().await else { panic!("to swap") };
        case.answers.send(Event::Swapped { revision }).await.unwrap();
        let (_, ack) = heard_in(&mut said).await;
        assert_eq!((vote, ack), (Some(preparing), Some(swapping)));
        for (name, parent, own) in [("router.prepare", asked, preparing), ("router.swap", of_commit, swapping)] {
            let span = case.spans.recv().await.unwrap();
            assert_eq!((&*span.name, span.parent_span_id), (name, parent.parent_id().into()));
            assert_eq!(span.span_context.span_id(), own.parent_id().into());
        }

        // Of work nobody waits for, and of what is live already.
        let attempt = AttemptId { epoch: 1, sequence: 2 };
        let prepare = Directive::Prepare { attempt, content: content(false), lease: Duration::from_secs(60) };
        case.tell(&prepare, None).await;
        case.tell(&Directive::Abort { attempt }, None).await;
        let given_up = case.spans.recv().await.unwrap();
        assert!(matches!(given_up.status, opentelemetry::trace::Status::Error { .. }), "{given_up:?}");
        case.tell(&Directive::Offer { revision, content: content(true) }, None).await;
        assert_eq!(heard_in(&mut said).await.1, Some(swapping));
    });
}

#[test]
fn a_line_that_cannot_be_understood_is_hung_up_and_the_next_says_what_is_held() {
    run(async {
        let saved = Saved { sender: sender(), revision: Revision(7), content: content(true) };
        let mut case = Case::start(Some(saved));
        assert!(case.following.borrow().from_disk);
        let (mut said, _) = case.attach().await;
        case.following.wait_for(|following| following.attached && !following.from_disk).await.unwrap();
        let other = Content::new(Arc::new(Snapshot { policy: Policy::default(), backends: Vec::new() }));
        case.tell(&Directive::Offer { revision: Revision(8), content: content(true) }, Some(&other)).await;
        while said.recv().await.is_some() {}
        case.lines.send(Line::Down).await.unwrap();
        let (_said, hello) = case.attach().await;
        assert!(matches!(hello, Report::Hello { applied: Revision(7), .. }), "{hello:?}");
    });
}
