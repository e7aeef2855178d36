//! A line to one of the control services: one stream, kept attached, seen by its owner as a sequence of events.
//!
//! The owner of the line decides what is said; nothing here reads a message. If a peer takes no messages, the router
//! hangs up rather than wait: all three protocols say everything anew on the next line.

pub(super) mod config_manager;
pub(super) mod drain_coordinator;
pub(super) mod health_monitor;

use std::error::Error as _;
use std::future::Future;

use backoff::Backoff;
use runtime::fault::chain;
use runtime::grpc::{Client, DialError, Target, connect_lazy, in_grpc};
use runtime::stream;
pub(crate) use runtime::stream::Stuck;
use runtime::telemetry::sampled;
use runtime::{Gate, Phase, Tasks};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Response, Status, Streaming};

/// Messages on their way to the peer; more than a full report of everything, in parts, needs.
const OUTGOING: usize = 4096;

/// The other end of a line.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) target: &'a Target,
    /// Open while the peer is attached.
    pub(crate) shown: Gate,
    /// While this is not so, another process speaks in the name of this router.
    pub(crate) in_charge: &'a watch::Receiver<bool>,
}

/// What happens on a line.
#[derive(Debug)]
pub(crate) enum Line<Out, In> {
    /// The line is open for messages, which are sent once the peer answers.
    Up(Outgoing<Out>),
    /// The peer has taken the call.
    Answered,
    Heard(In),
    Down,
}

/// The speaking end. Dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Outgoing<Out> {
    queue: mpsc::Sender<Out>,
    _hang_up: DropGuard,
}

impl<Out> Outgoing<Out> {
    pub(crate) fn say(&self, message: Out) -> Result<(), Stuck> {
        stream::say(&self.queue, message)
    }
}

impl Peer<'_> {
    /// Keeps a line to the peer up until the process closes (what drains meanwhile is still to be told), telling
    /// `events`. `open` makes the call with the messages to be sent.
    pub(crate) fn keep<Out, In, E, F, Fut>(
        self,
        task: &'static str,
        events: mpsc::Sender<E>,
        tasks: &Tasks,
        open: F,
    ) -> Result<(), DialError>
    where
        Out: Send + 'static,
        In: Send + 'static,
        E: From<Line<Out, In>> + Send + 'static,
        F: Fn(Client, ReceiverStream<Out>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Streaming<In>>, Status>> + Send,
    {
        let (client, shutdown) = (connect_lazy(self.target)?, tasks.shutdown().clone());
        let (target, shown, in_charge) = (self.target.to_string(), self.shown, self.in_charge.clone());
        tasks.spawn(task, async move {
            tokio::select! {
                () = keep((shown, &target), &in_charge, events, |outgoing| open(client.clone(), outgoing)) => {}
                () = shutdown.reached(Phase::Closing) => {}
            }
        });
        Ok(())
    }
}

async fn keep<Out, In, E, F, Fut>(
    (peer, target): (Gate, &str),
    in_charge: &watch::Receiver<bool>,
    events: mpsc::Sender<E>,
    open: F,
) where
    Out: Send + 'static,
    E: From<Line<Out, In>>,
    F: Fn(ReceiverStream<Out>) -> Fut,
    Fut: Future<Output = Result<Response<Streaming<In>>, Status>>,
{
    let (events, open) = (&events, &open);
    stream::keep_attached(peer, Backoff::default(), |attempt| async move {
        until(in_charge, true).await;
        let (queue, outgoing) = mpsc::channel(OUTGOING);
        sampled::queue("router_line", &queue);
        let hung_up = CancellationToken::new();
        let speaking = Outgoing { queue, _hang_up: hung_up.clone().drop_guard() };
        let talk = async {
            // Before the call is made, so that it has a first message to carry.
            tell(events, Line::Up(speaking)).await;
            let mut incoming = in_grpc(open(ReceiverStream::new(outgoing)).await?)?.into_inner();
            attempt.attached();
            tell(events, Line::Answered).await;
            while let Some(message) = incoming.message().await? {
                tell(events, Line::Heard(message)).await;
            }
            Ok::<(), Status>(())
        };
        let talk = async {
            tokio::select! {
                ended = talk => ended,
                () = until(in_charge, false) => Err(Status::cancelled("another process speaks for this router")),
            }
        };
        let ended = hung_up.run_until_cancelled(talk).await;
        tell(events, Line::Down).await;
        // A successor serves, or it fails, and this process takes its line up again.
        until(in_charge, true).await;
        let ended = ended.unwrap_or_else(|| Err(Status::aborted("hung up")));
        ended.map_err(|status| in_words(&status, target))
    })
    .await;
}

