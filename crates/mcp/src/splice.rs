//! A message with a few spans replaced: every byte outside them stays as it was written.

use std::borrow::Cow;

use crate::raw::Span;

/// One replacement; with an empty span an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    pub span: Span,
    pub with: Cow<'a, [u8]>,
}

impl<'a> Edit<'a> {
    pub fn new(span: Span, with: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { span, with: with.into() }
    }
}

/// `body` with `edits` applied, in one allocation of the exact size. Sorts the edits (keys come in any order in JSON).
/// A byte order mark before the message is left out: not every reader takes it.
///
/// # Panics
/// If two edits overlap or one lies outside `body`: spans come from a scan of that same body.
pub fn splice(body: &[u8], edits: &mut [Edit<'_>]) -> Vec<u8> {
    if !edits.is_sorted_by_key(|edit| edit.span) {
        edits.sort_by_key(|edit| edit.span);
    }
    let removed: usize = edits.iter().map(|edit| edit.span.range().len()).sum();
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added - removed);
    let mut copied = body.len() - without_bom(body).len();
    for edit in &*edits {
        out.extend_from_slice(&body[copied..edit.span.start]);
        out.extend_from_slice(&edit.with);
        copied = edit.span.end;
    }
    out.extend_from_slice(&body[copied..]);
    out
}

/// As [`splice`] with one edit, without a second copy of a body that may be large.
///
/// # Panics
/// If the edit lies outside `body`.
pub fn splice_in_place(body: &mut Vec<u8>, edit: &Edit<'_>) {
    body.splice(edit.span.range(), edit.with.iter().copied());
    let mark = body.len() - without_bom(body).len();
    body.drain(..mark);
}

/// The message after a byte order mark, if there is one.
pub fn without_bom(message: &[u8]) -> &[u8] {
    message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message)
}
