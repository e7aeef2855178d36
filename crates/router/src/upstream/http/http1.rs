//! HTTP/1.1 toward servers (RFC 9112): one request out, one response in, over one connection.
//!
//! The framing is our own rather than a general client's, because of what only the framing knows: whether a byte of the
//! request was written, which decides whether the request may be retried; and where a response ends, which decides
//! whether the connection may serve the next request. The peer is configured, requests come from one template, and
//! responses need lengths, chunks and interim answers only.

mod framing;
mod stream;
#[cfg(test)]
mod tests;
use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, StatusCode};
use httparse::ParserConfig;
use socket2::SockRef;
use tokio::io::AsyncWrite as _;
use tokio_util::io::poll_read_buf;

use super::target::SESSION;
use crate::call::life;
use framing::{Chunk, Taken};
pub(super) use {framing::Framing, stream::Stream};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// The content type that nearly every server sends: it needs no copy.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Bytes of the head of a response, and of all interim ones before it.
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// A body up to this long goes out in one piece with its head.
const JOINED_MAX: usize = 16 << 10;
/// Room made for a read, at least and at most.
const READ: usize = 8 << 10;
pub(super) const READ_MAX: usize = 128 << 10;

/// A request: mostly the head its target has ready, and a body.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// Request line and headers, each with its line end, without the empty line.
    pub(super) head: Cow<'a, [u8]>,
    pub(super) body: Bytes,
}

impl Request<'_> {
    pub(super) fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        push_header(self.head.to_mut(), name, value);
    }
}

pub(super) fn push_header(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

/// Why there is no response, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http1Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection before {0}")]
    Closed(&'static str),
    #[error("what the server sent is no HTTP/1.1 response: {0}")]
    Malformed(&'static str),
}

/// Nothing came back; `sent`: a byte of the request was written.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Http1Error,
    pub(super) sent: bool,
}

/// A connection between two exchanges, or in one.
pub(super) struct Connection {
    stream: Stream,
    /// Bytes that were read and are not used yet.
    input: BytesMut,
    output: Output,
    /// Bytes of interim responses to the present request.
    interim: usize,
}

/// A request on its way out.
#[derive(Default)]
struct Output {
    /// Its head, and its body if that is short.
    first: Vec<u8>,
    /// How much of `first` is written.
    written: usize,
    /// What is left of a long body.
    rest: Bytes,
    /// Something is left to be written, or to be flushed.
    open: bool,
}

impl Output {
    fn begin(&mut self, request: &mut Request<'_>) {
        self.first.clear();
        self.first.extend_from_slice(&request.head);
        write_length(&mut self.first, request.body.len());
        if request.body.len() <= JOINED_MAX {
            self.first.extend_from_slice(&request.body);
        } else {
            self.rest = std::mem::take(&mut request.body);
        }
        (self.written, self.open) = (0, true);
    }

    fn give_up(&mut self) {
        self.rest = Bytes::new();
        self.open = false;
    }

    /// Ready when all of it is written.
    fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let left = self.first.get(self.written..).filter(|left| !left.is_empty());
            let Some(left) = left.or_else(|| (!self.rest.is_empty()).then_some(&*self.rest)) else { break };
            let joined = self.written < self.first.len();
            let count = ready!(Pin::new(&mut *stream).poll_write(context, left))?;
            match (count, joined) {
                (0, _) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                (_, true) => self.written += count,
                // An empty rest would still keep the whole body in memory.
                (_, false) if count == self.rest.len() => self.rest = Bytes::new(),
                (_, false) => self.rest.advance(count),
            }
        }
        ready!(Pin::new(stream).poll_flush(context))?;
        self.open = false;
        Poll::Ready(Ok(()))
    }
}

/// The beginning of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) framing: Framing,
    /// The content coding of the body, although none was requested.
    pub(super) coding: Option<Box<str>>,
    /// The connection may be used again after the end of the body.
    pub(super) reusable: bool,
}

/// The headers of a response that the router reads. The others are not kept. Small, because it is moved several times
/// in each call.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) content_type: Option<HeaderValue>,
    pub(super) session: Option<HeaderValue>,
    /// What the server says about idle connections: `Keep-Alive: timeout=5`.
    pub(super) keep_alive: Option<Duration>,
    rare: Option<Box<Rare>>,
}

/// Those that no answer to a call has.
#[derive(Debug)]
pub(super) struct Rare {
    pub(super) location: Option<HeaderValue>,
    pub(super) retry_after: Option<HeaderValue>,
}

