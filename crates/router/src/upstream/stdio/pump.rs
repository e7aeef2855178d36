//! The task that talks to one child process: it owns the pipes, knows which call waits under which id, and ends the
//! child.
//!
//! One task both reads and writes on purpose: a writer that waits for a full pipe must not keep the reader from
//! draining the other pipe, or two programs that both write much would wait for each other for ever. What a child can
//! make this task keep or do is bounded all the same: the child must read the replies to its requests, and its
//! unsolicited messages are read at a limited rate.

mod given_up;
mod half_line;
mod hearing;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::{Buf, BufMut as _, BytesMut};
use fleet::Reason;
use mcp::message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keeper::{Keeper, Kept, Streams};
use super::stderr_tail::{Lines, StderrTail};
use super::too_long::TooLong;
use super::{ToChild, Waiter};
use crate::call::{CallError, Cause, Detail};
use crate::endpoint::{Endpoint, EndpointEvent};
use crate::upstream::unasked::Unasked;
use given_up::GivenUp;
use half_line::HalfLine;

/// No more messages are taken once this many bytes wait to be written.
const HIGH_WATER: usize = 1 << 20;
const READ: usize = 16 << 10;
/// The most that one read takes. Without a limit, one read copies for as long as the child writes, and the kernel may
/// run no other thread on this processor during the copy.
const READ_AT_ONCE: usize = 64 << 10;
const READ_STDERR: usize = 4 << 10;
/// The pause between closing stdin, SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long its pipes are still read after the child has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Longer than any child takes to end, unless the operating system itself holds it.
pub(crate) const SEEN_OUT: Duration = Duration::from_secs(7);
/// How long a child may leave its stdin unread while replies to its requests pile up.
const UNREAD: Duration = Duration::from_secs(5);
/// How much longer than allowed a message may be before its sender counts as broken.
const FAR_TOO_LONG: u64 = 1 << 30;

pub(crate) struct Pump {
    endpoint: Weak<Endpoint>,
    server: String,
    number: u64,
    kept: Kept,
    calls: mpsc::Receiver<ToChild>,
    closing: Closing,
    abandoned: Arc<Notify>,
    waiting: BTreeMap<u64, Waiting>,
    given_up: GivenUp,
    out: BytesMut,
    /// Replies to the child's requests, until `out` has room for them.
    replies: BytesMut,
    /// The child counts as broken if it has read nothing by this time. Its output is not read meanwhile.
    unread_until: Option<Instant>,
    /// How many of all bytes ever put into `out` the pipe has taken.
    written: u64,
    queued: u64,
    inbound: BytesMut,
    /// `inbound` is known to have no line break before this position.
    searched: usize,
    /// The room for the part of a long line that `inbound` holds.
    half_line: HalfLine,
    /// Whether the unfinished line is being reported.
    begun: bool,
    /// The message that is being read, if it is too long to be kept.
    too_long: Option<TooLong>,
    /// Why that message is not kept, if not for its length alone.
    lost: Option<CallError>,
    stdout_open: bool,
    unasked: Unasked,
    /// The child sent too much unsolicited output: nothing is read until this time.
    paused_until: Option<Instant>,
    /// A list of the child has changed; the fleet is told once per read.
    list_changed: bool,
    stderr: Arc<StderrTail>,
    /// Lines of stdout that are no MCP.
    stray: Arc<StderrTail>,
    stderr_chunk: BytesMut,
    stderr_lines: Lines,
    stderr_open: bool,
}

struct Waiting {
    waiter: Waiter,
    /// Where the call's message begins in the stream of all written bytes.
    begins: u64,
    /// Of the message, including its line break.
    length: usize,
}

/// Why the pump stops taking calls.
enum Stop {
    Asked,
    /// Another process is to replace the child, for this reason.
    Restart(String),
    /// The child closed a pipe, or ended.
    Closed,
    /// The child sent a line without end, or does not read its stdin.
    Broken(String),
}

/// How the end of a child is requested.
#[derive(Clone, Default)]
pub(crate) struct Closing {
    token: CancellationToken,
    /// Why another process is to replace the child, if one is.
    restart: Arc<OnceLock<String>>,
}

impl Closing {
    pub(crate) fn ask(&self) {
        self.token.cancel();
    }

    /// The first reason counts; no reason counts once the end was requested.
    pub(crate) fn restart(&self, why: &str) {
        if !self.token.is_cancelled() {
            drop(self.restart.set(why.to_owned()));
            self.token.cancel();
        }
    }

    /// A guard that requests the end when it is dropped.
    pub(crate) fn guard(&self) -> DropGuard {
        self.token.clone().drop_guard()
    }

