//! Streamable HTTP toward a server: one session, shared by all calls, over any number of connections.

mod announcements;
mod answer;
mod awaited;
mod events;
mod http1;
mod lookups;
mod media;
mod pool;
mod session;
mod shown_url;
mod target;
mod whole;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use mcp::initialize::{self, ServerInitialize};
use mcp::message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ask;
use super::inbound::Restore;
use super::{Link, OURSELVES, outgoing};
use crate::call::{Answer, Call, CallError};
use crate::endpoint::{BringUpFailure, Endpoint};
pub(super) use announcements::listen;
use awaited::Awaited;
pub(super) use lookups::Names;
pub(crate) use pool::endpoint_ended;
pub(super) use pool::tls_connector;
pub(crate) use session::Doubt;
use session::Standing;
use target::{TRACEPARENT, TRACESTATE, Target};

/// A server that was initialised over HTTP.
pub(crate) struct HttpLink {
    pub(crate) number: u64,
    target: Target,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) greeting: ServerInitialize,
    /// Cancelled when another session took its place.
    pub(crate) replaced: CancellationToken,
    pub(super) life: Box<Life>,
}

/// The part of a session that no call looks at.
pub(super) struct Life {
    pub(super) standing: Standing,
    asides: Asides,
    endpoint: Weak<Endpoint>,
    /// The server was told that the session ends.
    ended: AtomicBool,
}

/// A message to a server beside its calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aside {
    /// A reply to a request of the server, which may send any number of them.
    Reply,
    /// The cancellation of a call: clients may cancel any number of them.
    Cancellation,
}

/// How many such messages may be on their way at once. More are dropped: the server does not take them anyway.
struct Asides {
    replies: Arc<Semaphore>,
    cancellations: Arc<Semaphore>,
}

const REPLIES: usize = 16;
const CANCELLATIONS: usize = 256;

impl Asides {
    fn new() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { replies: places(REPLIES), cancellations: places(CANCELLATIONS) }
    }

    fn of(&self, aside: Aside) -> &Arc<Semaphore> {
        match aside {
            Aside::Reply => &self.replies,
            Aside::Cancellation => &self.cancellations,
        }
    }

    /// Posts to the target that `owner` has, in a task of its own on the control thread. Returns whether there was room
    /// for it.
    fn post<T: Send + Sync + 'static>(
        &self,
        endpoint: &Arc<Endpoint>,
        (owner, target): (&Arc<T>, fn(&T) -> Option<&Target>),
        (aside, message): (Aside, Vec<u8>),
    ) -> bool {
        let Ok(place) = Arc::clone(self.of(aside)).try_acquire_owned() else {
            metrics::counter!("only1mcp_router_asides_dropped_total").increment(1);
            return false;
        };
        let (endpoint_, owner) = (Arc::clone(endpoint), Arc::clone(owner));
        endpoint.upstreams.tasks.spawn_on(&endpoint.upstreams.control, "upstream notification", async move {
            let Some(target) = target(&owner) else { return };
            let limit = endpoint_.limits().connect;
            let posted = answer::post(&endpoint_, target, Bytes::from(message));
            match endpoint_.upstreams.in_time(limit, posted).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(backend = %endpoint_.key.backend, %error, "not delivered"),
                None => tracing::debug!(backend = %endpoint_.key.backend, "not delivered in time"),
            }
            drop(place);
        });
        true
    }
}

/// A session that has begun, as far as the head of the answer to `initialize` says: a server may send requests before
/// it answers.
pub(super) struct Beginning {
    target: Target,
    asides: Asides,
}

impl Beginning {
    pub(super) fn reply(self: &Arc<Self>, endpoint: &Arc<Endpoint>, message: Vec<u8>) -> bool {
        self.asides.post(endpoint, (self, |beginning| Some(&beginning.target)), (Aside::Reply, message))
    }
}

/// For telling a server that a session ends.
const FAREWELL: Duration = Duration::from_secs(2);

impl HttpLink {
    pub(super) async fn establish(endpoint: &Arc<Endpoint>) -> Result<Arc<Link>, BringUpFailure> {
        let failed = BringUpFailure::Initialize;
        let mut target = Target::resolve(&endpoint.spec.transport, &endpoint.secrets().await)?;
        let call = Call::of_message(initialize::client_request("0", OURSELVES));
        let id = endpoint.next_id();
        let first = outgoing::write(&call, id);
        let send = async |target: &Target| pool::send(endpoint, target, &mut target.post(first.clone())).await;
        let mut response = send(&target).await.map_err(|error| failed(error.into()))?;
        if let Some(moved) = answer::redirect(&response).and_then(|location| target.moved_to(location)) {
            // The path is not logged: a secret may be in it.
            tracing::info!(server = %endpoint.key.backend, "the server redirects to another path");
            target = moved;
            response = send(&target).await.map_err(|error| failed(error.into()))?;
        }
        // Some servers send a session id with a refusal, too; such an id is not used.
        let session = response.headers.session.clone().filter(|_| response.status.is_success());
        let begun = target.clone().in_session(session.as_ref());
        let mut unused = Unused { endpoint, target: session.is_some().then(|| begun.clone()) };
        let beginning = Beginning { target: begun, asides: Asides::new() };
        let mut awaited = Awaited::new(endpoint, None, Restore::new(&call, id));
        awaited.beginning = Some(beginning.into());
        let response = match answer::accept(awaited, response).await {
            Ok(Answer::Whole(response)) => response,
            Ok(Answer::Events(mut events)) => ask::last(&mut events).await.map_err(failed)?,
            Err(error) => return Err(failed(error.into())),
        };
        let greeting = ask::greeting_of(&response, &endpoint.echo).map_err(failed)?;
        unused.target = None;
        let link = Self {
            number: endpoint.next_link_number(),
            target: target.with_session(session.as_ref(), greeting.protocol_version),
            session,
            greeting,
            replaced: endpoint.ended.child_token(),
            life: Box::new(Life {
                standing: Standing::new(),
                asides: Asides::new(),
                endpoint: Arc::downgrade(endpoint),
                ended: AtomicBool::new(false),
            }),
        };
        answer::post(endpoint, &link.target, message::INITIALIZED.into())
            .await
            .map_err(|error| failed(error.into()))?;
        Ok(Arc::new(Link::Http(link)))
    }

