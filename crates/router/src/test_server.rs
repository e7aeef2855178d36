//! Where the servers of unit tests listen: HTTP in the test's own process and on its own thread.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers as `answer` does for as long as the test's `LocalSet` runs. Returns the URL.
pub(crate) async fn serve<F, Fut>(answer: F) -> String
where
    F: Fn(Request<Incoming>) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + 'static,
{
    serve_until(CancellationToken::new(), answer).await
}

/// As [`serve`], until `over`: then no connection is left, and a new one is refused. None is used for a second request.
pub(crate) async fn serve_until<F, Fut>(over: CancellationToken, answer: F) -> String
where
    F: Fn(Request<Incoming>) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + 'static,
{
    serve_at("127.0.0.1:0", over, answer).await
}

/// As [`serve_until`], at that address.
pub(crate) async fn serve_at<F, Fut>(address: &str, over: CancellationToken, answer: F) -> String
where
    F: Fn(Request<Incoming>) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::task::spawn_local(async move {
        while let Some(Ok((socket, _))) = over.run_until_cancelled(listener.accept()).await {
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(socket), service_fn(answer.clone()));
            let over = over.clone();
            tokio::task::spawn_local(async move { drop(over.run_until_cancelled(connection).await) });
        }
    });
    url
}
