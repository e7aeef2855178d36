//! Server-sent events: an incremental decoder for what backends send and the encoder for what clients get.
//!
//! The decoder takes any division into chunks and any of the three line ends (some servers write CRLF). It follows the
//! WHATWG rules but for two points. A block with only `id` or `retry` is handed out too, with empty data, because MCP
//! resumption is built on such events. And so is an event of a type other than `message`: no client of MCP reads its
//! data.

#[cfg(test)]
mod tests;

/// One decoded event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The block's own `id`; the caller keeps the latest for `Last-Event-ID`. `Some("")` resets it.
    pub id: Option<String>,
    /// The `data` lines joined by LF; empty if the block had none, or is no message. Not yet checked to be UTF-8.
    pub data: Vec<u8>,
    /// Milliseconds to wait before reconnecting.
    pub retry: Option<u64>,
}

/// An event larger than the decoder's limit; the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than the limit of {limit} bytes")]
pub struct EventTooLarge {
    pub limit: usize,
}

/// Bytes that are kept between two lines.
const LINE_KEPT: usize = 16 << 10;

/// The state between two chunks of one stream.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    pending: Event,
    /// The `event` field of `pending` names another type than `message`.
    foreign: bool,
    /// Something of `pending` was set, so a blank line hands it out.
    started: bool,
    /// `pending.data` has its first line, so the next one is set off by LF.
    has_data: bool,
    /// The last byte was a CR that ended a line: an LF right after it belongs to it.
    after_cr: bool,
    /// A byte order mark is only skipped at the very beginning.
    at_start: bool,
    failed: bool,
}

impl Decoder {
    /// `limit` bounds, in bytes, what is held of one unfinished event.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            pending: Event::default(),
            foreign: false,
            started: false,
            has_data: false,
            after_cr: false,
            at_start: true,
            failed: false,
        }
    }

    /// The next event that `chunk` completes; what has been read is taken off it. One at a time, since a few bytes can
    /// be an event, which is larger than they are. What the stream leaves unfinished at its end is no event.
    ///
    /// # Errors
    /// [`EventTooLarge`]; every later call then fails too.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Result<Option<Event>, EventTooLarge> {
        if self.failed {
            return Err(EventTooLarge { limit: self.limit });
        }
        while !chunk.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if chunk[0] == b'\n' {
                    *chunk = &chunk[1..];
                    continue;
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) else {
                self.check(chunk.len())?;
                self.line.extend_from_slice(chunk);
                *chunk = &[];
                return Ok(None);
            };
            self.check(end)?;
            self.after_cr = chunk[end] == b'\r';
            let event = if self.line.is_empty() {
                self.line_ended(&chunk[..end])
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&chunk[..end]);
                let event = self.line_ended(&line);
                line.clear();
                line.shrink_to(LINE_KEPT);
                self.line = line;
                event
            };
            *chunk = &chunk[end + 1..];
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Bytes of the event that has begun and not ended.
    pub fn held(&self) -> usize {
        let Event { id, data, .. } = &self.pending;
        self.line.len() + data.len() + id.as_ref().map_or(0, String::len)
    }

    fn check(&mut self, more: usize) -> Result<(), EventTooLarge> {
        if self.held() + more > self.limit {
            self.failed = true;
            return Err(EventTooLarge { limit: self.limit });
        }
        Ok(())
    }

    fn line_ended(&mut self, mut line: &[u8]) -> Option<Event> {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.pending);
            self.has_data = false;
            if std::mem::take(&mut self.foreign) {
                event.data = Vec::new();
            }
            return std::mem::take(&mut self.started).then_some(event);
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or_else(|| &line[colon + 1..])),
            None => (line, &[][..]),
        };
        let text = || String::from_utf8_lossy(value).into_owned();
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.pending.data.push(b'\n');
                }
                self.pending.data.extend_from_slice(value);
                self.started = true;
            }
            b"event" => self.foreign = !matches!(value, b"" | b"message"),
            b"id" if memchr::memchr(0, value).is_none() => {
                self.pending.id = Some(text());
                self.started = true;
            }
            b"retry" => {
                if let Some(milliseconds) = digits(value) {
                    self.pending.retry = Some(milliseconds);
                    self.started = true;
                }
            }
            _ => {} // comments have an empty field name; unknown fields are ignored
        }
        None
    }
}

fn digits(value: &[u8]) -> Option<u64> {
    let all = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| all)?.parse().ok()
}

/// A comment line: keeps an idle stream open through proxies and is no event.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// An event to send. Without data it is only an `id` or a `retry`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    pub id: Option<&'a str>,
    pub event: Option<&'a str>,
    pub retry: Option<u64>,
    pub data: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// A JSON-RPC message as an event.
    pub const fn message(data: &'a [u8]) -> Self {
        Self { id: None, event: None, retry: None, data: Some(data) }
    }

    /// Appends the event to `out`. Line breaks in the data become several `data` lines (in JSON they can only be white
    /// space); `id` and `event` are cut at one.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut field = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.push(b'\n');
        };
        if let Some(event) = self.event {
            field("event", first_line(event.as_bytes()));
        }
        if let Some(id) = self.id {
            field("id", first_line(id.as_bytes()));
        }
        if let Some(retry) = self.retry {
            field("retry", retry.to_string().as_bytes());
        }
        if let Some(mut rest) = self.data {
            loop {
                let line = first_line(rest);
                field("data", line);
                let Some(end) = rest.get(line.len()..).filter(|end| !end.is_empty()) else { break };
                rest = end.strip_prefix(b"\r\n").unwrap_or_else(|| &end[1..]);
            }
        }
        out.push(b'\n');
    }
}

fn first_line(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())]
}
