//! One tool as its backend wrote it.
//!
//! A tool is kept as its JSON bytes; only the name is ever replaced. Schemas, annotations and vendor members reach the
//! client exactly as the backend sent them.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::message::push_string;
use crate::raw::{Raw, Span, Text};

/// A tool of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    json: Box<str>,
    name: Box<str>,
    /// Where the value of `name` lies in `json`, quotes included.
    name_span: Span,
    /// `annotations.readOnlyHint`: calling it changes nothing.
    pub read_only: bool,
    /// `annotations.idempotentHint`: calling it twice is as calling it once.
    pub idempotent: bool,
}

/// Why one tool of a list cannot be offered. The rest of the list stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    #[error("not a tool: {reason}")]
    Malformed { reason: String },
    #[error("the tool's name is not a string, is empty, or has more than {} bytes", Tool::NAME_MAX)]
    Name,
    #[error("tool `{name}` has {bytes} bytes of JSON, more than the {} that one may have", Tool::JSON_MAX)]
    TooLong { name: String, bytes: usize },
    /// Offered to a client, it would make the client refuse the whole list.
    #[error("tool `{name}` has no `inputSchema` object")]
    InputSchema { name: String },
}

impl ToolError {
    /// The name of the tool, if it has one.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        match self {
            Self::InputSchema { name } | Self::TooLong { name, .. } => Some(name),
            Self::Malformed { .. } | Self::Name => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolWire<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
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

impl Tool {
    /// Bytes of a name. Names are kept and shown in many places; the protocol advises 128 characters.
    pub const NAME_MAX: usize = 1024;
    /// Bytes of a tool as its backend wrote it. Each is in the list that every client gets.
    pub const JSON_MAX: usize = 256 << 10;

    /// Reads one element of the `tools` array.
    ///
    /// # Errors
    /// See [`ToolError`].
    pub fn parse(json: &str) -> Result<Self, ToolError> {
        let malformed = |error: serde_json::Error| ToolError::Malformed { reason: error.to_string() };
        let wire: ToolWire<'_> = serde_json::from_str(json).map_err(malformed)?;
        let raw = Raw::new(wire.name.get(), wire.name.get().as_ptr().addr() - json.as_ptr().addr());
        let name = Text::parse(raw).ok_or(ToolError::Name)?;
        if name.value().is_empty() || name.value().len() > Self::NAME_MAX {
            return Err(ToolError::Name);
        }
        if json.len() > Self::JSON_MAX {
            return Err(ToolError::TooLong { name: name.value().to_owned(), bytes: json.len() });
        }
        if !wire.input_schema.is_some_and(|schema| schema.get().starts_with('{')) {
            return Err(ToolError::InputSchema { name: name.value().to_owned() });
        }
        // Hints are only hints: in a form nobody can read they are absent.
        let annotations: Annotations =
            wire.annotations.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        Ok(Self {
            json: json.into(),
            name: name.value().into(),
            name_span: raw.span(),
            read_only: annotations.read_only_hint.unwrap_or(false),
            idempotent: annotations.idempotent_hint.unwrap_or(false),
        })
    }

    /// The backend's own name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as raw JSON, quotes included, as the backend wrote it.
    #[must_use]
    pub fn name_json(&self) -> &str {
        &self.json[self.name_span.start..self.name_span.end]
    }

    /// Exactly as the backend sent it.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// A call may be sent again though it may have been executed.
    #[must_use]
    pub const fn may_repeat(&self) -> bool {
        self.read_only || self.idempotent
    }

    /// The tool with `exposed` as its name and every other byte as it was.
    #[must_use]
    pub fn render_named(&self, exposed: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.json.len() + exposed.len());
        self.push_named(exposed, &mut out);
        out
    }

    /// Appends what [`Self::render_named`] gives.
    pub fn push_named(&self, exposed: &str, out: &mut Vec<u8>) {
        if exposed == &*self.name {
            out.extend_from_slice(self.json.as_bytes());
            return;
        }
        out.extend_from_slice(&self.json.as_bytes()[..self.name_span.start]);
        push_string(out, exposed);
        out.extend_from_slice(&self.json.as_bytes()[self.name_span.end..]);
    }
}

/// One page of a backend's `tools/list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPage {
    pub tools: Vec<Tool>,
    /// Elements that are no usable tools, by position in the page.
    pub refused: Vec<(usize, ToolError)>,
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
                while elements.first.len() < ToolPage::MAX {
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

/// A `tools/list` result without a `tools` array.
#[derive(Debug, thiserror::Error)]
#[error("not a tools/list result: {0}")]
pub struct ToolListError(serde_json::Error);

impl ToolPage {
    /// So many elements are looked at: small ones would take far more memory than their bytes.
    pub const MAX: usize = 10_000;

    /// Reads the raw `result` of a `tools/list` response.
    ///
    /// # Errors
    /// [`ToolListError`]; a single bad tool is no error but listed in `refused`.
    pub fn parse(result: &str) -> Result<Self, ToolListError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(borrow)]
            tools: Elements<'a>,
            #[serde(default)]
            next_cursor: Option<String>,
        }
        let wire: Wire<'_> = serde_json::from_str(result).map_err(ToolListError)?;
        let Elements { first, beyond } = wire.tools;
        let mut page = Self { tools: Vec::new(), refused: Vec::new(), beyond, next_cursor: wire.next_cursor };
        for (position, raw) in first.into_iter().enumerate() {
            match Tool::parse(raw.get()) {
                Ok(tool) => page.tools.push(tool),
                Err(error) => page.refused.push((position, error)),
            }
        }
        Ok(page)
    }
}
