//! Toward servers: a call goes out over the live connection of its endpoint, and comes back as the client's own.
//!
//! There are two kinds of connection, Streamable HTTP and a child process on stdio, behind one [`Link`]. What they have
//! in common (ids replaced and restored, what a server may say unasked, when a call may go again) is here; neither kind
//! knows of clients, generations or routes.

mod ask;
mod half_read;
mod http;
mod inbound;
mod list;
mod outgoing;
pub(crate) mod stdio;
mod unasked;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::StatusCode;
use mcp::initialize::{Implementation, ServerInitialize};
use model::{Transport, WallTime};
use runtime::telemetry::KeyValue;
use runtime::{Clock, Phase, Shutdown, Span, Tasks};
use tokio::runtime::Handle;

use crate::budget::Budget;
use crate::call::{Answer, Call, CallError, Cause};
use crate::endpoint::{BringUpFailure, Endpoint, Lease, Signals, Waits};

pub(crate) use ask::ask;
use http::Names;
pub(crate) use http::{Doubt, HttpLink, endpoint_ended};
pub(crate) use list::list_all;
pub(crate) use stdio::{SEEN_OUT, StderrTail, StdioLink, wrote};
pub(crate) use unasked::Together;

/// What all endpoints of a router need and none owns.
pub struct Upstreams {
    pub(crate) tasks: Tasks,
    /// The runtime of the control thread, where connections are brought up and children are spoken with.
    pub(crate) control: Handle,
    pub(crate) clock: Clock,
    /// Where endpoints say what happens to them.
    pub(crate) signals: Arc<Signals>,
    /// What is in memory for clients.
    pub(crate) budget: Budget,
    /// Addresses of hosts, for all cores.
    names: Names,
    tls: OnceLock<tokio_rustls::TlsConnector>,
}

