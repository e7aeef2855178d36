//! Writes to the log: one at a time, off this task.

use model::{AttemptId, Diff, Owner, Revision, WallTime};
use rollout::desk::{self, Candidate};
use rollout::reconciler::Event;
use rollout::{Kind, Record};
use runtime::fault::chain;
use tonic::Status;

use super::candidate::source_of;
use super::ending::{Ending, Told};
use super::jobs::Job;
use super::{Done, Engine, Open, Papers, Payload};
use crate::admin::refusals;
use crate::log::{Ended, Entry, Fault, LogError, RevisionRecord, Written};

/// How many violations of a refused candidate go on record, which is never shortened; the reason has their number.
const RECORDED: usize = 100;

#[derive(Debug)]
pub(super) enum Result {
    /// `moved`: the record also moves the cursor of the file.
    Appended {
        attempt: AttemptId,
        revision: Revision,
        moved: bool,
        written: Written,
    },
    Raised(std::result::Result<u64, LogError>),
    Audited {
        written: std::result::Result<(), LogError>,
        told: Option<Box<Told>>,
    },
}

impl Engine {
    pub(super) fn audit_entry(&self, open: &Open, candidate: &Candidate<Papers>, mut ending: Ending) -> Ended {
        ending.violations.truncate(RECORDED);
        Ended {
            time: self.wall(),
            result: ending.result,
            revision: self.head_revision(),
            actor: open.actor.clone(),
            source: source_of(&candidate.want),
            attempt: candidate.attempt,
            digest: candidate.digest(),
            diff: Diff::default(),
            reason: ending.reason,
            violations: ending.violations,
            without: candidate.left_out().into_iter().collect(),
        }
    }

    /// Why nothing can be written now: the write under way waits for the log to be there again.
    pub(super) fn log_away(&self) -> Option<Status> {
        match self.log.fault() {
            Some(Fault::Away(why)) if self.writing => Some(refusals::log_away(&why)),
            Some(Fault::Away(_) | Fault::Unwritten(_)) | None => None,
        }
    }

    /// Callers wait until their outcome is on record; while the log is away they are answered at once.
    pub(super) fn log_changed(&mut self) {
        self.changed = true;
        if self.log_away().is_some() {
            self.jobs.waiting().for_each(Told::tell);
        }
    }

    pub(super) fn append(&mut self, record: Record<Payload>) {
        let source = match record.kind {
            Kind::Rollback { to } => RevisionRecord::rollback(to),
            Kind::Restore => RevisionRecord::RENUMBERING.to_owned(),
            Kind::Change => record.source.owner.0,
        };
        let reason = record.payload.as_ref().map(|payload| payload.reason.clone()).unwrap_or_default();
        let entry = Entry {
            history: record.content.snapshot.policy.history.clone(),
            content: record.payload.map(|payload| (payload.bytes, payload.layers)),
            cursors: record.cursors,
            record: RevisionRecord {
                revision: record.revision,
                parent: record.parent,
                digest: record.content.digest,
                actor: record.source.actor,
                source,
                time: self.wall(),
                attempt: record.attempt,
                diff: record.diff,
                reason,
                without: record.without.into_iter().collect(),
            },
        };
        self.spans.append(record.attempt, record.revision);
        self.jobs.append(record.attempt, Box::new(entry));
    }

    pub(super) fn start_writing(&mut self) {
        if self.writing {
            return;
        }
        let Some(job) = self.jobs.next() else { return };
        self.writing = true;
        let log = self.log.clone();
        self.work.spawn_blocking(move || {
            Done::Written(match job {
                Job::Append { attempt, entry } => {
                    let written = log.append(&entry);
                    let moved = entry.cursors.contains_key(&Owner::file());
                    Result::Appended { attempt, revision: entry.record.revision, moved, written }
                }
                Job::Epoch { above } => Result::Raised(log.raise_epoch(above)),
                Job::Audit { ended, cursor, told } => {
                    let cursor = cursor.map(|cursor| (Owner::file(), cursor));
                    Result::Audited { written: log.audit(ended.map(|ended| *ended), cursor), told }
                }
            })
        });
    }

    pub(super) fn written(&mut self, result: Result) {
        self.writing = false;
        match result {
            Result::Appended { attempt, revision, moved, written } => {
                if moved && matches!(written, Written::Durable) {
                    self.jobs.cursor_moved();
                }
                self.appended(attempt, revision, written);
            }
            Result::Raised(raised) => {
                match &raised {
                    Ok(epoch) => tracing::warn!(epoch, "this config-manager has a new epoch, which routers obey"),
                    Err(error) => tracing::error!(error = chain(&error), "a higher epoch could not be written"),
                }
                self.changed = true;
                self.tell_reconciler(Event::EpochRaised { epoch: raised.ok() });
            }
            Result::Audited { written, told } => {
                if let Err(error) = &written {
                    tracing::error!(error = chain(&error), "a refusal could not be written to the audit");
                }
                if let Some(mut told) = told {
                    told.tell();
                    self.tell(desk::Event::Recorded { saying: told.saying.take(), durable: written.is_ok() });
                }
            }
        }
    }

    fn appended(&mut self, attempt: AttemptId, revision: Revision, written: Written) {
        let event = match written {
            Written::Durable => Event::Appended { attempt, revision },
            Written::Not(error) => {
                let reason = chain(&error);
                tracing::error!(%attempt, %revision, reason, "a revision could not be written; nothing has changed");
                Event::AppendFailed { attempt, reason }
            }
        };
        let failure = if let Event::AppendFailed { reason, .. } = &event { Some(reason.as_str()) } else { None };
        self.spans.appended(attempt, failure);
        self.tell_reconciler(event);
    }

    pub(super) fn wall(&self) -> WallTime {
        WallTime(self.clock.unix_millis())
    }
}
