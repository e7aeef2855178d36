//! What the router says to config-manager, and in which trace.

use opentelemetry_sdk::trace::SpanData;
use rollout::Findings;

use super::*;

fn empty(allow_empty: bool) -> Content {
    content(Policy { allow_empty, ..quick() }, &[])
}

async fn traced(directory: &Path) -> (Case, mpsc::Receiver<SpanData>) {
    let (finished, spans) = mpsc::channel(64);
    let scope = opentelemetry::InstrumentationScope::builder("test").build();
    let tracer = Tracer::new(runtime::telemetry::sampler::Sampler::default(), scope, finished);
    let mut case = Case::traced(directory, tracer).await;
    case.trace = TraceContext::new_root();
    (case, spans)
}

#[test]
fn what_is_live_or_prepared_is_what_a_difference_may_be_from() {
    run(|directory| async move {
        let mut case = Case::start(&directory).await;
        let (first, second) = (empty(true), empty(false));
        let (attempt, ..) = case.prepare(&first).await;
        let sequel = AttemptId { sequence: attempt.sequence + 1, ..attempt };
        let lease = Duration::from_secs(60);
        let of_held = Directive::Prepare { attempt: sequel, content: second.clone(), lease };
        case.direct(&of_held, Some(&first)).await;
        let vote = Report::Vote { attempt: sequel, verdict: Ok(()), found: Findings::default() };
        assert_eq!(case.report().await.0, vote);
        case.swap(1, &second, Some(sequel)).await;
        case.direct(&Directive::Offer { revision: Revision(2), content: first.clone() }, Some(&second)).await;
        let (revision, digest) = (Revision(2), first.digest);
        assert_eq!(case.report().await.0, Report::Ack { revision, digest });
        case.stop().await;
    });
}

#[test]
fn votes_and_acknowledgements_are_in_the_trace_of_the_work_they_are_about() {
    run(|directory| async move {
        let (mut case, mut spans) = traced(&directory).await;
        let attempt = AttemptId { epoch: 1, sequence: 1 };
        let prepare = |attempt, content| Directive::Prepare { attempt, content, lease: Duration::from_secs(60) };
        case.direct(&prepare(attempt, empty(true)), None).await;
        let (_, vote) = case.report().await;
        let (asked, of_commit) = (case.trace, TraceContext::new_root());
        let (revision, digest) = (Revision(1), empty(true).digest);
        case.trace = of_commit;
        case.direct(&Directive::Commit { attempt, revision, digest }, None).await;
        let (_, ack) = case.report().await;
        for (name, parent, own) in [("router.prepare", asked, vote), ("router.swap", of_commit, ack)] {
            let span = spans.recv().await.unwrap();
            assert_eq!((&*span.name, span.parent_span_id), (name, parent.parent_id().into()));
            assert_eq!(span.span_context.span_id(), own.unwrap().parent_id().into());
        }
        // An offer of what is live already.
        case.direct(&Directive::Offer { revision, content: empty(true) }, None).await;
        assert_eq!(case.report().await.1, ack);

        // Work that is not wanted any more.
        let attempt = AttemptId { epoch: 1, sequence: 2 };
        let hole = content(quick(), &[at("hole", &black_hole().await)]);
        case.direct(&prepare(attempt, hole), None).await;
        case.direct(&Directive::Abort { attempt }, None).await;
        let given_up = loop {
            let span = spans.recv().await.unwrap();
            if span.name == "router.prepare" {
                break span;
            }
        };
        assert!(matches!(given_up.status, opentelemetry::trace::Status::Error { .. }), "{given_up:?}");
        case.stop().await;
    });
}

#[test]
fn a_line_that_cannot_be_understood_is_hung_up_and_the_next_says_what_is_held() {
    run(|directory| async move {
        let mut case = Case::start(&directory).await;
        case.swap(7, &empty(true), None).await;
        while disk::load(&directory).unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        case.stop().await;

        let mut case = Case::start(&directory).await;
        case.started.following.wait_for(|following| following.attached && !following.from_disk).await.unwrap();
        let other = content(Policy::default(), &[]);
        case.direct(&Directive::Offer { revision: Revision(8), content: empty(true) }, Some(&other)).await;
        while case.said.recv().await.is_some() {}
        case.tell(Command::Manager(Line::Down)).await;
        let hello = case.attach().await;
        assert!(matches!(hello, Report::Hello { applied: Revision(7), .. }), "{hello:?}");
        case.stop().await;
    });
}
