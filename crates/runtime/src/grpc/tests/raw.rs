//! A client without any rules: it sends frames and headers as a test wants them.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

pub(super) type Sent = BoxBody<Bytes, Infallible>;

/// One connection.
#[derive(Clone)]
pub(super) struct Raw {
    sender: SendRequest<Sent>,
}

impl Raw {
    pub(super) async fn connect(connector: &DuplexConnector) -> Self {
        let io = TokioIo::new(connector.connect().await.unwrap());
        let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a client has no tasks of its own to join")]
        tokio::spawn(connection);
        Self { sender }
    }

    pub(super) async fn send(
        &self,
        path: &str,
        timeout: Option<&str>,
        body: Sent,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        self.sender.clone().send_request(request.body(body).unwrap()).await.unwrap()
    }

    /// The status at the end of the answer, whatever came before.
    pub(super) async fn status(&self, path: &str, timeout: Option<&str>, body: Sent) -> Status {
        let answer = self.send(path, timeout, body).await;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return status;
        }
        let collected = answer.into_body().collect().await.unwrap();
        Status::from_header_map(collected.trailers().expect("an answer ends with trailers")).unwrap()
    }
}

/// A message in its frame, whose header says `length`.
pub(super) fn frame(message: &[u8], length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

pub(super) fn one(message: &[u8]) -> Sent {
    all(vec![frame(message, message.len())])
}

pub(super) fn all(frames: Vec<Bytes>) -> Sent {
    let frames = frames.into_iter().map(|bytes| Ok(http_body::Frame::data(bytes)));
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}
