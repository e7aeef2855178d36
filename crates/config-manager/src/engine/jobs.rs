//! The queue of writes to the log: writes that decide go before writes that only record.

use std::collections::VecDeque;

use model::AttemptId;

use super::ending::Told;
use crate::log::{Cursor, Ended, Entry};

/// One transaction.
#[derive(Debug)]
pub(super) enum Job {
    Append { attempt: AttemptId, entry: Box<Entry> },
    Epoch { above: u64 },
    Audit { ended: Option<Box<Ended>>, cursor: Option<Cursor>, told: Option<Box<Told>> },
}

#[derive(Debug, Default)]
pub(super) struct Jobs(VecDeque<Job>);

impl Jobs {
    pub(super) fn next(&mut self) -> Option<Job> {
        self.0.pop_front()
    }

    /// The callers that are answered when their write has its turn.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = &mut Told> {
        self.0.iter_mut().filter_map(|job| match job {
            Job::Audit { told, .. } => told.as_deref_mut(),
            Job::Append { .. } | Job::Epoch { .. } => None,
        })
    }

    /// Goes before all waiting jobs: routers obey nothing else.
    pub(super) fn raise_epoch(&mut self, above: u64) {
        self.0.push_front(Job::Epoch { above });
    }

    /// Queues the end of a proposal without a revision.
    pub(super) fn record(&mut self, ended: Box<Ended>, told: Box<Told>) {
        self.0.push_back(Job::Audit { ended: Some(ended), cursor: None, told: Some(told) });
    }

    /// Saves the judgement of the file in the transaction of the audit record that it belongs to, if that record is
    /// still to be written.
    pub(super) fn save_cursor(&mut self, new: Cursor) {
        match self.0.back_mut() {
            Some(Job::Audit { cursor: cursor @ None, .. }) => *cursor = Some(new),
            Some(_) | None => self.0.push_back(Job::Audit { ended: None, cursor: Some(new), told: None }),
        }
    }

    /// Goes before all waiting jobs.
    pub(super) fn append(&mut self, attempt: AttemptId, entry: Box<Entry>) {
        self.0.push_front(Job::Append { attempt, entry });
    }

    /// A revision that moves the file's cursor is on record. Every waiting job, also one that came during the write,
    /// has the former cursor: written after the revision, that cursor would undo the move at the next start.
    pub(super) fn cursor_moved(&mut self) {
        for job in &mut self.0 {
            if let Job::Audit { cursor, .. } = job {
                *cursor = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Digest, Owner};

    use super::*;
    use crate::log::{Judged, tests::entry};

    fn cursor(text: &str) -> Cursor {
        Cursor { digest: Digest::of_bytes(text.as_bytes()), judged: Judged::Live }
    }

    /// In the order in which they are written: the cursors of the file.
    fn written(jobs: &mut Jobs) -> Vec<Option<Digest>> {
        let cursor = |job| match job {
            Job::Append { entry, .. } => entry.cursors.get(&Owner::file()).copied(),
            Job::Epoch { .. } => None,
            Job::Audit { cursor, .. } => cursor.map(|cursor| cursor.digest),
        };
        std::iter::from_fn(|| jobs.next().map(cursor)).collect()
    }

    fn append(jobs: &mut Jobs) -> Digest {
        let entry = entry(2, 0);
        let digest = entry.record.digest;
        jobs.append(entry.record.attempt, Box::new(entry));
        digest
    }

    #[test]
    fn where_the_file_stands_is_never_written_over_by_where_it_stood_before() {
        let mut jobs = Jobs::default();
        jobs.save_cursor(cursor("before"));
        append(&mut jobs);
        assert!(matches!(jobs.next(), Some(Job::Append { .. })));
        jobs.save_cursor(cursor("while it is written"));
        jobs.cursor_moved();
        jobs.save_cursor(cursor("after"));
        assert_eq!(written(&mut jobs).into_iter().flatten().collect::<Vec<_>>(), [cursor("after").digest]);
    }

    #[test]
    fn a_revision_that_is_not_written_or_says_nothing_of_the_file_leaves_its_cursor() {
        let mut jobs = Jobs::default();
        jobs.save_cursor(cursor("refused"));
        let digest = append(&mut jobs);
        assert_eq!(written(&mut jobs), [Some(digest), Some(cursor("refused").digest)]);
    }
}
