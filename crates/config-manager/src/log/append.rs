//! Writing: the append that decides, the audit of what was refused, and the cursors of sources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Digest, HistoryPolicy, Owner, Revision, WallTime, canonical_json};
use runtime::fault::chain;
use runtime::telemetry::{Label, Metric};

use super::store::{Numbered, Writing};
use super::table::{CONTENTS, LAYERS, META, REVISIONS, damaged, record, save_cursor};
use super::{Cursor, Ended, Judged, Layers, Log, LogError, RevisionRecord, audit, is_undone};

/// A revision with everything that the same transaction writes.
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
    /// The entry is certainly not in the log, now or after a restart.
    Not(LogError),
}

/// The wait between two tries to open the log.
const PAUSE: Duration = Duration::from_secs(1);

impl Log {
    /// Returns once it is known whether the entry is in the log, and on the disk. If the disk fails during the commit,
    /// this opens the log again to find out, and returns the error of the first try.
    pub fn append(&self, entry: &Entry) -> Written {
        let written = match self.try_append(entry) {
            Ok(()) => Written::Durable,
            Err(failed) => {
                count("only1mcp_config_appends_total", "failed");
                self.append_failed(entry, failed)
            }
        };
        if let Written::Durable = written {
            self.faults.written();
            count("only1mcp_config_appends_total", "ok");
        }
        written
    }

    fn append_failed(&self, entry: &Entry, failed: Failed) -> Written {
        let revision = entry.record.revision;
        match failed {
            Failed::Before(error) => {
                self.unwritten(&error);
                Written::Not(error)
            }
            Failed::Commit(error) => {
                tracing::error!(error = chain(&error), %revision, "the outcome of an append is unknown");
                self.faults.unwritten(&error);
                if self.opened_anew(|log| log.has(revision)) { Written::Durable } else { Written::Not(error) }
            }
        }
    }

    /// A failed database refuses every write, so the log is opened again for the next write.
    fn unwritten(&self, error: &LogError) {
        self.faults.unwritten(error);
        if let LogError::Storage(_) = error
            && let Err(error) = self.reopen()
        {
            tracing::error!(error = chain(&error), "the revision log cannot be opened again");
        }
    }

