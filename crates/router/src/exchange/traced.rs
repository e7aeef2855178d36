//! The spans of a recorded call: one for the client's request, and below it one for each attempt at a server.
//!
//! Names and keys are those of OpenTelemetry's conventions for MCP, where they exist. Most calls are not recorded, and
//! cost only that check: all of this is behind an `Option` of one pointer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use mcp::{Envelope, ErrorCode, Id};
use model::{Revision, Time, Transport};
use runtime::telemetry::KeyValue;
use runtime::{Kind, Span, TraceContext};

use super::conclusion::Conclusion;
use super::fault::Fault;
use super::fields::Fields;
use crate::call::{CallError, Traceparent};
use crate::core::Core;
use crate::generation::Admitted;
use crate::session::Session;

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// A longer `tracestate` need not be passed on.
const TRACESTATE_MAX: usize = 512;
/// How much is recorded of a tool name that no server has: a client may send anything.
const UNKNOWN_MAX: usize = 64;

/// The trace that a request belongs to, as named by its sender: in the body or else in the headers.
pub(super) struct Incoming<'a> {
    pub(super) context: Option<TraceContext>,
    in_body: bool,
    headers: &'a HeaderMap,
}

impl<'a> Incoming<'a> {
    pub(super) fn of(call: &mcp::Call<'_>, fields: &Fields<'a>) -> Self {
        let carried = call.traceparent().and_then(|text| text.parse().ok());
        let header = || fields.traceparent()?.parse().ok();
        Self { in_body: carried.is_some(), context: carried.or_else(header), headers: fields.all }
    }

    /// The trace context that a server gets for `context`, which is the incoming context or a span below it.
    pub(super) fn pass_on(&self, envelope: &Envelope<'_>, context: TraceContext) -> Option<Box<Traceparent>> {
        let value = context.to_string();
        let is_said = self.in_body && self.context == Some(context);
        let edit = if is_said { None } else { Some(envelope.traceparent_edit(&value)?) };
        // A `tracestate` in the body is passed on with the body.
        let state = (self.context.is_some() && !self.in_body).then(|| self.state()).flatten();
        Some(Box::new(Traceparent { value: value.into(), state, edit }))
    }

    fn state(&self) -> Option<Box<str>> {
        let lines: Option<Vec<_>> = self.headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
        let state = lines?.join(",");
        (!state.is_empty() && state.len() <= TRACESTATE_MAX).then(|| state.into())
    }
}

/// A call that is recorded.
#[derive(Debug)]
pub(super) struct Traced {
    kind: mcp::Kind,
    server: Span,
    /// The span of the current attempt at a server.
    client: Option<Span>,
    asked: Time,
    sent: Time,
}

impl Traced {
    /// None if the call is not recorded; then nothing is done for it.
    pub(super) fn begin(
        core: &Core,
        incoming: &Incoming<'_>,
        session: &Session,
        id: Id<'_>,
        (kind, name): (mcp::Kind, &str),
        asked: Time,
    ) -> Option<Box<Self>> {
        let mut is_known = false;
        let span_name = || {
            is_known = core.shared.live.load().table.find(kind, name).is_some();
            if is_known { Cow::Owned(format!("{} {name}", kind.method())) } else { Cow::Borrowed(kind.method()) }
        };
        let mut server = core.shared.tracer.start_recorded(Kind::Server, incoming.context, span_name)?;
        of_kind(&mut server, kind);
        server.set(kind.attribute(), if is_known { name.to_owned() } else { name.chars().take(UNKNOWN_MAX).collect() });
        of_client(&mut server, id, Some(session));
        Some(Box::new(Self { kind, server, client: None, asked, sent: asked }))
    }

    /// Begins the attempt at the server that admitted the call. Returns the trace context for that server.
    pub(super) fn toward(&mut self, core: &Core, admitted: &Admitted) -> TraceContext {
        let endpoint = &admitted.lease.endpoint;
        self.sent = core.now();
        self.server.set("only1mcp.queue.seconds", self.sent.since(self.asked).as_secs_f64());
        let own = admitted.item.name();
        let mut client = self.server.child(format!("{} {own}", self.kind.method()), Kind::Client);
        of_kind(&mut client, self.kind);
        client.set(self.kind.attribute(), own.to_owned());
        if let Some(link) = endpoint.link() {
            client.set("mcp.protocol.version", link.greeting().protocol_version.as_str());
        }
        match &endpoint.spec.transport {
            Transport::Stdio { .. } => client.set("network.transport", "pipe"),
            Transport::Http { .. } => {
                client.set("network.transport", "tcp");
                client.set("network.protocol.name", "http");
            }
        }
        if let Some((host, port)) = &endpoint.shown.address {
            client.set("server.address", Arc::clone(host));
            client.set("server.port", i64::from(*port));
        }
        for span in [&mut self.server, &mut client] {
            of_revision(span, admitted.lease.revision);
            span.set("only1mcp.server", Arc::clone(&endpoint.shown.server));
            span.set("only1mcp.endpoint", Arc::clone(&endpoint.shown.name));
        }
        self.client.insert(client).context()
    }

