//! Calls and their spans, against a server that does as the name of the tool says.

mod failover;
mod held;
mod server;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet::Arrival;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use mcp::{ByKind, Catalog, Item, Kind, Message, ProtocolVersion};
use model::{BackendId, EndpointKey, EndpointSpec, Isolation, Limits, Revision, Transport, VariantId};
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::trace::SpanData;
use routing::{BackendRoutes, Entry, Route, RouteTable, VariantRoutes};
use runtime::telemetry::sampler::Sampler;
use runtime::{Clock, Shutdown, Tasks, TraceContext, Tracer};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::answer::body::Body;
use super::call::{Asked, Caller};
use super::conclusion::Exchange;
use super::fields::Fields;
use super::streamed::{self, Open};
use super::{call, list};
use crate::call::EventStream;
use crate::core::Core;
use crate::core::{Everywhere, Shared};
use crate::endpoint::{Endpoint, Signals, Upstreams};
use crate::generation::{Generation, Live};
use crate::session::Homes;
use crate::session::Session;
use crate::session::{Keys, Sealed, SessionId, Sessions};
use server::{Arrived, Server};

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const TOOLS: [&str; 6] = ["echo", "fail", "refuse", "break", "forget", "hold"];

struct Case {
    core: Rc<Core>,
    endpoint: Arc<Endpoint>,
    server: Server,
    /// Of all its calls.
    session: Session,
    spans: mpsc::Receiver<SpanData>,
    _directory: tempfile::TempDir,
}

impl Case {
    async fn start(sampler: &str) -> Self {
        let server = Server::start().await;
        let signals = Signals::new();
        let clock = Clock::start();
        let upstreams = Upstreams::new(Tasks::new(Shutdown::new()), Handle::current(), clock, signals);
        let endpoint = endpoint(&server, &upstreams).await;
        let live = Live::new();
        live.publish(generation(&[&endpoint]));

        let (finished, spans) = mpsc::channel(64);
        let sampler = Sampler::parse(sampler, "").unwrap();
        let tracer = Tracer::new(sampler, InstrumentationScope::builder("test").build(), finished);
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared {
            live: Arc::new(live),
            keys: Keys::parse(&"7".repeat(64)).unwrap(),
            sessions: Sessions::open(directory.path().join("sessions"), clock).unwrap().0,
            access: mcp::http_rules::AccessRules { loopback: true, hosts: Vec::new(), origins: Vec::new() },
            path: "/mcp".into(),
            clock,
            tracer,
            budget: upstreams.budget.clone(),
            descriptors: 100,
        };
        let core = Rc::new(Core::new(Arc::new(shared), Everywhere::new(1).0, 0));
        Self { core, endpoint, server, session: session(), spans, _directory: directory }
    }