/// The time for the last messages to servers at the end, including the lookup of their addresses.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Returns when the time for last messages is over.
async fn last_words_over(shutdown: &Shutdown) {
    shutdown.reached(Phase::Closing).await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// A number for an endpoint. Counted per process, because what cores keep per endpoint is kept by thread.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// How the gateway names itself to servers.
pub(crate) const OURSELVES: Implementation<'static> =
    Implementation { name: "only1mcp", version: env!("CARGO_PKG_VERSION") };

impl Upstreams {
    /// `control` is the runtime of the thread that will call [`Endpoint::bring_up`].
    #[must_use]
    pub fn new(tasks: Tasks, control: Handle, clock: Clock, signals: Arc<Signals>) -> Arc<Self> {
        let (budget, names, tls) = (Budget::default(), Names::default(), OnceLock::new());
        Arc::new(Self { tasks, control, clock, signals, budget, names, tls })
    }

    pub(crate) fn wall_time_in(&self, after: Duration) -> WallTime {
        WallTime(self.clock.unix_millis().saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }

    /// For messages to servers beside calls. Once the gateway ends, a server has little time left to take them: a
    /// server whose connection queue is full takes a second to answer the next connection.
    async fn in_time<T>(&self, limit: Duration, said: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            said = tokio::time::timeout(limit, said) => said.ok(),
            () = last_words_over(self.tasks.shutdown()) => None,
        }
    }

    /// Made at the first https server, because reading the certificates of the system takes milliseconds.
    pub(crate) fn tls(&self) -> &tokio_rustls::TlsConnector {
        self.tls.get_or_init(http::tls_connector)
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstreams")
    }
}

/// One live, initialised connection (or set of connections with one session) to an endpoint.
pub(crate) enum Link {
    Http(HttpLink),
    Stdio(StdioLink),
}

impl Link {
    /// Which of the endpoint's connections this is; they count up.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Http(link) => link.number,
            Self::Stdio(link) => link.number,
        }
    }

    pub(crate) fn greeting(&self) -> &ServerInitialize {
        match self {
            Self::Http(link) => &link.greeting,
            Self::Stdio(link) => link.greeting(),
        }
    }

    /// The status with which an HTTP server answers to a GET of another path of its address.
    pub(crate) async fn get(&self, endpoint: &Arc<Endpoint>, path: &str) -> Option<Result<StatusCode, CallError>> {
        match self {
            Self::Http(link) => Some(link.get(endpoint, path).await),
            Self::Stdio(_) => None,
        }
    }

    /// What `error`, a status of the server, puts in doubt: a new session may be needed.
    pub(crate) fn doubt(&self, error: &CallError) -> Option<Doubt> {
        match self {
            Self::Http(link) => link.doubt(error),
            Self::Stdio(_) => None,
        }
    }

    /// Whether the server confirms a doubt when asked on this same connection: then nothing is executed on the
    /// connection any more, and only a new session helps.
    pub(crate) async fn has_fallen(self: &Arc<Self>, endpoint: &Arc<Endpoint>, doubt: Doubt) -> bool {
        match &**self {
            Self::Http(link) => link.has_fallen(endpoint, self, doubt).await,
            Self::Stdio(_) => false,
        }
    }

    /// Whether the connection was made with other values than its configuration stands for now.
    pub(crate) async fn is_outdated(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Http(link) => link.is_outdated(endpoint).await,
            Self::Stdio(_) => false,
        }
    }

    /// Whether nothing can be sent on the connection any more.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Stdio(link) => link.is_over(),
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Http(_) => None,
            Self::Stdio(link) => Some(link.pid),
        }
    }

    pub(crate) fn session(&self) -> Option<&str> {
        match self {
            Self::Http(link) => link.session.as_ref().and_then(|session| session.to_str().ok()),
            Self::Stdio(_) => None,
        }
    }

    /// Starts the work beside calls that lasts for as long as this is the endpoint's connection.
    pub(crate) fn attend(self: &Arc<Self>, endpoint: &Arc<Endpoint>) {
        if let Self::Http(link) = &**self
            && link.greeting.is_announcing()
        {
            let listening = http::listen(Arc::downgrade(endpoint), Arc::clone(self), link.replaced.clone());
            endpoint.upstreams.tasks.spawn_on(&endpoint.upstreams.control, "upstream announcements", listening);
        }
    }

    /// Replaces the process by another one, if there is a process.
    pub(crate) fn restart(&self, why: &str) {
        match self {
            Self::Http(_) => {}
            Self::Stdio(link) => link.restart(why),
        }
    }

    /// The orderly end: the server is told, and given a little time.
    pub(crate) async fn close(&self, endpoint: &Endpoint) {
        match self {
            Self::Http(link) => link.close(endpoint).await,
            Self::Stdio(link) => link.close().await,
        }
    }
}

/// Connects and initialises. What a server already announced about its lists meanwhile is an event like any other.
/// `patience` is the wait for the previous process to end.
pub(crate) async fn establish(endpoint: &Arc<Endpoint>, patience: Duration) -> Result<Arc<Link>, BringUpFailure> {
    match &endpoint.spec.transport {
        Transport::Http { .. } => HttpLink::establish(endpoint).await,
        Transport::Stdio { .. } => StdioLink::establish(endpoint, patience).await,
    }
}

/// One try over one connection.
pub(crate) async fn transact(endpoint: &Arc<Endpoint>, link: &Arc<Link>, call: &Call) -> Result<Answer, CallError> {
    match &**link {
        Link::Http(http) => http.call(endpoint, link, call).await,
        Link::Stdio(stdio) => stdio.call(endpoint, call).await,
    }
}

/// What has been tried again for one call. Each reason counts once and waits have an end, so that nothing goes round for
/// ever.
struct Again {
    renewed: bool,
    unsent: bool,
    repeated: bool,
    /// For its server to be there.
    waits: Waits,
}