    pub(crate) fn asked(&self) -> impl Future<Output = ()> {
        self.token.cancelled()
    }

    fn stop(&self) -> Stop {
        self.restart.get().cloned().map_or(Stop::Asked, Stop::Restart)
    }
}

impl Pump {
    pub(crate) fn new(
        endpoint: &Arc<Endpoint>,
        number: u64,
        kept: Kept,
        calls: mpsc::Receiver<ToChild>,
        closing: Closing,
    ) -> Self {
        endpoint.stderr.begin();
        endpoint.stray.begin();
        endpoint.note_half_line(false);
        Self {
            endpoint: Arc::downgrade(endpoint),
            server: endpoint.key.backend.to_string(),
            number,
            kept,
            calls,
            closing,
            abandoned: Arc::clone(&endpoint.abandoned),
            waiting: BTreeMap::new(),
            given_up: GivenUp::default(),
            out: BytesMut::new(),
            replies: BytesMut::new(),
            unread_until: None,
            written: 0,
            queued: 0,
            inbound: BytesMut::new(),
            searched: 0,
            half_line: HalfLine::default(),
            begun: false,
            too_long: None,
            lost: None,
            stdout_open: true,
            unasked: Unasked::default(),
            paused_until: None,
            list_changed: false,
            stray: Arc::clone(&endpoint.stray),
            stderr: Arc::clone(&endpoint.stderr),
            stderr_chunk: BytesMut::new(),
            stderr_lines: Lines::default(),
            stderr_open: true,
        }
    }

    /// Returns when the child, its descendants and its keeper are gone and all waiting calls have been told.
    pub(crate) async fn run(mut self) {
        let stop = self.serve().await;
        // Stop new calls first: a call that finds no connection waits for the next one.
        let was_live = self.endpoint.upgrade().is_some_and(|endpoint| endpoint.unlink(self.number));
        self.calls.close();
        let patience = match &stop {
            Stop::Restart(why) => {
                tracing::warn!(server = self.server, why, "a stdio server is restarted");
                let message = format!("server `{}` was restarted while the call was running: {why}", self.server);
                self.fail_all(&message, None).await;
                Duration::ZERO
            }
            Stop::Asked | Stop::Closed | Stop::Broken(_) => GRACE,
        };
        self.see_out(patience).await;
        self.stderr_lines.finish(|line| self.stderr.push(line));
        let ending = self.kept.keeper.ended_and_reaped().await;
        let reason = match &stop {
            Stop::Broken(what) => format!("its process {what} and {ending}"),
            Stop::Restart(why) => format!("it was restarted: {why}; its process {ending}"),
            Stop::Asked | Stop::Closed => format!("its process {ending}"),
        };
        let detail = self.log_end(&stop, &reason);
        let message = format!("server `{}` gave no answer: {reason}", self.server);
        self.fail_all(&message, detail.as_ref()).await;
        if let Some(endpoint) = self.endpoint.upgrade().filter(|_| was_live) {
            let rest = detail.as_ref().map(ToString::to_string).unwrap_or_default();
            let (full, reference) = (format!("{reason}{rest}").into(), detail.map(|detail| detail.reference));
            let reason = Reason { plain: reason.into(), full, reference };
            endpoint.note_error(reason.clone());
            endpoint.tell(EndpointEvent::Lost { reason: reason.full });
        }
    }

    /// Writes the log line. Returns the part of it that clients do not get.
    fn log_end(&self, stop: &Stop, reason: &str) -> Option<Arc<Detail>> {
        let server = &self.server;
        match stop {
            Stop::Asked | Stop::Restart(_) => {
                tracing::debug!(server, reason, "a stdio server has ended");
                None
            }
            Stop::Closed | Stop::Broken(_) => {
                let detail = Detail::new(wrote(&self.stderr, &self.stray));
                tracing::warn!(server, reason, reference = %detail.reference, said = detail.text,
                    "a stdio server is lost");
                Some(detail)
            }
        }
    }

    /// Fails all calls that still wait, and those still in the queue.
    async fn fail_all(&mut self, message: &str, detail: Option<&Arc<Detail>>) {
        let explained = |error: CallError| match detail {
            Some(detail) => error.explained(Arc::clone(detail)),
            None => error,
        };
        let unsent = || explained(CallError::unsent(Cause::Lost, message.to_owned()));
        let sent = || explained(CallError::sent(Cause::Lost, message.to_owned()));
        for Waiting { waiter, begins, .. } in std::mem::take(&mut self.waiting).into_values() {
            drop(waiter.progress);
            drop(waiter.answer.send(Err(if begins < self.written { sent() } else { unsent() })));
        }
        while let Some(message) = self.calls.recv().await {
            if let ToChild::Call { waiter, .. } = message {
                drop(waiter.answer.send(Err(unsent())));
            }
        }
    }

