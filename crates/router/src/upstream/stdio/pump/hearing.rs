//! A child's stdout, line by line: which call a line answers, or would have answered if it could be used.

use bytes::{Bytes, BytesMut};
use mcp::Span;
use mcp::message::ErrorObject;
use tokio::time::Instant;

use super::{FAR_TOO_LONG, Pump, Waiting};
use crate::beside::{LONG, beside};
use crate::budget::{SMALL, Share};
use crate::call::{CallError, Cause, Side};
use crate::endpoint::EndpointEvent;
use crate::secrets::Said;
use crate::upstream::half_read::Refused;
use crate::upstream::inbound::{Inbound, not_an_answer, read, too_large};
use crate::upstream::stdio::Waiter;
use crate::upstream::stdio::unreadable::{Meant, meant};

/// At most this many bytes of an unfinished line are shown; a longer line is not looked at again when more of it comes.
const SEEN: usize = 2 << 10;
/// A progress line up to this length is not charged: few of them wait for one client.
const SHORT: usize = 1 << 10;
/// One read may bring tens of thousands of lines; after this many, other tasks on the thread run first.
const LINES_AT_ONCE: u32 = 256;
/// Bytes of an error that are parsed for the text shown to operators.
const LOOKED_AT: usize = 4 << 10;
/// A line that does not begin like a message, or comes while no call waits, is not kept beyond this many bytes.
const NO_MESSAGE: usize = 1 << 20;

