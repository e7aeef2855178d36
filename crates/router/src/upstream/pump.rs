//! The task that speaks with one child: it owns the pipes, knows who waits for which number, and sees the child out.
//!
//! Everything is in one task on purpose: a writer that waits for a full pipe must not keep the reader from emptying the
//! other one, or two programs that both talk much would wait for each other for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mcp::message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inbound::{Inbound, not_an_answer, read, too_large};
use super::stderr_tail::{Lines, StderrTail};
use super::stdio::{ToChild, Waiter};
use super::too_long::TooLong;
use crate::call::{CallError, Cause, Detail};
use crate::endpoint::{Endpoint, EndpointEvent, Reason};
use crate::keeper::{Keeper, Kept, Streams};

/// Bytes waiting to be written at which no more messages are taken.
const HIGH_WATER: usize = 1 << 20;
const READ: usize = 16 << 10;
const READ_STDERR: usize = 4 << 10;
/// Between the end of stdin, SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Between the end of the child and the end of its pipes.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How much longer than allowed a message may be before its sender counts as broken.
const FAR_TOO_LONG: u64 = 1 << 30;

pub(super) struct Pump {
    endpoint: Weak<Endpoint>,
    server: String,
    number: u64,
    kept: Kept,
    calls: mpsc::Receiver<ToChild>,
    closing: CancellationToken,
    waiting: BTreeMap<u64, Waiting>,
    out: BytesMut,
    /// Of all bytes ever put into `out`, how many the pipe has taken.
    written: u64,
    queued: u64,
    inbound: BytesMut,
    /// Up to where `inbound` is known to have no line break.
    searched: usize,
    /// The message that is being read, if it is too long to be kept.
    too_long: Option<TooLong>,
    stdout_open: bool,
    stderr: Arc<StderrTail>,
    stderr_chunk: BytesMut,
    stderr_lines: Lines,
    stderr_open: bool,
}

struct Waiting {
    waiter: Waiter,
    /// Where its message begins in the stream of all that is written.
    begins: u64,
}

/// Why the pump stops taking calls.
enum Stop {
    Asked,
    /// The child closed a pipe, or ended.
    Closed,
    /// It sent a line without end.
    Broken(String),
}

