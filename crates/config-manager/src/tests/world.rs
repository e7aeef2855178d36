//! A config-manager with its file and state directory, and routers that do as they are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Digest, NodeId, Revision};
use rollout::{Content, Directive, Findings, Refusal, Report};
use runtime::grpc::{self, Auth, Client, DuplexConnector, Target, connect_lazy, duplex};
use runtime::state_dir::StateDir;
use runtime::{Clock, Readiness, Shutdown, Tasks, Tracer};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use wire::pb::config::v1::config_service_client::ConfigServiceClient;
use wire::pb::config::v1::{self as pb, outcome::Result as Ended};

use crate::{ConfigManager, Origin, Scope, Status};

/// Long enough for a slow machine, and never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct World {
    pub(super) file: PathBuf,
    /// Of the next start.
    pub(super) tracer: Tracer,
    pub(super) state: PathBuf,
    running: Option<Running>,
    _dir: tempfile::TempDir,
    /// Fail points are the process's: one test at a time.
    #[cfg(feature = "failpoints")]
    _alone: fail::FailScenario<'static>,
}

struct Running {
    tasks: Tasks,
    status: watch::Receiver<Arc<Status>>,
    connector: DuplexConnector,
    events: tokio::sync::broadcast::Sender<crate::Happened>,
    readiness: Readiness,
    _state: StateDir,
}

