//! A span for each unary call of a service of ours. Streams have none: they live for days, and their messages carry
//! their own context.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use prost::Message;
use prost_types::{FileDescriptorSet, method_options::IdempotencyLevel};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service, util::ServiceExt};

use crate::telemetry::{Kind, Span, TraceContext, Tracer, trace_context::TRACEPARENT};

/// Which tracer records the calls of a method, by path.
type Methods = HashMap<String, Method>;

#[derive(Clone, Debug)]
struct Method {
    tracer: Tracer,
    service: Arc<str>,
    name: Arc<str>,
    /// The method only reads. A client may call it every second, so its spans are sampled as those of other calls are;
    /// a method that changes something is always recorded.
    looks: bool,
}

/// Runs inside the credential check: a call that is refused there has no span.
#[derive(Clone, Debug)]
pub(super) struct CallsLayer(Arc<Methods>);

impl CallsLayer {
    /// For the offered services; `descriptors` name their methods.
    pub(super) fn new(descriptors: &[&[u8]], offers: &[(&'static str, Tracer)]) -> Result<Self, prost::DecodeError> {
        let mut methods = Methods::new();
        for set in descriptors {
            for file in FileDescriptorSet::decode(*set)?.file {
                for service in &file.service {
                    let full = format!("{}.{}", file.package(), service.name());
                    let Some((_, tracer)) = offers.iter().find(|(name, _)| *name == full) else { continue };
                    let unary = service.method.iter().filter(|one| !one.client_streaming() && !one.server_streaming());
                    methods.extend(unary.map(|one| {
                        let looks = one
                            .options
                            .as_ref()
                            .is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects);
                        let (service, name) = (full.as_str().into(), one.name().into());
                        let method = Method { tracer: tracer.clone(), service, name, looks };
                        (format!("/{full}/{}", one.name()), method)
                    }));
                }
            }
        }
        Ok(Self(Arc::new(methods)))
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        Recorded { methods: Arc::clone(&self.0), inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Recorded<S> {
    methods: Arc<Methods>,
    inner: S,
}

impl<S> Service<Request<Body>> for Recorded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        let Some(method) = self.methods.get(request.uri().path()) else { return Box::pin(inner.oneshot(request)) };
        let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut span = Ended { span: start(method, parent), code: None };
        // The handlers' own spans are below this one.
        let context = HeaderValue::from_str(&span.span.context().to_string());
        request.headers_mut().insert(TRACEPARENT, context.expect("a trace context is visible ASCII"));
        Box::pin(async move {
            let answer = inner.oneshot(request).await;
            // No status in the headers means success: a unary call that fails has its status there.
            if let Ok(answer) = &answer {
                span.with(Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code()));
            }
            answer
        })
    }
}

fn start(method: &Method, parent: Option<TraceContext>) -> Span {
    let (tracer, name) = (&method.tracer, format!("{}/{}", method.service, method.name));
    let mut span = if method.looks {
        tracer.start(name, Kind::Server, parent)
    } else {
        tracer.start_rare(name, Kind::Server, parent)
    };
    if span.is_recorded() {
        span.set("rpc.system", "grpc");
        span.set("rpc.service", method.service.to_string());
        span.set("rpc.method", method.name.to_string());
    }
    span
}

/// Records how the call ended, also when the client did not wait for the end.
struct Ended {
    span: Span,
    code: Option<Code>,
}

impl Ended {
    const fn with(&mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.span.set("rpc.grpc.status_code", i64::from(i32::from(code)));
        // Errors of the caller do not count as failures of the service.
        let ours = [
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
        ];
        if ours.contains(&code) {
            self.span.fail(format!("{code:?}"));
        }
    }
}