/// Returns when this process has come to be in charge, or no longer is.
async fn until(in_charge: &watch::Receiver<bool>, wanted: bool) {
    if in_charge.clone().wait_for(|now| *now == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Why a line is down: what the peer said, or what keeps it from saying anything.
fn in_words(status: &Status, target: &str) -> String {
    let Some(cause) = status.source() else {
        let said = status.message();
        let said = if said.is_empty() { status.code().description() } else { said };
        // As that it speaks no gRPC: the reader needs to know which address that is about.
        return if status.code() == Code::Unavailable { format!("{target}: {said}") } else { said.to_owned() };
    };
    let causes = chain(cause);
    // That alone explains nothing.
    let causes = causes.strip_prefix("transport error: ").unwrap_or(&causes);
    format!("no connection to {target}: {causes}")
}

/// An owner that is gone is stopping, and the line with it.
async fn tell<Out, In, E: From<Line<Out, In>>>(events: &mpsc::Sender<E>, event: Line<Out, In>) {
    if events.send(event.into()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
impl<Out> Outgoing<Out> {
    /// An end whose messages a test reads.
    pub(crate) fn test() -> (Self, mpsc::Receiver<Out>) {
        let (queue, said) = mpsc::channel(OUTGOING);
        (Self { queue, _hang_up: CancellationToken::new().drop_guard() }, said)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use runtime::{Readiness, Shutdown};
    use tokio::net::TcpListener;
    use wire::pb::config::v1::GetStatusRequest;
    use wire::pb::config::v1::config_service_client::ConfigServiceClient;
    use wire::pb::health::v1::health_service_client::HealthServiceClient;
    use wire::pb::health::v1::{AttachRequest, AttachResponse};

    use super::*;

    /// Answers each request with 404 in HTTP/2, as a proxy does whose service is away. Returns its URL.
    async fn no_grpc(tasks: &Tasks) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn("test server", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let answer = service_fn(|_: http::Request<Incoming>| async {
                    Ok::<_, Infallible>(http::Response::builder().status(404).body(Empty::<Bytes>::new()).unwrap())
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // One client uses one connection for all its tries.
                drop(server.serve_connection(TokioIo::new(socket), answer).await);
            }
        });
        url
    }

    #[tokio::test]
    async fn a_peer_that_answers_and_speaks_no_grpc_is_not_attached() {
        let shutdown = Shutdown::new();
        let (tasks, readiness) = (Tasks::new(shutdown.clone()), Readiness::new(shutdown));
        let url = no_grpc(&tasks).await;
        let (target, shown) = (Target::Url(url.clone(), None), readiness.dependency("health-monitor"));
        let (events, mut lines) = mpsc::channel::<Line<AttachRequest, AttachResponse>>(64);
        let (_charge, in_charge) = watch::channel(true);
        let peer = Peer { target: &target, shown, in_charge: &in_charge };
        peer.keep("test line", events, &tasks, |client, outgoing| async move {
            HealthServiceClient::new(client).attach(outgoing).await
        })
        .unwrap();
        for _ in 0..3 {
            let Some(Line::Up(_speaking)) = lines.recv().await else { panic!("a line") };
            assert!(matches!(lines.recv().await, Some(Line::Down)));
        }
        let report = readiness.report().to_string();
        assert!(report.contains(&format!("{url}: it answers, but not in gRPC")), "{report}");
    }

    #[tokio::test]
    async fn why_a_peer_is_away_is_said_in_words() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let target = Target::Url(url.clone(), None);
        let mut client = ConfigServiceClient::new(connect_lazy(&target).unwrap());
        let away = client.get_status(GetStatusRequest {}).await.unwrap_err();
        let said = in_words(&away, &target.to_string());
        assert!(said.starts_with(&format!("no connection to {url}: ")), "{said}");
        assert!(said.to_lowercase().contains("connection refused"), "{said}");
        assert!(["code:", "source:", "transport", "{"].iter().all(|raw| !said.contains(raw)), "{said}");
        assert_eq!(in_words(&Status::aborted("another stream speaks for it"), &url), "another stream speaks for it");
    }
}
