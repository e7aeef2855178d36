//! What was found wrong so far, over all layers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Position, Violation};

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    pub(crate) covered: Covered,
    /// Keys of the policy that a layer has set, with the place.
    pub(crate) set: BTreeMap<String, Position>,
    /// Somebody wrote servers that could not be read.
    pub(crate) servers_lost: bool,
}

/// Paths about which something was said: that a value is missing is no news where it was refused.
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