impl Headers {
    pub(super) fn rare(&self) -> &Rare {
        static NONE: Rare = Rare { location: None, retry_after: None };
        self.rare.as_deref().unwrap_or(&NONE)
    }

    fn of(&mut self, name: &str) -> Option<&mut Option<HeaderValue>> {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
        if is(&CONTENT_TYPE) {
            return Some(&mut self.content_type);
        }
        if is(&SESSION) {
            return Some(&mut self.session);
        }
        let (location, retry_after) = (is(&LOCATION), is(&RETRY_AFTER));
        if !location && !retry_after {
            return None;
        }
        let rare = self.rare.get_or_insert_with(|| Box::new(Rare { location: None, retry_after: None }));
        Some(if location { &mut rare.location } else { &mut rare.retry_after })
    }
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, input: BytesMut::with_capacity(READ), output: Output::default(), interim: 0 }
    }

    /// Whether the server has closed the connection, or sent something unsolicited: then the connection is of no use.
    /// `look`: ask the system, because the runtime may not have noticed yet.
    pub(super) fn is_spent(&mut self, look: bool) -> bool {
        if !self.input.is_empty() {
            return true;
        }
        if look {
            let socket = SockRef::from(self.stream.tcp());
            return !matches!(socket.peek(&mut [MaybeUninit::uninit()]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        }
        self.stream.has_input(&mut self.input)
    }

    /// Gives the memory back that nothing is in: the next exchange, or the next piece, may be long in coming.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if !self.output.open {
            self.output.first = Vec::new();
        }
    }

    /// Writes a request and reads the head of its response, both at once: a server may refuse, or begin to answer,
    /// before it has read the whole request. The rest is then written while the response body is read. A long body is
    /// taken from `request`, so that it is dropped once it is written, however long the answer takes; if nothing was
    /// written, `request` gets the body back.
    pub(super) async fn exchange(&mut self, request: &mut Request<'_>) -> Result<Head, Failed> {
        self.output.begin(request);
        self.interim = 0;
        let mut broken = None;
        let outcome = poll_fn(|context| self.poll_exchange(&mut broken, context)).await;
        if matches!(outcome, Err(Failed { sent: false, .. })) && !self.output.rest.is_empty() {
            request.body = std::mem::take(&mut self.output.rest);
        }
        outcome
    }

    fn poll_exchange(
        &mut self,
        broken: &mut Option<io::Error>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, Failed>> {
        if self.output.open
            && let Poll::Ready(Err(error)) = self.output.poll(&mut self.stream, context)
        {
            if self.output.written == 0 {
                return Poll::Ready(Err(Failed { error: error.into(), sent: false }));
            }
            // A server that refuses a request early closes before it has read all of it, and has said why.
            self.output.give_up();
            *broken = Some(error);
        }
        Poll::Ready(match ready!(self.poll_head(context)) {
            Ok(mut head) => {
                head.reusable &= !self.output.open && broken.is_none();
                if !head.status.is_success() {
                    self.output.give_up();
                    // Many servers close right after a refusal, whether they have read the request or not.
                    head.reusable = false;
                }
                Ok(head)
            }
            Err(error) => {
                let error = broken.take().map_or(error, Http1Error::from);
                Err(Failed { error, sent: self.output.written > 0 })
            }
        })
    }

    /// Skips interim responses.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Http1Error>> {
        loop {
            let mut before = self.input.len();
            while let Some(head) = parse(&mut self.input)? {
                match head.status.as_u16() {
                    101 => {
                        return Poll::Ready(Err(Http1Error::Malformed("it switches to a protocol nobody asked for")));
                    }
                    100..=199 => {
                        self.interim += before - self.input.len();
                        before = self.input.len();
                        if self.interim > HEAD_MAX {
                            return Poll::Ready(Err(Http1Error::Malformed("its interim responses are too long")));
                        }
                    }
                    _ => return Poll::Ready(Ok(head)),
                }
            }
            if self.input.len() > HEAD_MAX {
                return Poll::Ready(Err(Http1Error::Malformed("its head is too long")));
            }
            if ready!(self.poll_read(READ, context))? == 0 {
                return Poll::Ready(Err(Http1Error::Closed("it answered")));
            }
        }
    }

    fn poll_read(&mut self, room: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(room);
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input))?;
        life::heard();
        Poll::Ready(Ok(count))
    }

    /// The next piece of a body; `None` after its end, which `framing` then shows. Where `framing` says that much is to
    /// come, up to `ahead` bytes are read at once.
    pub(super) fn poll_body(
        &mut self,
        framing: &mut Framing,
        ahead: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Http1Error>> {
        if self.output.open
            && let Poll::Ready(Err(_)) = self.output.poll(&mut self.stream, context)
        {
            // The server answers all the same.
            self.output.give_up();
        }
        loop {
            match framing.take(&mut self.input)? {
                Taken::Data(data) => return Poll::Ready(Ok(Some(data))),
                Taken::End => return Poll::Ready(Ok(None)),
                Taken::More => {}
            }
            let want = match *framing {
                Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => {
                    usize::try_from(left).unwrap_or(usize::MAX).clamp(READ, ahead.max(READ))
                }
                Framing::Chunked(_) | Framing::UntilClose | Framing::Done => READ,
            };
            match (ready!(self.poll_read(want, context))?, *framing) {
                (0, Framing::UntilClose) => {
                    *framing = Framing::Done;
                    return Poll::Ready(Ok(None));
                }
                (0, _) => return Poll::Ready(Err(Http1Error::Closed("the end of its answer"))),
                _ => {}
            }
        }
    }
}