    async fn serve(&mut self) -> Stop {
        loop {
            self.inbound.reserve(READ);
            self.stderr_chunk.reserve(READ_STDERR);
            let Kept { streams: Streams { stdin: Some(stdin), stdout, stderr }, keeper } = &mut self.kept else {
                return Stop::Closed;
            };
            let heard = self.paused_until.is_none() && self.unread_until.is_none();
            let reads = heard && self.half_line.may_grow();
            let mut inbound = (&mut self.inbound).limit(READ_AT_ONCE);
            tokio::select! {
                () = self.closing.asked() => return self.closing.stop(),
                _ = keeper.ended() => return Stop::Closed,
                wrote = stdin.write(&self.out), if !self.out.is_empty() => match wrote {
                    Ok(count) => self.wrote(count),
                    // Mostly because the child has ended; if not, it is ended now.
                    Err(_) => return Stop::Closed,
                },
                () = self.abandoned.notified(), if !self.out.is_empty() => self.take_back_all(),
                message = self.calls.recv(), if self.out.len() < HIGH_WATER => match message {
                    Some(message) => self.take(message),
                    None => return Stop::Asked,
                },
                count = stdout.read_buf(&mut inbound), if reads => match count {
                    Ok(count) if count > 0 => {
                        if let Err(limit) = self.take_lines().await {
                            return Stop::Broken(format!("sent a message of more than {limit} bytes"));
                        }
                    }
                    Ok(_) | Err(_) => {
                        self.stdout_open = false;
                        return Stop::Closed;
                    }
                },
                count = stderr.read_buf(&mut self.stderr_chunk), if self.stderr_open && heard => {
                    self.take_stderr(count.unwrap_or(0));
                }
                outcome = self.half_line.changed(heard), if self.half_line.is_held() => self.go_on(outcome),
                () = sleep_until(self.paused_until), if self.paused_until.is_some() => self.paused_until = None,
                () = sleep_until(self.unread_until), if self.unread_until.is_some() => {
                    return Stop::Broken(format!(
                        "asks without reading its stdin ({} bytes of replies, nothing read for {} s)",
                        self.replies.len() + self.out.len(),
                        UNREAD.as_secs()
                    ));
                }
            }
            self.charge().await;
        }
    }

    /// Charges unsolicited output: lets other tasks run first, and pauses reading if there was too much of it.
    async fn charge(&mut self) {
        if self.unasked.is_nothing() {
            return;
        }
        let (turn, paused_until) = self.unasked.charge(Instant::now());
        self.paused_until = paused_until;
        if turn {
            tokio::task::yield_now().await;
        }
    }

    /// Closes stdin, sends SIGTERM after `patience`, and SIGKILL after `GRACE` more. Reads on until the child is gone:
    /// answers that still come count.
    async fn see_out(&mut self, patience: Duration) {
        drop(self.kept.streams.stdin.take());
        (self.out, self.replies) = (BytesMut::new(), BytesMut::new());
        let mut forces = [Keeper::terminate as fn(&mut Keeper), Keeper::kill].into_iter();
        let mut deadline = Instant::now() + if self.kept.keeper.has_ended() { LAST_WORDS } else { patience };
        while !self.kept.keeper.has_ended() || self.stdout_open || self.stderr_open {
            self.inbound.reserve(READ);
            self.stderr_chunk.reserve(READ_STDERR);
            let Kept { streams, keeper } = &mut self.kept;
            let heard = self.paused_until.is_none();
            let reads = heard && self.half_line.may_grow();
            let mut inbound = (&mut self.inbound).limit(READ_AT_ONCE);
            tokio::select! {
                // No process is left to write, and what was written is soon read. Only an escaped process that holds a
                // pipe takes longer.
                _ = keeper.ended(), if !keeper.has_ended() => deadline = deadline.min(Instant::now() + LAST_WORDS),
                count = streams.stdout.read_buf(&mut inbound), if self.stdout_open && reads => {
                    self.stdout_open = count.is_ok_and(|count| count > 0) && self.take_lines().await.is_ok();
                }
                count = streams.stderr.read_buf(&mut self.stderr_chunk), if self.stderr_open && heard => {
                    self.take_stderr(count.unwrap_or(0));
                }
                outcome = self.half_line.changed(heard), if self.half_line.is_held() => {
                    self.go_on(outcome);
                    deadline = deadline.max(Instant::now() + LAST_WORDS);
                }
                () = sleep_until(self.paused_until), if self.paused_until.is_some() => self.paused_until = None,
                // A line that waits for room in the router is not late.
                () = tokio::time::sleep_until(deadline), if self.half_line.may_grow() || !keeper.has_ended() => match forces.next() {
                    Some(force) if !keeper.has_ended() => {
                        force(keeper);
                        deadline += GRACE;
                    }
                    Some(_) | None => return,
                },
            }
            self.charge().await;
        }
    }