/// Sends `call` to the endpoint of `lease` and brings its answer.
///
/// Retries by itself only where nothing was executed: once after a session was renewed whose loss a ping on it has
/// confirmed; once if nothing of the call was written; and after a wait for an endpoint that is not there
/// (`endpoint/dead.rs`). Where nothing was sent for want of a connection or a process, `elsewhere` is
/// asked first: if it says that another endpoint takes the call, nothing is tried again here. An idempotent call is also
/// retried once if its connection ended before any part of an answer came. There are no other time limits here: the
/// caller drops the future to end the call. Each retry is an event of `span`.
///
/// # Errors
/// [`CallError`] says which side is at fault and whether the call may have been executed.
pub async fn forward(
    lease: &Lease,
    call: Call,
    mut span: Option<&mut Span>,
    mut elsewhere: impl FnMut() -> bool,
) -> Result<Answer, CallError> {
    let endpoint = &lease.endpoint;
    let (in_flight, limit) = (endpoint.admission.in_flight(), endpoint.in_flight_max());
    if in_flight > u64::from(limit) {
        let message = format!("server `{}` has {limit} calls in flight, which is its limit", endpoint.key.backend);
        return Err(CallError::unsent(Cause::InFlight, message));
    }
    let waits = Waits::after(call.waited);
    let mut again = Again { renewed: false, unsent: false, repeated: false, waits };
    loop {
        let link = match endpoint.link() {
            Some(link) => link,
            // Boxed because it is rare, as what follows an error is: its size would be part of the future of every call.
            None => Box::pin(again.waits.for_link(endpoint, &mut elsewhere)).await?,
        };
        match transact(endpoint, &link, &call).await {
            Ok(answer) => return Ok(answer),
            Err(error) if is_gone(endpoint, &error) && elsewhere() => return Err(error),
            Err(error) => {
                let cause = error.cause.as_str();
                let why = Box::pin(may_go_again(endpoint, &link, &call, error, &mut again, &mut elsewhere)).await?;
                if let Some(span) = &mut span {
                    let why = KeyValue::new("only1mcp.retry.reason", why);
                    span.event("retry", vec![why, KeyValue::new("error.type", cause)]);
                }
            }
        }
    }
}

/// Whether nothing was sent because there is no connection, or no process any more. Notes it, so that other calls avoid
/// the endpoint.
fn is_gone(endpoint: &Endpoint, error: &CallError) -> bool {
    if error.cause == Cause::Connect {
        endpoint.refuses();
    }
    !error.sent && matches!(error.cause, Cause::Connect | Cause::Lost)
}

/// Returns when the call may go again, and why it may, or gives back why it may not.
async fn may_go_again(
    endpoint: &Arc<Endpoint>,
    link: &Arc<Link>,
    call: &Call,
    error: CallError,
    again: &mut Again,
    elsewhere: &mut impl FnMut() -> bool,
) -> Result<&'static str, CallError> {
    let first = |tried: &mut bool| !std::mem::replace(tried, true);
    if !again.renewed
        && let Some(doubt) = link.doubt(&error)
        && link.has_fallen(endpoint, doubt).await
    {
        again.renewed = true;
        return match endpoint.renew(link.number()).await {
            Ok(true) => Ok("session_renewed"),
            Ok(false) => Err(error),
            // It is down by now, which is for the next look at it to judge.
            Err(_) => Ok("session_lost"),
        };
    }
    match error.cause {
        Cause::Connect => {
            again.waits.for_another_try(endpoint, error, elsewhere).await?;
            Ok("not_connected")
        }
        Cause::Lost if !error.sent => {
            if first(&mut again.unsent) || again.waits.for_another_process(endpoint).await {
                return Ok("not_sent");
            }
            Err(endpoint.when_to_try_again(error))
        }
        Cause::Lost if error.sent && call.idempotent && first(&mut again.repeated) => Ok("idempotent"),
        Cause::InFlight | Cause::Down | Cause::Lost | Cause::Protocol | Cause::TooLarge | Cause::Status(_) => {
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_does_not_hold_up_the_end_of_the_gateway() {
        let tasks = Tasks::new(Shutdown::new());
        let upstreams = Upstreams::new(tasks.clone(), Handle::current(), Clock::start(), Arc::default());
        let limit = Duration::from_secs(10);
        let waited = async |said: Duration| {
            let begun = Instant::now();
            let said = upstreams.in_time(limit, tokio::time::sleep(said)).await;
            (said.is_some(), begun.elapsed())
        };
        assert_eq!(waited(limit * 2).await, (false, limit));
        assert_eq!(waited(limit / 2).await, (true, limit / 2));
        tasks.shutdown().advance(Phase::Closing);
        assert_eq!(waited(limit / 2).await, (false, LAST_WORDS));
        assert_eq!(waited(LAST_WORDS / 2).await, (true, LAST_WORDS / 2));
    }
}
