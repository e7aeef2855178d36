//! The life of one client's connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::sync::Notify;

use super::detach::Detach;
use crate::core::Core;
use crate::core::clients::Io;
use crate::exchange::{Body, WakeFilter, serve};

/// How long a draining core waits for the next request of a connection. The answer to it says that there will be no
/// other one. A client that is busy asks within this time, and could not know that its connection is about to end.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// How much one connection buffers of a request, and of an answer. It keeps that much while it is idle, and nothing
/// else bounds the sum over all connections. The head of a request may be no larger: most are below 1 KiB, but some
/// tokens of identity providers take 16 KiB.
const BUFFER: usize = 32 << 10;

/// Serves a connection until its end.
pub(crate) async fn connection(core: Rc<Core>, io: Io) {
    let (client, asked) = (io.client(), Notify::new());
    client.lives_in(poll_fn(|context| Poll::Ready(context.waker().clone())).await);
    let draining = core.draining.clone();
    let leaving = async {
        draining.cancelled().await;
        // A request that has arrived already is read before the connection counts as idle.
        tokio::task::yield_now().await;
        if client.may_ask() {
            drop(tokio::time::timeout(LAST_REQUEST, asked.notified()).await);
        }
    };
    let service = service_fn(|request| {
        if core.drains() {
            asked.notify_one();
        }
        client.asks();
        let (serving, client) = (Rc::clone(&core), Rc::clone(&client));
        Detach::new(Rc::clone(&core), || async move {
            let Ok(mut answer) = serve(Rc::clone(&serving), request, &client).await;
            if serving.drains() {
                // An answer that is there at once is sent before the connection knows that it is the last one.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            client.note_answered(answer.body().takes());
            match answer.body() {
                Body::Notifications(stream) => client.listens(stream.listener()),
                Body::Call(outlet) => outlet.is_taken_by(&client),
                Body::Whole(_) | Body::Large(_) => client.waits_no_more(),
            }
            Ok::<_, Infallible>(answer)
        })
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            // The sweep keeps the time, for all connections at once.
            .header_read_timeout(None)
            // A client that has closed its side still waits for its answer. The sweep checks whether the client is
            // there at all.
            .half_close(true)
            .max_buf_size(BUFFER)
            // Head and body of an answer are small: one copy is cheaper than a gathering write.
            .writev(false)
            .serve_connection(io, service)
    );
    let waker = poll_fn(|context| Poll::Ready(WakeFilter::before(context.waker()))).await;
    let mut leaving = std::pin::pin!(leaving);
    let mut listens = false;
    let ended = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Poll::Ready(Some(ended));
        }
        // Once it listens, nothing changes for it until the core drains.
        if std::mem::replace(&mut listens, true) && !core.drains() {
            return Poll::Pending;
        }
        leaving.as_mut().poll(context).map(|()| None)
    });
    let ended = match ended.await {
        Some(ended) => ended,
        None => {
            // The answer says `Connection: close`; a connection that waits for a request ends now.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}
