//! The tables of the file, and reading and writing single rows of them.

use model::{Digest, Owner, Revision};
use serde::de::DeserializeOwned;

use super::store::{Named, Numbered, Writing};
use super::{Cursor, Judged, LogError, RevisionRecord};

/// The layout of these tables. Another number: written by a release that this one does not understand.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: Named = Named::new("meta");
pub(super) const REVISIONS: Numbered = Numbered::new("revisions");
/// Canonical JSON of snapshots, as the digests are of it. Pruned.
pub(super) const CONTENTS: Numbered = Numbered::new("contents");
/// By the revision they belong to. Pruned with the contents.
pub(super) const LAYERS: Numbered = Numbered::new("layers");
/// The hash that ends with this record, then the record's canonical JSON.
pub(super) const AUDIT: Numbered = Numbered::new("audit");
/// The digest each source had judged last.
pub(super) const CURSORS: Named = Named::new("cursors");

pub(super) const HASH_BYTES: usize = 32;

/// Some row cannot be read as what it is.
pub(super) fn damaged(what: impl Into<String>) -> LogError {
    LogError::Damaged { what: what.into() }
}

pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T, LogError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(format!("{}: {error}", what())))
}

pub(super) fn number(bytes: &[u8], what: &str) -> Result<u64, LogError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged(format!("{what} is no number")))
}

pub(super) fn record(row: &[u8], revision: Revision) -> Result<RevisionRecord, LogError> {
    from_json(row, || format!("the record of revision {revision}"))
}

pub(super) fn save_cursor(writing: &Writing, owner: &Owner, cursor: Cursor) -> Result<(), LogError> {
    let mut row = cursor.digest.as_bytes().to_vec();
    row.push(match cursor.judged {
        Judged::Live => 0,
        Judged::Refused => 1,
        Judged::RolledBack => 2,
    });
    writing.put(CURSORS, owner.0.as_str(), &row)
}

pub(super) fn cursor(row: &[u8]) -> Result<Cursor, LogError> {
    let (judged, digest) = row.split_last().ok_or_else(|| damaged("the cursor of a source is empty"))?;
    let digest = digest.try_into().map_err(|_| damaged("the cursor of a source is no digest"))?;
    let judged = match judged {
        0 => Judged::Live,
        1 => Judged::Refused,
        2 => Judged::RolledBack,
        other => return Err(damaged(format!("the cursor of a source was judged {other}, which has no meaning"))),
    };
    Ok(Cursor { digest: Digest::from_bytes(digest), judged })
}