    /// The answer to a call of `tool`, with `meta` as raw JSON.
    fn response(
        &self,
        tool: &str,
        meta: &str,
        headers: &[(&'static str, &str)],
    ) -> impl Future<Output = Response<Body>> + use<> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"q7","method":"tools/call","params":{{"name":"s__{tool}","_meta":{meta}}}}}"#
        );
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let (core, session) = (Rc::clone(&self.core), self.session.clone());
        async move {
            let body = Bytes::from(body);
            let envelope = mcp::scan(&body).unwrap();
            let Message::Request { id, call } = &envelope.message else { panic!("a request") };
            let client = core.clients.enter();
            let caller =
                Caller { session: &session, client: &client, since: core.now(), limits: (&Limits::default()).into() };
            let asked = Asked { kind: Kind::Tool, id: *id, call };
            let answer = call::call(core, caller, asked, &envelope, &body.clone().into(), &Fields::of(&headers)).await;
            assert_eq!(answer.headers()["only1mcp-revision"], "7");
            answer
        }
    }

    /// The text of the answer.
    fn call(&self, tool: &str, meta: &str, headers: &[(&'static str, &str)]) -> impl Future<Output = String> + use<> {
        let response = self.response(tool, meta, headers);
        async { whole(response.await).await }
    }

    fn last(&self) -> Arrived {
        self.server.arrived().pop().unwrap()
    }

    /// The spans that have ended, in that order.
    fn spans(&mut self) -> Vec<SpanData> {
        std::iter::from_fn(|| self.spans.try_recv().ok()).collect()
    }
}

async fn whole(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn endpoint(server: &Server, upstreams: &Arc<Upstreams>) -> Arc<Endpoint> {
    let transport = Transport::Http { url: server.url.clone(), headers: std::collections::BTreeMap::new() };
    let spec = EndpointSpec { transport, isolation: Isolation::Shared };
    let key = EndpointKey { backend: BackendId::new("s").unwrap(), variant: VariantId::only(), digest: spec.digest() };
    let endpoint = Endpoint::new(key, spec, Arc::new(Limits::default()), upstreams);
    endpoint.bring_up(tokio::time::Instant::now() + Duration::from_secs(20)).await.unwrap();
    endpoint
}

fn generation(endpoints: &[&Arc<Endpoint>]) -> Generation {
    let variant = VariantRoutes {
        id: VariantId::only(),
        weight: 100,
        endpoints: endpoints.iter().map(|endpoint| Arc::clone(endpoint)).collect(),
        staying: Box::default(),
    };
    let backend =
        BackendRoutes { id: BackendId::new("s").unwrap(), variants: [variant].into(), having: ByKind::default() };
    let route = |tool: &&str| Route {
        kind: Kind::Tool,
        item: Arc::new(Item::parse(Kind::Tool, &format!(r#"{{"name":"{tool}","inputSchema":{{}}}}"#)).unwrap()),
        backend: 0,
    };
    let entry = |tool: &&str| Entry { exposed: format!("s__{tool}").into(), route: route(tool) };
    Generation {
        revision: Revision(7),
        turn: 1,
        list_turns: ByKind::from_fn(|_| 1),
        snapshot: Arc::default(),
        table: RouteTable::build(vec![backend], TOOLS.iter().map(entry).collect()).unwrap(),
        catalogs: ByKind::from_fn(|kind| Arc::new(Catalog::empty(kind))),
        instructions: None,
        arrivals: [Arrival::Settled { offers: true }].into(),
    }
}

fn session() -> Session {
    let id = SessionId::from_bytes([0xab; 12]);
    let version = ProtocolVersion::negotiate("2025-11-25");
    let sealed = Sealed { id, version, issued: 0, principal: "p".into(), client_info: String::new() };
    Session { sealed: sealed.into(), known: Arc::default() }
}

fn get(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

fn context(span: &SpanData) -> String {
    let context = &span.span_context;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

fn parent(text: &str) -> String {
    format!("{:016x}", text.parse::<TraceContext>().unwrap().parent_id())
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_recorded_call_ties_what_came_in_to_what_goes_out() {
    run(async {
        let mut case = Case::start("").await;
        let answer = case.call("echo", "{}", &[("traceparent", INCOMING), ("tracestate", "a=1,b=2")]).await;
        assert!(answer.contains(r#""id":"q7""#), "{answer}");
        let [client, server] = &case.spans()[..] else { panic!("two spans") };
        assert_eq!((&*server.name, &*client.name), ("tools/call s__echo", "tools/call echo"));
        assert_eq!(server.span_context.trace_id().to_string(), INCOMING[3..35]);
        assert_eq!(server.parent_span_id.to_string(), parent(INCOMING));
        assert_eq!(client.parent_span_id, server.span_context.span_id());
        let arrived = case.last();
        assert_eq!(arrived.header("traceparent"), context(client));
        assert_eq!(arrived.body["params"]["_meta"]["traceparent"], context(client));
        assert_eq!(arrived.header("tracestate"), "a=1,b=2");
        for span in [server, client] {
            assert_eq!(get(span, "mcp.method.name"), "tools/call");
            assert_eq!(get(span, "only1mcp.revision"), "7");
            assert_eq!(get(span, "only1mcp.server"), "s");
            assert_eq!(get(span, "only1mcp.endpoint"), case.endpoint.key.to_string());
            assert_eq!(get(span, "only1mcp.result"), "answered");
            assert_eq!(get(span, "error.type"), "");
        }
        assert_eq!(get(server, "mcp.session.id"), "ab".repeat(12));
        assert_eq!(get(server, "jsonrpc.request.id"), "q7");
        assert_eq!(
            (get(server, "gen_ai.tool.name"), get(client, "gen_ai.tool.name")),
            ("s__echo".into(), "echo".into())
        );
        assert!(
            !get(server, "only1mcp.queue.seconds").is_empty() && !get(server, "only1mcp.upstream.seconds").is_empty()
        );
        assert_eq!(get(client, "server.address"), "127.0.0.1");

        // The trace context in the body counts, and nothing of the headers goes with it.
        let other = INCOMING.replace("b7ad", "aaaa");
        let meta = format!(r#"{{"traceparent":"{other}"}}"#);
        case.call("echo", &meta, &[("traceparent", INCOMING), ("tracestate", "a=1")]).await;
        let spans = case.spans();
        assert_eq!(spans[1].parent_span_id.to_string(), parent(&other));
        assert_eq!(case.last().header("tracestate"), "");
        assert_eq!(case.last().body["params"]["_meta"]["traceparent"], context(&spans[0]));

        // Without an incoming context, a trace begins here.
        case.call("echo", "{}", &[("tracestate", "a=1")]).await;
        let spans = case.spans();
        assert_eq!(spans[1].parent_span_id, opentelemetry::SpanId::INVALID);
        assert_eq!((case.last().header("traceparent"), case.last().header("tracestate")), (&*context(&spans[0]), ""));
    });
}

#[test]
fn what_is_not_recorded_goes_on_as_it_came() {
    for (sampler, incoming) in [("parentbased_always_on", UNSAMPLED), ("always_off", INCOMING)] {
        run(async {
            let mut case = Case::start(sampler).await;
            for (meta, header) in [(format!(r#"{{"traceparent":"{incoming}"}}"#), None), ("{}".into(), Some(incoming))]
            {
                let headers: Vec<_> = header.map(|header| ("traceparent", header)).into_iter().collect();
                case.call("echo", &meta, &headers).await;
                assert_eq!(case.last().header("traceparent"), incoming);
                assert_eq!(case.last().body["params"]["_meta"]["traceparent"], incoming);
            }
            case.call("echo", "{}", &[("traceparent", "no context at all")]).await;
            assert_eq!(case.last().header("traceparent").is_empty(), sampler == "always_off");
            assert_eq!(case.spans().len(), if sampler == "always_off" { 0 } else { 2 });
        });
    }
}

#[test]
fn failures_are_seen_as_what_they_are() {
    run(async {
        let mut case = Case::start("always_on").await;
        case.call("fail", "{}", &[]).await;
        case.call("refuse", "{}", &[]).await;
        let spans = case.spans();
        let seen: Vec<_> =
            spans.iter().map(|span| (get(span, "error.type"), get(span, "rpc.response.status_code"))).collect();
        let (tool, refused) = (("tool_error".to_owned(), String::new()), ("-32099".to_owned(), "-32099".to_owned()));
        assert_eq!(seen, [tool.clone(), tool, refused.clone(), refused]);
        assert!(spans.iter().all(|span| matches!(span.status, opentelemetry::trace::Status::Error { .. })));
        assert!(!format!("{spans:?}").contains("pw-9f2"), "what a server says is for its caller");

        // A client may send any name: an unknown name is not part of a span's name.
        case.call(&"x".repeat(500), "{}", &[]).await;
        let [server] = &case.spans()[..] else { panic!("it went nowhere") };
        assert_eq!((&*server.name, get(server, "error.type")), ("tools/call", "-32602".into()));
        assert_eq!((get(server, "gen_ai.tool.name").len(), get(server, "only1mcp.revision")), (64, "7".into()));
    });
}

#[test]
fn a_server_fails_by_its_own_word_and_not_by_that_of_a_tool_or_for_what_a_client_sent() {
    for sampler in ["always_on", "always_off"] {
        run(async {
            let case = Case::start(sampler).await;
            for tool in ["echo", "fail", "refuse", "break"] {
                case.call(tool, "{}", &[]).await;
            }
            let failed = case.endpoint.stats.failed.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!((failed, case.endpoint.stats.answered()), (1, 3), "{sampler}");
            assert_eq!(case.endpoint.take_failure().as_deref(), Some("it answered with error -32603"));
            assert_eq!(case.endpoint.take_failure(), None, "it is told once");
            let recent = case.endpoint.recent.summary(case.core.now());
            assert_eq!((recent.answered, recent.failed, recent.tool_errors), (3, 1, 1));
        });
    }
}

#[test]
fn going_again_is_an_event_and_an_eviction_ends_the_spans() {
    run(async {
        let mut case = Case::start("").await;
        let answer = case.call("forget", "{}", &[]).await;
        assert!(answer.contains("result"), "{answer}");
        let [client, _] = &case.spans()[..] else { panic!("two spans") };
        let [event] = &client.events.events[..] else { panic!("{:?}", client.events) };
        assert_eq!(&*event.name, "retry");
        assert_eq!(event.attributes[0].value.to_string(), "session_renewed");

        let mut call = pin!(case.call("hold", "{}", &[]));
        let arrived = case.server.arrived().len();
        while case.server.arrived().len() == arrived {
            assert!(futures_util::poll!(call.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        case.core.in_flight.evict(case.endpoint.number);
        let answer = call.await;
        assert!(answer.contains("is leaving"), "{answer}");
        let [client, server] = &case.spans()[..] else { panic!("two spans") };
        for span in [client, server] {
            assert_eq!(get(span, "only1mcp.result"), "evicted");
            assert_eq!(get(span, "error.type"), mcp::ErrorCode::EVICTED.0.to_string());
        }
    });
}

#[test]
fn a_call_whose_answer_is_there_gets_no_other_one() {
    run(async {
        let case = Case::start("always_off").await;
        let admit = case.core.shared.live.admit(Kind::Tool, "s__echo", 1, &Homes::default(), |_| true);
        let (admitted, now) = (admit.unwrap(), case.core.now());
        let exchange = Exchange::begin(&case.core, &admitted, now);
        let id = Bytes::from_static(b"1");
        let ticket = case.core.in_flight.enter(session().sealed.id, id.clone(), (&Limits::default()).into(), now);
        ticket.admitted(case.endpoint.number, admitted.limits, None);
        // The exchange is evicted as soon as its server has answered.
        let core = Rc::clone(&case.core);
        let (evict, evicted) = std::sync::mpsc::channel();
        let answers = futures_util::stream::once(async move {
            evict.send(()).unwrap();
            // Long, so that it is made ready on another thread.
            Ok(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(1 << 20))))
        });
        let events = EventStream::new(answers);
        let open = Open { events, ticket, admitted, exchange, id, traced: None, fault: None };
        let mut answer = pin!(whole(streamed::begin(core, open)));
        while evicted.try_recv().is_err() {
            assert!(futures_util::poll!(answer.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        case.core.in_flight.evict(case.endpoint.number);
        let answer = answer.await;
        assert_eq!(answer.matches("jsonrpc").count(), 1);
        assert!(answer.contains("result"));
    });
}

#[test]
fn who_turns_pages_over_a_change_has_not_seen_the_new_list() {
    run(async {
        let case = Case::start("always_off").await;
        let tools = |names: [&str; 2]| {
            let parsed =
                |name| Item::parse(Kind::Tool, &format!(r#"{{"name":"{name}","inputSchema":{{}}}}"#)).map(Arc::new);
            names.map(|name| parsed(name).unwrap())
        };
        let publish = |turn, items: &[Arc<Item>]| {
            let offer = mcp::Offer { backend: "s", items, shown: None, missing: None };
            let page_size = 1.try_into().unwrap();
            let owners = mcp::Owners::new();
            let mut next = Generation { turn, ..generation(&[&case.endpoint]) };
            let catalog = Catalog::merge(Kind::Tool, mcp::Naming::Prefix, &[offer], &owners, page_size);
            next.catalogs[Kind::Tool] = Arc::new(catalog);
            case.core.shared.live.publish(next);
        };
        let session = session();
        let page = async |cursor: Option<&str>| {
            let body = serde_json::json!({
                "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "cursor": cursor },
            })
            .to_string();
            let envelope = mcp::scan(body.as_bytes()).unwrap();
            let Message::Request { id, call } = &envelope.message else { panic!("a request") };
            let answer = {
                let asked = Asked { kind: Kind::Tool, id: *id, call };
                whole(list::page(&case.core, &session, asked, None)).await
            };
            serde_json::from_str::<serde_json::Value>(&answer).unwrap()["result"].clone()
        };
        publish(2, &tools(["a", "b"]));
        let first = page(None).await;
        publish(3, &tools(["0", "b"]));
        assert_eq!(page(first["nextCursor"].as_str()).await["tools"][0]["name"], "s__b");
        assert!(session.known.to_be_told(Kind::Tool, 3), "its first page is old");
        page(None).await;
        assert!(!session.known.to_be_told(Kind::Tool, 3), "and now it is new");
    });
}

#[test]
fn a_call_takes_little_memory_while_it_waits() {
    run(async {
        let case = Case::start("always_off").await;
        let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s__echo"}}"#);
        let envelope = mcp::scan(&body).unwrap();
        let Message::Request { id, call } = &envelope.message else { panic!("a request") };
        let (core, session, headers) = (Rc::clone(&case.core), session(), HeaderMap::new());
        let body = body.clone().into();
        let client = core.clients.enter();
        let caller =
            Caller { session: &session, client: &client, since: core.now(), limits: (&Limits::default()).into() };
        let asked = Asked { kind: Kind::Tool, id: *id, call };
        let size = size_of_val(&call::call(core, caller, asked, &envelope, &body, &Fields::of(&headers)));
        assert!(size <= 4_300, "{size} bytes");
    });
}

#[test]
fn a_call_that_comes_when_all_is_stopped_is_not_executed_and_says_so() {
    run(async {
        let case = Case::start("").await;
        let before = case.server.arrived().len();
        case.core.in_flight.stop();
        let answer = case.response("echo", "{}", &[]).await;
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
        let answer = whole(answer).await;
        assert!(answer.contains("was not executed: send it again") && answer.contains(r#""id":"q7""#), "{answer}");
        assert_eq!(case.server.arrived().len(), before);
    });
}
