//! Names of clients' servers as ids: what a client allows in a name, an id may not have.

use std::collections::{BTreeMap, BTreeSet};

use model::BackendId;

const LONGEST: usize = 64;

/// The ids that one document has got.
#[derive(Default)]
pub(super) struct Ids {
    taken: BTreeSet<String>,
    /// How often an id was wanted that was taken.
    wanted: BTreeMap<String, usize>,
}

impl Ids {
    /// The name itself where it is a free id, else one like it.
    pub(super) fn of(&mut self, name: &str) -> String {
        let plain = if BackendId::new(name).is_ok() { name.to_owned() } else { like(name) };
        if self.taken.insert(plain.clone()) {
            return plain;
        }
        let number = self.wanted.entry(plain.clone()).or_insert(1);
        loop {
            *number += 1;
            let suffix = format!("-{number}");
            let id = format!("{}{suffix}", &plain[..plain.len().min(LONGEST - suffix.len())]);
            if self.taken.insert(id.clone()) {
                return id;
            }
        }
    }
}

/// Letters, digits, `_` and `-` stay, and what is between them becomes one `-`.
fn like(name: &str) -> String {
    let words = name.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    let joined = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let id: String = joined.trim_start_matches(['-', '_']).chars().take(LONGEST).collect();
    if id.is_empty() { "server".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use super::Ids;
    use model::BackendId;

    #[test]
    fn names_become_ids_that_differ() {
        let mut ids = Ids::default();
        for (name, expected) in [
            ("files", "files"),
            ("My Server", "My-Server"),
            ("io.github.x/y", "io-github-x-y"),
            ("My/Server", "My-Server-2"),
            ("日本", "server"),
            ("", "server-2"),
            ("_x", "x"),
        ] {
            assert_eq!(ids.of(name), expected);
        }
        let long = "ab ".repeat(60);
        for _ in 0..12 {
            let id = ids.of(&long);
            assert!(BackendId::new(&id).is_ok(), "{id}");
        }
    }
}
