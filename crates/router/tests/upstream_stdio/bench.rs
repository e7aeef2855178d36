//! What a test needs around an endpoint.

use std::sync::Arc;
use std::time::Duration;

use fleet::Offered;
use mcp::{Message, scan};
use model::{BackendId, EndpointKey, EndpointSpec, Limits, Revision, Transport, VariantId};

use router::call::{Answer, Call, CallError};
use router::endpoint::{Endpoint, EndpointEvent, Lease, Signals, Upstreams};
use router::forward;
use runtime::{Clock, Shutdown, Tasks};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Bench {
    pub endpoint: Arc<Endpoint>,
    pub events: Arc<Signals>,
}

/// An endpoint over `transport`; must be called within a runtime, which is its control thread.
pub fn bench(transport: Transport, limits: Limits) -> Bench {
    let (upstreams, events) = upstreams(Handle::current());
    bench_of(transport, limits, &upstreams, &events)
}

/// What several endpoints share, with the thread of `control` as their control thread.
pub fn upstreams(control: Handle) -> (Arc<Upstreams>, Arc<Signals>) {
    let events = Signals::new();
    (Upstreams::new(Tasks::new(Shutdown::new()), control, Clock::start(), Arc::clone(&events)), events)
}

/// A bench with one endpoint over `transport`.
pub fn bench_of(transport: Transport, limits: Limits, upstreams: &Arc<Upstreams>, events: &Arc<Signals>) -> Bench {
    let spec = EndpointSpec { transport, isolation: model::Isolation::Shared };
    let key =
        EndpointKey { backend: BackendId::new("small").unwrap(), variant: VariantId::only(), digest: spec.digest() };
    Bench { endpoint: Endpoint::new(key, spec, Arc::new(limits), upstreams), events: Arc::clone(events) }
}

impl Bench {
    pub async fn up(&self) -> Offered {
        self.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap()
    }

    pub async fn event(&self) -> EndpointEvent {
        timeout(PATIENCE, self.events.next()).await.expect("an event is due").1
    }

    pub async fn call(&self, message: &str) -> Result<Answer, CallError> {
        let lease = Lease::admit(&self.endpoint, Revision(1)).unwrap();
        timeout(PATIENCE, forward(&lease, call_of(message), None, || false)).await.expect("an answer is due")
    }

    /// The text of an answer that is one message.
    pub async fn whole(&self, message: &str) -> String {
        match self.call(message).await.unwrap() {
            Answer::Whole(answer) => String::from_utf8(answer.to_vec()).unwrap(),
            Answer::Events(_) => panic!("expected one message"),
        }
    }
}

/// The call that a client core makes from a client's message.
pub fn call_of(message: &str) -> Call {
    let envelope = scan(message.as_bytes()).unwrap();
    let Message::Request { id, call } = envelope.message else { panic!("a request") };
    Call {
        body: message.as_bytes().to_vec().into(),
        id: id.span(),
        name: None,
        progress: call.progress_token().map(mcp::Id::span),
        traceparent: None,
        idempotent: false,
        waited: Duration::ZERO,
    }
}

pub fn tool_call(id: &str, tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}
