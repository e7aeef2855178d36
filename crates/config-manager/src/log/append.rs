//! Writing: the append that decides, the audit of what was refused, and the cursors of sources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Digest, HistoryPolicy, Owner, Revision, WallTime};
use redb::{ReadableTable, WriteTransaction};

use super::table::{CONTENTS, LAYERS, META, REVISIONS, damaged, json, record, save_cursor};
use super::{Cursor, Ended, Judged, Layers, Log, LogError, RevisionRecord, audit, is_undone};

/// A revision with all that is written in the same transaction.
#[derive(Debug)]
pub struct Entry {
    pub record: RevisionRecord,
    /// Canonical JSON of the snapshot and the layers it was made of; `None`: as in the parent.
    pub content: Option<(Arc<[u8]>, Arc<Layers>)>,
    /// Where sources stand once this is written.
    pub cursors: BTreeMap<Owner, Digest>,
    /// How much of the history is kept from now on.
    pub history: HistoryPolicy,
}

/// How an append ended.
#[derive(Debug)]
pub enum Written {
    Durable,
    /// Certainly not in the log, now or after a restart.
    Not(LogError),
}

impl Log {
    /// Returns once it is known whether the entry is in the log. When the disk fails at the worst moment that takes
    /// the log being opened anew: the error of the first try is the one reported.
    pub fn append(&self, entry: &Entry) -> Written {
        match self.try_append(entry) {
            Ok(()) => Written::Durable,
            Err(Failed::Before(error)) => {
                if let LogError::Storage(_) = error
                    && let Err(error) = self.reopen()
                {
                    tracing::error!(%error, "the revision log cannot be opened again");
                }
                Written::Not(error)
            }
            Err(Failed::Commit(error)) => {
                tracing::error!(%error, revision = %entry.record.revision, "the outcome of an append is unknown");
                match self.reopen().and_then(|()| self.has(entry.record.revision)) {
                    Ok(true) => Written::Durable,
                    Ok(false) => Written::Not(error),
                    // Nothing may be said about it, and nothing may happen after it: ask again until it is known.
                    Err(error) => self.append_after(entry, &error),
                }
            }
        }
    }

    fn append_after(&self, entry: &Entry, first: &LogError) -> Written {
        let pause = std::time::Duration::from_secs(1);
        loop {
            tracing::error!(error = %first, "the revision log cannot be opened again; trying for as long as it takes");
            std::thread::sleep(pause);
            match self.reopen().and_then(|()| self.has(entry.record.revision)) {
                Ok(true) => return Written::Durable,
                Ok(false) => return Written::Not(damaged("it could not be written and was opened anew")),
                Err(error) => tracing::error!(%error, "the revision log is still away"),
            }
        }
    }

    fn try_append(&self, entry: &Entry) -> Result<(), Failed> {
        let transaction = self.begin_write()?;
        write(&transaction, entry)?;
        audit::append(&transaction, Ended::applied(&entry.record))?;
        for (owner, digest) in &entry.cursors {
            let layers = entry.content.as_ref().map(|(_, layers)| layers);
            let undone = entry.record.is_rollback() && layers.is_none_or(|layers| is_undone(layers, *digest));
            let judged = if undone { Judged::RolledBack } else { Judged::Live };
            save_cursor(&transaction, owner, Cursor { digest: *digest, judged })?;
        }
        prune(&transaction, &entry.record, &entry.history)?;
        fail::fail_point!("append-before", |_| Err(LogError::Failpoint { point: "append-before" }.into()));
        // The default durability of a transaction is `Immediate`: this returns after the fsync.
        transaction.commit().map_err(|error| Failed::Commit(error.into()))?;
        fail::fail_point!("append-after", |_| Err(Failed::Commit(LogError::Failpoint { point: "append-after" })));
        Ok(())
    }

