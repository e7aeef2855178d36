//! The single pass over a message: it keeps the spans of the keys it knows, and checks the grammar of all the rest.

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

    /// The key that is spelled like this. It says the same as [`KEYS`], in a form that compares few bytes.
    fn known(self, key: &[u8]) -> Option<usize> {
        Some(match (self, key) {
            (Self::Top, b"jsonrpc") => JSONRPC,
            (Self::Top, b"id") => ID,
            (Self::Top, b"method") => METHOD,
            (Self::Top, b"params") => PARAMS,
            (Self::Top, b"result") => RESULT,
            (Self::Top, b"error") => ERROR,
            (Self::Params, b"name") => NAME,
            (Self::Params, b"uri") => URI,
            (Self::Params, b"cursor") => CURSOR,
            (Self::Params, b"protocolVersion") => VERSION,
            (Self::Params, b"requestId") => REQUEST_ID,
            (Self::Params, b"progressToken") => PROGRESS_TOKEN,
            (Self::Params, b"_meta") => META,
            (Self::Meta, b"progressToken") => META_PROGRESS_TOKEN,
            (Self::Meta, b"traceparent") => META_TRACEPARENT,
            (Self::Meta, b"io.modelcontextprotocol/protocolVersion") => META_VERSION,
            _ => return None,
        })
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
    let mut scan = Scan { walk: Walk::new(text, open), found: Found::new(text), fault: None, two_ids: false };
    if scan.object(Layer::Top).and_then(|()| scan.walk.end()).is_err() {
        return Err(bare(not_json(&text[start..])));
    }
    if let Some(offset) = scan.walk.too_deep() {
        scan.fail(Fault::TooDeep { offset });
    }
    scan.finish(open).map_err(|fault| {
        let id = scan.found.raw(ID).filter(|_| !scan.two_ids).and_then(Id::parse);
        let is_answer = scan.found.raw(METHOD).is_none();
        ScanError { fault, id: id.map(|id| Box::from(id.text())), is_answer }
    })
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

/// Where the values of the known keys lie in a message. Positions are of 32 bits: no message is as long as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    text: &'a str,
    /// Start and end; an empty one is missing.
    places: [(u32, u32); KEYS.len()],
}

impl<'a> Found<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, places: [(0, 0); KEYS.len()] }
    }

    fn has(&self, key: usize) -> bool {
        self.places[key].1 != 0
    }

    fn raw(&self, key: usize) -> Option<Raw<'a>> {
        let (start, end) = (self.places[key].0 as usize, self.places[key].1 as usize);
        self.has(key).then(|| Raw::new(&self.text[start..end], start))
    }

    fn text(&self, key: usize) -> Option<Text<'a>> {
        Text::parse(self.raw(key)?)
    }

    fn id(&self, key: usize) -> Option<Id<'a>> {
        Id::parse(self.raw(key)?)
    }

    pub(super) fn cursor(&self) -> Option<Text<'a>> {
        self.text(CURSOR)
    }

    pub(super) fn uri(&self) -> Option<Text<'a>> {
        self.text(URI)
    }

    pub(super) fn request_id(&self) -> Option<Id<'a>> {
        self.id(REQUEST_ID)
    }

    pub(super) fn progress_token(&self) -> Option<Id<'a>> {
        self.id(PROGRESS_TOKEN)
    }

    pub(super) fn meta(&self) -> Option<Meta<'a>> {
        Some(Meta {
            raw: self.raw(META)?,
            progress_token: self.id(META_PROGRESS_TOKEN),
            traceparent: self.raw(META_TRACEPARENT),
            protocol_version: self.text(META_VERSION),
        })
    }
}

