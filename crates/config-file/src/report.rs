//! The violations found so far, over all layers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Position, Snapshot, Violation};

use crate::known::Passage;

/// Violations that are listed; a text that is no configuration at all has one in every line.
const MAX_LISTED: usize = 1000;

/// How much of the common limits the layers read so far have used.
#[derive(Default)]
pub(crate) struct Taken {
    /// Bytes of text.
    pub(crate) bytes: u64,
    pub(crate) values: usize,
    pub(crate) expanded: Size,
}

/// How much a value is, with all that is inside it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    pub(crate) values: usize,
    /// The bytes of keys and texts.
    pub(crate) bytes: usize,
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) taken: Taken,
    violations: Vec<Violation>,
    unlisted: usize,
    /// What of clients' servers is not carried over; it refuses nothing.
    pub(crate) notes: Vec<Violation>,
    pub(crate) covered: Covered,
    /// Keys of the policy that a layer has set, with the place.
    pub(crate) set: BTreeMap<String, Position>,
    /// The servers that were read, each with its lines if they are known.
    pub(crate) passages: Vec<Option<Passage>>,
    /// A text was parsed without the servers that are known …
    pub(crate) shortened: bool,
    /// … and they were not where they were expected.
    pub(crate) misread: bool,
    /// A layer has servers that could not be read.
    pub(crate) servers_lost: bool,
}

impl Report {
    pub(crate) fn push(&mut self, violation: Violation) {
        if self.violations.len() < MAX_LISTED {
            self.violations.push(violation);
        } else {
            self.unlisted += 1;
        }
    }

    pub(crate) fn note(&mut self, note: Violation) {
        if self.notes.len() < MAX_LISTED {
            self.notes.push(note);
        }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty() && !self.misread
    }

    /// Whether what follows is only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.violations.len() >= MAX_LISTED
    }

    /// Everything in the order of `files`, then by place, with what the whole draft has against it.
    pub(crate) fn finish(
        mut self,
        judged: Result<Snapshot, Vec<Violation>>,
        files: &[Arc<str>],
    ) -> Result<Snapshot, Vec<Violation>> {
        match judged {
            Ok(snapshot) if self.violations.is_empty() => return Ok(snapshot),
            Ok(_) => {}
            Err(more) => {
                let news = more.into_iter().filter(|violation| !self.covered.has(violation));
                self.violations.extend(news);
            }
        }
        let order = |file: &Arc<str>| files.iter().position(|known| known == file);
        self.violations
            .sort_by_cached_key(|violation| violation.at.as_ref().map(|at| (order(&at.file), at.line, at.column)));
        self.unlisted += self.violations.len().saturating_sub(MAX_LISTED);
        self.violations.truncate(MAX_LISTED);
        if self.unlisted > 0 {
            let last = self.violations.last().and_then(|violation| violation.at.clone());
            let message = format!("{} more violations are not listed", self.unlisted);
            self.violations.push(Violation::new(last, "", message));
        }
        Err(self.violations)
    }
}

/// Paths that have a violation already: where a value was refused, the violation that it is missing is left out.
#[derive(Default)]
pub(crate) struct Covered(BTreeSet<(Arc<str>, String)>);

impl Covered {
    pub(crate) fn add(&mut self, file: &Arc<str>, path: &str) {
        self.0.insert((file.clone(), path.to_owned()));
    }

    pub(crate) fn has(&self, violation: &Violation) -> bool {
        violation.at.as_ref().is_some_and(|at| self.0.contains(&(at.file.clone(), violation.path.clone())))
    }
}
