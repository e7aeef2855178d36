//! Pages of a list out of one rendering of all its elements.
//!
//! A cursor names the last item of the page before it, so it stays good over any change of the catalog and in any
//! router: the next page begins at the first name after it, whether or not what it names still exists.

use std::num::NonZeroUsize;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use super::Entry;
use crate::kind::Kind;
use crate::message::push_string;

/// The cursor is not one of this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor")]
pub struct InvalidCursor;

/// A page ends before the element that would give it more bytes; it has one element at least. Pages are held for the
/// clients that read them slowly.
pub const PAGE_BYTES: usize = 1 << 20;

/// The response to one request for a list, before its bytes are put together.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<'a> {
    kind: Kind,
    items: &'a [u8],
    /// The member `nextCursor` with a comma before it; empty on the last page.
    next: String,
    meta: &'a [u8],
}

impl Page<'_> {
    fn parts<'a>(&'a self, id: &'a str) -> [&'a [u8]; 10] {
        let (head, array) = (br#"{"jsonrpc":"2.0","id":"#, self.kind.array().as_bytes());
        let (result, elements) = (br#","result":{""#, br#"":["#);
        let next = self.next.as_bytes();
        [head, id.as_bytes(), result, array, elements, self.items, b"]", next, self.meta, b"}}"]
    }

    /// Bytes of [`Self::response`].
    #[must_use]
    pub fn length(&self, id: &str) -> usize {
        self.parts(id).iter().map(|part| part.len()).sum()
    }

    /// The whole response to the request with the raw id `id`.
    #[must_use]
    pub fn response(&self, id: &str) -> Vec<u8> {
        self.parts(id).concat()
    }
}

/// All elements as JSON, comma-separated, and where each ends.
#[derive(Debug)]
pub(super) struct Listing {
    kind: Kind,
    json: Vec<u8>,
    ends: Vec<usize>,
    /// The member `_meta` of each result with a comma before it; empty where there is nothing to say.
    meta: Vec<u8>,
    page_size: NonZeroUsize,
}

/// In `_meta` of the result: which servers are not in the list, and why, as `[{"server": …, "reason": …}]`.
const MISSING: &str = "only1mcp/missing";

impl Listing {
    pub(super) fn render<'a>(
        kind: Kind,
        entries: &[Entry],
        missing: impl Iterator<Item = (&'a str, &'a str)>,
        page_size: NonZeroUsize,
    ) -> Self {
        let mut json = Vec::new();
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries {
            if !json.is_empty() {
                json.push(b',');
            }
            entry.item.push_named(&entry.exposed, &mut json);
            ends.push(json.len());
        }
        Self { kind, json, ends, meta: meta(missing), page_size }
    }

    pub(super) fn items(&self) -> &[u8] {
        &self.json
    }

    pub(super) fn page(&self, entries: &[Entry], cursor: Option<&str>) -> Result<Page<'_>, InvalidCursor> {
        let first = match cursor {
            None | Some("") => 0,
            Some(cursor) => {
                let last = name_of(cursor).ok_or(InvalidCursor)?;
                entries.partition_point(|entry| *entry.exposed <= *last)
            }
        };
        let end = self.end(first);
        let items = if first == end { &[][..] } else { &self.json[self.begin(first)..self.ends[end - 1]] };
        let more = first < end && end < entries.len();
        let next =
            if more { format!(",\"nextCursor\":\"{}\"", cursor_of(&entries[end - 1].exposed)) } else { String::new() };
        Ok(Page { kind: self.kind, items, next, meta: &self.meta })
    }

    /// Where the page that begins with element `first` ends.
    fn end(&self, first: usize) -> usize {
        let by_bytes = self.ends.partition_point(|end| *end <= self.begin(first) + PAGE_BYTES);
        self.ends.len().min(first + self.page_size.get()).min(by_bytes.max(first + 1))
    }

    /// After the comma that ends the element before.
    fn begin(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] + 1 }
    }
}

fn meta<'a>(missing: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut meta = Vec::new();
    for (server, reason) in missing {
        if meta.is_empty() {
            meta.extend_from_slice(format!(",\"_meta\":{{\"{MISSING}\":[").as_bytes());
        } else {
            meta.push(b',');
        }
        meta.extend_from_slice(br#"{"server":"#);
        push_string(&mut meta, server);
        meta.extend_from_slice(br#","reason":"#);
        push_string(&mut meta, reason);
        meta.push(b'}');
    }
    if !meta.is_empty() {
        meta.extend_from_slice(b"]}");
    }
    meta
}

/// Hexadecimal, so that a client does not take the cursor for a name to edit, and any name fits.
fn cursor_of(name: &str) -> String {
    HEXLOWER.encode(name.as_bytes())
}

fn name_of(cursor: &str) -> Option<String> {
    String::from_utf8(HEXLOWER_PERMISSIVE.decode(cursor.as_bytes()).ok()?).ok()
}