impl Pump {
    /// Takes every complete line. A line that is too long fails only its own call. Returns the limit if the unfinished
    /// line seems to have no end at all.
    pub(super) async fn take_lines(&mut self) -> Result<(), u64> {
        // Without an endpoint, the child is being ended.
        let limit = self.endpoint.upgrade().map_or(u64::MAX, |endpoint| endpoint.limits().response_bytes);
        let mut taken = 0_u32;
        while let Some(at) = memchr::memchr(b'\n', &self.inbound[self.searched..]) {
            let whole = self.inbound.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            let line = whole.slice_ref(whole.trim_ascii());
            self.unasked.add_blank(whole.len() - line.len());
            let share = if self.half_line.is_held() { self.half_line.end(line.len()) } else { None };
            if self.too_long.is_some() || line.len() as u64 > limit {
                self.is_past(&line, limit);
            } else if line.is_empty() {
                self.unasked.add(0);
            } else {
                let inbound = if line.len() <= LONG { read(&line) } else { Box::pin(sort(line.clone())).await };
                self.take_message(inbound, line, share);
            }
            taken += 1;
            if taken.is_multiple_of(LINES_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        self.searched = self.inbound.len();
        let endless =
            self.searched > NO_MESSAGE && !mcp::without_bom(&self.inbound).trim_ascii_start().starts_with(b"{");
        if (self.too_long.is_some() || self.searched as u64 > limit || endless)
            && self.read_past() > limit.saturating_add(FAR_TOO_LONG)
        {
            return Err(limit);
        }
        self.note_begun();
        self.charge_begun();
        if std::mem::take(&mut self.list_changed)
            && let Some(endpoint) = self.endpoint.upgrade()
        {
            endpoint.tell(EndpointEvent::ListChanged);
        }
        Ok(())
    }

    /// The end of a line that is not kept: fails its call with the reason.
    fn is_past(&mut self, end: &[u8], limit: u64) {
        let (mut too_long, lost) = (self.too_long.take().unwrap_or_default(), self.lost.take());
        too_long.push(end);
        let error = lost.unwrap_or_else(|| too_large(&self.server, limit));
        let length = too_long.length;
        if let Some(left_out) = self.endpoint.upgrade().and_then(|endpoint| endpoint.line()) {
            let why = &*error.message;
            tracing::warn!(server = self.server, length, limit, why, left_out, "a message of the server is too long");
        }
        self.unasked.add(0);
        if let Some(id) = too_long.answers() {
            self.fail(id, error);
        }
    }

    /// Drops what is held of the unfinished line. Returns the length of the line so far.
    fn read_past(&mut self) -> u64 {
        // The bytes up to the limit cost nothing: they could have been an answer.
        let past = if self.too_long.is_some() { self.inbound.len() } else { 0 };
        let too_long = self.too_long.get_or_insert_default();
        too_long.push(&self.inbound);
        if self.inbound.capacity() > NO_MESSAGE {
            self.inbound = BytesMut::new();
        }
        self.inbound.clear();
        self.searched = 0;
        self.half_line.end(0);
        self.unasked.add(past);
        too_long.length
    }

    /// A long line is read in pieces, as far as there is room for it. A line that comes while no call waits gets no
    /// room.
    pub(super) fn charge_begun(&mut self) {
        let bytes = self.inbound.len();
        if bytes > NO_MESSAGE && self.waiting.is_empty() {
            let text = format!(
                "the answer of server `{}` is larger than {NO_MESSAGE} bytes, and most of it came while no call waited",
                self.server
            );
            self.lost = Some(CallError::sent(Cause::TooLarge, text));
            self.read_past();
        } else if bytes > SMALL
            && let Some(endpoint) = self.endpoint.upgrade()
        {
            self.half_line.is_now(bytes, &endpoint);
        }
    }

    /// Either there is room for more of the unfinished line, or the line is dropped.
    pub(super) fn go_on(&mut self, outcome: Result<(), Refused>) {
        if let Err(refused) = outcome {
            self.lost = self.endpoint.upgrade().map(|endpoint| refused.said(&endpoint));
            self.read_past();
        }
    }

    /// An answer without its line break is never taken: a call that times out meanwhile reports that the line is there.
    /// The beginning of the line may have come before the call, and the line may have any length.
    pub(super) fn note_begun(&mut self) {
        let begun = (!self.inbound.is_empty() || self.too_long.is_some()) && !self.waiting.is_empty();
        // Only the beginning of the line is shown: while the line grows, that has been shown already.
        if begun == self.begun && (!begun || self.inbound.len() > SEEN) {
            return;
        }
        self.begun = begun;
        self.stray.begun(begun.then_some(&self.inbound[..]));
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.note_half_line(begun);
        }
    }

    /// The line, charged until its client's core has it, if it is longer than `free`; `None` if there is no room for
    /// it. A line that is not charged is copied: a slice would keep everything that was read with it.
    fn charged(&self, line: Bytes, free: usize) -> Option<Bytes> {
        if line.len() <= free {
            return Some(Bytes::copy_from_slice(&line));
        }
        let endpoint = self.endpoint.upgrade()?;
        endpoint.upstreams.budget.charged(line, endpoint.limits().buffered_bytes)
    }

    /// Fails the call, which gets no other answer.
    fn fail(&mut self, id: u64, error: CallError) {
        if let Some(Waiting { waiter, .. }) = self.waiting.remove(&id) {
            drop(waiter.progress);
            drop(waiter.answer.send(Err(error)));
        }
    }

    fn answer(&mut self, id: u64, line: Bytes, share: Option<Share>, span: Span) -> bool {
        let Some(Waiting { waiter: Waiter { answer, progress }, .. }) = self.waiting.remove(&id) else { return false };
        // The client may be far behind in reading the progress before the answer.
        let bytes = line.len();
        let line = match (&progress, share) {
            (Some(_), _) => self.charged(line, SMALL),
            // Held until the client's core has the answer, which is charged there from then on.
            (None, Some(share)) => Some(share.of(line)),
            (None, None) => Some(line),
        };
        drop(progress); // closed first: the answer is the last thing to arrive
        let Some(line) = line else {
            let limit = self.endpoint.upgrade().map_or(0, |endpoint| endpoint.limits().buffered_bytes);
            let lost = CallError::sent(Cause::TooLarge, CallError::lost_answer(bytes, limit));
            drop(answer.send(Err(CallError { side: Side::Gateway, ..lost })));
            return true;
        };
        // If the receiver is gone, the call's cancellation is on the way.
        drop(answer.send(Ok((line, span))));
        true
    }

    fn take_message(&mut self, inbound: Inbound, line: Bytes, share: Option<Share>) {
        if let Inbound::Answer { id, span } = inbound {
            let bytes = line.len();
            if !self.answer(id, line, share, span) {
                self.unasked.add(bytes);
                self.nobodys(id);
            }
            return;
        }
        drop(share);
        self.unasked.add(line.len());
        match inbound {
            Inbound::Answer { .. } => unreachable!("handled above"),
            Inbound::Progress { token, span } => {
                let progress = self.waiting.get(&token).and_then(|waiting| waiting.waiter.progress.as_ref());
                let line = progress.and_then(|_| self.charged(line, SHORT));
                let taken = progress.zip(line).is_some_and(|(progress, line)| progress.try_send((line, span)).is_ok());
                if !taken {
                    metrics::counter!("only1mcp_router_progress_dropped_total").increment(1);
                }
            }
            Inbound::Request { method, reply } => {
                tracing::debug!(server = self.server, method, "a request of the server is answered here");
                self.reply(&reply);
            }
            Inbound::ListChanged => self.list_changed = true,
            Inbound::Malformed { id, reason, .. } => self.unreadable(id, &reason, &line),
            Inbound::NamelessError { error } => self.nameless(&line[error.range()]),
            Inbound::Notification | Inbound::Stray => {
                tracing::debug!(server = self.server, "a notification of the server is for nobody");
            }
        }
    }

    /// An answer that no call waits for. Late answers to calls that were given up are common; an id that was never used
    /// is an error.
    fn nobodys(&mut self, id: u64) {
        self.given_up.answered(id);
        if self.endpoint.upgrade().is_none_or(|endpoint| endpoint.has_used(id)) {
            tracing::debug!(server = self.server, id, "an answer nobody waits for");
        } else {
            self.unmatched(&format!("an answer to request {id}, which the gateway has not sent"));
        }
    }

    /// A line that is no MCP: mostly a program prints to stdout what belongs to stderr, and operators will look for it.
    /// A line that was meant as an answer fails the call that waits for it.
    fn unreadable(&mut self, id: Option<u64>, reason: &str, line: &[u8]) {
        let meant = if id.is_some() { Meant::Answer { to: id, after_text: false } } else { meant(line) };
        tracing::debug!(server = self.server, reason, "a line of stdout is no MCP");
        self.stray.push(line);
        let Meant::Answer { to, after_text } = meant else { return };
        let place = if after_text { "; other text stands before the message on its line" } else { "" };
        let id = match to {
            Some(id) => Some(id).filter(|id| self.waiting.contains_key(id)),
            None => self.the_one_that_waits(),
        };
        let begins = self.stray.said(line).set_in(|line| format!("the line begins: {line}"));
        match (id, self.endpoint.upgrade()) {
            (Some(id), Some(endpoint)) => {
                let detail = endpoint.note_detail(&begins);
                self.fail(id, not_an_answer(&self.server, &format!("{reason}{place}")).explained(detail));
            }
            (None, Some(endpoint)) if to.is_none() => {
                drop(endpoint);
                let said = begins.set_in(|begins| format!("{reason}{place}; {begins}"));
                self.unmatched_said("a line that cannot be read", &said);
            }
            _ => {}
        }
    }

    /// An error without an id is the answer to the only call that waits. If it may be a late answer to a call that was
    /// given up, the waiting call fails with the router's own words.
    fn nameless(&mut self, error: &[u8]) {
        let one = self.the_one_that_waits();
        let Some(id) = one.filter(|_| self.given_up.is_certain()) else {
            let short = std::str::from_utf8(&error[..error.len().min(LOOKED_AT)]).unwrap_or_default();
            let what = "an error that names no request";
            let said = ErrorObject::parse(short).map_or_else(
                |_| self.stray.said(error).set_in(|error| format!("{what}: {error}")),
                |error| self.stray.said(&*error.message).set_in(|said| format!("{what}: {}: {said}", error.code)),
            );
            return match (one, self.endpoint.upgrade()) {
                (Some(id), Some(endpoint)) => {
                    let detail = endpoint.note_detail(&said);
                    self.fail(id, not_an_answer(&self.server, what).explained(detail));
                }
                (None, _) | (_, None) => self.unmatched_said(what, &said),
            };
        };
        let (head, number) = (&br#"{"jsonrpc":"2.0","id":"#[..], id.to_string());
        let span = Span { start: head.len(), end: head.len() + number.len() };
        let message = [head, number.as_bytes(), br#","error":"#, error, b"}"].concat();
        self.answer(id, message.into(), None, span);
    }

    /// The only call that waits fails with `what`; if several wait, a call that times out reports it. `what` is in the
    /// router's own words, because it is not known which client will read them.
    fn unmatched(&mut self, what: &str) {
        tracing::debug!(server = self.server, what, "a message of the server is for nobody");
        match (self.the_one_that_waits(), self.endpoint.upgrade()) {
            (Some(id), _) => self.fail(id, not_an_answer(&self.server, what)),
            (None, Some(endpoint)) => endpoint.note_unmatched(what),
            (None, None) => {}
        }
    }

    /// It is not known which call the message is for: its text is for operators, and calls that time out report that it
    /// came.
    fn unmatched_said(&mut self, what: &str, said: &Said) {
        tracing::debug!(server = self.server, what, %said, "a message of the server is for nobody");
        if let Some(endpoint) = self.endpoint.upgrade() {
            let detail = endpoint.note_detail(said);
            endpoint.note_unmatched(&format!("{what} (reference {})", detail.reference));
        }
        if self.read_by_child().next().is_none() {
            self.given_up.nameless();
        }
    }

    /// The only call that an answer without an id can be for, among the calls that the child may have read. The answer
    /// may also be for a call that was given up, and one client's answer must not reach another client.
    fn the_one_that_waits(&self) -> Option<u64> {
        let mut read = self.read_by_child();
        let one = read.next();
        one.filter(|_| read.next().is_none() && self.given_up.is_empty(Instant::now()))
    }

    /// Calls that wait, and that the child may have read.
    fn read_by_child(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().filter(|(_, waiting)| waiting.begins < self.written).map(|(id, _)| *id)
    }
}

/// Parses a long line. That takes time, for which only its own child should wait.
async fn sort(line: Bytes) -> Inbound {
    beside(move || read(&line)).await
}
