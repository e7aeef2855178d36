//! The control side against real servers, told what to do as config-manager would.

mod lines;
mod pools;
mod restart;
mod server;
mod strategies;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Mutex;

use mcp::Kind;
use model::{
    Backend, BackendId, BackendPolicy, CandidateResult, DrainPolicy, EndpointSpec, FixedBackend, Isolation, LogId,
    Naming, Policy, ReplaceMode, Revision, Snapshot, Transport, Variant, VariantId,
};
use opentelemetry::trace::SpanId;
use rollout::{Content, Directive, Refusal, Sender};
use runtime::Shutdown;
use tokio::task::LocalSet;
use wire::config::Said;
use wire::pb::config::v1 as pb;
use wire::pb::drain::v1 as drain_pb;

use super::line::Outgoing;
use super::*;
use crate::endpoint::Lease;
use crate::generation::Unroutable;
use crate::session::Homes;
use server::{Server, black_hole};

/// A server with an endpoint at each of `urls`.
pub(crate) fn backend(id: &str, urls: &[&str], replace: ReplaceMode) -> Arc<FixedBackend> {
    let endpoints = urls.iter().map(|url| EndpointSpec {
        transport: Transport::Http { url: (*url).into(), headers: BTreeMap::new() },
        isolation: Isolation::Shared,
    });
    let backend = Backend {
        id: BackendId::new(id).unwrap(),
        variants: vec![Variant { id: VariantId::only(), weight: 100, endpoints: endpoints.collect() }],
        tools: None,
        policy: BackendPolicy { replace, ..BackendPolicy::default() },
    };
    Arc::new(backend.into())
}

/// In place of the data cores: exchanges that end when they are told to.
#[derive(Debug, Default)]
struct Calls(Mutex<Vec<Lease>>);

impl Exchanges for Calls {
    fn evict(&self, endpoint: u64) {
        let evicted: Vec<_> =
            self.0.lock().unwrap().extract_if(.., |lease| lease.endpoint.number == endpoint).collect();
        for lease in &evicted {
            lease.endpoint.stats.evicted.fetch_add(1, std::sync::atomic::Ordering::Release);
        }
    }

    fn oldest(&self, _: u64) -> Option<String> {
        None
    }
}

struct Case {
    started: Started,
    calls: Arc<Calls>,
    tasks: Tasks,
    clock: Clock,
    attempts: u64,
    /// The trace in which config-manager speaks.
    trace: TraceContext,
    /// What the router says to config-manager.
    said: mpsc::Receiver<pb::FollowRequest>,
}

impl Case {
    async fn start(directory: &Path) -> Self {
        Self::traced(directory, Tracer::off()).await
    }

    async fn traced(directory: &Path, tracer: Tracer) -> Self {
        let (tasks, clock, calls) = (Tasks::new(Shutdown::new()), Clock::start(), Arc::new(Calls::default()));
        let exchanges: Arc<dyn Exchanges> = Arc::<Calls>::clone(&calls);
        let identity = Identity { node: NodeId::new("r").unwrap(), boot: "b".into(), features: Vec::new() };
        let started = Started::at(
            Place { directory: directory.into(), beside_predecessor: false },
            identity,
            exchanges,
            &tasks,
            clock,
            tracer,
        );
        let trace = TraceContext::new_unsampled();
        let (_, said) = mpsc::channel(1);
        let mut case = Self { started, calls, tasks, clock, attempts: 0, trace, said };
        case.attach().await;
        case
    }

    /// A new line to config-manager; returns the first report on it.
    async fn attach(&mut self) -> Report {
        let (outgoing, said) = Outgoing::test();
        self.said = said;
        self.tell(Line::Up(outgoing)).await;
        self.tell(config_manager::ManagerLine::Answered).await;
        self.report().await.0
    }

    async fn direct(&self, directive: &Directive, base: Option<&Content>) {
        let sender = Sender { log: LogId("l".into()), epoch: 1 };
        let envelope = Some(wire::envelope(Some(&sender), &self.trace.to_string(), 1));
        let directive = Some(wire::config::directive_to_pb(directive, base));
        self.tell(Line::Heard(pb::FollowResponse { envelope, directive })).await;
    }

