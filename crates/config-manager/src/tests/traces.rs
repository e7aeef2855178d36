//! What is exported of a change: one tree, to whose spans everything that routers are told belongs.

use std::collections::BTreeSet;

use opentelemetry::trace::{SpanId, Status};
use opentelemetry::{InstrumentationScope, Value};
use opentelemetry_sdk::trace::SpanData;
use rollout::Refusal;
use runtime::Tracer;
use runtime::telemetry::sampler::Sampler;
use tokio::sync::mpsc;
use wire::pb::config::v1::outcome::Result as Ended;

use super::world::{World, applied, servers};

const EXTRA: &str =
    "version: \"1.0\"\nservers:\n  - id: extra\n    transport: { type: http, url: \"http://127.0.0.1:9/x\" }\n";

fn result(span: &SpanData) -> Option<&Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == "only1mcp.result").map(|result| &result.value)
}

/// Names of the spans directly below, sorted.
fn below(spans: &[SpanData], parent: &SpanData) -> Vec<String> {
    let parent = (parent.span_context.trace_id(), parent.span_context.span_id());
    let children = spans.iter().filter(|span| (span.span_context.trace_id(), span.parent_span_id) == parent);
    let mut names: Vec<_> = children.map(|span| span.name.to_string()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_change_is_one_tree_and_what_routers_are_told_is_in_it() {
    let (finished, mut received) = mpsc::channel(256);
    let mut world = World::new();
    world.tracer = Tracer::new(Sampler::default(), InstrumentationScope::builder("test").build(), finished);
    world.write(&servers(1, ""));
    world.start();
    world.revision(1).await;
    let (one, two) = (world.router("r1").await, world.router("r2").await);
    assert_eq!(applied(&world.apply("more", EXTRA, 0).await.unwrap()), 2);
    two.refuse(Some(Refusal::Secret("${env:TOKEN}".into())));
    let refused = world.apply("more", &EXTRA.replace("9/x", "9/y"), 0).await.unwrap();
    assert_eq!(refused.result(), Ended::Refused);
    world.stop().await;
    let mut spans = Vec::new();
    while let Ok(span) = received.try_recv() {
        spans.push(span);
    }

    let changes: Vec<_> = spans.iter().filter(|span| span.name == "config.change").collect();
    let results: Vec<_> = changes.iter().map(|change| result(change).unwrap().as_str().into_owned()).collect();
    assert_eq!(results, ["applied", "applied", "refused"]);
    assert_eq!(below(&spans, changes[0]), ["config.append", "config.judge"]);
    let all = ["append", "judge", "prepare", "prepare", "swap", "swap"].map(|stage| format!("config.{stage}"));
    assert_eq!(below(&spans, changes[1]), all);
    assert_eq!(below(&spans, changes[2]), ["config.judge", "config.prepare", "config.prepare"]);
    assert!(matches!(changes[2].status, Status::Error { .. }), "{:?}", changes[2]);
    assert_eq!(spans.iter().filter(|span| span.name == "config.offer").count(), 2);

    let known: BTreeSet<_> = spans.iter().map(|span| span.span_context.span_id().to_string()).collect();
    for span in &spans {
        let parent = span.parent_span_id;
        assert!(parent == SpanId::INVALID || known.contains(&parent.to_string()), "{span:?}");
    }
    for context in one.contexts().iter().chain(&two.contexts()) {
        assert!(context.ends_with("-01") && known.contains(&context[36..52]), "{context} is of no span");
    }
}
