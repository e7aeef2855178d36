//! This router's end of the line to drain-coordinator, which only adds operators' cordons and keeps the record.
//! Everything else works without it.

use drain::{Count, Directive};
use runtime::grpc::{DialError, MESSAGE_BYTES_MAX};
use runtime::{Tasks, TraceContext};
use tokio::sync::mpsc;
use wire::pb::drain::v1 as pb;
use wire::pb::drain::v1::drain_service_client::DrainServiceClient;

use super::{Line, Outgoing, Peer, Stuck};
use crate::control::Command;

pub(crate) type CoordinatorLine = Line<pb::AttachRequest, pb::AttachResponse>;

impl From<CoordinatorLine> for Command {
    fn from(line: CoordinatorLine) -> Self {
        Self::Coordinator(line)
    }
}

/// The line to drain-coordinator.
pub(crate) struct Reporter {
    /// The first thing to be said on a line.
    hello: Count,
    speaking: Option<Speaking>,
}

struct Speaking {
    outgoing: Outgoing<pb::AttachRequest>,
    nonce: u64,
}

/// Keeps the line to drain-coordinator up until the process closes.
pub(crate) fn keep(peer: Peer<'_>, commands: mpsc::Sender<Command>, tasks: &Tasks) -> Result<(), DialError> {
    peer.keep("drain-coordinator line", commands, tasks, |client, outgoing| async move {
        let client = DrainServiceClient::new(client).max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.max_encoding_message_size(MESSAGE_BYTES_MAX).attach(outgoing).await
    })
}

/// The directive of a message, and the trace it belongs to, if any.
pub(crate) fn heard(response: pb::AttachResponse) -> Option<(Directive, Option<TraceContext>)> {
    match wire::drain::directive(response.directive) {
        Ok(directive) => {
            tracing::debug!(?directive, "drain-coordinator said");
            Some((directive, response.envelope.unwrap_or_default().traceparent.parse().ok()))
        }
        Err(error) => {
            tracing::warn!(%error, "drain-coordinator said something that is not understood here");
            None
        }
    }
}

impl Reporter {
    pub(crate) fn new(hello: Count) -> Self {
        Self { hello, speaking: None }
    }

    pub(crate) fn up(&mut self, outgoing: Outgoing<pb::AttachRequest>) -> Result<(), Stuck> {
        self.speaking = Some(Speaking { outgoing, nonce: 0 });
        let hello = self.hello.clone();
        self.say(&hello, None)
    }

    /// Returns whether there was a line to hang up.
    pub(crate) fn hang_up(&mut self) -> bool {
        self.speaking.take().is_some()
    }

    pub(crate) fn say(&mut self, count: &Count, trace: Option<TraceContext>) -> Result<(), Stuck> {
        let Some(speaking) = &mut self.speaking else { return Ok(()) };
        speaking.nonce += 1;
        let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
        let envelope = Some(wire::envelope(None, &trace, speaking.nonce));
        let said = speaking.outgoing.say(pb::AttachRequest { envelope, count: Some(wire::drain::count_to_pb(count)) });
        said.inspect_err(|stuck| tracing::warn!(error = %stuck, "hanging up on drain-coordinator"))
    }
}
