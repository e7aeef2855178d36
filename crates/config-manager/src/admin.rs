//! The requests of operators: each goes to the engine as a command, or is answered from the log or published status.

mod answers;
mod keys;
pub(crate) mod refusals;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config_file::{Format, Known};
use futures_util::{StreamExt as _, stream::BoxStream};
use model::units::in_words;
use model::{Diff, EventKind, Mask, NodeId, Owner, Revision, Snapshot, Violation, WallTime};
use rollout::desk::{self, Want};
use runtime::grpc::{Actor, Deadline, refusal};
use runtime::{Clock, TraceContext};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use wire::pb::config::v1 as pb;

use crate::command::{Asker, Command};
use crate::engine::{Papers, Text, merge, with_layer};
use crate::log::{AuditRecord, Layer, LogError, Unavailable};
use crate::outcome::{self, Outcome};
use crate::service::Service;
use crate::status::{Happened, Pending};

use answers::{changes, endpoints, layer_marks, revision, without_revision};
use refusals::{log_fault, unavailable};

/// How long a caller waits for a decision unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// No caller waits longer, whatever timeout it sends.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The greatest length of a path.
const NAME_BYTES_MAX: usize = 4096;
const REASON_BYTES_MAX: usize = 4096;

/// How many changes are named to a caller whose wait ran out; the status has all.
const PENDING_TOLD: usize = 8;

pub(crate) type Events = BoxStream<'static, Result<pb::WatchResponse, Status>>;

/// Has the file read again; how that ends is in the log.
pub(crate) async fn reload(engine: &mpsc::Sender<Command>, asked_at: u64, actor: &str) {
    let (answer, answered) = oneshot::channel();
    let gone = CancellationToken::new();
    let _waits = gone.clone().drop_guard();
    let handle = Asker { actor: actor.to_owned(), trace: None, asked_at, answer, gone };
    let caller = desk::Caller { without: BTreeSet::new(), handle };
    if engine.send(Command::Reload { force: false, caller }).await.is_err() {
        return;
    }
    match answered.await {
        Ok(Ok(outcome)) => tracing::info!(actor, result = ?outcome.result, revision = outcome.revision.0, "read again"),
        Ok(Err(refused)) => tracing::warn!(actor, reason = refused.message(), "not read again"),
        // It stops.
        Err(_) => {}
    }
}

impl Service {
    pub(crate) async fn do_reload(&self, request: Request<pb::ReloadRequest>) -> Result<pb::ReloadResponse, Status> {
        let caller = Caller::of(&request)?;
        let pb::ReloadRequest { force, timeout, without } = request.into_inner();
        let wait = caller.waits(wire::optional_duration("timeout", timeout)?);
        let outcome = self.ask(caller, &without, wait, |caller| Command::Reload { force, caller }).await?;
        Ok(pb::ReloadResponse { outcome: Some(outcome) })
    }

    pub(crate) async fn do_apply(&self, request: Request<pb::ApplyRequest>) -> Result<pb::ApplyResponse, Status> {
        let caller = Caller::of(&request)?;
        let pb::ApplyRequest { name, document, base_revision, timeout, without, format } = request.into_inner();
        let wait = caller.waits(wire::optional_duration("timeout", timeout)?);
        let format = format_of(format)?;
        let owner = owner("name", &name)?;
        // An empty document removes the layer.
        let layer = Layer { name: owner.0.clone(), format, text: document };
        let layer = Some(layer).filter(|layer| !layer.text.trim().is_empty());
        let want = Want::Layer { owner, base: named(base_revision) };
        let text = Text { layer, ..Text::default() };
        let command = |caller| Command::Change { want, text, caller };
        let outcome = self.ask(caller, &without, wait, command).await?;
        Ok(pb::ApplyResponse { outcome: Some(outcome) })
    }