    fn take(&mut self, message: ToChild) {
        match message {
            // Given up while it waited in the queue: the child never sees the call.
            ToChild::Call { waiter, .. } if waiter.answer.is_closed() => {}
            ToChild::Call { id, line, waiter, room, _charged: _ } => {
                self.waiting.insert(id, Waiting { waiter, begins: self.queued, length: line.len() + 1 });
                self.write_line(&line);
                drop((line, room));
                self.note_begun();
            }
            ToChild::Notify(line) => self.write_line(&line),
            // If no call waits under this id, it was answered meanwhile, or was given up before it came here.
            ToChild::Cancel { id } => {
                match self.waiting.remove(&id) {
                    Some(Waiting { begins, length, .. }) if begins >= self.written => self.take_back(begins, length),
                    Some(_) => {
                        self.given_up.add(id, Instant::now());
                        self.write_line(&message::cancelled(&id.to_string(), None));
                    }
                    None => {}
                }
                self.charge_begun();
            }
        }
    }

    fn take_back_all(&mut self) {
        let unwritten = |waiting: &Waiting| waiting.begins >= self.written && waiting.waiter.answer.is_closed();
        let given_up: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| unwritten(waiting)).map(|(id, _)| *id).collect();
        for id in given_up {
            if let Some(Waiting { begins, length, .. }) = self.waiting.remove(&id) {
                self.take_back(begins, length);
            }
        }
        self.charge_begun();
    }

    /// Removes a message of which the pipe has taken nothing: the child never sees it.
    fn take_back(&mut self, begins: u64, length: usize) {
        let before = usize::try_from(begins - self.written).expect("it is in memory");
        let after = self.out.split_off(before);
        self.out.extend_from_slice(&after[length..]);
        self.queued -= length as u64;
        for later in self.waiting.values_mut().filter(|waiting| waiting.begins > begins) {
            later.begins -= length as u64;
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        self.out.reserve(line.len() + 1);
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(b"\n");
        self.queued += line.len() as u64 + 1;
    }

    fn wrote(&mut self, count: usize) {
        self.out.advance(count);
        self.written += count as u64;
        if !self.replies.is_empty() && self.out.len() < HIGH_WATER {
            let replies = std::mem::take(&mut self.replies);
            self.queued += replies.len() as u64;
            self.out.unsplit(replies);
        }
        // The child reads, if slowly, so its time starts again. Its output is not read while `HIGH_WATER` bytes of
        // replies wait.
        self.unread_until = (self.replies.len() >= HIGH_WATER).then(|| Instant::now() + UNREAD);
        if self.out.is_empty() && self.out.capacity() > HIGH_WATER {
            self.out = BytesMut::new();
        }
    }

    /// Queues a reply to a request of the child. Calls wait in their queue while `out` is full; replies have no queue,
    /// so the child's output is not read while `HIGH_WATER` bytes of replies wait.
    fn reply(&mut self, line: &[u8]) {
        if self.kept.streams.stdin.is_none() {
            return;
        }
        if self.replies.is_empty() && self.out.len() < HIGH_WATER {
            return self.write_line(line);
        }
        self.replies.extend_from_slice(line);
        self.replies.extend_from_slice(b"\n");
        if self.replies.len() >= HIGH_WATER && self.unread_until.is_none() {
            self.unread_until = Some(Instant::now() + UNREAD);
        }
    }

    fn take_stderr(&mut self, count: usize) {
        self.stderr_open = count > 0;
        // Charged because each piece is searched for secrets.
        self.unasked.add_piece(count);
        let (chunk, stderr, server) = (self.stderr_chunk.split(), &self.stderr, &self.server);
        let unasked = &mut self.unasked;
        self.stderr_lines.push(&chunk, |line| {
            unasked.add(0);
            tracing::debug!(server, line = %stderr.shown(line).trim_end(), "stderr");
            stderr.push(line);
        });
    }
}

/// Never returns if there is nothing to wait for.
async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// What a child said before it failed, for operators.
pub(crate) fn wrote(stderr: &StderrTail, stray: &StderrTail) -> String {
    let stderr = stderr.told().map(|lines| format!("its stderr ends with: {lines}"));
    let stray = stray.told().map(|lines| format!("its stdout has lines that are no MCP: {lines}"));
    stderr.into_iter().chain(stray).collect::<Vec<_>>().join("; ")
}
