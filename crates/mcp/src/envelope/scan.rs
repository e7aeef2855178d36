//! The single pass over a message: it keeps the spans of the keys it knows, and checks the grammar of all the rest.

use std::borrow::Cow;

use super::walk::{NotJson, Walk};
use super::{Call, Envelope, Fault, Message, Meta, Params, ScanError};
use crate::raw::{Id, Raw, Text};
use crate::splice::without_bom;

// The keys acted on, in one flat table: an object of the message is a range of it.
const JSONRPC: usize = 0;
const ID: usize = 1;
const METHOD: usize = 2;
const PARAMS: usize = 3;
const RESULT: usize = 4;
const ERROR: usize = 5;
const NAME: usize = 6;
const URI: usize = 7;
const CURSOR: usize = 8;
const VERSION: usize = 9;
const REQUEST_ID: usize = 10;
const PROGRESS_TOKEN: usize = 11;
const META: usize = 12;
const META_PROGRESS_TOKEN: usize = 13;
const META_TRACEPARENT: usize = 14;
const META_VERSION: usize = 15;

const KEYS: [&str; 16] = [
    "jsonrpc",
    "id",
    "method",
    "params",
    "result",
    "error",
    "name",
    "uri",
    "cursor",
    "protocolVersion",
    "requestId",
    "progressToken",
    "_meta",
    "progressToken",
    "traceparent",
    "io.modelcontextprotocol/protocolVersion",
];
const PATHS: [&str; 16] = [
    "jsonrpc",
    "id",
    "method",
    "params",
    "result",
    "error",
    "params.name",
    "params.uri",
    "params.cursor",
    "params.protocolVersion",
    "params.requestId",
    "params.progressToken",
    "params._meta",
    "params._meta.progressToken",
    "params._meta.traceparent",
    "params._meta.io.modelcontextprotocol/protocolVersion",
];

#[derive(Clone, Copy)]
enum Layer {
    Top,
    Params,
    Meta,
}

impl Layer {
    const fn keys(self) -> std::ops::Range<usize> {
        match self {
            Self::Top => JSONRPC..NAME,
            Self::Params => NAME..META_PROGRESS_TOKEN,
            Self::Meta => META_PROGRESS_TOKEN..KEYS.len(),
        }
    }

    /// The object at `key`, if its members are looked at.
    const fn of(key: usize) -> Option<Self> {
        match key {
            PARAMS => Some(Self::Params),
            META => Some(Self::Meta),
            _ => None,
        }
    }
}

/// Finds what a gateway acts on in one JSON-RPC message. A byte order mark before it is ignored, as RFC 8259 allows.
///
/// # Errors
/// Anything that is not exactly one well-formed JSON-RPC message; see [`Fault`].
pub fn scan(body: &[u8]) -> Result<Envelope<'_>, ScanError> {
    // What cannot be read has no members, but mostly still shows the name of this one.
    let bare = |fault| ScanError { fault, id: None, is_answer: memchr::memmem::find(body, b"\"method\"").is_none() };
    let text = str::from_utf8(body).map_err(|error| bare(Fault::NotUtf8 { offset: error.valid_up_to() }))?;
    let start = body.len() - without_bom(body).len();
    let open = skip_space(text, start);
    match text.as_bytes().get(open) {
        Some(b'{') => {}
        Some(b'[') => return Err(bare(Fault::Batch)),
        Some(_) => {
            let mut walk = Walk::new(text, open);
            if walk.value().and_then(|()| walk.end()).is_err() {
                return Err(bare(not_json(&text[start..])));
            }
            return Err(bare(Fault::NotAnObject { found: kind_of(&text[open..]) }));
        }
        None => return Err(bare(Fault::NotJson { reason: "the message is empty".to_owned() })),
    }
    let mut scan = Scan { text, walk: Walk::new(text, open), found: [None; KEYS.len()], fault: None, two_ids: false };
    if scan.object(Layer::Top).and_then(|()| scan.walk.end()).is_err() {
        return Err(bare(not_json(&text[start..])));
    }
    if let Some(offset) = scan.walk.too_deep() {
        scan.fail(Fault::TooDeep { offset });
    }
    let id = scan.found[ID].filter(|_| !scan.two_ids).and_then(Id::parse);
    let is_answer = scan.found[METHOD].is_none();
    scan.finish(open).map_err(|fault| ScanError { fault, id: id.map(|id| Box::from(id.text())), is_answer })
}

/// In the words of a parser. One does not look at the escapes of what it skips.
fn not_json(text: &str) -> Fault {
    let error = serde_json::from_str::<serde::de::IgnoredAny>(text).err();
    let reason = error.map_or_else(|| "a key has an escape that is no character".to_owned(), |error| error.to_string());
    Fault::NotJson { reason }
}