    /// The span of the current attempt.
    pub(super) fn on_its_way(&mut self) -> Option<&mut Span> {
        self.client.as_mut()
    }

    /// Nothing of the call reached that server: it is routed anew.
    pub(super) fn turned_back(&mut self, error: &CallError) {
        if let Some(mut client) = self.client.take() {
            fail(&mut client, error.cause.as_str(), why(error).to_owned());
        }
        self.server.event("rerouted", vec![KeyValue::new("error.type", error.cause.as_str())]);
    }

    /// Records the outcome.
    pub(super) fn concluded(mut self, core: &Core, conclusion: &Conclusion<'_>) {
        let upstream: Duration = core.now().since(self.sent);
        self.server.set("only1mcp.upstream.seconds", upstream.as_secs_f64());
        for span in self.client.iter_mut().chain([&mut self.server]) {
            span.set("only1mcp.result", conclusion.result());
            match conclusion {
                Conclusion::Answered(None) => {}
                Conclusion::Answered(Some(Fault::Refused(code))) => refuse(span, ErrorCode(*code), REFUSED),
                Conclusion::Answered(Some(Fault::Tool)) => fail(span, "tool_error", "the tool says that it failed"),
                Conclusion::Failed(error) => refuse(span, error.code, why(error)),
                Conclusion::Ended(_, code, text) => refuse(span, *code, text),
            }
        }
        self.client = None;
    }

    /// Records a call that was answered without a server: it was refused, or given up before it had one.
    pub(super) fn unrouted(mut self, revision: Revision, result: &'static str, code: ErrorCode, message: &str) {
        of_revision(&mut self.server, revision);
        self.server.set("only1mcp.result", result);
        refuse(&mut self.server, code, message);
    }

    pub(super) fn context(&self) -> TraceContext {
        self.server.context()
    }
}

/// The span of a request that the gateway answers itself, if it is recorded.
pub(super) fn local(
    core: &Core,
    call: &mcp::Call<'_>,
    id: Id<'_>,
    method: &'static str,
    fields: &Fields<'_>,
    session: Option<&Session>,
) -> Option<Span> {
    if !core.shared.tracer.is_on() {
        return None;
    }
    let context = Incoming::of(call, fields).context;
    let mut span = core.shared.tracer.start_recorded(Kind::Server, context, || method)?;
    span.set("mcp.method.name", method);
    of_client(&mut span, id, session);
    of_revision(&mut span, core.shared.live.load().revision);
    Some(span)
}

fn of_kind(span: &mut Span, kind: mcp::Kind) {
    span.set("mcp.method.name", kind.method());
    if kind == mcp::Kind::Tool {
        span.set("gen_ai.operation.name", "execute_tool");
    }
}

/// Sets what a client's request says about itself.
fn of_client(span: &mut Span, id: Id<'_>, session: Option<&Session>) {
    span.set("jsonrpc.request.id", id.text().trim_matches('"').to_owned());
    span.set("network.transport", "tcp");
    span.set("network.protocol.name", "http");
    if let Some(session) = session {
        // Only the part that names the session: with the whole id, any reader of the span could use the session.
        let name = session.sealed.id.as_bytes().iter().fold(0_u128, |name, byte| name << 8 | u128::from(*byte));
        span.set("mcp.session.id", format!("{name:024x}"));
        span.set("mcp.protocol.version", session.sealed.version.as_str());
    }
}

fn of_revision(span: &mut Span, revision: Revision) {
    span.count("only1mcp.revision", revision.0);
}

/// Records an answer with a JSON-RPC error.
pub(super) fn refuse(span: &mut Span, code: ErrorCode, message: &str) {
    span.set("rpc.response.status_code", code.0.to_string());
    fail(span, code.0.to_string(), message.to_owned());
}

fn fail(span: &mut Span, kind: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) {
    span.set("error.type", kind.into());
    span.fail(why);
}

/// Recorded in place of a server's words: they are for the caller alone, and may be long.
const REFUSED: &str = "the server answers with an error; its words are for the caller";

fn why(error: &CallError) -> &str {
    if error.quotes { REFUSED } else { &error.message }
}