    /// Asks the log once it is open again. Until then nothing may be said about the last write, and nothing may happen
    /// after it.
    fn opened_anew<T>(&self, ask: impl Fn(&Self) -> Result<T, LogError>) -> T {
        loop {
            match self.reopen().and_then(|()| ask(self)) {
                Ok(answer) => return answer,
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(error, "the revision log cannot be opened again; trying for as long as it takes");
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn try_append(&self, entry: &Entry) -> Result<(), Failed> {
        let writing = self.write()?;
        write(&writing, entry)?;
        audit::append(&writing, Ended::applied(&entry.record))?;
        for (owner, digest) in &entry.cursors {
            let layers = entry.content.as_ref().map(|(_, layers)| layers);
            let undone = entry.record.is_rollback() && layers.is_none_or(|layers| is_undone(layers, *digest));
            let judged = if undone { Judged::RolledBack } else { Judged::Live };
            save_cursor(&writing, owner, Cursor { digest: *digest, judged })?;
        }
        prune(&writing, &entry.record, &entry.history)?;
        fail::fail_point!("append-before", |_| Err(LogError::Failpoint { point: "append-before" }.into()));
        writing.commit().map_err(Failed::Commit)?;
        fail::fail_point!("append-after", |_| Err(Failed::Commit(LogError::Failpoint { point: "append-after" })));
        Ok(())
    }

    /// Takes the epoch after that one. Returns once it is known whether the epoch is on the disk.
    pub fn raise_epoch(&self, above: u64) -> Result<u64, LogError> {
        let epoch = above.checked_add(1).ok_or_else(|| damaged("no epoch is above that of a router"))?;
        match self.write_epoch(epoch) {
            Ok(()) => {
                self.epoch.store(epoch, Ordering::Release);
                self.faults.written();
                Ok(epoch)
            }
            Err(Failed::Before(error)) => {
                self.unwritten(&error);
                Err(error)
            }
            Err(Failed::Commit(error)) => {
                self.faults.unwritten(&error);
                self.place().raised = Some(epoch);
                // The epoch is ours if it is there after all.
                if self.opened_anew(|log| Ok(log.epoch())) == epoch { Ok(epoch) } else { Err(error) }
            }
        }
    }

    fn write_epoch(&self, epoch: u64) -> Result<(), Failed> {
        let writing = self.write()?;
        writing.put(META, "epoch", &epoch.to_be_bytes())?;
        writing.commit().map_err(Failed::Commit)
    }

    /// Records an outcome without a revision, and the cursor of its source. A failed record may be there all the same.
    pub fn audit(&self, ended: Option<Ended>, cursor: Option<(Owner, Cursor)>) -> Result<(), LogError> {
        match self.try_audit(ended, cursor.as_ref()) {
            Ok(()) => {
                self.faults.written();
                count("only1mcp_config_audits_total", "ok");
                Ok(())
            }
            Err(failed) => {
                count("only1mcp_config_audits_total", "failed");
                Err(self.audit_failed(failed))
            }
        }
    }

    fn audit_failed(&self, failed: Failed) -> LogError {
        match failed {
            Failed::Before(error) => {
                self.unwritten(&error);
                error
            }
            Failed::Commit(error) => {
                self.faults.unwritten(&error);
                self.opened_anew(|_| Ok(()));
                error
            }
        }
    }

    fn try_audit(&self, ended: Option<Ended>, cursor: Option<&(Owner, Cursor)>) -> Result<(), Failed> {
        fail::fail_point!("audit-before", |_| Err(LogError::Failpoint { point: "audit-before" }.into()));
        let writing = self.write()?;
        if let Some(ended) = ended {
            audit::append(&writing, ended)?;
        }
        if let Some((owner, cursor)) = cursor {
            save_cursor(&writing, owner, *cursor)?;
        }
        writing.commit().map_err(Failed::Commit)
    }
}

pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(
        "only1mcp_config_appends_total",
        &[Label("result", &["ok", "failed"])],
        "Writes of a revision to the log, counted as they end; one that failed and is found there all the same is both.",
    ),
    Metric::counter(
        "only1mcp_config_audits_total",
        &[Label("result", &["ok", "failed"])],
        "Decisions other than a new revision written to the log.",
    ),
];

/// Counts a failed write at once, whatever is found in the log later.
fn count(what: &'static str, result: &'static str) {
    metrics::counter!(what, "result" => result).increment(1);
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

fn write(writing: &Writing, entry: &Entry) -> Result<(), LogError> {
    let (revision, parent) = (entry.record.revision, entry.record.parent);
    writing.put(REVISIONS, revision.0, &canonical_json(&entry.record))?;
    match &entry.content {
        Some((content, layers)) => {
            writing.put(CONTENTS, revision.0, content)?;
            writing.put(LAYERS, revision.0, &canonical_json(layers.as_ref()))
        }
        None => {
            copy(writing, CONTENTS, parent, revision, "content")?;
            copy(writing, LAYERS, parent, revision, "layers")
        }
    }
}

fn copy(writing: &Writing, rows: Numbered, from: Revision, to: Revision, what: &str) -> Result<(), LogError> {
    let row = writing.row(rows, from.0)?;
    let row = row.ok_or_else(|| damaged(format!("the {what} of revision {from} is missing")))?;
    writing.put(rows, to.0, &row)
}

/// Removes contents beyond the bounds of the history: never the one just written, nor what was live before it, so that
/// there is always a way back. It looks at the oldest ones alone, since to look at a content is to read it.
fn prune(writing: &Writing, head: &RevisionRecord, history: &HistoryPolicy) -> Result<(), LogError> {
    let retention = u64::try_from(history.retention.as_millis()).unwrap_or(u64::MAX);
    let oldest = WallTime(head.time.0.saturating_sub(retention));
    let mut excess = writing.count(CONTENTS)?.saturating_sub(history.contents().into());
    let before = before(writing, head)?;
    let mut from = 0;
    while let Some(number) = writing.first(CONTENTS, from)? {
        from = number.saturating_add(1);
        let many = excess > 0;
        excess = excess.saturating_sub(1);
        if number == head.revision.0 || number == before.0 {
            continue;
        }
        // The revision was replaced when its successor came; what matters here is how long ago it was made.
        let old = || -> Result<bool, LogError> {
            let row = writing.row(REVISIONS, number)?;
            Ok(row.map(|row| record(&row, Revision(number))).transpose()?.is_none_or(|record| record.time < oldest))
        };
        if !many && !old()? {
            break;
        }
        writing.remove(CONTENTS, number)?;
        writing.remove(LAYERS, number)?;
    }
    Ok(())
}

/// What was live before the content of `head`. A renumbering is not a change: its parent has the same content.
fn before(writing: &Writing, head: &RevisionRecord) -> Result<Revision, LogError> {
    let mut made = head.clone();
    while made.is_renumbering()
        && let Some(row) = writing.row(REVISIONS, made.parent.0)?
    {
        made = record(&row, made.parent)?;
    }
    Ok(made.parent)
}