    /// Takes the epoch after that one. Returns once it is on the disk.
    pub fn raise_epoch(&self, above: u64) -> Result<u64, LogError> {
        let epoch = above.checked_add(1).ok_or_else(|| damaged("no epoch is above that of a router"))?;
        let written = self.write_epoch(epoch);
        if written.is_err() {
            // It is ours if it is there after all.
            let own = self.epoch.swap(epoch, Ordering::AcqRel);
            if self.reopen().is_err() {
                self.epoch.store(own, Ordering::Release);
                self.reopen()?;
                written?;
            }
        }
        self.epoch.store(epoch, Ordering::Release);
        Ok(epoch)
    }

    fn write_epoch(&self, epoch: u64) -> Result<(), LogError> {
        let transaction = self.begin_write()?;
        transaction.open_table(META)?.insert("epoch", epoch.to_be_bytes().as_slice())?;
        Ok(transaction.commit()?)
    }

    /// An outcome without a revision, and what its source has now judged.
    pub fn audit(&self, ended: Option<Ended>, cursor: Option<(Owner, Cursor)>) -> Result<(), LogError> {
        let written = self.try_audit(ended, cursor.as_ref());
        if let Err(LogError::Storage(_)) = written {
            self.reopen()?;
        }
        written
    }

    fn try_audit(&self, ended: Option<Ended>, cursor: Option<&(Owner, Cursor)>) -> Result<(), LogError> {
        fail::fail_point!("audit-before", |_| Err(LogError::Failpoint { point: "audit-before" }));
        let transaction = self.begin_write()?;
        if let Some(ended) = ended {
            audit::append(&transaction, ended)?;
        }
        if let Some((owner, cursor)) = cursor {
            save_cursor(&transaction, owner, *cursor)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Whether the transaction may have become durable.
enum Failed {
    Before(LogError),
    Commit(LogError),
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Before(error)
    }
}

pub(super) fn write(transaction: &WriteTransaction, entry: &Entry) -> Result<(), LogError> {
    let revision = entry.record.revision;
    transaction.open_table(REVISIONS)?.insert(revision.0, json(&entry.record).as_slice())?;
    let mut contents = transaction.open_table(CONTENTS)?;
    let mut layers = transaction.open_table(LAYERS)?;
    match &entry.content {
        Some((content, layered)) => {
            contents.insert(revision.0, &**content)?;
            layers.insert(revision.0, json(layered.as_ref()).as_slice())?;
        }
        None => {
            copy(&mut contents, entry.record.parent, revision, "content")?;
            copy(&mut layers, entry.record.parent, revision, "layers")?;
        }
    }
    Ok(())
}

fn copy(table: &mut redb::Table<'_, u64, &[u8]>, from: Revision, to: Revision, what: &str) -> Result<(), LogError> {
    let row = table.get(from.0)?.map(|row| row.value().to_vec());
    let row = row.ok_or_else(|| damaged(format!("the {what} of revision {from} is missing")))?;
    table.insert(to.0, row.as_slice())?;
    Ok(())
}

/// Takes away contents beyond the bounds of the history: never the one just written, nor the one it came after, so
/// that there is always a way back.
fn prune(transaction: &WriteTransaction, head: &RevisionRecord, history: &HistoryPolicy) -> Result<(), LogError> {
    let revisions = transaction.open_table(REVISIONS)?;
    let mut contents = transaction.open_table(CONTENTS)?;
    let mut layers = transaction.open_table(LAYERS)?;
    let kept: Vec<u64> =
        contents.iter()?.map(|row| row.map(|(revision, _)| revision.value())).collect::<Result<_, _>>()?;
    let retention = u64::try_from(history.retention.as_millis()).unwrap_or(u64::MAX);
    let oldest = WallTime(head.time.0.saturating_sub(retention));
    let newest = kept.iter().rev();
    for (age, revision) in newest.enumerate() {
        let needed = *revision == head.revision.0 || *revision == head.parent.0;
        let many = u32::try_from(age).unwrap_or(u32::MAX) >= history.max_snapshots;
        // It was replaced when its successor came; what matters here is how long ago it was made.
        let old =
            || record(&revisions, Revision(*revision)).map(|record| record.is_none_or(|record| record.time < oldest));
        if !needed && (many || old()?) {
            contents.remove(revision)?;
            layers.remove(revision)?;
        }
    }
    Ok(())
}
