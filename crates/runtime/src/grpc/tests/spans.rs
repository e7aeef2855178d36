//! Unary calls leave a span, and their handlers run below it.

use opentelemetry::{InstrumentationScope, trace::Status as SpanStatus};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;
use tower::{Layer, Service as _, ServiceExt};

use super::{super::calls::CallsLayer, *};
use crate::telemetry::{TraceContext, Tracer, sampler::Sampler};

/// A call of `path` below `parent`: the context its handler saw, and the span that was left.
async fn call(path: &str, parent: TraceContext, code: Code) -> (TraceContext, Option<SpanData>) {
    let (finished, mut spans) = mpsc::channel(8);
    let tracer = Tracer::new(Sampler::default(), InstrumentationScope::builder("test").build(), finished);
    let layer = CallsLayer::new(
        &[tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET],
        &[("grpc.health.v1.Health", tracer)],
    );
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let handler = {
        let seen = std::sync::Arc::clone(&seen);
        tower::service_fn(move |request: http::Request<Body>| {
            *seen.lock().unwrap() = request.headers().get("traceparent").cloned();
            ready(Ok::<_, Infallible>(Status::new(code, "as the test wants").into_http()))
        })
    };
    let request = http::Request::post(path).header("traceparent", parent.to_string()).body(Body::empty()).unwrap();
    let mut service = layer.unwrap().layer(handler);
    service.ready().await.unwrap().call(request).await.unwrap();
    let seen = seen.lock().unwrap().take().unwrap();
    (seen.to_str().unwrap().parse().unwrap(), spans.try_recv().ok())
}

#[tokio::test]
async fn a_unary_call_is_a_span_below_its_caller() {
    let parent = TraceContext::new_root();
    let (seen, span) = call("/grpc.health.v1.Health/Check", parent, Code::Ok).await;
    let span = span.unwrap();
    assert_eq!(span.name, "grpc.health.v1.Health/Check");
    assert_eq!(u64::from_be_bytes(span.parent_span_id.to_bytes()), parent.parent_id());
    assert_eq!(seen.parent_id(), u64::from_be_bytes(span.span_context.span_id().to_bytes()));
    assert_eq!(seen.trace_id(), parent.trace_id());
    let attributes: Vec<String> = span.attributes.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
    let expected =
        ["rpc.system=grpc", "rpc.service=grpc.health.v1.Health", "rpc.method=Check", "rpc.grpc.status_code=0"];
    assert_eq!(attributes, expected);
    assert_eq!(span.status, SpanStatus::Unset);
}

#[tokio::test]
async fn a_failure_of_the_service_fails_the_span_and_one_of_the_caller_does_not() {
    let parent = TraceContext::new_root();
    let path = "/grpc.health.v1.Health/Check";
    let (_, span) = call(path, parent, Code::Internal).await;
    assert_eq!(span.unwrap().status, SpanStatus::error("Internal"));
    let (_, span) = call(path, parent, Code::InvalidArgument).await;
    assert_eq!(span.unwrap().status, SpanStatus::Unset);
}

#[tokio::test]
async fn streams_and_services_of_others_leave_none() {
    let parent = TraceContext::new_root();
    for path in ["/grpc.health.v1.Health/Watch", REFLECTION] {
        let (seen, span) = call(path, parent, Code::Ok).await;
        assert!(span.is_none() && seen == parent, "{path}");
    }
}
