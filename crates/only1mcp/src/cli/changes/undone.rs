//! Which revisions a rollback has undone, from the records of all.

use wire::pb::config::v1::Revision;

/// How the history names a rollback, before the revision that it brought back.
const ROLLBACK: &str = "rollback to ";
/// How the history names a revision that gave what was live another number.
const RENUMBERING: &str = "config-manager";

/// The revisions whose changes were live before the rollback and are not now, the oldest first: what earlier rollbacks
/// had undone is not among them. None if what is live now does not come before what was, or the records do not reach
/// back so far.
pub(super) fn by(records: &[Revision], before: Option<u64>, now: Option<u64>) -> Vec<u64> {
    let mut undone: Vec<u64> = before.zip(now).and_then(|(before, now)| path(records, before, now)).unwrap_or_default();
    undone.reverse();
    undone
}

/// The newest first.
fn path(records: &[Revision], before: u64, now: u64) -> Option<Vec<u64>> {
    let back = origin(records, now)?;
    let mut at = origin(records, before)?;
    let mut undone = Vec::new();
    while at.digest != back.digest {
        undone.push(at.revision);
        at = origin(records, at.parent)?;
    }
    Some(undone)
}

/// The record that first brought in the content of that revision. Each step leads to an older one.
fn origin(records: &[Revision], revision: u64) -> Option<&Revision> {
    let record = records.iter().find(|record| record.revision == revision)?;
    let from = match record.source.strip_prefix(ROLLBACK) {
        Some(to) => to.parse().ok()?,
        None if record.source == RENUMBERING && record.parent != 0 => record.parent,
        None => return Some(record),
    };
    if from < revision { origin(records, from) } else { None }
}

/// `revision 2 is`, `revisions 2 and 3 are`; nothing of none.
pub(super) fn in_words(revisions: &[u64]) -> Option<String> {
    let numbers: Vec<String> = revisions.iter().map(u64::to_string).collect();
    match numbers.as_slice() {
        [] => None,
        [one] => Some(format!("revision {one} is")),
        [first, .., last] if numbers.len() > NAMED => {
            Some(format!("{} revisions, {first} to {last}, are", numbers.len()))
        }
        [others @ .., last] => Some(format!("revisions {} and {last} are", others.join(", "))),
    }
}

/// Of more, only the first and the last are named.
const NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Revisions from 1 on, each with its source and the content that it has; the newest first.
    fn records(all: &[(&str, &str)]) -> Vec<Revision> {
        let record = |((source, content), revision): (&(&str, &str), u64)| Revision {
            revision,
            parent: revision - 1,
            digest: (*content).into(),
            source: (*source).into(),
            ..Revision::default()
        };
        let mut records: Vec<_> = all.iter().zip(1..).map(record).collect();
        records.reverse();
        records
    }

    #[test]
    fn what_a_rollback_undid_is_what_was_live_and_is_not() {
        let undone = |all: &[(&str, &str)]| {
            let now = all.len() as u64;
            by(&records(all), Some(now - 1), Some(now))
        };
        assert_eq!(undone(&[("file", "a"), ("file", "b"), ("rollback to 1", "a")]), [2]);
        // The first rollback undid 3, and the second one undoes 2.
        let cured = [("file", "a"), ("file", "b"), ("file", "c"), ("rollback to 2", "b"), ("rollback to 1", "a")];
        assert_eq!(undone(&cured), [2]);
        assert_eq!(undone(&[("file", "a"), ("file", "b"), ("api:ops", "c"), ("rollback to 1", "a")]), [2, 3]);
        let with_more = [("file", "a"), ("file", "b"), ("file", "c"), ("rollback to 2", "b"), ("file", "d")];
        assert_eq!(undone(&[&with_more[..], &[("rollback to 1", "a")]].concat()), [2, 5]);
        // What was undone in between by hand is the same content, however it came.
        assert_eq!(undone(&[("file", "a"), ("file", "b"), ("file", "a"), ("file", "c"), ("rollback to 1", "a")]), [4]);
        let renumbered = [("file", "a"), ("file", "b"), ("config-manager", "b"), ("rollback to 1", "a")];
        assert_eq!(undone(&renumbered), [2]);
        // It brings back what a rollback had undone.
        let forth = [("file", "a"), ("file", "b"), ("rollback to 1", "a"), ("rollback to 2", "b")];
        assert_eq!(undone(&forth), [0; 0]);
        assert_eq!(by(&records(&forth)[..2], Some(3), Some(4)), [0; 0], "the older ones are not on record any more");
    }

    #[test]
    fn revisions_in_words() {
        let words = |all: &[u64]| in_words(all).unwrap_or_default();
        assert_eq!([words(&[]), words(&[2]), words(&[2, 3])], ["", "revision 2 is", "revisions 2 and 3 are"]);
        assert_eq!(words(&[2, 3, 5]), "revisions 2, 3 and 5 are");
        assert_eq!(words(&[2, 3, 5, 6, 7, 9]), "6 revisions, 2 to 9, are");
    }
}