    pub(super) async fn call(
        &self,
        endpoint: &Arc<Endpoint>,
        link: &Arc<Link>,
        call: &Call,
    ) -> Result<Answer, CallError> {
        let id = endpoint.next_id();
        let mut request = self.target.post(outgoing::write(call, id));
        if let Some(trace) = &call.traceparent {
            for (name, text) in [(TRACEPARENT, Some(&trace.value)), (TRACESTATE, trace.state.as_ref())] {
                if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
                    request.header(&name, &value);
                }
            }
        }
        let mut awaited = Awaited::new(endpoint, Some(link), Restore::new(call, id));
        match pool::send(endpoint, &self.target, &mut request).await {
            Ok(response) => answer::accept(awaited, response).await,
            Err(error) => {
                awaited.over();
                Err(error)
            }
        }
    }

    /// GETs another path of the server, which is no MCP.
    pub(super) async fn get(&self, endpoint: &Arc<Endpoint>, path: &str) -> Result<StatusCode, CallError> {
        let target = self.target.moved_to(path).unwrap_or_else(|| self.target.clone());
        let mut request = target.plain_get();
        let response = pool::send(endpoint, &target, &mut request).await?;
        response.body.leave(&endpoint.upstreams);
        Ok(response.status)
    }

    /// Sends a notification or a reply of ours. Returns whether there was room for it.
    pub(super) fn post_aside(endpoint: &Arc<Endpoint>, link: &Arc<Link>, aside: Aside, message: Vec<u8>) -> bool {
        let Link::Http(http) = &**link else { return false };
        http.life.asides.post(endpoint, (link, Self::target_of), (aside, message))
    }

    fn target_of(link: &Link) -> Option<&Target> {
        if let Link::Http(http) = link { Some(&http.target) } else { None }
    }

    /// Whether the configured URL and headers have other values now than when the session began.
    pub(super) async fn is_outdated(&self, endpoint: &Endpoint) -> bool {
        let fresh = Target::resolve(&endpoint.spec.transport, &endpoint.secrets().await);
        fresh.is_ok_and(|fresh| {
            fresh.with_session(self.session.as_ref(), self.greeting.protocol_version).differs_from(&self.target)
        })
    }

    /// DELETEs the session.
    pub(super) async fn close(&self, endpoint: &Endpoint) {
        self.replaced.cancel();
        if !self.life.ended.swap(true, Ordering::AcqRel) && self.session.is_some() {
            farewell(endpoint, &self.target).await;
        }
    }
}

impl Drop for HttpLink {
    /// The session was replaced and its last call has ended, or it was given up before it was ever used. Servers count
    /// sessions, too.
    fn drop(&mut self) {
        if self.session.is_none() || *self.life.ended.get_mut() {
            return;
        }
        if let Some(endpoint) = self.life.endpoint.upgrade() {
            farewell_in_task(endpoint, self.target.clone());
        }
    }
}

/// A session that the server has made and that is no link yet: the server's answer may be unusable, or break off.
struct Unused<'a> {
    endpoint: &'a Arc<Endpoint>,
    target: Option<Target>,
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            farewell_in_task(Arc::clone(self.endpoint), target);
        }
    }
}

fn farewell_in_task(endpoint: Arc<Endpoint>, target: Target) {
    let upstreams = Arc::clone(&endpoint.upstreams);
    upstreams.tasks.spawn_on(&upstreams.control, "end of an upstream session", async move {
        farewell(&endpoint, &target).await;
    });
}

/// A server that refuses, or is gone, will forget the session by itself.
async fn farewell(endpoint: &Endpoint, target: &Target) {
    let mut request = target.bare(&Method::DELETE);
    let farewell = pool::send(endpoint, target, &mut request);
    let outcome = match endpoint.upstreams.in_time(FAREWELL, farewell).await {
        Some(Ok(response)) => response.status.to_string(),
        Some(Err(error)) => error.to_string(),
        None => "no answer in time".to_owned(),
    };
    tracing::debug!(backend = %endpoint.key.backend, outcome, "session ended");
}
