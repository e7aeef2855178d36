//! The service over in-memory gRPC, with routers that answer as the test wants them to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use health::{Observation, Outcome, Request};
use health_monitor::HealthMonitor;
use model::{BackendId, Digest, EndpointKey, HealthPolicy, NodeId, VariantId, Verdict};
use runtime::grpc::{self, Auth, Client, DuplexConnector, Target, connect_lazy, duplex};
use runtime::{Clock, Readiness, Scope, Shutdown, Tasks, Tracer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::pb::health::v1 as pb;
use wire::pb::health::v1::health_service_client::HealthServiceClient;
use wire::pb::words::v1::Verdict as PbVerdict;

struct Monitor {
    tasks: Tasks,
    readiness: Readiness,
    connector: DuplexConnector,
}

impl Monitor {
    fn start() -> Self {
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        let readiness = Readiness::new(shutdown.clone());
        let scope =
            Scope { clock: Clock::start(), tasks: tasks.clone(), readiness: readiness.clone(), tracer: Tracer::off() };
        let (service, monitor) = HealthMonitor::new(&scope);
        tasks.spawn("health-monitor", monitor.run());
        let (listener, connector) = duplex();
        let service = grpc::Service {
            routes: tonic::service::Routes::new(service),
            descriptors: &[wire::DESCRIPTORS],
            offers: vec![(wire::pb::health::v1::health_service_server::SERVICE_NAME, Tracer::off())],
            auth: Auth::new(None),
            readiness: readiness.clone(),
        };
        tasks.spawn_component("grpc", grpc::serve(service, vec![listener.into()], shutdown));
        Self { tasks, readiness, connector }
    }

    fn client(&self) -> HealthServiceClient<Client> {
        HealthServiceClient::new(connect_lazy(&Target::Duplex(self.connector.clone())).unwrap())
    }

    async fn watch(&self) -> Streaming<pb::WatchResponse> {
        self.client().watch(pb::WatchRequest {}).await.unwrap().into_inner()
    }

    async fn end(self) {
        assert!(self.tasks.join(Duration::from_secs(5)).await.is_clean());
    }
}

struct Router {
    say: mpsc::Sender<pb::AttachRequest>,
    hear: Streaming<pb::AttachResponse>,
}

impl Router {
    async fn attach(to: &Monitor, node: &str, boot: &str) -> Self {
        let (say, said) = mpsc::channel(16);
        let hear = to.client().attach(ReceiverStream::new(said)).await.unwrap().into_inner();
        let router = Self { say, hear };
        router.say(&Observation::Hello { node: NodeId::new(node).unwrap(), boot: boot.into() }).await;
        router.say(&Observation::Endpoints { endpoints: vec![key()], policy: HealthPolicy::default() }).await;
        router
    }

    async fn say(&self, observation: &Observation) {
        let request = pb::AttachRequest {
            envelope: Some(wire::envelope(None, "", 1)),
            observation: Some(wire::health::observation_to_pb(observation)),
        };
        self.say.send(request).await.unwrap();
    }

    /// Answers probes with `outcome` until a verdict comes.
    async fn until_judged(&mut self, outcome: &Outcome) -> Verdict {
        loop {
            let response = self.hear.message().await.unwrap().expect("the stream is open");
            let envelope = response.envelope.unwrap();
            assert!(envelope.traceparent.parse::<runtime::TraceContext>().is_ok() && envelope.nonce > 0);
            match wire::health::request(response.request).unwrap() {
                Request::Probe { endpoint, probe, timeout, next } => {
                    assert_eq!(timeout, HealthPolicy::default().timeout);
                    assert!(next.is_some());
                    self.say(&Observation::Probed { endpoint, probe, outcome: outcome.clone() }).await;
                }
                Request::Verdict { verdict, .. } => return verdict,
            }
        }
    }
}

fn key() -> EndpointKey {
    EndpointKey { backend: BackendId::new("a").unwrap(), variant: VariantId::only(), digest: Digest::of_bytes(b"a") }
}

fn ok() -> Outcome {
    Outcome::Ok { latency: Duration::from_millis(3) }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "no answer in 5 s".into() }
}

#[tokio::test(start_paused = true)]
async fn verdicts_go_to_the_router_and_to_whoever_watches() {
    let monitor = Monitor::start();
    monitor.readiness.ready().await;
    let mut watch = monitor.watch().await;
    let mut router = Router::attach(&monitor, "r1", "x").await;
    assert_eq!(router.until_judged(&ok()).await, Verdict::Healthy);
    assert_eq!(router.until_judged(&failed()).await, Verdict::Unhealthy);
    let mut changes = Vec::new();
    for _ in 0..2 {
        let change = watch.message().await.unwrap().unwrap().change.unwrap();
        assert!(change.previous_lasted.is_some());
        changes.push((change.node.clone(), change.previous(), change.verdict(), change.reason, change.streak));
    }
    let healthy = ("r1".to_owned(), PbVerdict::Unknown, PbVerdict::Healthy, String::new(), 1);
    let unhealthy = ("r1".to_owned(), PbVerdict::Healthy, PbVerdict::Unhealthy, "no answer in 5 s".to_owned(), 3);
    assert_eq!(changes, [healthy, unhealthy]);

    let mut other = Router::attach(&monitor, "r2", "y").await;
    assert_eq!(other.until_judged(&ok()).await, Verdict::Healthy, "each router sees for itself");
    let listed = monitor.client().list_verdicts(pb::ListVerdictsRequest {}).await.unwrap().into_inner().verdicts;
    assert!(listed.iter().all(|it| it.last_ok.is_some() && it.next_probe.is_some()));
    assert_eq!((listed[0].last_failure.as_str(), listed[1].last_failure.as_str()), ("no answer in 5 s", ""));
    let listed: Vec<_> = listed.iter().map(|it| (it.node.as_str(), it.verdict())).collect();
    assert_eq!(listed, [("r1", PbVerdict::Unhealthy), ("r2", PbVerdict::Healthy)]);

    let mut again = Router::attach(&monitor, "r1", "x").await;
    assert_eq!(again.until_judged(&failed()).await, Verdict::Unhealthy, "told anew on a new stream");
    monitor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_router_that_hangs_up_makes_nobody_unhealthy() {
    let monitor = Monitor::start();
    let mut watch = monitor.watch().await;
    let mut router = Router::attach(&monitor, "r1", "x").await;
    router.until_judged(&ok()).await;
    drop(router);
    let verdicts = [watch.message().await.unwrap().unwrap(), watch.message().await.unwrap().unwrap()];
    let verdicts = verdicts.map(|response| response.change.unwrap().verdict());
    assert_eq!(verdicts, [PbVerdict::Healthy, PbVerdict::Unknown], "what was known got old");
    monitor.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_ends_only_its_own_stream() {
    let monitor = Monitor::start();
    let mut good = Router::attach(&monitor, "r1", "x").await;
    let mut bad = Router::attach(&monitor, "r2", "y").await;
    bad.say.send(pb::AttachRequest { envelope: None, observation: None }).await.unwrap();
    let status = loop {
        match bad.hear.message().await {
            Ok(heard) => assert!(heard.is_some(), "it is told why"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(good.until_judged(&ok()).await, Verdict::Healthy);
    monitor.end().await;
}
