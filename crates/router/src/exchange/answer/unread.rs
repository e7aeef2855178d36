//! Answers to requests whose body was not read, or not to its end.
//!
//! A connection that is closed while its client still sends is reset, and the client loses the part of the answer that
//! it has not read by then. So the rest of the body is read and discarded, within limits.

use std::time::Duration;

use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body::Body;

/// How long, and how much, a client may go on sending a body that is discarded.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;

/// Returns `answer`. If the whole body has arrived, the connection can serve on; otherwise it ends after the answer,
/// which says so.
pub(crate) async fn answer(head: &HeaderMap, body: Incoming, mut answer: Response<Body>) -> Response<Body> {
    // A client that sent `Expect` has not sent the body, and reading would tell it to send.
    if !head.contains_key(EXPECT) {
        let mut rest = Box::pin(discard(body));
        if futures_util::poll!(rest.as_mut()) == std::task::Poll::Ready(true) {
            return answer;
        }
        // Unlike the answer to a call, this has no client that waits for it.
        tokio::task::spawn_local(tokio::time::timeout(LINGER, rest));
    }
    closing(&mut answer);
    answer
}

/// Says that the connection ends after this answer.
pub(crate) fn closing(answer: &mut Response<Body>) {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Whether the end of the body was reached.
async fn discard(mut body: Incoming) -> bool {
    let mut left = LINGER_BYTES;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return false };
        left = rest;
    }
    true
}
