//! A child process on stdio: many calls in flight by id, over one pipe each way.
//!
//! One task, the [`pump`], owns the pipes and knows which call waits for which answer. Calls on any core
//! reach the pump through a bounded queue, and get its messages through channels of their own.

mod events;
pub mod keeper;
mod pump;
mod stderr_tail;
mod too_long;
mod unreadable;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mcp::Span;
use mcp::initialize::{self, ServerInitialize};
use mcp::message;
use model::Transport;
use runtime::telemetry::sampled;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ask::{ask, greeting_of};
use super::inbound::Restore;
use super::{Link, OURSELVES, outgoing};
use crate::beside::{LONG, beside};
use crate::budget::SMALL;
use crate::call::{Answer, Call, CallError, Cause, EventStream};
use crate::endpoint::{AskError, BringUpFailure, Endpoint};
use crate::secrets::{Secret, SecretError, Secrets};
use events::StdioEvents;
use keeper::{Kept, Launch};
use pump::{Closing, Pump};
pub(crate) use pump::{SEEN_OUT, wrote};
pub(crate) use stderr_tail::StderrTail;

/// Messages on their way to the pump; a call waits while this queue is full.
const QUEUE: usize = 256;
/// Bytes of large messages on their way to the pump; a call waits while there is no room.
const QUEUE_BYTES: u32 = 8 << 20;
/// Smaller messages always have room: a queue full of them is less than half of `QUEUE_BYTES`.
const LARGE: usize = 16 << 10;
/// Progress messages of one call that its client has not taken yet; more are dropped.
const PROGRESS: usize = 64;

/// A child that was initialised, or is being.
pub(crate) struct StdioLink {
    pub(crate) number: u64,
    pub(crate) pid: u32,
    queue: mpsc::Sender<ToChild>,
    /// For the bytes of large messages that wait there.
    room: Arc<Semaphore>,
    greeting: OnceLock<ServerInitialize>,
    /// Cancelled: the pump ends the child in an orderly way.
    closing: Closing,
    /// Cancelled by the pump when child and keeper are gone.
    gone: CancellationToken,
    /// Closes the link when its last holder drops it.
    _close_on_drop: DropGuard,
}

/// A message to the pump.
pub(super) enum ToChild {
    Call {
        id: u64,
        line: Vec<u8>,
        waiter: Waiter,
        /// Of a large message, until the pump takes it.
        room: Option<OwnedSemaphorePermit>,
        /// The large body that the line was made from: its charge covers the line, whatever becomes of the call.
        _charged: Option<Bytes>,
    },
    /// A notification, as one line.
    Notify(Vec<u8>),
    /// No call waits for this answer any more; the child is told.
    Cancel { id: u64 },
}

/// Receives the messages of one call: each is the server's message and the place of the router's id in it.
pub(super) struct Waiter {
    pub(super) answer: oneshot::Sender<Result<(Bytes, Span), CallError>>,
    pub(super) progress: Option<mpsc::Sender<(Bytes, Span)>>,
}

impl StdioLink {
    /// There is one process at a time: waits up to `patience` for the previous process to end.
    pub(super) async fn establish(endpoint: &Arc<Endpoint>, patience: Duration) -> Result<Arc<Link>, BringUpFailure> {
        let transport = &endpoint.spec.transport;
        let (secrets, only) = tokio::join!(endpoint.secrets(), endpoint.only_process(patience));
        let (command, launch) = launch(transport, &secrets)?;
        let only = only?;
        // Nothing waits between here and the task that owns the process: an endpoint that ends finds the process, or it
        // is never started.
        if endpoint.ended.is_cancelled() {
            return Err(BringUpFailure::Ended);
        }
        let kept =
            Kept::start(&launch).map_err(|source| BringUpFailure::Keeper { command: command.clone(), source })?;
        let (queue, calls) = mpsc::channel(QUEUE);
        sampled::queue("router_to_child", &queue);
        let (closing, gone) = (Closing::default(), CancellationToken::new());
        let number = endpoint.next_link_number();
        let close_on_drop = closing.guard();
        let (started_to, started) = oneshot::channel();
        let (over, pumped, asked) = (gone.clone().drop_guard(), Arc::clone(endpoint), closing.clone());
        endpoint.upstreams.tasks.spawn_on(&endpoint.upstreams.control, "stdio server", async move {
            begin_and_pump(pumped, number, kept, calls, asked, started_to).await;
            drop((only, over));
        });
        let started = started.await.unwrap_or_else(|_| Err("its keeper was given up".to_owned()));
        let pid = started.map_err(|reason| BringUpFailure::start(command, reason))?;
        let link = Arc::new(Link::Stdio(Self {
            number,
            pid,
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)),
            greeting: OnceLock::new(),
            closing,
            gone,
            _close_on_drop: close_on_drop,
        }));
        if let Err(error) = initialise(endpoint, &link).await {
            link.close(endpoint).await;
            return Err(BringUpFailure::Initialize(error));
        }
        Ok(link)
    }

    pub(super) async fn call(&self, endpoint: &Arc<Endpoint>, call: &Call) -> Result<Answer, CallError> {
        let id = endpoint.next_id();
        let restore = Restore::new(call, id);
        let (answer_to, answer) = oneshot::channel();
        let (progress_to, progress) = match call.progress {
            Some(_) => Some(mpsc::channel(PROGRESS)).unzip(),
            None => (None, None),
        };
        let waiter = Waiter { answer: answer_to, progress: progress_to };
        let room = if call.body.len() < LARGE { None } else { self.room_for(call.body.len()).await };
        let charged = (call.body.len() > SMALL).then(|| call.body.clone());
        let message = ToChild::Call { id, line: outgoing::write_line(call, id), waiter, room, _charged: charged };
        let server = endpoint.key.backend.as_str();
        if self.queue.send(message).await.is_err() {
            return Err(CallError::unsent(Cause::Lost, format!("the process of server `{server}` has ended")));
        }
        let mut cancel = Cancel { endpoint: Arc::clone(endpoint), queue: self.queue.clone(), id, out: true };
        if let Some(progress) = progress {
            let events = StdioEvents::new(progress, answer, restore, cancel);
            return Ok(Answer::Events(EventStream::new(events)));
        }
        let outcome = answer.await;
        cancel.over();
        let (message, span) = outcome.unwrap_or_else(|_| Err(ended(server)))?;
        if message.len() > LONG {
            return Ok(Answer::Whole(Box::pin(beside(move || restore.answer(&message, span))).await));
        }
        Ok(Answer::Whole(restore.answer(&message, span)))
    }

    /// Waits for room before the message is copied for the child. A message larger than the room gets all of it.
    async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(QUEUE_BYTES).min(QUEUE_BYTES);
        // The semaphore is never closed.
        Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
    }

    pub(crate) fn greeting(&self) -> &ServerInitialize {
        self.greeting.get().expect("a link is handed out only after it was initialised")
    }

    pub(crate) fn is_over(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns when the child, its descendants and its keeper are gone.
    pub(super) async fn close(&self) {
        self.closing.ask();
        self.gone.cancelled().await;
    }

    /// Fails the child's calls at once and ends the child with little patience. The loss is reported when the child is
    /// gone.
    pub(super) fn restart(&self, why: &str) {
        self.closing.restart(why);
    }
}