/// `content-length` and the empty line. A request without a body needs no length.
fn write_length(head: &mut Vec<u8>, length: usize) {
    if length > 0 {
        head.extend_from_slice(b"content-length: ");
        head.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
}

/// Takes a head off `input`, once all of it is there.
fn parse(input: &mut BytesMut) -> Result<Option<Head>, Http1Error> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, &mut headers);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Http1Error::Malformed("its head cannot be read")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Http1Error::Malformed("it has no status"))?;
    let mut read = Fields { old: response.version != Some(1), ..Fields::default() };
    for header in response.headers.iter() {
        read.header(header.name, header.value)?;
    }
    let head = read.head(status)?;
    input.advance(length);
    Ok(Some(head))
}

/// What the headers of a response say.
#[derive(Default)]
struct Fields {
    /// HTTP/1.0 closes unless it says otherwise.
    old: bool,
    headers: Headers,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
    coding: Option<Box<str>>,
}

impl Fields {
    fn header(&mut self, name: &str, value: &[u8]) -> Result<(), Http1Error> {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
        if is(&CONTENT_LENGTH) {
            let length = length(value.trim_ascii()).ok_or(Http1Error::Malformed("its Content-Length is no number"))?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(Http1Error::Malformed("it has two lengths"));
            }
        } else if is(&TRANSFER_ENCODING) {
            // Chunked must be the last coding; others are not asked for.
            if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") || self.chunked {
                return Err(Http1Error::Malformed("its Transfer-Encoding is not chunked"));
            }
            self.chunked = true;
        } else if is(&CONNECTION) {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is(&CONTENT_ENCODING) {
            let value = value.trim_ascii();
            if !value.is_empty() && !value.eq_ignore_ascii_case(b"identity") {
                self.coding = Some(String::from_utf8_lossy(value).into());
            }
        } else if is(&KEEP_ALIVE) {
            self.headers.keep_alive = self.headers.keep_alive.or_else(|| keep_alive(value));
        } else if let Some(kept) = self.headers.of(name)
            && kept.is_none()
        {
            *kept = if value == JSON.as_bytes() { Some(JSON) } else { HeaderValue::from_bytes(value).ok() };
        }
        Ok(())
    }

    /// RFC 9112, 6.3.
    fn head(self, status: StatusCode) -> Result<Head, Http1Error> {
        let bodyless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match (self.chunked, self.length) {
            // Either alone would be fine; both together let one response be read as two.
            (true, Some(_)) => return Err(Http1Error::Malformed("it has a length and chunks")),
            _ if bodyless => Framing::Done,
            (true, None) => Framing::Chunked(Chunk::Size),
            (false, Some(0)) => Framing::Done,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        let persistent = !self.close && (!self.old || self.keep);
        let reusable = persistent && framing != Framing::UntilClose;
        Ok(Head { status, headers: self.headers, framing, coding: self.coding, reusable })
    }
}

/// `timeout=5`, perhaps among others.
fn keep_alive(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// Digits only: `+1` is no length.
fn length(digits: &[u8]) -> Option<u64> {
    let add = |length: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        length.checked_mul(10)?.checked_add(digit.into())
    };
    (!digits.is_empty()).then(|| digits.iter().try_fold(0, add)).flatten()
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}
