//! HTTP responses of the demo server: whole ones, and streams of events.

use std::{convert::Infallible, pin::Pin, rc::Rc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    message,
    process::{self, InFlight},
    script::Script,
    sessions::Session,
};

type Events = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>>>>;
pub(crate) type Reply = Response<Either<Full<Bytes>, StreamBody<Events>>>;

pub(crate) fn json(status: StatusCode, body: String, extra: Option<(&'static str, &str)>) -> http::Result<Reply> {
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if let Some((name, value)) = extra {
        response = response.header(name, value);
    }
    response.body(Either::Left(Full::from(body)))
}

pub(crate) fn empty(status: StatusCode) -> http::Result<Reply> {
    Response::builder().status(status).body(Either::Left(Full::default()))
}

/// An error without a JSON-RPC id.
pub(crate) fn refusal(status: StatusCode, text: &str) -> http::Result<Reply> {
    json(status, message::error(None, message::INVALID_REQUEST, text, None), None)
}

pub(crate) fn method_not_allowed() -> http::Result<Reply> {
    let mut reply = empty(StatusCode::METHOD_NOT_ALLOWED)?;
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    Ok(reply)
}

/// Sends each message as one event.
pub(crate) fn events(messages: impl Stream<Item = String> + 'static) -> http::Result<Reply> {
    let frames = messages.map(|message| Ok(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n")))));
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CACHE_CONTROL, "no-cache")
        .header("x-accel-buffering", "no")
        .body(Either::Right(StreamBody::new(Box::pin(frames))))
}

/// The messages of a call; of a cancelled one, those sent before.
pub(crate) fn script(script: Script, call: InFlight) -> impl Stream<Item = String> {
    stream::unfold((script, call), async |(mut script, call)| {
        let message = process::next(&mut script, &call).await?;
        Some((message, (script, call)))
    })
}

/// A `list_changed` after each change the session was not told of, until `stop`.
pub(crate) fn changes(
    session: Rc<Session>,
    changes: watch::Receiver<u64>,
    stop: CancellationToken,
) -> impl Stream<Item = String> {
    stream::unfold((session, changes, stop), async |(session, mut changes, stop)| {
        let told = session.told.get();
        let turn = *stop.run_until_cancelled(changes.wait_for(|turn| *turn > told)).await?.ok()?;
        session.told.set(turn);
        Some((message::list_changed(None), (session, changes, stop)))
    })
}

/// The stream of a `subscriptions/listen`: the acknowledgement, then what was asked for, until the client closes it.
pub(crate) fn subscription(
    acknowledgement: String,
    id: &str,
    changes: Option<watch::Receiver<u64>>,
) -> impl Stream<Item = String> + use<> {
    let changes = stream::unfold((changes, id.to_owned()), async |(mut changes, id)| {
        match changes.as_mut() {
            Some(changes) => changes.changed().await.ok()?,
            None => std::future::pending().await,
        }
        Some((message::list_changed(Some(&id)), (changes, id)))
    });
    stream::once(std::future::ready(acknowledgement)).chain(changes)
}
