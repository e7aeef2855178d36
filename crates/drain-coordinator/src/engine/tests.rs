//! What the owning task keeps, told by hand what comes in.

use std::time::Duration;

use drain::ledger::{Limits, Summary, Wanted};
use drain::{Count, Departure, DrainId, Ledger, LiveEndpoint, Phase};
use model::{
    BackendId, Digest, DrainOverlay, DrainPolicy, EndpointKey, NodeId, Revision, Time, VariantId, WallTime, Weight,
};
use opentelemetry::InstrumentationScope;
use runtime::stream::attached::Event;
use runtime::telemetry::sampler::Sampler;
use runtime::{Clock, Readiness, Scope, Shutdown, Tasks, TraceContext, Tracer};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::Engine;
use crate::command::{Ask, Command};
use crate::record::Record;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn key(name: &str) -> EndpointKey {
    let digest = Digest::of_bytes(name.as_bytes());
    EndpointKey { backend: BackendId::new(name).unwrap(), variant: VariantId::only(), digest }
}

async fn tell(engine: &mut Engine, ask: Ask) {
    let trace: TraceContext = TRACE.parse().unwrap();
    engine.take(Command { trace: Some(trace), ask }).await;
    engine.carry_out().await;
}

async fn say(engine: &mut Engine, count: Count) {
    tell(engine, Ask::Router { connection: 1, event: Event::Said(count) }).await;
}

async fn start(engine: &mut Engine) -> Summary {
    let (answer, started) = oneshot::channel();
    let backend = BackendId::new("a").unwrap();
    let wanted = Wanted {
        backend,
        endpoint: None,
        weight: Weight::NONE,
        disable: false,
        policy: DrainOverlay::default(),
        actor: "x".into(),
    };
    tell(engine, Ask::Start { wanted, answer }).await;
    started.await.unwrap().unwrap().unwrap().drain
}

async fn cancel(engine: &mut Engine) {
    let (answer, cancelled) = oneshot::channel();
    tell(engine, Ask::Cancel { id: "a".into(), actor: "x".into(), answer }).await;
    cancelled.await.unwrap().unwrap().unwrap();
}

async fn count(engine: &mut Engine, drain: &DrainId, phase: Phase, finished: u64) {
    let count = Count::Departure(Departure {
        drain: drain.clone(),
        endpoint: key("a"),
        total: 1,
        in_flight: 1 - finished,
        finished,
        evicted: 0,
        phase,
        remaining: Duration::from_secs(1),
        oldest: None,
    });
    say(engine, count).await;
}

#[tokio::test]
async fn each_drain_has_one_span_which_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (finished, mut spans) = mpsc::channel(16);
    let shutdown = Shutdown::new();
    let scope = Scope {
        clock: Clock::start(),
        tasks: Tasks::new(shutdown.clone()),
        readiness: Readiness::new(shutdown),
        tracer: Tracer::new(Sampler::default(), InstrumentationScope::builder("test").build(), finished),
    };
    let (record, image) = Record::open(dir.path()).unwrap();
    let ledger = Ledger::new(Time::ZERO, WallTime(1), image, Limits::default());
    let mut engine = Engine::new(ledger, record, broadcast::Sender::new(16), &scope);
    let hello = Count::Hello { node: NodeId::new("r1").unwrap(), boot: "x".into() };
    say(&mut engine, hello).await;
    let endpoints =
        vec![LiveEndpoint { endpoint: key("a"), policy: DrainPolicy::default(), strained: false, stay: None }];
    say(&mut engine, Count::Live { revision: Revision(1), endpoints }).await;

    for ended_by in [Phase::Closed, Phase::Reopened] {
        let drain = start(&mut engine).await.id;
        count(&mut engine, &drain, Phase::Cordoned, 0).await;
        assert_eq!((engine.gathering.len(), spans.try_recv().is_err()), (1, true), "it runs");
        if ended_by == Phase::Reopened {
            cancel(&mut engine).await;
        }
        count(&mut engine, &drain, ended_by, 1).await;
        assert_eq!(spans.try_recv().unwrap().name, "drain.gather");
        if ended_by == Phase::Closed {
            cancel(&mut engine).await;
        }
        count(&mut engine, &drain, ended_by, 1).await;
        assert!(engine.gathering.is_empty(), "what is over gathers nothing");
    }
    assert!(spans.try_recv().is_err(), "nor is there another span of it");
}