fn skip_space(text: &str, from: usize) -> usize {
    let rest = &text.as_bytes()[from..];
    from + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

fn kind_of(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

struct Scan<'a> {
    text: &'a str,
    walk: Walk<'a>,
    found: [Option<Raw<'a>>; KEYS.len()],
    /// The first thing wrong; the walk goes on, so that the id of the answer is known.
    fault: Option<Fault>,
    /// Which one to answer with cannot be known.
    two_ids: bool,
}

impl<'a> Scan<'a> {
    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Which known key of `layer` this is.
    fn recognise(&mut self, layer: Layer, key: &str) -> Option<usize> {
        for known in layer.keys() {
            if KEYS[known] == key {
                if self.found[known].is_some() {
                    self.two_ids |= known == ID;
                    self.fail(Fault::Duplicate { path: PATHS[known] });
                }
                return Some(known);
            }
        }
        for known in layer.keys() {
            if differs_only_in_case(KEYS[known], key) {
                self.fail(Fault::CaseVariant { path: PATHS[known], found: key.to_owned() });
            }
        }
        None
    }

    /// Past the object that opens here.
    fn object(&mut self, layer: Layer) -> Result<(), NotJson> {
        self.walk.enter();
        self.walk.space();
        if self.walk.peek() == Some(b'}') {
            self.walk.next();
        } else {
            loop {
                self.member(layer)?;
                self.walk.space();
                match self.walk.next() {
                    Some(b',') => self.walk.space(),
                    Some(b'}') => break,
                    Some(_) | None => return Err(NotJson),
                }
            }
        }
        self.walk.leave();
        Ok(())
    }

    fn member(&mut self, layer: Layer) -> Result<(), NotJson> {
        let (key, escaped) = self.walk.key()?;
        let key = if escaped {
            let quoted = &self.text[key.start - 1..=key.end];
            Cow::Owned(serde_json::from_str(quoted).map_err(|_| NotJson)?)
        } else {
            Cow::Borrowed(&self.text[key])
        };
        let (known, start) = (self.recognise(layer, &key), self.walk.at());
        match known.and_then(Layer::of) {
            Some(inner) if self.walk.peek() == Some(b'{') => self.object(inner)?,
            _ => self.walk.value()?,
        }
        let Some(known) = known else { return Ok(()) };
        let raw = Raw::new(&self.text[start..self.walk.at()], start);
        if Layer::of(known).is_some() && !raw.is_object() {
            self.fail(Fault::NotObjectMember { path: PATHS[known], found: kind_of(raw.text()) });
        }
        self.found[known].get_or_insert(raw);
        Ok(())
    }

    fn text_at(&self, key: usize) -> Option<Text<'a>> {
        Text::parse(self.found[key]?)
    }

    /// It decides by which revision's rules the message is read, so it may not be unreadable.
    fn meta_version(&mut self) -> Option<Text<'a>> {
        let version = self.text_at(META_VERSION);
        if version.is_none() && self.found[META_VERSION].is_some() {
            self.fail(Fault::Missing { path: PATHS[META_VERSION], expected: "a string" });
        }
        version
    }

    fn id_at(&mut self, key: usize) -> Option<Id<'a>> {
        let raw = self.found[key].filter(|raw| !raw.is_null())?;
        let id = Id::parse(raw);
        if id.is_none() {
            self.fail(Fault::IdType { path: PATHS[key], found: kind_or_fraction(raw) });
        }
        id
    }

    fn finish(mut self, open: usize) -> Result<Envelope<'a>, Fault> {
        let jsonrpc = self.text_at(JSONRPC);
        if jsonrpc.is_none_or(|version| version.value() != "2.0") {
            self.fail(Fault::JsonRpc);
        }
        let id = self.id_at(ID);
        let params = self.params();
        let id_given = self.found[ID].is_some();
        let (result, error) = self.outcome();
        let message = match (self.found[METHOD], result, error) {
            (Some(method), None, None) => {
                let method = Text::parse(method).ok_or(Fault::MethodType);
                match (method, id) {
                    (Ok(method), Some(id)) => Ok(Message::Request { id, call: Call { method, params } }),
                    (Ok(_), None) if id_given => Err(Fault::IdType { path: PATHS[ID], found: "null" }),
                    (Ok(method), None) => Ok(Message::Notification(Call { method, params })),
                    (Err(fault), _) => Err(fault),
                }
            }
            (None, Some(result), None) => id
                .map(|id| Message::Response { id, result })
                .ok_or(Fault::Shape { found: "a `result` without an `id`" }),
            (None, None, Some(error)) => Ok(Message::Error { id, error }),
            (None, None, None) => Err(Fault::Shape { found: "none" }),
            (None, Some(_), Some(_)) => Err(Fault::Shape { found: "`result` and `error`" }),
            (Some(_), _, _) => Err(Fault::Shape { found: "`method` beside `result` or `error`" }),
        };
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Envelope { open, message: message? }),
        }
    }

    /// Some write the one of the two that is not there as `null`.
    fn outcome(&self) -> (Option<Raw<'a>>, Option<Raw<'a>>) {
        match (self.found[RESULT], self.found[ERROR]) {
            (Some(result), Some(error)) if error.is_null() => (Some(result), None),
            (Some(result), Some(error)) if result.is_null() => (None, Some(error)),
            as_written => as_written,
        }
    }

    fn params(&mut self) -> Option<Params<'a>> {
        let raw = self.found[PARAMS]?;
        let meta = self.found[META].map(|raw| Meta {
            raw,
            progress_token: self.id_at(META_PROGRESS_TOKEN),
            traceparent: self.found[META_TRACEPARENT],
            protocol_version: self.meta_version(),
        });
        Some(Params {
            raw,
            name: self.text_at(NAME),
            uri: self.text_at(URI),
            cursor: self.text_at(CURSOR),
            protocol_version: self.text_at(VERSION),
            request_id: self.id_at(REQUEST_ID),
            progress_token: self.id_at(PROGRESS_TOKEN),
            meta,
        })
    }
}

fn kind_or_fraction(raw: Raw<'_>) -> &'static str {
    match kind_of(raw.text()) {
        "a number" => "a number that is not written as an integer",
        other => other,
    }
}

/// Case as the loosest JSON parsers fold it: Go's also takes the long s and the Kelvin sign for letters.
fn differs_only_in_case(known: &str, key: &str) -> bool {
    if key.is_ascii() {
        return known.eq_ignore_ascii_case(key);
    }
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    known.chars().map(fold).eq(key.chars().map(fold))
}
