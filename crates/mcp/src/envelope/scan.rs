//! The single pass: serde_json walks the message, this visitor keeps the spans of the keys it knows.
//!
//! serde_json checks all of the grammar (a laxer scanner would read some messages differently from the backend behind
//! it) but gives no positions; they are had from the addresses of what it lends out of the message.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::depth::too_deep;
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
            serde_json::from_str::<serde::de::IgnoredAny>(&text[start..]).map_err(|error| bare(not_json(&error)))?;
            return Err(bare(Fault::NotAnObject { found: kind_of(&text[open..]) }));
        }
        None => return Err(bare(Fault::NotJson { reason: "the message is empty".to_owned() })),
    }
    let mut scan = Scan { text, found: [None; KEYS.len()], fault: None, two_ids: false };
    if let Some(offset) = too_deep(text) {
        scan.fail(Fault::TooDeep { offset });
    }
    let mut json = serde_json::Deserializer::from_str(&text[start..]);
    let walked = Object { scan: &mut scan, layer: Layer::Top, open }.deserialize(&mut json).and_then(|_| json.end());
    if let Err(error) = walked {
        return Err(bare(not_json(&error)));
    }
    let id = scan.found[ID].filter(|_| !scan.two_ids).and_then(Id::parse);
    let is_answer = scan.found[METHOD].is_none();
    scan.finish(open).map_err(|fault| ScanError { fault, id: id.map(|id| Box::from(id.text())), is_answer })
}

fn not_json(error: &serde_json::Error) -> Fault {
    Fault::NotJson { reason: error.to_string() }
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

    fn offset_of(&self, part: &str) -> usize {
        part.as_ptr().addr() - self.text.as_ptr().addr()
    }

    /// The offset of the value after `key` (lent from the message), if that is an object.
    fn object_after(&self, key: &str) -> Option<usize> {
        let quote = self.offset_of(key) + key.len();
        let colon = skip_space(self.text, quote + 1);
        let value = skip_space(self.text, (colon + 1).min(self.text.len()));
        (self.text.as_bytes().get(value) == Some(&b'{')).then_some(value)
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

/// Walks one object whose brace opens at `open`; gives the offset after its closing brace.
struct Object<'s, 'a> {
    scan: &'s mut Scan<'a>,
    layer: Layer,
    open: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<usize, A::Error> {
        let Self { scan, layer, open } = self;
        let mut end = open + 1;
        while let Some(key) = members.next_key_seed(Key)? {
            let known = scan.recognise(layer, &key);
            let inner = known.and_then(Layer::of);
            let start = match (inner, &key) {
                (Some(_), Cow::Borrowed(lent)) => scan.object_after(lent),
                _ => None,
            };
            let raw = match inner.zip(start) {
                Some((layer, open)) => {
                    end = members.next_value_seed(Object { scan, layer, open })?;
                    Raw::new(&scan.text[open..end], open)
                }
                None => {
                    let value = members.next_value::<&RawValue>()?.get();
                    let raw = Raw::new(value, scan.offset_of(value));
                    end = raw.span().end;
                    if let (Some(known), Some(layer)) = (known, inner) {
                        walk_apart(scan, known, layer, raw)?;
                    }
                    raw
                }
            };
            if let Some(known) = known {
                scan.found[known].get_or_insert(raw);
            }
        }
        Ok(skip_space(scan.text, end) + 1)
    }
}

/// `params` or `_meta` that did not come straight: not an object, or its key was written with escapes.
fn walk_apart<'a, E: serde::de::Error>(scan: &mut Scan<'a>, known: usize, layer: Layer, raw: Raw<'a>) -> Result<(), E> {
    if !raw.is_object() {
        scan.fail(Fault::NotObjectMember { path: PATHS[known], found: kind_of(raw.text()) });
        return Ok(());
    }
    let object = Object { scan, layer, open: raw.span().start };
    object.deserialize(&mut serde_json::Deserializer::from_str(raw.text())).map_err(E::custom)?;
    Ok(())
}

/// A key, borrowed unless it was written with escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(key))
            }
            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(key.to_owned()))
            }
        }
        json.deserialize_str(Text)
    }
}