    /// The next report, and its trace.
    async fn report(&mut self) -> (Report, Option<TraceContext>) {
        loop {
            let request = self.said.recv().await.expect("not hung up");
            let trace = request.envelope.as_ref().and_then(|envelope| envelope.traceparent.parse().ok());
            match wire::config::report(request).unwrap() {
                Said::Report(report) => return (report, trace),
                Said::Observed(_) => {}
            }
        }
    }

    /// What the router votes on a proposal, which stays prepared unless it refuses.
    async fn prepare(&mut self, content: &Content) -> (AttemptId, Vec<CandidateResult>, Option<Refusal>) {
        self.attempts += 1;
        let attempt = AttemptId { epoch: 1, sequence: self.attempts };
        let lease = Duration::from_secs(60);
        self.direct(&Directive::Prepare { attempt, content: content.clone(), lease }, None).await;
        let (report, _) = self.report().await;
        let Report::Vote { attempt, found, verdict } = report else { panic!("{report:?}") };
        (attempt, found.outcomes.into_iter().map(|outcome| outcome.result).collect(), verdict.err())
    }

    async fn swap(&mut self, revision: u64, content: &Content, prepared: Option<AttemptId>) {
        let (revision, digest) = (Revision(revision), content.digest);
        let directive = match prepared {
            Some(attempt) => Directive::Commit { attempt, revision, digest },
            None => Directive::Offer { revision, content: content.clone() },
        };
        self.direct(&directive, None).await;
        assert_eq!(self.report().await.0, Report::Ack { revision, digest });
    }

    async fn overlay(&self, entries: Vec<drain::OverlayEntry>) {
        let directive = wire::drain::directive_to_pb(&drain::Directive::Overlay { entries });
        self.tell(Line::Heard(drain_pb::AttachResponse { envelope: None, directive: Some(directive) })).await;
    }

    async fn tell(&self, command: impl Into<Command>) {
        self.started.commands.send(command.into()).await.unwrap();
    }

    async fn status(&mut self, wanted: impl Fn(&Status) -> bool) -> Arc<Status> {
        let waited = self.started.status.wait_for(|status| wanted(status));
        tokio::time::timeout(Duration::from_secs(10), waited).await.expect("it comes to that").unwrap().clone()
    }

    async fn up(&mut self, count: usize) -> Arc<Status> {
        self.status(|status| status.endpoints.iter().filter(|endpoint| endpoint.up).count() == count).await
    }

    fn tools(&self) -> String {
        let generation = self.started.live.load();
        let names: Vec<_> =
            generation.catalogs[Kind::Tool].entries().iter().map(|entry| entry.exposed.to_string()).collect();
        names.join(" ")
    }

    async fn stop(self) {
        self.tasks.shutdown().advance(Phase::Closing);
        let joined = self.tasks.join(Duration::from_secs(10)).await;
        assert!(joined.is_clean(), "{joined:?}");
    }
}

fn content(policy: Policy, backends: &[Arc<FixedBackend>]) -> Content {
    Content::new(Arc::new(Snapshot { policy, backends: backends.to_vec() }))
}

fn at(id: &str, url: &str) -> Arc<FixedBackend> {
    backend(id, &[url], ReplaceMode::Beside)
}

fn quick() -> Policy {
    let mut policy = Policy { naming: Naming::None, ..Policy::default() };
    policy.limits.connect = Duration::from_secs(1);
    policy.drain = DrainPolicy { timeout: Duration::from_millis(300), ..DrainPolicy::default() };
    policy
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test(directory.path().into()));
}

