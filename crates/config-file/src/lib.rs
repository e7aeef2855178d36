//! How a configuration is spelled: YAML texts of one or several owners become one snapshot, or the list of
//! everything that is wrong with them, each with its line and column.
//!
//! Nothing else in the workspace knows a key of the file by name. What the keys mean, and which combinations
//! are wrong, is `model`'s; here a text is taken apart, typed, held against the known keys, and merged.

#![forbid(unsafe_code)]

mod layer;
mod names;
mod policy;
mod read;
mod report;
mod schema;
mod server;
mod tree;
mod units;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Draft, Owner, Policy, Position, Snapshot, Violation};

pub use read::{ReadError, read};

use crate::layer::Layer;
use crate::report::Report;

/// The largest text that is taken apart, in bytes.
pub const MAX_BYTES: u64 = 16 << 20;

/// What one owner wants, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub owner: Owner,
    /// What positions say before `:line:column`: a path, or the name of a layer.
    pub name: Arc<str>,
    pub text: String,
}

/// Merges the layers, the file's first and then the others in the order of their owners, into one snapshot.
/// Servers are appended; a key that two layers set is refused, as is an id that two servers have.
///
/// The error lists every violation of every layer, in that order and then by place.
pub fn parse(sources: &[Source]) -> Result<Snapshot, Vec<Violation>> {
    let mut layers: Vec<&Source> = sources.iter().collect();
    layers.sort_by_key(|source| (source.owner != Owner::file(), &source.owner));
    let start = layers.first().map_or_else(|| "(no source)".into(), |source| source.name.clone());
    let mut draft =
        Draft { policy: Policy::default(), backends: Vec::new(), at: Position { file: start, line: 1, column: 1 } };
    let mut report = Report::default();
    let mut servers_at = None;
    for source in &layers {
        Layer::new(&source.name, &mut report).read(&source.text, &mut draft, &mut servers_at);
    }
    draft.at = servers_at.unwrap_or(draft.at);
    // Where servers were written and could not be read, to say that there are none would mislead.
    draft.policy.allow_empty |= report.servers_lost;
    let judged = draft.into_snapshot();
    let mut violations = report.violations;
    match judged {
        Ok(snapshot) if violations.is_empty() => return Ok(snapshot),
        Ok(_) => {}
        Err(more) => {
            let covered = report.covered;
            violations.extend(more.into_iter().filter(|violation| !covered.has(violation)));
        }
    }
    let order: BTreeMap<&str, usize> = layers.iter().enumerate().rev().map(|(i, s)| (&*s.name, i)).collect();
    violations.sort_by_cached_key(|violation| {
        violation.at.as_ref().map(|at| (order.get(&*at.file).copied(), at.line, at.column))
    });
    Err(violations)
}
