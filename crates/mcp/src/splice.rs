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
    #[must_use]
    pub fn new(span: Span, with: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { span, with: with.into() }
    }
}

/// `body` with `edits` applied, in one allocation of the exact size. Sorts the edits (keys come in any order in JSON).
///
/// # Panics
/// If two edits overlap or one lies outside `body`: spans come from a scan of that same body.
#[must_use]
pub fn splice(body: &[u8], edits: &mut [Edit<'_>]) -> Vec<u8> {
    edits.sort_by_key(|edit| edit.span);
    let removed: usize = edits.iter().map(|edit| edit.span.range().len()).sum();
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added - removed);
    let mut copied = 0;
    for edit in &*edits {
        out.extend_from_slice(&body[copied..edit.span.start]);
        out.extend_from_slice(&edit.with);
        copied = edit.span.end;
    }
    out.extend_from_slice(&body[copied..]);
    out
}
