//! What a call may take at most: the time its caller gives it, and, for reflection, time and bytes for the whole
//! stream.
//!
//! The transport applies `grpc-timeout` too, but it answers `CANCELLED` on expiry, and only until an answer has begun.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    credential::HEALTH_SERVICE,
    refusal,
    socket::{Caller, HEALTH_CALLS},
};
use crate::places::Standing;

const TIMEOUT: &str = "grpc-timeout";
const STATUS: &str = "grpc-status";
const REFLECTION: &str = "/grpc.reflection.";
/// Reading all descriptors takes a moment; a stream that stays open longer is ended.
const REFLECTION_TIME: Duration = Duration::from_secs(300);
/// All requests of one reflection stream together.
const REFLECTION_BYTES: u64 = 1 << 20;

/// When the caller stops waiting; an extension of every request that has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// How long a handler may wait and still answer; after that its caller only gets `DEADLINE_EXCEEDED`.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Duration> {
        let Self(at) = request.extensions().get()?;
        let left = at.saturating_duration_since(Instant::now());
        Some(left - (left / 5).min(Duration::from_millis(100)))
    }
}

/// Outermost of all layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoundsLayer;

impl<S> Layer<S> for BoundsLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let health = request.uri().path().starts_with(HEALTH_SERVICE);
        let caller = request.extensions().get::<Caller>();
        let caller = caller.filter(|caller| health && caller.shown.is_less_than(Standing::Known));
        let Some(place) = caller.map(|caller| Arc::clone(&caller.health).try_acquire_owned()) else {
            return self.bounded(request);
        };
        let Ok(place) = place else {
            let message = format!("{HEALTH_CALLS} questions about health are open on this connection; end one of them");
            let refused = refusal::exhausted("CALLERS", "questions about health", message);
            return Box::pin(async { Ok(refused.into_http()) });
        };
        let answer = self.bounded(request);
        // The answer keeps its place until its end.
        let keeping = move |frame| {
            let _kept = &place;
            frame
        };
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(body.map_frame(keeping)))) })
    }
}

impl<S> Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    fn bounded(&mut self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, S::Error>> {
        let reflects = request.uri().path().starts_with(REFLECTION);
        let limit = request.headers().get(TIMEOUT).map(timeout);
        let limit = match limit {
            Some(None) => return Box::pin(async { Ok(malformed().into_http()) }),
            Some(limit) => limit,
            None => None,
        };
        let limit =
            if reflects { Some(limit.map_or(REFLECTION_TIME, |limit| limit.min(REFLECTION_TIME))) } else { limit };
        let too_much = reflects.then(CancellationToken::new);
        if let Some(too_much) = too_much.clone() {
            request = request.map(|body| Body::new(Counted { body, left: REFLECTION_BYTES, too_much }));
        }
        let Some(limit) = limit else {
            let answer = self.inner.call(request);
            return Box::pin(async { Ok(said_rightly(answer.await?)) });
        };
        // This deadline is before the transport's own, by the time that the request took to get here.
        let deadline = Instant::now() + limit;
        request.extensions_mut().insert(Deadline(deadline));
        let mut end: End = Box::pin(ended(deadline, limit, too_much));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answered = {
                let mut answer = pin!(answer);
                tokio::select! {
                    biased;
                    answer = &mut answer => Some(answer?),
                    status = &mut end => return Ok(status.into_http()),
                }
            };
            Ok(answered.map_or_else(Response::default, |answer| {
                said_rightly(answer).map(|body| Body::new(Ending { body, end: Some(end) }))
            }))
        })
    }
}

type End = Pin<Box<dyn Future<Output = Status> + Send>>;

async fn ended(deadline: Instant, limit: Duration, too_much: Option<CancellationToken>) -> Status {
    let too_much = async {
        match too_much {
            Some(token) => token.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => {
            refusal::other(Code::DeadlineExceeded, "DEADLINE", format!("the {limit:?} given to this call are over"))
        }
        () = too_much => {
            let message = format!("more than {REFLECTION_BYTES} bytes of questions on one reflection stream; open another");
            refusal::too_large("REFLECTION_BYTES", "reflection stream", message)
        }
    }
}

/// Refuses a malformed timeout; the transport would go on without a limit.
fn malformed() -> Status {
    refusal::invalid(TIMEOUT, "expected 1 to 8 digits and one of H, M, S, m, u, n")
}

fn timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The transport answers a message that is too long with `OUT_OF_RANGE`, a code that no other code here uses; every
/// other implementation of gRPC answers `RESOURCE_EXHAUSTED`.
fn said_rightly(mut answer: Response<Body>) -> Response<Body> {
    let out_of_range = answer.headers().get(STATUS).is_some_and(|status| status == "11");
    if out_of_range && let Some(status) = Status::from_header_map(answer.headers()) {
        answer = refusal::too_large("MESSAGE_BYTES", "message", status.message()).into_http();
    }
    answer
}

/// An answer that is cut short by `end`.
struct Ending {
    body: Body,
    end: Option<End>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        if let Poll::Ready(status) = end.as_mut().poll(cx) {
            self.end = None;
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body that reports when it exceeds its limit; nothing of it is read after that.
struct Counted {
    body: Body,
    left: u64,
    too_much: CancellationToken,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.too_much.is_cancelled() {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            let bytes = data.map_or(0, |data| data.remaining() as u64);
            match self.left.checked_sub(bytes) {
                Some(left) => self.left = left,
                None => {
                    self.too_much.cancel();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
