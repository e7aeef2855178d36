//! A router's stream: its reports to the engine, the engine's directives to it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream::BoxStream};
use model::NodeId;
use rollout::reconciler::Link;
use rollout::{Report, Sender};
use runtime::grpc::refusal;
use runtime::telemetry::sampled;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use wire::config::{self as wire_config, Said as FromRouter};
use wire::pb::config::v1 as pb;

use crate::command::{Command, Outgoing, Said, Stream};
use crate::log::Log;

/// Directives on their way to one router. Directives are sent one at a time and each is answered, so they never pile up
/// on a router that reads.
const OUTBOX: usize = 64;
/// A stream whose router has not sent its hello after this time ends.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The answering half of the stream.
pub(crate) type Directives = BoxStream<'static, Result<pb::FollowResponse, Status>>;

/// A stream's two halves, before the reading one is spawned.
pub(crate) fn open(
    link: Link,
    incoming: Streaming<pb::FollowRequest>,
    log: Arc<Log>,
    engine: mpsc::Sender<Command>,
    stop: CancellationToken,
) -> (Directives, impl Future<Output = ()> + Send + 'static) {
    let (outbox, directives) = mpsc::channel(OUTBOX);
    sampled::queue("config_to_router", &outbox);
    let mut nonce = 0;
    let directives = ReceiverStream::new(directives).map(move |outgoing: Result<Outgoing, Status>| {
        let Outgoing { directive, base, trace } = outgoing?;
        nonce += 1;
        let sender = Sender { log: log.id().clone(), epoch: log.epoch() };
        Ok(pb::FollowResponse {
            envelope: Some(wire::envelope(Some(&sender), &trace.to_string(), nonce)),
            directive: Some(wire_config::directive_to_pb(&directive, base.as_ref())),
        })
    });
    (directives.boxed(), read(link, incoming, outbox, engine, stop))
}

async fn read(
    link: Link,
    mut incoming: Streaming<pb::FollowRequest>,
    outbox: mpsc::Sender<Result<Outgoing, Status>>,
    engine: mpsc::Sender<Command>,
    stop: CancellationToken,
) {
    let open = stop.child_token();
    let (node, report) = match hello(&mut incoming).await {
        Ok(hello) => hello,
        Err(status) => {
            tracing::warn!(%status, "a stream ended before its router said who it is");
            drop(outbox.try_send(Err(status)));
            return;
        }
    };
    let last_word = outbox.downgrade();
    let stream = Stream { outbox, _open: open.clone().drop_guard() };
    let say = async |said| engine.send(Command::Router { node: node.clone(), link, said }).await.is_ok();
    if !say(Said::Hello { report, stream }).await {
        return;
    }
    while let Some(message) = open.run_until_cancelled(incoming.message()).await {
        let said = match message {
            Ok(None) => break,
            Ok(Some(message)) => wire_config::report(message).map_err(Status::from).and_then(said),
            Err(status) => Err(status),
        };
        match said {
            Ok(said) => {
                if !say(said).await {
                    return;
                }
            }
            Err(status) => {
                tracing::debug!(router = %node, %status, "the stream ends");
                if let Some(outbox) = last_word.upgrade() {
                    drop(outbox.try_send(Err(status)));
                }
                break;
            }
        }
    }
    say(Said::Gone).await;
}

async fn hello(incoming: &mut Streaming<pb::FollowRequest>) -> Result<(NodeId, Report), Status> {
    let first = timeout(HELLO_TIMEOUT, incoming.message());
    let first = first.await.map_err(|_| refusal::other(Code::DeadlineExceeded, "HELLO", "no hello came"))??;
    let first = first.ok_or_else(|| refusal::invalid("report", "the stream ended without a hello"))?;
    let FromRouter::Report(report) = wire_config::report(first)? else { return Err(no_hello()) };
    let Report::Hello { node, .. } = &report else { return Err(no_hello()) };
    Ok((node.clone(), report))
}

fn no_hello() -> Status {
    refusal::invalid("report", "expected a hello as the first message of the stream")
}

fn said(message: FromRouter) -> Result<Said, Status> {
    match message {
        FromRouter::Report(Report::Hello { .. }) => Err(refusal::invalid("report", "a second hello on one stream")),
        FromRouter::Report(report) => Ok(Said::Report(report)),
        FromRouter::Observed(servers) => Ok(Said::Observed(servers)),
    }
}
