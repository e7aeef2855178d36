//! The service over in-memory gRPC, with routers that say what the test wants them to say.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use drain::{Count, Departure, Directive, DrainId, LiveEndpoint, Phase};
use drain_coordinator::{DrainCoordinator, Settings};
use model::{BackendId, Digest, DrainPolicy, EndpointKey, NodeId, Revision, VariantId};
use runtime::grpc::{self, Auth, Client, DuplexConnector, Target, connect_lazy, duplex};
use runtime::{Clock, Readiness, Scope, Shutdown, Tasks, Tracer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::pb::drain::v1 as pb;
use wire::pb::drain::v1::drain_service_client::DrainServiceClient;

const TIMEOUT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

struct Coordinator {
    tasks: Tasks,
    readiness: Readiness,
    connector: DuplexConnector,
}

impl Coordinator {
    fn start(state_dir: &Path) -> Self {
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        let readiness = Readiness::new(shutdown.clone());
        let scope =
            Scope { clock: Clock::start(), tasks: tasks.clone(), readiness: readiness.clone(), tracer: Tracer::off() };
        let settings = Settings::new(state_dir.to_owned());
        let (service, coordinator) = DrainCoordinator::open(&settings, &scope).unwrap();
        tasks.spawn("drain-coordinator", coordinator.run());
        let (listener, connector) = duplex();
        let service = grpc::Service {
            routes: tonic::service::Routes::new(service),
            descriptors: &[wire::DESCRIPTORS],
            offers: vec![(wire::pb::drain::v1::drain_service_server::SERVICE_NAME, Tracer::off())],
            auth: Auth::new(None),
            readiness: readiness.clone(),
        };
        tasks.spawn_component("grpc", grpc::serve(service, vec![listener.into()], shutdown));
        Self { tasks, readiness, connector }
    }

    fn client(&self) -> DrainServiceClient<Client> {
        DrainServiceClient::new(connect_lazy(&Target::Duplex(self.connector.clone())).unwrap())
    }

    async fn list(&self, all: bool) -> Vec<pb::Drain> {
        self.client().list(pb::ListRequest { all }).await.unwrap().into_inner().drains
    }

    /// As `kill -9` would: nothing is put away. What is on disk is all there is.
    async fn kill(self) {
        assert!(self.tasks.join(GRACE).await.is_clean());
    }
}

struct Router {
    say: mpsc::Sender<pb::AttachRequest>,
    hear: Streaming<pb::AttachResponse>,
}

impl Router {
    async fn attach(to: &Coordinator, node: &str, boot: &str, revision: u64, live: &[&str]) -> Self {
        let (say, said) = mpsc::channel(16);
        let hear = to.client().attach(ReceiverStream::new(said)).await.unwrap().into_inner();
        let mut router = Self { say, hear };
        router.say(&Count::Hello { node: NodeId::new(node).unwrap(), boot: boot.into() }).await;
        router.live(revision, live).await;
        assert!(matches!(router.heard().await, Directive::Overlay { .. }), "the first word is the whole overlay");
        router
    }

    async fn live(&self, revision: u64, live: &[&str]) {
        let endpoints = live
            .iter()
            .map(|name| LiveEndpoint {
                endpoint: key(name),
                policy: DrainPolicy { timeout: TIMEOUT, ..DrainPolicy::default() },
                strained: false,
                stay: None,
            })
            .collect();
        self.say(&Count::Live { revision: Revision(revision), endpoints }).await;
    }

    async fn say(&self, count: &Count) {
        let envelope = Some(wire::envelope(None, TRACE, 1));
        let count = Some(wire::drain::count_to_pb(count));
        self.say.send(pb::AttachRequest { envelope, count }).await.unwrap();
    }

    async fn count(&self, drain: &DrainId, name: &str, phase: Phase, [in_flight, finished, evicted]: [u64; 3]) {
        let departure = Departure {
            drain: drain.clone(),
            endpoint: key(name),
            total: in_flight + finished + evicted,
            in_flight,
            finished,
            evicted,
            phase,
            remaining: TIMEOUT,
            oldest: Some("a".repeat(300)),
        };
        self.say(&Count::Departure(departure)).await;
    }

    async fn heard(&mut self) -> Directive {
        let response = self.hear.message().await.unwrap().expect("the stream is open");
        let envelope = response.envelope.unwrap();
        assert!(envelope.traceparent.parse::<runtime::TraceContext>().is_ok() && envelope.nonce > 0);
        wire::drain::directive(response.directive).unwrap()
    }

    async fn cordons(&mut self) -> Vec<DrainId> {
        match self.heard().await {
            Directive::Overlay { entries } => entries.into_iter().map(|entry| entry.drain).collect(),
            Directive::Recorded { .. } => panic!("an overlay was expected"),
        }
    }
}

/// Where the record is there is neither a file nor anything that could be replaced by one.
fn refuse_writes(state_dir: &Path) -> std::path::PathBuf {
    let record = state_dir.join("drains.json");
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir_all(record.join("in the way")).unwrap();
    record
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn key(name: &str) -> EndpointKey {
    let digest = Digest::of_bytes(name.as_bytes());
    EndpointKey { backend: BackendId::new(name).unwrap(), variant: VariantId::only(), digest }
}

fn removal(name: &str, revision: u64) -> DrainId {
    DrainId::Removal { endpoint: key(name), revision: Revision(revision) }
}

fn start(server: &str) -> pb::StartRequest {
    pb::StartRequest { server: server.into(), ..Default::default() }
}

/// Total, then finished, evicted, lost and in flight, which add up to it.
fn sum(drain: &pb::Drain) -> [u64; 5] {
    let sum = [drain.total, drain.finished, drain.evicted, drain.lost, drain.in_flight];
    assert_eq!(sum[0], sum[1..].iter().sum::<u64>());
    sum
}

/// Until a drain of that server is as described.
async fn until(watch: &mut Streaming<pb::WatchResponse>, server: &str, state: &str) -> pb::Drain {
    loop {
        let change = watch.message().await.unwrap().expect("the watch goes on").drain.unwrap();
        sum(&change);
        if change.server == server && change.state == state {
            return change;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_keeps_the_sum_and_a_dead_router_counts_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let drain = removal("files", 2);
    let coordinator = Coordinator::start(dir.path());
    let mut first = Router::attach(&coordinator, "r1", "boot-1", 1, &["files", "search"]).await;
    let mut second = Router::attach(&coordinator, "r2", "boot-1", 1, &["files", "search"]).await;

    first.live(2, &["search"]).await;
    second.live(2, &["search"]).await;
    first.count(&drain, "files", Phase::Cordoned, [5, 0, 0]).await;
    second.count(&drain, "files", Phase::Cordoned, [3, 0, 0]).await;
    let mut watch = coordinator.client().watch(pb::WatchRequest {}).await.unwrap().into_inner();
    first.count(&drain, "files", Phase::Evicting, [2, 3, 0]).await;
    assert_eq!(sum(&until(&mut watch, "files", "evicting").await), [8, 3, 0, 0, 5]);
    let started = coordinator.client().start(start("search")).await.unwrap().into_inner();
    assert!(!started.joined);
    assert_eq!(started.drain.unwrap().actor, "internal");
    let cordons = first.cordons().await;
    assert_eq!(second.cordons().await, cordons);
    let [operators] = &cordons[..] else { panic!("one cordon, not {cordons:?}") };
    coordinator.kill().await;

    let coordinator = Coordinator::start(dir.path());
    let mut watch = coordinator.client().watch(pb::WatchRequest {}).await.unwrap().into_inner();
    assert_eq!(sum(&until(&mut watch, "files", "evicting").await), [8, 3, 0, 0, 5], "as it was last written down");
    // The other router died with the coordinator.
    let mut first = Router::attach(&coordinator, "r1", "boot-1", 2, &["search"]).await;
    first.count(&drain, "files", Phase::Closed, [0, 4, 1]).await;
    assert_eq!(first.heard().await, Directive::Recorded { drain, endpoint: key("files") });
    assert_eq!(sum(&until(&mut watch, "files", "done").await), [8, 4, 1, 3, 0]);

    first.count(operators, "search", Phase::Closed, [0, 1, 0]).await;
    let done = until(&mut watch, "search", "done").await;
    assert_eq!((sum(&done), done.routers.len()), ([1, 1, 0, 0, 0], 1));
    let ids: Vec<_> = coordinator.list(false).await.into_iter().map(|drain| drain.id).collect();
    assert_eq!(ids, ["a1"], "the cordon holds; the removal is history");
    assert_eq!(coordinator.list(true).await.len(), 2);
    coordinator.kill().await;
}

#[tokio::test(start_paused = true)]
async fn operators_start_join_and_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path());
    coordinator.readiness.ready().await;
    let mut client = coordinator.client();
    assert_eq!(client.start(start("files")).await.unwrap_err().code(), Code::FailedPrecondition, "no router is there");
    let mut router = Router::attach(&coordinator, "r1", "x", 1, &["files"]).await;
    // Only the router's own stream orders these words; one of them is answered.
    router.count(&removal("old", 1), "old", Phase::Closed, [0, 0, 0]).await;
    router.heard().await;

    assert_eq!(client.start(start("not a name")).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = client.start(start("fils")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("files"), "{unknown}");

    client.start(start("files")).await.unwrap();
    let hurry = pb::StartRequest { timeout: Some(Default::default()), ..start("files") };
    let joined = client.start(hurry).await.unwrap().into_inner();
    assert!(joined.joined);
    let drain = joined.drain.unwrap();
    assert_eq!((drain.id.as_str(), drain.remaining), ("a1", Some(Default::default())));
    assert_eq!([router.cordons().await.len(), router.cordons().await.len()], [1, 1]);

    let removal = removal("old", 1).to_string();
    let refused = client.cancel(pb::CancelRequest { id: removal }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(client.cancel(pb::CancelRequest { id: "a9".into() }).await.unwrap_err().code(), Code::NotFound);
    let cancelled = client.cancel(pb::CancelRequest { id: "a1".into() }).await.unwrap().into_inner();
    assert_eq!(cancelled.drain.unwrap().state, "cancelled");
    assert!(router.cordons().await.is_empty());
    coordinator.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_was_told_has_failed_does_not_happen_later() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let mut client = coordinator.client();
    let mut router = Router::attach(&coordinator, "r1", "x", 1, &["files", "search"]).await;
    client.start(start("files")).await.unwrap();
    assert_eq!(router.cordons().await.len(), 1);
    let record = refuse_writes(dir.path());

    let refused = client.start(start("search")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert!(
        refused.message().contains("drains.json") && refused.message().contains("nothing was changed"),
        "{refused}"
    );
    let cancel = pb::CancelRequest { id: "files".into() };
    let again = client.cancel(cancel.clone()).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (refused.code(), refused.message()));
    std::fs::remove_dir_all(&record).unwrap();

    let drains = coordinator.list(true).await;
    let drains: Vec<_> = drains.iter().map(|drain| (drain.server.as_str(), drain.state.as_str())).collect();
    assert_eq!(drains, [("files", "draining")]);
    client.cancel(cancel).await.unwrap();
    assert_eq!(router.cordons().await, [], "the only word since then");
    coordinator.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_holds_up_nothing_that_does_without() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let mut client = coordinator.client();
    let mut first = Router::attach(&coordinator, "r1", "x", 1, &["files"]).await;
    client.start(start("files")).await.unwrap();
    let cordons = first.cordons().await;
    let record = refuse_writes(dir.path());
    client.start(pb::StartRequest { timeout: Some(Default::default()), ..start("files") }).await.unwrap_err();
    assert!(!coordinator.readiness.is_ready());

    let mut watch = client.watch(pb::WatchRequest {}).await.unwrap().into_inner();
    // A new router hears what holds.
    let (say, said) = mpsc::channel(16);
    let hear = client.attach(ReceiverStream::new(said)).await.unwrap().into_inner();
    let mut second = Router { say, hear };
    second.say(&Count::Hello { node: NodeId::new("r2").unwrap(), boot: "y".into() }).await;
    assert_eq!(second.cordons().await, cordons);
    second.live(1, &["files"]).await;
    second.count(&cordons[0], "files", Phase::Closed, [0, 0, 0]).await;
    first.count(&cordons[0], "files", Phase::Closed, [0, 2, 1]).await;
    assert_eq!(sum(&until(&mut watch, "files", "done").await), [3, 2, 1, 0, 0]);
    let drains = coordinator.list(true).await;
    assert_eq!((drains[0].state.as_str(), sum(&drains[0])), ("done", [3, 2, 1, 0, 0]));
    // The write is tried many times, and no failed try counts against a router.
    tokio::time::timeout(Duration::from_secs(60), first.heard()).await.unwrap_err();
    first.count(&cordons[0], "files", Phase::Closed, [0, 2, 1]).await;
    coordinator.list(true).await;

    std::fs::remove_dir_all(&record).unwrap();
    coordinator.readiness.ready().await;
    first.count(&cordons[0], "files", Phase::Closed, [0, 2, 1]).await;
    let recorded = Directive::Recorded { drain: cordons[0].clone(), endpoint: key("files") };
    assert_eq!(first.heard().await, recorded, "now it may forget, and was not told before");
    coordinator.kill().await;
    let coordinator = Coordinator::start(dir.path());
    assert_eq!(sum(&coordinator.list(true).await[0]), [3, 2, 1, 0, 0]);
    coordinator.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_holds_up_nobody_and_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let mut router = Router::attach(&coordinator, "r1", "x", 1, &[]).await;
    let mut watch = coordinator.client().watch(pb::WatchRequest {}).await.unwrap().into_inner();
    // Far more than all buffers between here and the watcher hold.
    let changes = 30_000;
    for finished in 0..changes {
        router.count(&removal("a", 1), "a", Phase::Cordoned, [changes - finished, finished, 0]).await;
    }
    router.count(&removal("a", 1), "a", Phase::Closed, [0, changes, 0]).await;
    assert!(matches!(router.heard().await, Directive::Recorded { .. }), "the router was never held up");
    let (mut seen, mut missed) = (0, 0);
    loop {
        let change = watch.message().await.unwrap().expect("the watch goes on");
        missed += change.missed;
        seen += 1;
        if change.drain.unwrap().state == "done" {
            break;
        }
    }
    assert!(missed > 0, "saw {seen}");
    assert_eq!(seen + missed, changes + 1);
    coordinator.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_ends_only_its_own_stream() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("drains.json"), "{").unwrap();
    let coordinator = Coordinator::start(dir.path());
    assert!(dir.path().join("drains.json.unreadable").exists(), "kept for people to look at");
    let mut good = Router::attach(&coordinator, "r1", "x", 1, &["files"]).await;
    let mut bad = Router::attach(&coordinator, "r2", "y", 1, &["files"]).await;
    bad.say.send(pb::AttachRequest { envelope: None, count: None }).await.unwrap();
    assert_eq!(bad.hear.message().await.unwrap_err().code(), Code::InvalidArgument);

    let mut again = Router::attach(&coordinator, "r1", "x", 1, &["files"]).await;
    assert_eq!(good.hear.message().await.unwrap_err().code(), Code::Aborted, "one stream speaks for a router");
    again.count(&removal("old", 1), "old", Phase::Closed, [0, 2, 0]).await;
    again.heard().await;
    assert_eq!(sum(&coordinator.list(true).await[0]), [2, 2, 0, 0, 0]);
    coordinator.kill().await;
}