    pub(crate) async fn do_rollback(
        &self,
        request: Request<pb::RollbackRequest>,
    ) -> Result<pb::RollbackResponse, Status> {
        let caller = Caller::of(&request)?;
        let pb::RollbackRequest { revision, reason, base_revision } = request.into_inner();
        // The reason is kept with the revision, and shown with it everywhere.
        short("reason", &reason, REASON_BYTES_MAX)?;
        let want = Want::Rollback { to: named(revision), base: named(base_revision) };
        let text = Text { reason, ..Text::default() };
        let command = |caller| Command::Change { want, text, caller };
        let wait = caller.waits(None);
        let outcome = self.ask(caller, &[], wait, command).await?;
        Ok(pb::RollbackResponse { outcome: Some(outcome) })
    }

    /// A caller that leaves routers out must name existing routers, and must not leave out all of them: a change that
    /// waits for a voter it has itself excluded would wait for ever.
    fn somebody_votes(&self, without: &BTreeSet<NodeId>) -> Result<(), Status> {
        if without.is_empty() {
            return Ok(());
        }
        let status = self.status.borrow();
        let routers: BTreeSet<&NodeId> = status.routers.iter().map(|view| &view.router.node).collect();
        let named = routers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if let Some(stranger) = without.iter().find(|node| !routers.contains(node)) {
            return Err(refusal::invalid("without", format!("no router `{stranger}` is attached; there are: {named}")));
        }
        if routers.iter().all(|node| without.contains(*node)) {
            return Err(refusal::invalid("without", format!("without {named} no router is left to vote")));
        }
        Ok(())
    }

    /// Returns when the change is decided, or reports it as pending when the time is over.
    async fn ask(
        &self,
        caller: Caller,
        without: &[String],
        wait: Duration,
        command: impl FnOnce(desk::Caller<Papers>) -> Command,
    ) -> Result<pb::Outcome, Status> {
        let without = without.iter().enumerate().map(|(at, node)| {
            NodeId::new(node).map_err(|error| refusal::invalid(format!("without[{at}]"), error.to_string()))
        });
        let without: BTreeSet<NodeId> = without.collect::<Result<_, _>>()?;
        self.somebody_votes(&without)?;
        Ok(self.decided(caller, without, wait, command).await?.into())
    }

    async fn decided(
        &self,
        caller: Caller,
        without: BTreeSet<NodeId>,
        wait: Duration,
        command: impl FnOnce(desk::Caller<Papers>) -> Command,
    ) -> Result<Outcome, Status> {
        let (answer, answered) = oneshot::channel();
        let gone = CancellationToken::new();
        let _waits = gone.clone().drop_guard();
        let (Caller { actor, trace, .. }, asked_at) = (caller, self.clock.now_nanos());
        let handle = Asker { actor, trace, asked_at, answer, gone };
        let asked = self.engine.send(command(desk::Caller { without, handle })).await;
        asked.map_err(|_| stopping())?;
        match timeout(wait, answered).await {
            Ok(answer) => answer.map_err(|_| stopping())?,
            Err(_) => Ok(self.pending(wait)),
        }
    }

    /// The answer when the time is over: the changes that are not decided, and how far each is.
    fn pending(&self, waited: Duration) -> Outcome {
        let status = self.status.borrow();
        let mut warnings = vec![format!(
            "not decided within {}; it stays pending, `status` and `history` tell how it ends",
            in_words(waited)
        )];
        warnings.extend(status.pending.iter().take(PENDING_TOLD).map(Pending::told));
        Outcome { attempt: status.attempt, warnings, ..Outcome::new(outcome::Result::Pending, status.revision) }
    }

