//! One thing that a server lists, as its server wrote it: a tool, a prompt, a resource.
//!
//! It is kept as its JSON bytes; only the name is ever replaced. Schemas, annotations and vendor members reach the
//! client exactly as the server sent them.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::kind::Kind;
use crate::message::{push_string, string_length};
use crate::raw::{Raw, Span, Text};

/// One element of a server's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    json: Box<str>,
    name: Box<str>,
    /// Where the value of what names it lies in `json`, quotes included.
    name_span: Span,
    /// `annotations.readOnlyHint` of a tool: calling it changes nothing.
    pub read_only: bool,
    /// `annotations.idempotentHint` of a tool: calling it twice is as calling it once.
    pub idempotent: bool,
}

/// Why one element of a list cannot be offered. The rest of the list stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error("not a {}: {reason}", kind.noun())]
    Malformed { kind: Kind, reason: String },
    #[error("the {}'s {} is not a string, is empty, or has more than {} bytes", kind.noun(), kind.key(), Item::NAME_MAX)]
    Name { kind: Kind },
    #[error("{} `{name}` has {bytes} bytes of JSON, more than the {} that one may have", kind.noun(), Item::JSON_MAX)]
    TooLong { kind: Kind, name: String, bytes: usize },
    /// Offered to a client, it would make the client refuse the whole list.
    #[error("tool `{name}` has no `inputSchema` object")]
    InputSchema { name: String },
}

impl ItemError {
    /// The name of the element, if it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::InputSchema { name } | Self::TooLong { name, .. } => Some(name),
            Self::Malformed { .. } | Self::Name { .. } => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri_template: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    #[serde(default)]
    read_only_hint: Option<bool>,
    #[serde(default)]
    idempotent_hint: Option<bool>,
}

impl Item {
    /// Bytes of a name. Names are kept and shown in many places; the protocol advises 128 characters.
    pub const NAME_MAX: usize = 1024;
    /// Bytes of an element as its server wrote it. Each is in the list that every client gets.
    pub const JSON_MAX: usize = 256 << 10;

    /// Reads one element of the array of a list.
    pub fn parse(kind: Kind, json: &str) -> Result<Self, ItemError> {
        let malformed = |error: serde_json::Error| ItemError::Malformed { kind, reason: error.to_string() };
        let wire: Wire<'_> = serde_json::from_str(json).map_err(malformed)?;
        let named = match kind {
            Kind::Tool | Kind::Prompt => wire.name,
            Kind::Resource => wire.uri,
            Kind::Template => wire.uri_template,
        };
        let missing = || ItemError::Malformed { kind, reason: format!("missing field `{}`", kind.key()) };
        let named = named.ok_or_else(missing)?;
        let raw = Raw::new(named.get(), named.get().as_ptr().addr() - json.as_ptr().addr());
        let name = Text::parse(raw).ok_or(ItemError::Name { kind })?;
        if name.value().is_empty() || name.value().len() > Self::NAME_MAX {
            return Err(ItemError::Name { kind });
        }
        if json.len() > Self::JSON_MAX {
            return Err(ItemError::TooLong { kind, name: name.value().to_owned(), bytes: json.len() });
        }
        if kind == Kind::Tool && !wire.input_schema.is_some_and(|schema| schema.get().starts_with('{')) {
            return Err(ItemError::InputSchema { name: name.value().to_owned() });
        }
        // Hints are only hints: a hint in an unreadable form counts as absent. Hints are about calls.
        let annotations = wire.annotations.filter(|_| kind == Kind::Tool);
        let annotations: Annotations =
            annotations.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        Ok(Self {
            json: json.into(),
            name: name.value().into(),
            name_span: raw.span(),
            read_only: annotations.read_only_hint.unwrap_or(false),
            idempotent: annotations.idempotent_hint.unwrap_or(false),
        })
    }

    /// What its server calls it: its name, or its URI.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as raw JSON, quotes included, as its server wrote it.
    pub fn name_json(&self) -> &str {
        &self.json[self.name_span.start..self.name_span.end]
    }

