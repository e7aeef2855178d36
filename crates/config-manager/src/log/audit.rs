//! The audit chain: each hash is BLAKE3 of the hash before it and of the record's canonical JSON, so that a record
//! that was changed or taken out shows in every later one.

use model::canonical_json;

use super::store::{Reading, Writing};
use super::table::{AUDIT, HASH_BYTES, damaged, from_json};
use super::{AuditRecord, Ended, LogError};

type Hash = [u8; HASH_BYTES];

/// What the first record is hashed with.
const START: Hash = [0; HASH_BYTES];

fn link(previous: &Hash, record: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(record);
    *hasher.finalize().as_bytes()
}

fn split(sequence: u64, row: &[u8]) -> Result<(&Hash, &[u8]), LogError> {
    row.split_first_chunk().ok_or_else(|| damaged(format!("audit record {sequence} is too short")))
}

pub(super) fn append(writing: &Writing, ended: Ended) -> Result<(), LogError> {
    let (sequence, previous) = match writing.last(AUDIT)? {
        Some((sequence, row)) => (sequence + 1, *split(sequence, &row)?.0),
        None => (1, START),
    };
    let record = canonical_json(&ended.at(sequence));
    let mut row = link(&previous, &record).to_vec();
    row.extend_from_slice(&record);
    writing.put(AUDIT, sequence, &row)
}

/// Checks the newest `links` records against each other.
pub(super) fn verify(reading: &Reading, links: u64) -> Result<(), LogError> {
    let Some((_, last)) = reading.ends(AUDIT)? else { return Ok(()) };
    let from = last.saturating_sub(links).max(1);
    let mut previous = (from == 1).then_some(START);
    for (expected, row) in (from..).zip(reading.rows(AUDIT, from)?) {
        let (sequence, row) = row?;
        let (hash, record) = split(sequence, &row)?;
        let chained = previous.is_none_or(|previous| link(&previous, record) == *hash);
        if sequence != expected || !chained {
            return Err(damaged(format!("the audit chain breaks at record {expected}")));
        }
        previous = Some(*hash);
    }
    Ok(())
}

/// Newest first; at most `limit`, 0 for all.
pub(super) fn list(reading: &Reading, limit: usize) -> Result<Vec<AuditRecord>, LogError> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let rows = reading.rows(AUDIT, 0)?.rev().take(limit);
    rows.map(|row| {
        let (sequence, row) = row?;
        let (_, record) = split(sequence, &row)?;
        from_json(record, || format!("audit record {sequence}"))
    })
    .collect()
}