#[test]
fn a_change_touches_what_it_changes_and_what_left_is_evicted_at_its_deadline() {
    run(|directory| async move {
        let (a, b) = (Server::start(&["one"]).await, Server::start(&["two"]).await);
        let mut case = Case::start(&directory).await;
        let first = content(quick(), &[at("a", &a.url), at("b", &b.url)]);
        case.swap(1, &first, None).await;
        case.up(2).await;
        assert_eq!(case.tools(), "one two");

        let admitted = case.started.live.admit(Kind::Tool, "two", 1, &Homes::default(), |_| true).unwrap();
        assert_eq!((admitted.lease.revision, admitted.backend.as_str()), (Revision(1), "b"));
        case.calls.0.lock().unwrap().push(admitted.lease);
        let kept =
            case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).unwrap().lease.endpoint.number;

        let c = Server::start(&["three"]).await;
        let second = content(quick(), &[at("a", &a.url), at("c", &c.url)]);
        let (attempt, outcomes, refusal) = case.prepare(&second).await;
        assert!(matches!(outcomes[..], [CandidateResult::Ready { tools: 1, .. }]) && refusal.is_none(), "{outcomes:?}");
        assert_eq!(case.tools(), "one two", "nothing changes before the commit");
        let begun = case.clock.now_nanos();
        case.swap(2, &second, Some(attempt)).await;
        assert_eq!(case.tools(), "one three");
        let unknown = Unroutable::Unknown { revision: Revision(2), kind: Kind::Tool, arriving: false };
        assert_eq!(case.started.live.admit(Kind::Tool, "two", 1, &Homes::default(), |_| true).unwrap_err(), unknown);
        assert_eq!(
            case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).unwrap().lease.endpoint.number,
            kept
        );

        let status = case.status(|status| status.endpoints.len() == 2).await;
        let waited = Duration::from_nanos(case.clock.now_nanos() - begun);
        assert!(waited >= Duration::from_millis(300), "the call had its time, not only {waited:?}");
        let departure = &status.departures[0];
        assert_eq!((departure.total, departure.finished, departure.evicted), (1, 0, 1));
        case.stop().await;
        assert_eq!(b.said().last().map(String::as_str), Some("DELETE"));
        assert_eq!(a.said().iter().filter(|method| *method == "initialize").count(), 1);
    });
}

#[test]
fn what_a_change_does_is_in_its_trace_and_so_is_what_is_said_about_it() {
    run(|directory| async move {
        let (a, b) = (Server::start(&["one"]).await, Server::start(&["two"]).await);
        let (finished, mut spans) = mpsc::channel(64);
        let scope = opentelemetry::InstrumentationScope::builder("test").build();
        let tracer = Tracer::new(runtime::telemetry::sampler::Sampler::default(), scope, finished);
        let mut case = Case::traced(&directory, tracer).await;
        let (line, mut reports) = Outgoing::<drain_pb::AttachRequest>::test();
        case.tell(Line::Up(line)).await;
        case.swap(1, &content(quick(), &[at("a", &a.url)]), None).await;
        case.up(1).await;
        let kept = case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).unwrap().lease;

        let (prepare, swap) = (TraceContext::new_root(), TraceContext::new_root());
        case.trace = prepare;
        let second = content(quick(), &[at("b", &b.url)]);
        let (attempt, ..) = case.prepare(&second).await;
        case.trace = swap;
        case.swap(2, &second, Some(attempt)).await;
        let live = |status: &Status| status.trace.is_some_and(|trace| trace.trace_id() == swap.trace_id());
        let swapped = case.status(live).await.trace;
        drop(kept);
        case.status(|status| status.endpoints.len() == 1).await;
        case.stop().await;

        let spans: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
        let below = |parent: SpanId, name: &str| {
            let found = spans.iter().find(|span| span.parent_span_id == parent && span.name == name);
            found.unwrap_or_else(|| panic!("{name} below {parent}: {spans:?}"))
        };
        let prepared = below(prepare.parent_id().into(), "router.prepare").span_context.span_id();
        let up = below(prepared, "router.bring_up");
        assert_eq!(up.span_context.trace_id(), prepare.trace_id().into());
        let swapping = below(swap.parent_id().into(), "router.swap").span_context.span_id();
        let drained = below(swapping, "router.drain");
        for (key, value) in
            [("result", "closed"), ("drain.total", "1"), ("drain.finished", "1"), ("drain.evicted", "0")]
        {
            let key = format!("only1mcp.{key}");
            let found = drained.attributes.iter().find(|attribute| attribute.key.as_str() == key);
            assert_eq!(found.map(|found| found.value.to_string()).as_deref(), Some(value), "{drained:?}");
        }
        let mut of_drain = 0;
        while let Ok(report) = reports.try_recv() {
            let (envelope, count) = (report.envelope.unwrap(), wire::drain::count(report.count).unwrap());
            let trace = envelope.traceparent.parse::<TraceContext>().ok();
            match count {
                drain::Count::Departure(_) => {
                    assert_eq!(trace.map(|trace| trace.parent_id().into()), Some(drained.span_context.span_id()));
                    of_drain += 1;
                }
                drain::Count::Live { revision: Revision(2), .. } => assert_eq!(trace, swapped),
                drain::Count::Change { .. } | drain::Count::Live { .. } | drain::Count::Hello { .. } => {}
            }
        }
        assert!(of_drain > 0);
    });
}