    /// Exactly as its server sent it.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// A request for this item may be sent again though it may have been executed.
    pub const fn may_repeat(&self) -> bool {
        self.read_only || self.idempotent
    }

    /// Appends the item with `exposed` as its name and every other byte as it was.
    pub fn push_named(&self, exposed: &str, out: &mut Vec<u8>) {
        if exposed == &*self.name {
            out.extend_from_slice(self.json.as_bytes());
            return;
        }
        out.extend_from_slice(&self.json.as_bytes()[..self.name_span.start]);
        push_string(out, exposed);
        out.extend_from_slice(&self.json.as_bytes()[self.name_span.end..]);
    }

    /// Bytes of [`Self::push_named`].
    pub fn named_length(&self, exposed: &str) -> usize {
        self.json.len() - (self.name_span.end - self.name_span.start) + string_length(exposed)
    }
}

/// One page of a server's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPage {
    pub items: Vec<Item>,
    /// Elements that cannot be used, by position in the page.
    pub refused: Vec<(usize, ItemError)>,
    /// Elements that were not looked at, since the page has more than may be.
    pub beyond: usize,
    /// Raw string to ask the next page with; the empty string is a valid cursor.
    pub next_cursor: Option<String>,
}

/// The first elements of an array, and how many more there are.
struct Elements<'a> {
    first: Vec<&'a RawValue>,
    beyond: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Elements { first: Vec::new(), beyond: 0 };
                while elements.first.len() < ItemPage::MAX {
                    let Some(element) = array.next_element()? else { return Ok(elements) };
                    elements.first.push(element);
                }
                while array.next_element::<IgnoredAny>()?.is_some() {
                    elements.beyond += 1;
                }
                Ok(elements)
            }
        }

        deserializer.deserialize_seq(First)
    }
}

/// A result that has no such list.
#[derive(Debug, thiserror::Error)]
#[error("not a {method} result: {error}")]
pub struct ListError {
    method: &'static str,
    error: serde_json::Error,
}

/// The result of a list. Of its other members nothing is asked: they may have any form.
struct Listed<'a> {
    elements: Option<Elements<'a>>,
    next_cursor: Option<String>,
}

/// Reads [`Listed`] for one kind.
struct OfKind(Kind);

impl<'de> DeserializeSeed<'de> for OfKind {
    type Value = Listed<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Listed<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfKind {
    type Value = Listed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed<'de>, A::Error> {
        let (array, mut elements, mut next_cursor) = (self.0.array(), None, None);
        while let Some(member) = map.next_key::<Cow<'_, str>>()? {
            if member == array {
                if elements.replace(map.next_value()?).is_some() {
                    return Err(A::Error::duplicate_field(array));
                }
            } else if member == "nextCursor" {
                if next_cursor.replace(map.next_value()?).is_some() {
                    return Err(A::Error::duplicate_field("nextCursor"));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Listed { elements, next_cursor: next_cursor.flatten() })
    }
}

impl ItemPage {
    /// So many elements are looked at: small ones would take far more memory than their bytes.
    pub const MAX: usize = 10_000;

    /// Reads the raw `result` of the response to a list.
    ///
    /// # Errors
    /// [`ListError`]; a single bad element is no error but listed in `refused`.
    pub fn parse(kind: Kind, result: &str) -> Result<Self, ListError> {
        let failed = |error| ListError { method: kind.list(), error };
        let mut json = serde_json::Deserializer::from_str(result);
        let listed = OfKind(kind).deserialize(&mut json).and_then(|listed| json.end().map(|()| listed));
        let Listed { elements, next_cursor } = listed.map_err(failed)?;
        let missing = || serde::de::Error::missing_field(kind.array());
        let Elements { first, beyond } = elements.ok_or_else(|| failed(missing()))?;
        let mut page = Self { items: Vec::new(), refused: Vec::new(), beyond, next_cursor };
        for (position, raw) in first.into_iter().enumerate() {
            match Item::parse(kind, raw.get()) {
                Ok(item) => page.items.push(item),
                Err(error) => page.refused.push((position, error)),
            }
        }
        Ok(page)
    }
}