    /// Judges the document in place of the file or of one layer, beside the other layers.
    pub(crate) async fn do_validate(
        &self,
        request: Request<pb::ValidateRequest>,
    ) -> Result<pb::ValidateResponse, Status> {
        let caller = request.get_ref().trial.then(|| Caller::of(&request)).transpose()?;
        let pb::ValidateRequest { name, document, format, trial: _, timeout, layer: whose } = request.into_inner();
        let timeout = wire::optional_duration("timeout", timeout)?;
        // The name stands in every violation.
        short("name", &name, NAME_BYTES_MAX)?;
        let status = self.status.borrow().clone();
        let name = if name.is_empty() { "(document)".to_owned() } else { name };
        let owner = if whose.is_empty() { Owner::file() } else { owner("layer", &whose)? };
        let layer = Some(Layer { name, format: format_of(format)?, text: document });
        let layer = layer.filter(|layer| whose.is_empty() || !layer.text.trim().is_empty());
        let text = Text { layer: layer.clone(), ..Text::default() };
        let layers = with_layer(&status.layers, owner.clone(), layer);
        let (clock, live, recorded) = (self.clock, status.snapshot.clone(), Arc::clone(&status.layers));
        let mask = self.mask.clone();
        let merged = self.documents.run(move || {
            let merged = merge(layers, &recorded, &Known::default(), live.as_deref(), clock)?;
            let (shown, layers) = (content(&mask, &merged.content.snapshot), layer_marks(&mask, &merged.layers));
            Ok::<_, Vec<Violation>>((merged, shown, layers))
        });
        let merged = merged.await?;
        let trial = match caller.filter(|_| merged.is_ok()) {
            Some(caller) => Some(self.try_out(caller, owner, text, timeout).await?),
            None => None,
        };
        Ok(match merged {
            Ok((merged, shown, layers)) => {
                let empty = Snapshot::default();
                let live = status.snapshot.as_deref().unwrap_or(&empty);
                let diff = Diff::between(live, &merged.content.snapshot);
                pb::ValidateResponse {
                    violations: Vec::new(),
                    digest: merged.content.digest.to_string(),
                    diff: changes(&diff),
                    content: shown,
                    advice: merged.advice.iter().map(wire::violation_to_pb).collect(),
                    trial,
                    endpoints: endpoints(&merged.content.snapshot),
                    layers,
                }
            }
            Err(violations) => pb::ValidateResponse {
                violations: violations.iter().map(wire::violation_to_pb).collect(),
                ..pb::ValidateResponse::default()
            },
        })
    }

    /// Has routers try the text in place of what its owner has. If the caller goes, or has waited long enough, they are
    /// told to end it.
    async fn try_out(
        &self,
        caller: Caller,
        of: Owner,
        text: Text,
        timeout: Option<Duration>,
    ) -> Result<pb::Trial, Status> {
        let want = Want::Trial { of, number: 0 };
        let wait = caller.waits(timeout);
        let outcome = self.decided(caller, BTreeSet::new(), wait, |caller| Command::Change { want, text, caller });
        Ok(answers::trial(outcome.await?))
    }

    pub(crate) async fn do_list(&self, request: pb::ListRevisionsRequest) -> Result<pb::ListRevisionsResponse, Status> {
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let (log, mask) = (self.log.clone(), self.mask.clone());
        let revisions = self.reads.run(move || -> Result<_, LogError> {
            let line = |(ended, made): (AuditRecord, Option<_>)| match made {
                Some((record, kept)) => revision(record, kept),
                None => without_revision(ended),
            };
            let mut revisions: Vec<_> = if request.with_refused {
                log.ended(limit)?.into_iter().map(line).collect()
            } else {
                log.revisions(limit)?.into_iter().map(|(record, kept)| revision(record, kept)).collect()
            };
            if request.with_keys {
                keys::add(&log, &mask, &mut revisions);
            }
            Ok(revisions)
        });
        let revisions = revisions.await?.map_err(|error: LogError| log_fault(&error))?;
        Ok(pb::ListRevisionsResponse { revisions })
    }