#[test]
fn an_equal_server_that_comes_back_is_the_one_that_left() {
    run(|directory| async move {
        let (a, b) = (Server::start(&["one"]).await, Server::start(&["two"]).await);
        let mut case = Case::start(&directory).await;
        let with = content(quick(), &[at("a", &a.url), at("b", &b.url)]);
        let without = content(quick(), &[at("a", &a.url)]);
        case.swap(1, &with, None).await;
        case.up(2).await;
        let old = case.started.live.admit(Kind::Tool, "two", 1, &Homes::default(), |_| true).unwrap().lease;
        case.swap(2, &without, None).await;
        let (attempt, outcomes, _) = case.prepare(&with).await;
        assert!(matches!(outcomes[..], [CandidateResult::Ready { tools: 1, .. }]), "{outcomes:?}");
        case.swap(3, &with, Some(attempt)).await;
        let new = case.started.live.admit(Kind::Tool, "two", 1, &Homes::default(), |_| true).unwrap().lease;
        assert_eq!((new.endpoint.number, new.revision, old.revision), (old.endpoint.number, Revision(3), Revision(1)));
        let reopened = |status: &Status| status.departures.iter().any(|one| one.phase == drain::Phase::Reopened);
        case.status(reopened).await;
        drop((old, new));
        case.stop().await;
        assert_eq!(b.said().iter().filter(|method| *method == "initialize").count(), 1);
    });
}

#[test]
fn fifty_servers_with_a_black_hole_take_the_limit_and_not_the_sum() {
    run(|directory| async move {
        let mut case = Case::start(&directory).await;
        let hole = black_hole().await;
        let mut backends = vec![at("hole", &hole)];
        for i in 1..50 {
            let server = Server::start(&[&format!("tool{i}")]).await;
            backends.push(at(&format!("s{i}"), &server.url));
        }
        let begun = case.clock.now_nanos();
        let (_, outcomes, _) = case.prepare(&content(quick(), &backends)).await;
        let took = Duration::from_nanos(case.clock.now_nanos() - begun);
        assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, CandidateResult::Failed { .. })).count(), 1);
        assert_eq!(outcomes.len(), 50);
        assert!(took < Duration::from_millis(1500), "{took:?} for a limit of 1 s");
        case.stop().await;
    });
}

#[test]
fn a_state_lasts_since_its_word_changed_whatever_else_does() {
    run(|directory| async move {
        let server = Server::start(&["one"]).await;
        let mut case = Case::start(&directory).await;
        case.swap(1, &content(quick(), &[at("a", &server.url)]), None).await;
        let open = case.up(1).await.endpoints[0].condition();
        let entry = |disabled| drain::OverlayEntry {
            drain: drain::DrainId::Admin { number: 1, started: model::WallTime(1) },
            backend: BackendId::new("a").unwrap(),
            endpoint: None,
            weight: model::Weight::NONE,
            remaining: Duration::from_secs(60),
            disabled,
            rate: 0,
        };
        let cordoned = |status: &Status| status.endpoints[0].condition().0 == model::Condition::Cordoned;
        let refused = |case: &Case| {
            case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).unwrap_err().to_string()
        };
        case.overlay(vec![entry(false)]).await;
        let drained = case.status(cordoned).await.endpoints[0].condition();
        assert_eq!(refused(&case), "server `a` is drained and takes no calls");
        assert!(drained.1 > open.1);
        case.overlay(vec![entry(true)]).await;
        let disabled = case.status(|status| status.endpoints[0].disabled).await;
        assert_eq!(disabled.endpoints[0].condition(), drained);
        assert_eq!(disabled.not_up().len(), 0);
        assert_eq!(refused(&case), "server `a` is disabled by an operator and takes no calls");
        case.overlay(Vec::new()).await;
        let again = case.status(|status| !cordoned(status)).await.endpoints[0].condition();
        assert!(again.0 == open.0 && again.1 > drained.1, "{again:?} after {drained:?}");
        case.stop().await;
    });
}