struct Scan<'a> {
    walk: Walk<'a>,
    found: Found<'a>,
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
    #[inline(always)]
    fn recognise(&mut self, layer: Layer, key: &[u8]) -> Option<usize> {
        let Some(known) = layer.known(key) else {
            self.refuse_variants(layer, key);
            return None;
        };
        if self.found.has(known) {
            self.two_ids |= known == ID;
            self.fail(Fault::Duplicate { path: PATHS[known] });
        }
        Some(known)
    }

    #[inline(never)]
    fn refuse_variants(&mut self, layer: Layer, key: &[u8]) {
        let ascii = key.is_ascii();
        let variant = layer.keys().find(|known| {
            let known = KEYS[*known];
            if ascii { known.as_bytes().eq_ignore_ascii_case(key) } else { folds_to(known, key) }
        });
        if let Some(known) = variant {
            let found = String::from_utf8_lossy(key).into_owned();
            self.fail(Fault::CaseVariant { path: PATHS[known], found });
        }
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
        let text = self.found.text;
        let (key, escaped) = self.walk.key()?;
        let known = if escaped {
            let key: String = serde_json::from_str(&text[key.start - 1..=key.end]).map_err(|_| NotJson)?;
            self.recognise(layer, key.as_bytes())
        } else {
            self.recognise(layer, &text.as_bytes()[key])
        };
        let start = self.walk.at();
        match known.and_then(Layer::of) {
            Some(inner) if self.walk.peek() == Some(b'{') => self.object(inner)?,
            _ if self.walk.peek() == Some(b'"') => {
                self.walk.string()?;
            }
            _ => self.walk.value()?,
        }
        let Some(known) = known else { return Ok(()) };
        if Layer::of(known).is_some() && text.as_bytes()[start] != b'{' {
            let found = kind_of(&text[start..self.walk.at()]);
            self.fail(Fault::NotObjectMember { path: PATHS[known], found });
        }
        if !self.found.has(known) {
            self.found.places[known] = (place(start)?, place(self.walk.at())?);
        }
        Ok(())
    }

    /// One that is `null` is none, one that is no id a fault.
    fn id_at(&mut self, key: usize) -> Option<Id<'a>> {
        let raw = self.found.raw(key).filter(|raw| !raw.is_null())?;
        let id = Id::parse(raw);
        if id.is_none() {
            self.fail(Fault::IdType { path: PATHS[key], found: kind_or_fraction(raw) });
        }
        id
    }

    fn finish(&mut self, open: usize) -> Result<Envelope<'a>, Fault> {
        let is_ours =
            |raw: Raw<'a>| raw.text() == "\"2.0\"" || Text::parse(raw).is_some_and(|text| text.value() == "2.0");
        if !self.found.raw(JSONRPC).is_some_and(is_ours) {
            self.fail(Fault::JsonRpc);
        }
        let id = self.id_at(ID);
        let params = self.params();
        let id_given = self.found.has(ID);
        let (result, error) = self.outcome();
        let message = match (self.found.raw(METHOD), result, error) {
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
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(Envelope { open, message: message? }),
        }
    }

    /// Some write the one of the two that is not there as `null`.
    fn outcome(&self) -> (Option<Raw<'a>>, Option<Raw<'a>>) {
        match (self.found.raw(RESULT), self.found.raw(ERROR)) {
            (Some(result), Some(error)) if error.is_null() => (Some(result), None),
            (Some(result), Some(error)) if result.is_null() => (None, Some(error)),
            as_written => as_written,
        }
    }

    fn params(&mut self) -> Option<Params<'a>> {
        let raw = self.found.raw(PARAMS)?;
        for key in [REQUEST_ID, PROGRESS_TOKEN, META_PROGRESS_TOKEN] {
            if self.found.has(key) {
                self.id_at(key);
            }
        }
        // It decides by which revision's rules the message is read, so it may not be unreadable.
        if self.found.has(META_VERSION) && self.found.text(META_VERSION).is_none() {
            self.fail(Fault::Missing { path: PATHS[META_VERSION], expected: "a string" });
        }
        Some(Params { raw, name: self.found.text(NAME), found: self.found })
    }
}

fn place(at: usize) -> Result<u32, NotJson> {
    u32::try_from(at).map_err(|_| NotJson)
}

fn kind_or_fraction(raw: Raw<'_>) -> &'static str {
    match kind_of(raw.text()) {
        "a number" => "a number that is not written as an integer",
        other => other,
    }
}

/// Case as the loosest JSON parsers fold it: Go's also takes the long s and the Kelvin sign for letters.
fn folds_to(known: &str, key: &[u8]) -> bool {
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    str::from_utf8(key).is_ok_and(|key| known.chars().map(fold).eq(key.chars().map(fold)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_known_on_its_layer_and_on_no_other() {
        let layers = [Layer::Top, Layer::Params, Layer::Meta];
        for layer in layers {
            for key in layer.keys() {
                assert_eq!(layer.known(KEYS[key].as_bytes()), Some(key));
                let elsewhere = layers.iter().filter_map(|other| other.known(KEYS[key].as_bytes()));
                assert!(elsewhere.filter(|other| *other != key).all(|other| KEYS[other] == KEYS[key]));
            }
        }
        let all: usize = layers.iter().map(|layer| layer.keys().len()).sum();
        assert_eq!(all, KEYS.len());
    }
}