impl Pump {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        number: u64,
        kept: Kept,
        calls: mpsc::Receiver<ToChild>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            endpoint: Arc::downgrade(endpoint),
            server: endpoint.key.backend.to_string(),
            number,
            kept,
            calls,
            closing,
            waiting: BTreeMap::new(),
            out: BytesMut::new(),
            written: 0,
            queued: 0,
            inbound: BytesMut::new(),
            searched: 0,
            too_long: None,
            stdout_open: true,
            stderr: Arc::clone(&endpoint.stderr),
            stderr_chunk: BytesMut::new(),
            stderr_lines: Lines::default(),
            stderr_open: true,
        }
    }

    /// Returns when the child, its descendants and its keeper are gone and everybody who waited has been told.
    pub(super) async fn run(mut self) {
        let stop = self.serve().await;
        // First no new calls: whoever finds no connection waits for the next one.
        let was_live = self.endpoint.upgrade().is_some_and(|endpoint| endpoint.unlink(self.number));
        self.calls.close();
        self.see_out().await;
        self.stderr_lines.finish(|line| self.stderr.push(line));
        let Self { endpoint, server, kept, calls, waiting, written, stderr, .. } = self;
        let ending = kept.keeper.reap().await;
        let reason = match &stop {
            Stop::Broken(what) => format!("its process {what} and {ending}"),
            Stop::Asked | Stop::Closed => format!("its process {ending}"),
        };
        let message = format!("server `{server}` gave no answer: {reason}");
        let detail = match stop {
            Stop::Asked => {
                tracing::debug!(server, reason, "a stdio server has ended");
                None
            }
            Stop::Closed | Stop::Broken(_) => {
                let detail = Detail::new(stderr.told());
                tracing::warn!(server, reason, reference = %detail.reference, said = detail.text,
                    "a stdio server is lost");
                Some(detail)
            }
        };
        tell_all(calls, waiting, written, &message, detail.as_ref()).await;
        if let Some(endpoint) = endpoint.upgrade().filter(|_| was_live) {
            let rest = detail.as_ref().map(ToString::to_string).unwrap_or_default();
            let (full, reference) = (format!("{reason}{rest}").into(), detail.map(|detail| detail.reference));
            let reason = Reason { plain: reason.into(), full, reference };
            endpoint.note_error(reason.clone());
            endpoint.tell(EndpointEvent::Lost { reason: reason.full });
        }
    }

    async fn serve(&mut self) -> Stop {
        loop {
            self.inbound.reserve(READ);
            self.stderr_chunk.reserve(READ_STDERR);
            let Kept { streams: Streams { stdin: Some(stdin), stdout, stderr }, keeper } = &mut self.kept else {
                return Stop::Closed;
            };
            tokio::select! {
                () = self.closing.cancelled() => return Stop::Asked,
                _ = keeper.ended() => return Stop::Closed,
                wrote = stdin.write(&self.out), if !self.out.is_empty() => match wrote {
                    Ok(count) => self.wrote(count),
                    // Mostly because it ended; if not, it is ended now.
                    Err(_) => return Stop::Closed,
                },
                message = self.calls.recv(), if self.out.len() < HIGH_WATER => match message {
                    Some(message) => self.take(message),
                    None => return Stop::Asked,
                },
                count = stdout.read_buf(&mut self.inbound) => match count {
                    Ok(count) if count > 0 => {
                        if let Err(limit) = self.take_lines() {
                            return Stop::Broken(format!("sent a message of more than {limit} bytes"));
                        }
                    }
                    Ok(_) | Err(_) => {
                        self.stdout_open = false;
                        return Stop::Closed;
                    }
                },
                count = stderr.read_buf(&mut self.stderr_chunk), if self.stderr_open => {
                    self.take_stderr(count.unwrap_or(0));
                }
            }
        }
    }

    /// Closes stdin and reads on until the child is gone, with more force after each grace. What it still answers counts.
    async fn see_out(&mut self) {
        drop(self.kept.streams.stdin.take());
        let mut forces = [Keeper::terminate as fn(&mut Keeper), Keeper::kill].into_iter();
        let mut deadline = Instant::now() + if self.kept.keeper.has_ended() { LAST_WORDS } else { GRACE };
        while !self.kept.keeper.has_ended() || self.stdout_open || self.stderr_open {
            self.inbound.reserve(READ);
            self.stderr_chunk.reserve(READ_STDERR);
            let Kept { streams, keeper } = &mut self.kept;
            tokio::select! {
                // Nobody is left to write, and what was written is soon read: longer only if somebody fled who holds a pipe.
                _ = keeper.ended(), if !keeper.has_ended() => deadline = deadline.min(Instant::now() + LAST_WORDS),
                count = streams.stdout.read_buf(&mut self.inbound), if self.stdout_open => {
                    self.stdout_open = count.is_ok_and(|count| count > 0) && self.take_lines().is_ok();
                }
                count = streams.stderr.read_buf(&mut self.stderr_chunk), if self.stderr_open => {
                    self.take_stderr(count.unwrap_or(0));
                }
                () = tokio::time::sleep_until(deadline) => match forces.next() {
                    Some(force) if !keeper.has_ended() => {
                        force(keeper);
                        deadline += GRACE;
                    }
                    Some(_) | None => return,
                },
            }
        }
    }

    fn take(&mut self, message: ToChild) {
        match message {
            ToChild::Call { id, line, waiter } => {
                self.waiting.insert(id, Waiting { waiter, begins: self.queued });
                self.write_line(&line);
            }
            ToChild::Notify(line) => self.write_line(&line),
            ToChild::Cancel { id } => {
                // Else it was answered meanwhile.
                if self.waiting.remove(&id).is_some() {
                    self.write_line(&message::cancelled(&id.to_string(), None));
                }
            }
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
    }

    /// Takes every complete line. One that is too long fails its call alone; the limit is given back if the one that has
    /// begun seems to have no end at all.
    fn take_lines(&mut self) -> Result<(), u64> {
        // Without an endpoint it is on its way out.
        let limit = self.endpoint.upgrade().map_or(u64::MAX, |endpoint| endpoint.limits().response_bytes);
        while let Some(at) = memchr::memchr(b'\n', &self.inbound[self.searched..]) {
            let line = self.inbound.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            let line = line.slice_ref(line.trim_ascii());
            if self.too_long.is_some() || line.len() as u64 > limit {
                let mut too_long = self.too_long.take().unwrap_or_default();
                too_long.push(&line);
                let length = too_long.length;
                tracing::warn!(server = self.server, length, limit, "a message of the server is too long");
                if let Some(id) = too_long.answers() {
                    self.fail(id, too_large(&self.server, limit));
                }
            } else if !line.is_empty() {
                self.take_message(line);
            }
        }
        self.searched = self.inbound.len();
        if self.too_long.is_some() || self.searched as u64 > limit {
            let too_long = self.too_long.get_or_insert_default();
            too_long.push(&self.inbound);
            self.inbound.clear();
            self.searched = 0;
            if too_long.length > limit.saturating_add(FAR_TOO_LONG) {
                return Err(limit);
            }
        }
        Ok(())
    }

    /// The call will have no other answer.
    fn fail(&mut self, id: u64, error: CallError) {
        if let Some(Waiting { waiter, .. }) = self.waiting.remove(&id) {
            drop(waiter.progress);
            drop(waiter.answer.send(Err(error)));
        }
    }

    fn take_message(&mut self, line: Bytes) {
        match read(&line) {
            Inbound::Answer { id, span } => match self.waiting.remove(&id) {
                Some(Waiting { waiter: Waiter { answer, progress }, .. }) => {
                    drop(progress); // closed first: the answer is the last thing to arrive
                    // Nobody there any more: its cancellation is on the way.
                    drop(answer.send(Ok((line, span))));
                }
                None => tracing::debug!(server = self.server, id, "an answer nobody waits for"),
            },
            Inbound::Progress { token, span } => {
                let progress = self.waiting.get(&token).and_then(|waiting| waiting.waiter.progress.as_ref());
                if progress.is_none_or(|progress| progress.try_send((line, span)).is_err()) {
                    metrics::counter!("only1mcp_router_progress_dropped_total").increment(1);
                }
            }
            Inbound::Request { method, reply } => {
                tracing::debug!(server = self.server, method, "a request of the server is answered here");
                self.write_line(&reply);
            }
            Inbound::ListChanged => {
                if let Some(endpoint) = self.endpoint.upgrade() {
                    endpoint.tell(EndpointEvent::ListChanged);
                }
            }
            Inbound::Malformed { id, reason } => {
                if let Some(id) = id {
                    self.fail(id, not_an_answer(&self.server, &reason));
                }
                // Mostly a program that prints to stdout what belongs to stderr: there people will look for it.
                tracing::debug!(server = self.server, reason, "a line of stdout is no MCP");
                self.stderr.push(&line);
            }
            stray @ (Inbound::NamelessError { .. } | Inbound::Notification | Inbound::Stray) => {
                tracing::debug!(server = self.server, ?stray, "a message of the server is for nobody");
            }
        }
    }

    fn take_stderr(&mut self, count: usize) {
        self.stderr_open = count > 0;
        let (chunk, stderr, server) = (self.stderr_chunk.split(), &self.stderr, &self.server);
        self.stderr_lines.push(&chunk, |line| {
            tracing::debug!(server, line = %String::from_utf8_lossy(line).trim_end(), "stderr");
            stderr.push(line);
        });
    }
}

/// Fails everybody who still waits or had not even been written.
async fn tell_all(
    mut calls: mpsc::Receiver<ToChild>,
    waiting: BTreeMap<u64, Waiting>,
    written: u64,
    message: &str,
    detail: Option<&Arc<Detail>>,
) {
    let explained = |error: CallError| match detail {
        Some(detail) => error.explained(Arc::clone(detail)),
        None => error,
    };
    let unsent = || explained(CallError::unsent(Cause::Lost, message.to_owned()));
    let sent = || explained(CallError::sent(Cause::Lost, message.to_owned()));
    for Waiting { waiter, begins } in waiting.into_values() {
        drop(waiter.answer.send(Err(if begins < written { sent() } else { unsent() })));
    }
    while let Some(message) = calls.recv().await {
        if let ToChild::Call { waiter, .. } = message {
            drop(waiter.answer.send(Err(unsent())));
        }
    }
}