#[test]
fn a_server_has_the_time_that_its_own_limit_gives_it_and_the_reason_names_the_limit() {
    run(|directory| async move {
        let mut case = Case::start(&directory).await;
        let mut hole = Backend::clone(&at("hole", &black_hole().await));
        hole.policy.connect = Some(Duration::from_millis(200));
        let content = content(quick(), &[Arc::new(hole.into())]);
        let begun = case.clock.now_nanos();
        case.swap(1, &content, None).await;
        let status = case.status(|status| status.endpoints.iter().any(|one| one.reason.is_some())).await;
        let took = Duration::from_nanos(case.clock.now_nanos() - begun);
        assert!(took < Duration::from_millis(900), "{took:?}, though the gateway's limit is 1 s");
        let reason = status.endpoints[0].reason.as_deref().unwrap();
        let expected = "not ready within 200 ms (limits.connect, or `connect` of the server alone)";
        assert!(reason.contains(expected), "{reason}");
        case.stop().await;
    });
}

#[test]
fn names_and_secrets_are_judged_before_anything_changes() {
    run(|directory| async move {
        let (a, b) = (Server::start(&["one"]).await, Server::start(&["one"]).await);
        let mut case = Case::start(&directory).await;
        case.swap(1, &content(quick(), &[at("a", &a.url)]), None).await;
        case.up(1).await;
        let (_, _, refusal) = case.prepare(&content(quick(), &[at("a", &a.url), at("b", &b.url)])).await;
        assert_eq!(refusal, Some(Refusal::Names("`one` of `a` and of `b`".into())));
        let secret = content(quick(), &[at("a", &a.url), at("c", "http://${env:ONLY1MCP_TEST_NOT_SET}/")]);
        let (_, outcomes, refusal) = case.prepare(&secret).await;
        assert!(outcomes.is_empty());
        let Some(Refusal::Secret(text)) = refusal else { panic!("{refusal:?}") };
        assert!(text.contains("server `c`: url: `${env:ONLY1MCP_TEST_NOT_SET}`"), "{text}");
        // Nor does a file that would hang: a FIFO without a writer.
        let fifo = directory.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let url = format!("http://localhost/${{file:{}}}", fifo.display());
        let (_, _, refusal) = case.prepare(&content(quick(), &[at("a", &a.url), at("c", &url)])).await;
        let Some(Refusal::Secret(text)) = refusal else { panic!("{refusal:?}") };
        assert!(text.contains("cannot be read by the router: it is a FIFO; expected a regular file"), "{text}");
        // A decided revision is live whatever is missing here, and what is missing is shown where it is missing.
        case.swap(2, &secret, None).await;
        assert_eq!((case.started.live.load().revision, case.tools().as_str()), (Revision(2), "one"));
        let named = |status: &Status| {
            let mut down = status.endpoints.iter().filter_map(|one| one.reason.as_deref());
            down.any(|reason| reason.contains("`${env:ONLY1MCP_TEST_NOT_SET}` is not set in the router's environment"))
        };
        case.status(named).await;
        case.stop().await;
    });
}

#[test]
fn calls_wait_for_a_server_on_its_way_and_clients_hear_of_changed_lists() {
    run(|directory| async move {
        let a = Server::start(&["one"]).await;
        let mut case = Case::start(&directory).await;
        case.swap(1, &content(quick(), &[at("a", &a.url)]), None).await;
        let arriving = Unroutable::Unknown { revision: Revision(1), kind: Kind::Tool, arriving: true };
        assert_eq!(case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).unwrap_err(), arriving);
        let admitted = case
            .started
            .live
            .admit_within(Kind::Tool, "one", 1, &Homes::default(), |_| true, Duration::ZERO)
            .await
            .unwrap();
        case.started.live.settled().await;

        let mut lists = case.started.live.list_turns();
        lists.mark_unchanged();
        a.offer(&["one", "two"]);
        admitted.lease.endpoint.tell(EndpointEvent::ListChanged);
        lists.changed().await.unwrap();
        assert_eq!(case.tools(), "one two");
        assert_eq!(case.started.live.load().list_turns, *lists.borrow());
        case.stop().await;
    });
}
