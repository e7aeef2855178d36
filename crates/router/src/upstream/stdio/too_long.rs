//! A message that is too long to be kept: it is read only to learn which call it would have answered.
//!
//! A child has one pipe for all its answers, so one answer that is too long must not cost other calls theirs. The id
//! may stand before the rest of the message or after it.

#[cfg(test)]
mod tests;

/// The digits of an id of ours, and any key that counts, are shorter than this.
const TOKEN: usize = 24;

/// What is known of the message so far. Well-formed JSON is assumed: otherwise the worst result is a wrong id, or none.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is about another part of the message")]
pub(super) struct TooLong {
    /// Bytes so far.
    pub(super) length: u64,
    depth: u64,
    in_string: bool,
    escaped: bool,
    /// The key or value at the top that is being read.
    token: Vec<u8>,
    key: Key,
    id: Option<u64>,
    /// A message with a method is no answer.
    method: bool,
    /// Which keys of an answer it has.
    jsonrpc: bool,
    has_id: bool,
    outcome: bool,
}

/// Without the quotes that some programs write in place of those of JSON.
fn unquoted(token: &[u8]) -> &[u8] {
    token.strip_prefix(b"'").and_then(|token| token.strip_suffix(b"'")).unwrap_or(token)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    Id,
    #[default]
    Other,
}

impl TooLong {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            if !self.in_string && self.depth == 0 && !matches!(byte, b'"' | b'{' | b'[') {
                // Outside of any message only these three bytes change the state, and such text may have no end.
                bytes = &bytes[memchr::memchr3(b'"', b'{', b'[', bytes).unwrap_or(bytes.len())..];
            } else if !self.in_string {
                self.outside(byte);
            } else if std::mem::take(&mut self.escaped) {
                self.keep(byte);
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
            } else if self.depth == 1 {
                self.keep(byte);
            } else {
                // Most of a long message is texts far inside.
                bytes = &bytes[memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())..];
            }
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                if self.depth == 1 {
                    self.value_ended();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => self.key_ended(),
            b',' if self.depth == 1 => self.value_ended(),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            other => self.keep(other),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() < TOKEN {
            self.token.push(byte);
        }
    }

    fn key_ended(&mut self) {
        let key = unquoted(&self.token);
        self.method |= key == b"method";
        self.jsonrpc |= key == b"jsonrpc";
        self.outcome |= matches!(key, b"result" | b"error");
        let id = key == b"id";
        self.has_id |= id;
        self.key = if id { Key::Id } else { Key::Other };
        self.token.clear();
    }

    fn value_ended(&mut self) {
        if std::mem::take(&mut self.key) == Key::Id {
            self.id = std::str::from_utf8(unquoted(&self.token)).ok().and_then(mcp::number_of);
        }
        self.token.clear();
    }

    /// A request or notification.
    pub(super) fn is_call(&self) -> bool {
        self.method
    }

    pub(super) fn has_id(&self) -> bool {
        self.has_id
    }

    pub(super) fn has_outcome(&self) -> bool {
        self.outcome
    }

    /// Anything of JSON-RPC, whole or not. What programs log has an `error` now and then, but hardly an id beside it.
    pub(super) fn is_rpc(&self) -> bool {
        self.jsonrpc || self.has_id && self.outcome
    }

    /// Our number for the request that the message answers.
    pub(super) fn answers(&self) -> Option<u64> {
        self.id.filter(|_| !self.method)
    }
}
