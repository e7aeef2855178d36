//! What waits to be written to the log: what decides goes before what only records.

use std::collections::VecDeque;

use model::{AttemptId, Owner};

use super::write::Told;
use crate::log::{Cursor, Ended, Entry};

/// One transaction.
#[derive(Debug)]
pub(super) enum Job {
    Append { attempt: AttemptId, entry: Box<Entry> },
    Audit { ended: Option<Box<Ended>>, cursor: Option<Cursor>, told: Option<Box<Told>> },
}

#[derive(Debug, Default)]
pub(super) struct Jobs(VecDeque<Job>);

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn next(&mut self) -> Option<Job> {
        self.0.pop_front()
    }

    /// A proposal without a revision.
    pub(super) fn record(&mut self, ended: Box<Ended>, told: Box<Told>) {
        self.0.push_back(Job::Audit { ended: Some(ended), cursor: None, told: Some(told) });
    }

    /// What the file was judged as, in the transaction of the audit record that it belongs to, if that is still to be
    /// written.
    pub(super) fn save_cursor(&mut self, new: Cursor) {
        match self.0.back_mut() {
            Some(Job::Audit { cursor: cursor @ None, .. }) => *cursor = Some(new),
            Some(_) | None => self.0.push_back(Job::Audit { ended: None, cursor: Some(new), told: None }),
        }
    }

    /// Before all that waits. Where the file stands with it is newer than what waits says of it: written after it, that
    /// would undo it at the next start.
    pub(super) fn append(&mut self, attempt: AttemptId, entry: Box<Entry>) {
        if entry.cursors.contains_key(&Owner::file()) {
            for job in &mut self.0 {
                if let Job::Audit { cursor, .. } = job {
                    *cursor = None;
                }
            }
        }
        self.0.push_front(Job::Append { attempt, entry });
    }
}

#[cfg(test)]
mod tests {
    use model::Digest;

    use super::*;
    use crate::log::{Judged, tests::entry};

    fn cursor(text: &str) -> Cursor {
        Cursor { digest: Digest::of_bytes(text.as_bytes()), judged: Judged::Live }
    }

    /// In the order in which they are written: the cursors of the file.
    fn written(jobs: &mut Jobs) -> Vec<Option<Digest>> {
        let cursor = |job| match job {
            Job::Append { entry, .. } => entry.cursors.get(&Owner::file()).copied(),
            Job::Audit { cursor, .. } => cursor.map(|cursor| cursor.digest),
        };
        std::iter::from_fn(|| jobs.next().map(cursor)).collect()
    }

    #[test]
    fn where_the_file_stands_is_never_written_over_by_where_it_stood_before() {
        let mut jobs = Jobs::default();
        let (live, later) = (entry(2, 0), cursor("later"));
        let (attempt, digest) = (live.record.attempt, live.record.digest);
        jobs.save_cursor(cursor("refused"));
        jobs.append(attempt, Box::new(live));
        jobs.save_cursor(cursor("passing"));
        jobs.append(attempt, Box::new(entry(2, 0)));
        jobs.save_cursor(later);
        let cursors = written(&mut jobs);
        assert_eq!(cursors.iter().flatten().copied().collect::<Vec<_>>(), [digest, digest, later.digest]);
    }

    #[test]
    fn a_revision_that_says_nothing_of_the_file_leaves_its_cursor() {
        let mut jobs = Jobs::default();
        jobs.save_cursor(cursor("refused"));
        let mut of_another = entry(2, 0);
        of_another.cursors.clear();
        jobs.append(of_another.record.attempt, Box::new(of_another));
        assert_eq!(written(&mut jobs), [None, Some(cursor("refused").digest)]);
    }
}
