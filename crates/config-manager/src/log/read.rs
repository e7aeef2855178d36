//! Reading: the history, and the content of single revisions.

use std::sync::Arc;

use model::{Digest, Revision, Snapshot};
use rollout::Content;

use super::table::{CONTENTS, LAYERS, REVISIONS, damaged, from_json, record};
use super::{AuditRecord, Layers, Log, LogError, RevisionRecord, audit};

/// A revision with its content, checked against its digest.
#[derive(Debug, Clone)]
pub struct Kept {
    pub record: RevisionRecord,
    /// The bytes as they were stored.
    pub bytes: Arc<[u8]>,
    pub content: Content,
    pub layers: Arc<Layers>,
}

/// Why a revision's content cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("there is no revision {revision}; {}", range(.oldest, .newest))]
    Unknown { revision: Revision, oldest: Revision, newest: Revision },
    #[error("the content of revision {revision} is no longer kept; {}", listed(.kept))]
    Pruned { revision: Revision, kept: Vec<Revision> },
    #[error("revision {revision} was the first, so there is none before it")]
    First { revision: Revision },
    /// `further`: the revision to name for going further back, if its content is kept; `others`: what else is kept.
    #[error("revision {revision} is live, by a {by} already")]
    RolledBack { revision: Revision, by: String, further: Option<Revision>, others: Vec<Revision> },
    #[error(transparent)]
    Log(#[from] LogError),
}

fn range(oldest: &Revision, newest: &Revision) -> String {
    if *newest == Revision::NONE { "nothing was ever live".into() } else { format!("the log has {oldest} to {newest}") }
}

/// What can be done about that.
pub(crate) fn further_back(further: Option<Revision>, others: &[Revision]) -> String {
    match further {
        Some(further) => format!("to go further back: `only1mcp rollback {further}`"),
        None if others.is_empty() => "nothing else is kept".to_owned(),
        None => format!("nothing from before that is kept; {}, by `only1mcp rollback NUMBER`", listed(others)),
    }
}

/// In order; those in a row as the first and the last of them.
fn listed(kept: &[Revision]) -> String {
    let rows = kept.chunk_by(|one, other| one.next() == *other).map(|row| match row {
        [first, .., last] => format!("{first} to {last}"),
        [] | [_] => row.iter().map(Revision::to_string).collect(),
    });
    format!("what can be brought back: {}", rows.collect::<Vec<_>>().join(", "))
}

impl Log {
    /// Newest first, each with whether its content is kept; at most `limit`, 0 for all.
    pub fn revisions(&self, limit: usize) -> Result<Vec<(RevisionRecord, bool)>, LogError> {
        let reading = self.read()?;
        let limit = if limit == 0 { usize::MAX } else { limit };
        let rows = reading.rows(REVISIONS, 0)?.rev().take(limit);
        rows.map(|row| {
            let (revision, row) = row?;
            Ok((record(&row, Revision(revision))?, reading.has(CONTENTS, revision)?))
        })
        .collect()
    }

    /// How every proposal ended, newest first; at most `limit`, 0 for all. One that made a revision has it, with
    /// whether its content is kept: both are as they were at one moment.
    pub fn ended(&self, limit: usize) -> Result<Vec<(AuditRecord, Option<(RevisionRecord, bool)>)>, LogError> {
        let reading = self.read()?;
        let made = |ended: AuditRecord| -> Result<_, LogError> {
            let revision = ended.revision;
            let row = if ended.result == "applied" { reading.row(REVISIONS, revision.0)? } else { None };
            let made = row.map(|row| record(&row, revision)).transpose()?;
            let kept = reading.has(CONTENTS, revision.0)?;
            Ok((ended, made.map(|record| (record, kept))))
        };
        audit::list(&reading, limit)?.into_iter().map(made).collect()
    }

    /// The record of a revision, and its stored bytes if they are kept. 0: the newest.
    pub fn revision(&self, revision: Revision) -> Result<(RevisionRecord, Option<Vec<u8>>), Unavailable> {
        let reading = self.read()?;
        let ends = || Ok::<_, LogError>(reading.ends(REVISIONS)?.unwrap_or_default());
        let wanted = if revision == Revision::NONE { Revision(ends()?.1) } else { revision };
        let Some(row) = reading.row(REVISIONS, wanted.0)? else {
            let (oldest, newest) = ends()?;
            return Err(Unavailable::Unknown { revision, oldest: Revision(oldest), newest: Revision(newest) });
        };
        Ok((record(&row, wanted)?, reading.row(CONTENTS, wanted.0)?))
    }

    /// What is needed to make a revision live again.
    pub fn kept(&self, revision: Revision) -> Result<Kept, Unavailable> {
        let (record, bytes) = self.revision(revision)?;
        let revision = record.revision;
        let Some(bytes) = bytes else {
            return Err(Unavailable::Pruned { revision, kept: self.all_kept()? });
        };
        let content = content(&record, &bytes)?;
        let layers = self.layers(revision)?;
        Ok(Kept { record, bytes: bytes.into(), content, layers: Arc::new(layers) })
    }

    /// The revisions whose content is kept, in order.
    pub(crate) fn all_kept(&self) -> Result<Vec<Revision>, LogError> {
        Ok(self.read()?.numbers(CONTENTS)?.into_iter().map(Revision).collect())
    }

    /// As each owner wrote them.
    pub(crate) fn layers(&self, revision: Revision) -> Result<Layers, LogError> {
        let row = self.read()?.row(LAYERS, revision.0)?;
        let row = row.ok_or_else(|| damaged(format!("the layers of revision {revision} are missing")))?;
        from_json(&row, || format!("the layers of revision {revision}"))
    }
}

/// Stored bytes as what they were: refused when they are not what the record's digest is of.
fn content(record: &RevisionRecord, bytes: &[u8]) -> Result<Content, LogError> {
    let revision = record.revision;
    if Digest::of_bytes(bytes) != record.digest {
        return Err(damaged(format!("the content of revision {revision} does not have its digest")));
    }
    let snapshot: Snapshot = from_json(bytes, || format!("the content of revision {revision}"))?;
    Ok(Content { snapshot: Arc::new(snapshot), digest: record.digest })
}
