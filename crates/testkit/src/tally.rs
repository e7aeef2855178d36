//! Compares the calls that the backends carried out with the answers that the clients got.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// How often each call was carried out, by the text it carried.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<String, usize>);

/// Calls whose count differs from what their clients were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discrepancies {
    /// Answered, but carried out by no server.
    pub lost: Vec<String>,
    /// Carried out more than once.
    pub duplicated: Vec<String>,
    /// Carried out although refused or never sent.
    pub extra: Vec<String>,
}

impl Tally {
    /// Adds up the count files of all demo servers in `folder`: one line per call.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut counts = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            for line in fs::read_to_string(entry?.path())?.lines() {
                *counts.entry(line.to_owned()).or_default() += 1;
            }
        }
        Ok(Self(counts))
    }

    /// How often the call with that text was carried out.
    pub fn count(&self, text: &str) -> usize {
        self.0.get(text).copied().unwrap_or_default()
    }

    /// Only the calls whose text begins with `prefix` are compared with `answered`, the texts of the calls that were
    /// answered with a result, and `uncertain`, those that may or may not have been carried out.
    pub fn compare(&self, prefix: &str, answered: &BTreeSet<String>, uncertain: &BTreeSet<String>) -> Discrepancies {
        let lost = answered.iter().filter(|text| !self.0.contains_key(*text)).cloned().collect();
        let counted = || self.0.iter().filter(|(text, _)| text.starts_with(prefix));
        let duplicated = counted().filter(|(_, count)| **count > 1).map(|(text, _)| text.clone()).collect();
        let extra =
            counted().map(|(text, _)| text).filter(|text| !answered.contains(*text) && !uncertain.contains(*text));
        Discrepancies { lost, duplicated, extra: extra.cloned().collect() }
    }
}

#[cfg(test)]
mod tests;