    pub(crate) async fn do_get(&self, request: pb::GetRevisionRequest) -> Result<pb::GetRevisionResponse, Status> {
        let (log, mask) = (self.log.clone(), self.mask.clone());
        let found = self.reads.run(move || -> Result<_, Unavailable> {
            let (record, bytes) = log.revision(Revision(request.revision))?;
            let Some(bytes) = bytes else { return Ok((record, Ok(pb::GetRevisionResponse::default()))) };
            let layers = layer_marks(&mask, &log.layers(record.revision)?);
            let kept = serde_json::from_slice::<Snapshot>(&bytes).map(|snapshot| pb::GetRevisionResponse {
                revision: None,
                content: content(&mask, &snapshot),
                endpoints: endpoints(&snapshot),
                layers,
            });
            Ok((record, kept))
        });
        let (record, kept) = found.await?.map_err(|error| unavailable(&error))?;
        let kept = kept.map_err(|_| {
            let damaged = "the content that was kept of this revision is no configuration of this release";
            refusal::other(Code::DataLoss, "LOG_DAMAGED", damaged)
        })?;
        let revision = Some(revision(record, !kept.content.is_empty()));
        Ok(pb::GetRevisionResponse { revision, ..kept })
    }

    pub(crate) fn do_watch(&self) -> Events {
        let stop = self.tasks.shutdown().token().cancelled_owned();
        watch(self.events.subscribe(), self.status.clone(), self.clock).take_until(stop).boxed()
    }
}

/// Events from now on. A reader that is too slow loses the oldest and is told how many it lost.
pub(crate) fn watch(
    events: broadcast::Receiver<Happened>,
    status: watch::Receiver<Arc<crate::Status>>,
    clock: Clock,
) -> Events {
    let told = move |event: Result<Happened, _>| {
        let missed = |BroadcastStreamRecvError::Lagged(missed)| Happened {
            time: WallTime(clock.unix_millis()),
            kind: EventKind::Missed,
            attempt: None,
            revision: status.borrow().revision,
            node: None,
            message: format!("{missed} events were missed by this watcher, which was too slow"),
            trace: None,
            servers: Arc::default(),
        };
        Ok(event.unwrap_or_else(missed).into())
    };
    BroadcastStream::new(events).map(told).boxed()
}

/// The caller, from the credential and the metadata of the call, and how long it listens.
struct Caller {
    actor: String,
    trace: Option<TraceContext>,
    patience: Option<Duration>,
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let actor = Actor::of(request)?.0.clone();
        let trace = TraceContext::of_call(request);
        Ok(Self { actor, trace, patience: Deadline::of(request) })
    }

    /// How long to wait for the answer: as requested, and never longer than the caller listens.
    fn waits(&self, timeout: Option<Duration>) -> Duration {
        let timeout = timeout.unwrap_or(TIMEOUT);
        timeout.min(TIMEOUT_MAX).min(self.patience.unwrap_or(TIMEOUT_MAX))
    }
}

/// The owner of the layer of that name.
fn owner(field: &'static str, name: &str) -> Result<Owner, Status> {
    let problem = || format!("`{name}` is no name for a layer: 1 to 64 letters, digits, `_`, `-` or `.`");
    NodeId::new(name).map_err(|_| refusal::invalid(field, problem()))?;
    Ok(Owner::api(name))
}

fn format_of(format: i32) -> Result<Format, Status> {
    match pb::Format::try_from(format) {
        Ok(pb::Format::Unspecified | pb::Format::Yaml) => Ok(Format::Yaml),
        Ok(pb::Format::Toml) => Ok(Format::Toml),
        Err(_) => {
            Err(refusal::invalid("format", format!("`format` is {format}, which is none of the formats there are")))
        }
    }
}

fn named(revision: u64) -> Option<Revision> {
    (revision > 0).then_some(Revision(revision))
}

fn stopping() -> Status {
    refusal::unavailable("STOPPING", "config-manager is stopping")
}

fn short(field: &'static str, text: &str, most: usize) -> Result<(), Status> {
    if text.len() <= most {
        return Ok(());
    }
    Err(refusal::invalid(field, format!("`{field}` has {} bytes; expected at most {most}", text.len())))
}

/// Canonical JSON of a snapshot, without the literals in whose place a secret may stand.
fn content(mask: &Mask, snapshot: &Snapshot) -> String {
    String::from_utf8_lossy(&mask.snapshot(snapshot).canonical().0).into_owned()
}
