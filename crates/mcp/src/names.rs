//! Under which name a client sees a tool.

/// How exposed names are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The backend's own name; two backends with the same name collide.
    None,
    /// `{backend}__{tool}`; never collides.
    Prefix,
}

/// Many model APIs refuse longer tool names.
pub const MAX_EXPOSED: usize = 64;

const SEPARATOR: &str = "__";

impl Naming {
    /// The name `tool` of `backend` is exposed under.
    #[must_use]
    pub fn exposed(self, backend: &str, tool: &str) -> String {
        match self {
            Self::None => tool.to_owned(),
            Self::Prefix => prefixed(backend, tool),
        }
    }
}

/// Distinct pairs give distinct names, in two forms that cannot meet.
///
/// The plain form is kept where it can be undone, that is, where its first `__` is the separator: not for a backend that
/// contains `__` or ends in `_`. Every other pair (also the too long and the illegal) is written without any `__` and
/// told apart by a hash of the pair.
fn prefixed(backend: &str, tool: &str) -> String {
    let plain = format!("{backend}{SEPARATOR}{tool}");
    let undoable = !backend.contains(SEPARATOR) && !backend.ends_with('_');
    if undoable && plain.len() <= MAX_EXPOSED && plain.chars().all(is_allowed) {
        return plain;
    }
    let hash = format!("{:016x}", hash(backend, tool));
    let mut name = String::with_capacity(MAX_EXPOSED);
    for letter in plain.chars() {
        let letter = if is_allowed(letter) { letter } else { '-' };
        if name.len() + 1 + hash.len() == MAX_EXPOSED {
            break;
        }
        if letter != '_' || !name.ends_with('_') {
            name.push(letter);
        }
    }
    name.push('-');
    name.push_str(&hash);
    name
}

const fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

/// FNV-1a over both parts, with a last mixing step (its high bits are weak for short inputs). Exposed names are stored
/// by clients: this must never change.
fn hash(backend: &str, tool: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    // 0xff never occurs in UTF-8, so it separates.
    for byte in backend.bytes().chain([0xff]).chain(tool.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{MAX_EXPOSED, Naming, is_allowed};
    use proptest::prelude::*;

    #[test]
    fn examples() {
        let exposed = |backend: &str, tool: &str| Naming::Prefix.exposed(backend, tool);
        assert_eq!(exposed("files", "read"), "files__read");
        assert_eq!(exposed("files", "__read"), "files____read");
        assert_eq!(exposed("a_", "b"), "a_b-e6e8e684d853f76f");
        let long = exposed("files", &"x".repeat(80));
        assert_eq!(long.len(), MAX_EXPOSED);
        assert_ne!(long, exposed("files", &"x".repeat(81)));
        assert_eq!(Naming::None.exposed("files", "read it"), "read it");
    }

    proptest! {
        #[test]
        fn distinct_and_legal(pairs in proptest::collection::btree_set(("[a_]{1,5}", "[a_é ]{1,5}|a{50,70}"), 2..200)) {
            let mut seen = BTreeMap::new();
            for (backend, tool) in pairs {
                let name = Naming::Prefix.exposed(&backend, &tool);
                prop_assert!(name.len() <= MAX_EXPOSED && name.chars().all(is_allowed), "{}", name);
                let other = seen.insert(name, (backend, tool));
                prop_assert!(other.is_none(), "{:?}", other);
            }
        }
    }
}