impl World {
    /// Not started yet.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (file, state) = (dir.path().join("etc/gateway.yaml"), dir.path().join("state"));
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        Self {
            file,
            tracer: Tracer::off(),
            state,
            running: None,
            _dir: dir,
            #[cfg(feature = "failpoints")]
            _alone: fail::FailScenario::setup(),
        }
    }

    pub(super) async fn with(text: &str) -> Self {
        let mut world = Self::new();
        world.write(text);
        world.start();
        world.revision(1).await;
        world
    }

    pub(super) fn start(&mut self) {
        let tasks = Tasks::new(Shutdown::new());
        let state = StateDir::lock(&self.state).unwrap();
        let origin = Origin::File(self.file.clone());
        let scope = Scope { clock: Clock::start(), tasks: tasks.clone(), tracer: self.tracer.clone() };
        let manager = ConfigManager::open(origin, &state, scope).unwrap();
        let readiness = Readiness::new(tasks.shutdown().clone());
        manager.show_dependencies(&readiness);
        let (listener, connector) = duplex();
        let service = grpc::Service {
            routes: tonic::service::Routes::new(manager.service()),
            descriptors: &[],
            offers: Vec::new(),
            auth: Auth::new(None),
            readiness: readiness.clone(),
        };
        tasks.spawn_component("grpc", grpc::serve(service, vec![listener.into()], tasks.shutdown().clone()));
        let (status, events) = (manager.status(), manager.events.clone());
        tasks.spawn_component("engine", manager.run());
        self.running = Some(Running { tasks, status, connector, events, readiness, _state: state });
    }

    pub(super) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        let joined = running.tasks.join(PATIENCE).await;
        assert!(joined.is_clean(), "{joined:?}");
    }

    /// What a watcher gets, without the buffers of a connection in between.
    pub(super) fn watch(&self) -> crate::admin::Events {
        let running = self.running();
        crate::admin::watch(running.events.subscribe(), running.status.clone(), Clock::start())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// A complete write, as editors and deployment tools do it.
    pub(super) fn write(&self, text: &str) {
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, &self.file).unwrap();
    }

    pub(super) fn client(&self) -> ConfigServiceClient<Client> {
        ConfigServiceClient::new(connect_lazy(&Target::Duplex(self.running().connector.clone())).unwrap())
    }

    pub(super) fn status(&self) -> Arc<Status> {
        self.running().status.borrow().clone()
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Arc<Status> {
        let mut status = self.running().status.clone();
        let found = tokio::time::timeout(PATIENCE, status.wait_for(|status| holds(status))).await;
        match found {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("not {what}: {:#?}", self.status()),
        }
    }

    pub(super) async fn revision(&self, number: u64) -> Arc<Status> {
        self.until(&format!("at revision {number}"), |status| status.revision.0 >= number).await
    }

    /// Waits until the file is shown like that as a dependency: without a fault, or with one that ends like this.
    pub(super) async fn depends(&self, trouble: Option<&str>) {
        self.depends_on("file", trouble).await;
    }

    pub(super) async fn depends_on(&self, name: &str, trouble: Option<&str>) {
        let readiness = &self.running().readiness;
        let mut moves = readiness.moves();
        let shown = || {
            let gate = readiness.report().dependencies.into_iter().find(|gate| gate.name == name).unwrap();
            trouble.map_or(gate.open, |trouble| gate.reason.is_some_and(|reason| reason.ends_with(trouble)))
        };
        let found = async {
            while !shown() {
                moves.next().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "expected {trouble:?}: {:?}", readiness.report().dependencies);
    }

    pub(super) async fn reload(&self, request: pb::ReloadRequest) -> pb::Outcome {
        self.client().reload(request).await.unwrap().into_inner().outcome.unwrap()
    }

    pub(super) async fn roll_back(&self, revision: u64) -> Result<pb::Outcome, tonic::Status> {
        let request = pb::RollbackRequest { revision, reason: "it hurt".into(), base_revision: 0 };
        Ok(self.client().rollback(request).await?.into_inner().outcome.unwrap())
    }

    pub(super) async fn apply(&self, name: &str, text: &str, base: u64) -> Result<pb::Outcome, tonic::Status> {
        let request = pb::ApplyRequest {
            name: name.into(),
            document: text.into(),
            base_revision: base,
            ..pb::ApplyRequest::default()
        };
        Ok(self.client().apply(request).await?.into_inner().outcome.unwrap())
    }

    pub(super) async fn history(&self, with_refused: bool) -> Vec<pb::Revision> {
        let request = pb::ListRevisionsRequest { limit: 0, with_refused, with_keys: true };
        self.client().list_revisions(request).await.unwrap().into_inner().revisions
    }

    pub(super) async fn content(&self, revision: u64) -> pb::GetRevisionResponse {
        self.client().get_revision(pb::GetRevisionRequest { revision }).await.unwrap().into_inner()
    }

    /// After a part of it has panicked.
    #[cfg(feature = "failpoints")]
    pub(super) async fn crashed(&mut self) {
        let running = self.running.take().unwrap();
        running.tasks.shutdown().triggered().await;
        assert!(!running.tasks.join(PATIENCE).await.failures.is_empty());
    }

    /// Attaches a router that has nothing yet, and waits until it has what is live.
    pub(super) async fn router(&self, node: &str) -> Router {
        let router = self.attach(node, None, None);
        if self.status().revision != Revision::NONE {
            router.has(self.status().revision.0).await;
        }
        router
    }

    pub(super) fn attach(&self, node: &str, live: Option<(Revision, Content)>, refuses: Option<Refusal>) -> Router {
        let (say, said) = mpsc::channel(64);
        let (shown, has) = watch::channel(live.as_ref().map_or(0, |(revision, _)| revision.0));
        let refuses = Arc::new(Mutex::new(refuses));
        let (seen, contexts) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (client, node) = (self.client(), NodeId::new(node).unwrap());
        let held = BTreeMap::new();
        let (refused, heard, told) = (refuses.clone(), seen.clone(), contexts.clone());
        let player = Player { node, say, live, held, refuses: refused, seen: heard, contexts: told, shown };
        let task = self.running().tasks.spawn("test router", player.play(client, said));
        Router { has, refuses, seen, contexts, task }
    }
}

pub(super) fn applied(outcome: &pb::Outcome) -> u64 {
    assert_eq!(outcome.result(), Ended::Applied, "{outcome:#?}");
    outcome.revision
}

/// HTTP servers `s0` to `s<n-1>`, and more keys of the file.
pub(super) fn servers(n: usize, more: &str) -> String {
    let mut text = format!("version: \"1.0\"\n{more}servers:\n");
    for i in 0..n {
        text.push_str(&format!("  - id: s{i}\n    transport: {{ type: http, url: \"http://127.0.0.1:9/{i}\" }}\n"));
    }
    text
}

/// A router as seen from a test.
pub(super) struct Router {
    has: watch::Receiver<u64>,
    refuses: Arc<Mutex<Option<Refusal>>>,
    seen: Arc<Mutex<Vec<String>>>,
    contexts: Arc<Mutex<Vec<String>>>,
    task: tokio::task::AbortHandle,
}

impl Router {
    pub(super) async fn has(&self, revision: u64) {
        let mut has = self.has.clone();
        let arrived = tokio::time::timeout(PATIENCE, has.wait_for(|has| *has >= revision)).await;
        assert!(arrived.is_ok(), "revision {revision} did not arrive: {:?}", self.seen());
    }

    pub(super) fn live(&self) -> u64 {
        *self.has.borrow()
    }

    pub(super) fn refuse(&self, refusal: Option<Refusal>) {
        *self.refuses.lock().unwrap() = refusal;
    }

    /// Until it is asked to prepare something.
    pub(super) async fn is_asked(&self) {
        let asked = async {
            while !self.seen().iter().any(|name| name.starts_with("prepare")) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, asked).await.is_ok(), "{:?}", self.seen());
    }

    /// Names of the directives so far.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// In whose contexts they came.
    pub(super) fn contexts(&self) -> Vec<String> {
        self.contexts.lock().unwrap().clone()
    }

    pub(super) fn leave(&self) {
        self.task.abort();
    }
}

