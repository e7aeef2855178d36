//! Where what is live comes from: since which revision each layer is as it is, and which revision was brought back.

use std::collections::BTreeMap;

use model::{Owner, Revision};
use rollout::Kind;

use crate::log::{Layers, RevisionRecord};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Of each layer, the revision that made it what it is; absent where the log no longer tells.
    pub since: BTreeMap<Owner, Revision>,
    /// What is live is there by a rollback to that revision.
    pub rolled_back_to: Option<Revision>,
}

impl Provenance {
    /// Of these layers, which are live, from the records of the live revision and those before it, newest first.
    pub(crate) fn of<'a>(layers: &Layers, records: impl Iterator<Item = &'a RevisionRecord> + Clone) -> Self {
        let since = layers.keys().filter_map(|owner| Some((owner.clone(), since(owner, records.clone())?)));
        let live = records.clone().find(|record| !record.is_renumbering());
        Self { since: since.collect(), rolled_back_to: live.and_then(RevisionRecord::brought_back) }
    }

    pub(crate) fn committed(&mut self, revision: Revision, kind: Kind, before: &Layers, after: &Layers) {
        match kind {
            Kind::Rollback { to } => self.rolled_back_to = Some(to),
            Kind::Change => self.rolled_back_to = None,
            // It is as it was, under another number.
            Kind::Restore => {}
        }
        self.since.retain(|owner, _| after.contains_key(owner));
        let others = after.iter().filter(|(owner, layer)| before.get(*owner) != Some(*layer));
        self.since.extend(others.map(|(owner, _)| (owner.clone(), revision)));
    }
}

/// A rollback has changed the layer if a revision that it undid had changed it.
fn since<'a>(owner: &Owner, records: impl Iterator<Item = &'a RevisionRecord>) -> Option<Revision> {
    let mut rollback: Option<(Revision, Revision)> = None;
    for record in records {
        let undone = rollback.filter(|(_, to)| record.revision > *to);
        if record.source == owner.0 {
            return Some(undone.map_or(record.revision, |(by, _)| by));
        }
        match (undone, record.brought_back()) {
            // One rollback undid another: the layer was another one in between.
            (Some((by, _)), Some(_)) => return Some(by),
            (Some(_), None) => {}
            (None, to) => rollback = to.map(|to| (record.revision, to)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Layer, tests::entry};

    #[test]
    fn a_layer_is_since_the_revision_that_last_changed_it() {
        let layers: Layers = ["file", "api:a"].map(|owner| (Owner(owner.into()), Layer::default())).into();
        let told = |sources: &[&str]| {
            let record = |(source, number): (&&str, u64)| RevisionRecord {
                source: (*source).to_owned(),
                ..entry(number, 0).record
            };
            let mut records: Vec<_> = sources.iter().zip(1..).map(record).collect();
            records.reverse();
            let Provenance { since, rolled_back_to } = Provenance::of(&layers, records.iter());
            let of = |owner: &str| since.get(&Owner(owner.into())).map_or(0, |revision| revision.0);
            (of("file"), of("api:a"), rolled_back_to.map_or(0, |to| to.0))
        };
        assert_eq!(told(&["file", "api:a", "file", "api:b"]), (3, 2, 0));
        assert_eq!(told(&["file", "api:a", "file", "rollback to 2"]), (4, 2, 2));
        assert_eq!(told(&["file", "api:a", "file", "rollback to 2", "file"]), (5, 2, 0));
        assert_eq!(told(&["file", "api:a", "file", "rollback to 2", "api:b"]), (4, 2, 0));
        assert_eq!(told(&["file", "file", "rollback to 1", "rollback to 2"]), (4, 4, 2));
        assert_eq!(told(&["api:b", "file", "rollback to 1"]), (3, 0, 1));
        assert_eq!(told(&["file", "api:a", "file", "rollback to 2", "config-manager"]), (4, 2, 2));
        assert_eq!(told(&["file", "api:a", "config-manager"]), (1, 2, 0));
    }

    #[test]
    fn a_commit_touches_the_layers_that_differ() {
        let layer = |text: &str| Layer { text: text.into(), ..Layer::default() };
        let layers = |all: &[(&str, &str)]| -> Layers {
            all.iter().map(|(owner, text)| (Owner((*owner).into()), layer(text))).collect()
        };
        let mut provenance = Provenance::default();
        let (one, two) = (layers(&[("a", "1"), ("b", "1")]), layers(&[("b", "2"), ("c", "1")]));
        provenance.committed(Revision(1), Kind::Change, &Layers::new(), &one);
        provenance.committed(Revision(2), Kind::Change, &one, &two);
        provenance.committed(Revision(3), Kind::Rollback { to: Revision(2) }, &two, &two);
        provenance.committed(Revision(9), Kind::Restore, &two, &two);
        let since: Vec<_> = provenance.since.iter().map(|(owner, since)| (owner.0.as_str(), since.0)).collect();
        assert_eq!((since, provenance.rolled_back_to), (vec![("b", 2), ("c", 2)], Some(Revision(2))));
        provenance.committed(Revision(10), Kind::Change, &two, &two);
        assert_eq!(provenance.rolled_back_to, None);
    }
}
