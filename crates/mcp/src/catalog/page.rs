//! Pages of a list, rendered when they are asked for.
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
#[derive(Debug)]
pub struct Page<'a> {
    kind: Kind,
    entries: &'a [Entry],
    /// Bytes of the elements with the commas between them.
    bytes: usize,
    /// The member `nextCursor` with a comma before it; empty on the last page.
    next: String,
    meta: &'a [u8],
}

impl Page<'_> {
    /// What stands before the elements, and after them.
    fn around<'a>(&'a self, id: &'a str) -> ([&'a [u8]; 5], [&'a [u8]; 4]) {
        let (head, array) = (br#"{"jsonrpc":"2.0","id":"#, self.kind.array().as_bytes());
        let (result, elements) = (br#","result":{""#, br#"":["#);
        ([head, id.as_bytes(), result, array, elements], [b"]", self.next.as_bytes(), self.meta, b"}}"])
    }

    /// Bytes of [`Self::response`].
    pub fn length(&self, id: &str) -> usize {
        let (before, after) = self.around(id);
        self.bytes + before.iter().chain(&after).map(|part| part.len()).sum::<usize>()
    }

    /// The whole response to the request with the raw id `id`.
    pub fn response(&self, id: &str) -> Vec<u8> {
        let mut response = Vec::with_capacity(self.length(id));
        let (before, after) = self.around(id);
        before.iter().for_each(|part| response.extend_from_slice(part));
        for (at, entry) in self.entries.iter().enumerate() {
            if at > 0 {
                response.push(b',');
            }
            entry.item.push_named(&entry.exposed, &mut response);
        }
        after.iter().for_each(|part| response.extend_from_slice(part));
        response
    }
}

/// What the pages of a list have in common.
#[derive(Debug)]
pub(super) struct Listing {
    kind: Kind,
    /// The member `_meta` of each result with a comma before it; empty where there is nothing to say.
    meta: Vec<u8>,
    page_size: NonZeroUsize,
}

/// In `_meta` of the result: which servers are not in the list, and why, as `[{"server": …, "reason": …}]`.
const MISSING: &str = "only1mcp/missing";

impl Listing {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn new<'a>(
        kind: Kind,
        missing: impl Iterator<Item = (&'a str, &'a str)>,
        page_size: NonZeroUsize,
    ) -> Self {
        Self { kind, meta: meta(missing), page_size }
    }

    pub(super) fn page<'a>(&'a self, entries: &'a [Entry], cursor: Option<&str>) -> Result<Page<'a>, InvalidCursor> {
        let first = match cursor {
            None | Some("") => 0,
            Some(cursor) => {
                let last = name_of(cursor).ok_or(InvalidCursor)?;
                entries.partition_point(|entry| *entry.exposed <= *last)
            }
        };
        let rest = &entries[first..];
        let (mut bytes, mut count) = (0, 0);
        for entry in rest.iter().take(self.page_size.get()) {
            let with = bytes + usize::from(count > 0) + entry.item.named_length(&entry.exposed);
            if count > 0 && with > PAGE_BYTES {
                break;
            }
            (bytes, count) = (with, count + 1);
        }
        let next = rest[..count].last().filter(|_| count < rest.len());
        let next = next.map(|last| format!(",\"nextCursor\":\"{}\"", cursor_of(&last.exposed)));
        Ok(Page { kind: self.kind, entries: &rest[..count], bytes, next: next.unwrap_or_default(), meta: &self.meta })
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