/// Owns the child from its start to its end, whatever becomes of the attempt that wanted it.
async fn begin_and_pump(
    endpoint: Arc<Endpoint>,
    number: u64,
    mut kept: Kept,
    calls: mpsc::Receiver<ToChild>,
    closing: Closing,
    started_to: oneshot::Sender<Result<u32, String>>,
) {
    let started = tokio::select! {
        started = kept.keeper.started() => started,
        () = closing.asked() => Err("nobody waits for it any more".to_owned()),
    };
    match started {
        Ok(pid) => {
            let pump = Pump::new(&endpoint, number, kept, calls, closing);
            drop(endpoint);
            // If the attempt was given up, the link has gone with it, and the pump ends the child.
            drop(started_to.send(Ok(pid)));
            // The attempt runs first, so that a child which ends at once still has a call that fails with how the child
            // ended.
            tokio::task::yield_now().await;
            pump.run().await;
        }
        Err(reason) => {
            drop(endpoint);
            kept.keeper.reap().await;
            drop(started_to.send(Err(reason)));
        }
    }
}

pub(super) fn ended(server: &str) -> CallError {
    CallError::sent(Cause::Lost, format!("the process of server `{server}` ended while the call was running"))
}

async fn initialise(endpoint: &Arc<Endpoint>, link: &Arc<Link>) -> Result<(), AskError> {
    let Link::Stdio(stdio) = &**link else { unreachable!("made by the caller") };
    let call = Call::of_message(initialize::client_request("0", OURSELVES));
    let response = ask(endpoint, link, &call, endpoint.limits().connect).await.map_err(AskError::under_connect)?;
    let greeting = greeting_of(&response, &endpoint.echo)?;
    stdio.greeting.get_or_init(|| greeting);
    let told = stdio.queue.send(ToChild::Notify(message::INITIALIZED.to_vec())).await;
    told.map_err(|_| ended(endpoint.key.backend.as_str()).into())
}

/// The command with its secrets resolved. Of the router's own environment, a child gets what any program needs to run,
/// and nothing that could be meant for another program.
fn launch(transport: &Transport, secrets: &Secrets) -> Result<(String, Launch), SecretError> {
    let Transport::Stdio { command, args, env, cwd } = transport else {
        unreachable!("only stdio transports are launched");
    };
    let inherited = ["PATH", "HOME", "LANG"].into_iter();
    let mut environment: Vec<(String, Secret)> =
        inherited.filter_map(|name| Some((name.to_owned(), Secret::inherited(name)?))).collect();
    for (name, text) in env {
        environment.retain(|(present, _)| present != name);
        environment.push((name.clone(), secrets.resolve(&format!("env.{name}"), text)?));
    }
    let arguments = args.iter().enumerate();
    let launch = Launch {
        command: secrets.resolve("command", command)?,
        arguments: arguments.map(|(i, text)| secrets.resolve(&format!("args[{i}]"), text)).collect::<Result<_, _>>()?,
        environment,
        directory: cwd.as_ref().map(|text| secrets.resolve("cwd", text)).transpose()?,
    };
    Ok((command.clone(), launch))
}

/// Cancels the call if it is dropped while the call is out.
pub(super) struct Cancel {
    endpoint: Arc<Endpoint>,
    queue: mpsc::Sender<ToChild>,
    id: u64,
    out: bool,
}

impl Cancel {
    pub(super) fn over(&mut self) {
        self.out = false;
    }

    pub(super) fn server(&self) -> &str {
        self.endpoint.key.backend.as_str()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if !self.out {
            return;
        }
        // Behind the queued messages, the cancellation would come too late for a call among them.
        self.endpoint.abandoned.notify_one();
        let message = ToChild::Cancel { id: self.id };
        if let Err(mpsc::error::TrySendError::Full(message)) = self.queue.try_send(message) {
            // The pump must be told all the same, or it would wait for the answer for ever.
            let queue = self.queue.clone();
            let upstreams = &self.endpoint.upstreams;
            upstreams.tasks.spawn_on(&upstreams.control, "cancellation of a call", async move {
                drop(queue.send(message).await);
            });
        }
    }
}
