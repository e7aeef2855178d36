//! Reading: the history, and the content of single revisions.

use std::sync::Arc;

use model::{Digest, Revision, Snapshot};
use redb::ReadableTable;
use rollout::Content;

use super::table::{AUDIT, CONTENTS, LAYERS, REVISIONS, damaged, from_json, record};
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
    #[error("revision {revision} is live, by a {by} already; name the revision to bring back, `history` lists them")]
    RolledBack { revision: Revision, by: String },
    #[error(transparent)]
    Log(#[from] LogError),
}

fn range(oldest: &Revision, newest: &Revision) -> String {
    if *newest == Revision::NONE { "nothing was ever live".into() } else { format!("the log has {oldest} to {newest}") }
}

fn listed(kept: &[Revision]) -> String {
    let kept: Vec<_> = kept.iter().map(Revision::to_string).collect();
    format!("what can be brought back: {}", kept.join(", "))
}

impl Log {
    /// Newest first, each with whether its content is kept; at most `limit`, 0 for all.
    pub fn revisions(&self, limit: usize) -> Result<Vec<(RevisionRecord, bool)>, LogError> {
        let transaction = self.begin_read()?;
        let contents = transaction.open_table(CONTENTS)?;
        let limit = if limit == 0 { usize::MAX } else { limit };
        let rows = transaction.open_table(REVISIONS)?;
        rows.range::<u64>(..)?
            .rev()
            .take(limit)
            .map(|row| {
                let (revision, row) = row?;
                let record = from_json(row.value(), || format!("the record of revision {}", revision.value()))?;
                Ok((record, contents.get(revision.value())?.is_some()))
            })
            .collect()
    }

    /// How every proposal ended, newest first; at most `limit`, 0 for all. One that made a revision has it, with whether
    /// its content is kept: both are as they were at one moment.
    pub fn ended(&self, limit: usize) -> Result<Vec<(AuditRecord, Option<(RevisionRecord, bool)>)>, LogError> {
        let transaction = self.begin_read()?;
        let (records, contents) = (transaction.open_table(REVISIONS)?, transaction.open_table(CONTENTS)?);
        let made = |ended: AuditRecord| -> Result<_, LogError> {
            let made = if ended.result == "applied" { record(&records, ended.revision)? } else { None };
            let kept = contents.get(ended.revision.0)?.is_some();
            Ok((ended, made.map(|record| (record, kept))))
        };
        audit::list(&transaction.open_table(AUDIT)?, limit)?.into_iter().map(made).collect()
    }

    /// The record of a revision, and its stored bytes if they are kept. 0: the newest.
    pub fn revision(&self, revision: Revision) -> Result<(RevisionRecord, Option<Vec<u8>>), Unavailable> {
        let transaction = self.begin_read()?;
        let records = transaction.open_table(REVISIONS).map_err(LogError::from)?;
        let bounds = || -> Result<(Revision, Revision), LogError> {
            let oldest = records.first()?.map_or(0, |(revision, _)| revision.value());
            Ok((Revision(oldest), Revision(records.last()?.map_or(0, |(revision, _)| revision.value()))))
        };
        let wanted = if revision == Revision::NONE { bounds()?.1 } else { revision };
        let Some(record) = record(&records, wanted)? else {
            let (oldest, newest) = bounds()?;
            return Err(Unavailable::Unknown { revision, oldest, newest });
        };
        let contents = transaction.open_table(CONTENTS).map_err(LogError::from)?;
        let bytes = contents.get(wanted.0).map_err(LogError::from)?.map(|row| row.value().to_vec());
        Ok((record, bytes))
    }

    /// What is needed to make a revision live again.
    pub fn kept(&self, revision: Revision) -> Result<Kept, Unavailable> {
        let (record, bytes) = self.revision(revision)?;
        let revision = record.revision;
        let Some(bytes) = bytes else {
            let transaction = self.begin_read()?;
            let contents = transaction.open_table(CONTENTS).map_err(LogError::from)?;
            let rows = contents.iter().map_err(LogError::from)?;
            let kept = rows.map(|row| row.map(|(revision, _)| Revision(revision.value())));
            return Err(Unavailable::Pruned {
                revision,
                kept: kept.collect::<Result<_, _>>().map_err(LogError::from)?,
            });
        };
        let content = content(&record, &bytes)?;
        let layers = self.layers(revision)?;
        Ok(Kept { record, bytes: bytes.into(), content, layers: Arc::new(layers) })
    }

    fn layers(&self, revision: Revision) -> Result<Layers, LogError> {
        let table = self.begin_read()?.open_table(LAYERS)?;
        let row = table.get(revision.0)?;
        let row = row.ok_or_else(|| damaged(format!("the layers of revision {revision} are missing")))?;
        from_json(row.value(), || format!("the layers of revision {revision}"))
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