struct Player {
    node: NodeId,
    say: mpsc::Sender<pb::FollowRequest>,
    live: Option<(Revision, Content)>,
    held: BTreeMap<model::AttemptId, Content>,
    refuses: Arc<Mutex<Option<Refusal>>>,
    seen: Arc<Mutex<Vec<String>>>,
    contexts: Arc<Mutex<Vec<String>>>,
    shown: watch::Sender<u64>,
}

impl Player {
    async fn play(mut self, mut client: ConfigServiceClient<Client>, said: mpsc::Receiver<pb::FollowRequest>) {
        self.report(Report::Hello {
            node: self.node.clone(),
            boot: "1".into(),
            applied: self.live.as_ref().map_or(Revision::NONE, |(revision, _)| *revision),
            digest: self.live.as_ref().map(|(_, content)| content.digest),
            features: Vec::new(),
        })
        .await;
        let Ok(stream) = client.follow(ReceiverStream::new(said)).await else { return };
        let mut stream = stream.into_inner();
        let mut nonce = 0;
        while let Ok(Some(message)) = stream.message().await {
            let envelope = message.envelope.unwrap();
            let outranked = |said: &mut Refusal| matches!(said, Refusal::Stale { epoch } if *epoch < envelope.epoch);
            drop(self.refuses.lock().unwrap().take_if(outranked));
            nonce += 1;
            assert_eq!(envelope.nonce, nonce);
            assert_eq!(envelope.traceparent.len(), 55);
            self.contexts.lock().unwrap().push(envelope.traceparent);
            let whole = matches!(&message.directive, Some(pb::follow_response::Directive::Prepare(pb::Prepare { content: Some(content), .. })) if content.base_digest.is_empty());
            let live = self.live.clone();
            let held = |digest: &Digest| {
                live.as_ref().filter(|(_, live)| live.digest == *digest).map(|(_, live)| live.snapshot.clone())
            };
            let directive = wire::config::directive(message.directive, held).unwrap();
            self.obey(directive, whole).await;
        }
    }

    async fn obey(&mut self, directive: Directive, whole: bool) {
        let refuses = self.refuses.lock().unwrap().clone();
        let name = match &directive {
            Directive::Prepare { .. } if whole => "prepare whole",
            Directive::Prepare { .. } => "prepare",
            Directive::Renew { .. } => "renew",
            Directive::Abort { .. } => "abort",
            Directive::Commit { .. } => "commit",
            Directive::Offer { .. } => "offer",
        };
        self.seen.lock().unwrap().push(name.into());
        match directive {
            Directive::Prepare { attempt, content, .. } => {
                self.held.insert(attempt, content);
                let verdict = match refuses {
                    // It says nothing at all.
                    Some(Refusal::Silent) => return,
                    // Each time in other words, as servers have them.
                    Some(Refusal::Critical { backend, reason }) => {
                        let reason = format!("{reason} (reference {attempt})");
                        Err(Refusal::Critical { backend, reason })
                    }
                    Some(refusal) => Err(refusal),
                    None => Ok(()),
                };
                self.report(Report::Vote { attempt, verdict, found: Findings::default() }).await;
            }
            Directive::Abort { attempt } => drop(self.held.remove(&attempt)),
            Directive::Renew { .. } => {}
            Directive::Commit { attempt, revision, digest } => {
                let content = self.held.remove(&attempt).unwrap();
                assert_eq!(content.digest, digest);
                self.swap(revision, content).await;
            }
            Directive::Offer { revision, .. } if refuses.is_some() => {
                self.report(Report::Nack { revision, refusal: refuses.unwrap() }).await;
            }
            Directive::Offer { revision, content } => self.swap(revision, content).await,
        }
    }

    async fn swap(&mut self, revision: Revision, content: Content) {
        let before = self.live.as_ref().map_or(Revision::NONE, |(revision, _)| *revision);
        assert!(revision > before, "{before} -> {revision}");
        let digest = content.digest;
        self.live = Some((revision, content));
        self.shown.send_replace(revision.0);
        self.report(Report::Ack { revision, digest }).await;
    }

    async fn report(&self, report: Report) {
        let request = pb::FollowRequest {
            envelope: Some(wire::envelope(None, "", 1)),
            report: Some(wire::config::report_to_pb(&report)),
        };
        drop(self.say.send(request).await);
    }
}

/// Replaces a file in place, as `>` does.
pub(super) fn overwrite(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
