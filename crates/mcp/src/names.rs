//! The name under which a client sees a tool.
//!
//! Model APIs take names of letters, digits, `_` and `-`, at most 64 of them, and many refuse a whole list for one name
//! that is otherwise. So every exposed name is such a name, and what had to be replaced is told apart by a hash.

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
/// Hexadecimal digits of the hash at the end of a name that was replaced.
const HASH: usize = 16;
/// What is left of the name before `-` and the hash.
const READABLE: usize = MAX_EXPOSED - 1 - HASH;
/// Of which the tool's own name has at least this much, however long the backend's is.
const READABLE_TOOL: usize = 30;

impl Naming {
    /// The name `tool` of `backend` is exposed under.
    pub fn exposed(self, backend: &str, tool: &str) -> String {
        let plain = self.plain(backend, tool);
        // The prefixed form must be undoable: with its first `__` as the separator it is of no other pair.
        let undoable = self == Self::None || (!backend.contains(SEPARATOR) && !backend.ends_with('_'));
        if undoable && is_safe(&plain) {
            return plain;
        }
        match self {
            Self::None => format!("{}-{:016x}", readable("", tool), hash("", tool)),
            Self::Prefix => format!("{}-{:016x}", readable(backend, tool), hash(backend, tool)),
        }
    }

    /// The name before it is made safe for model APIs, and unique.
    pub fn plain(self, backend: &str, tool: &str) -> String {
        match self {
            Self::None => tool.to_owned(),
            Self::Prefix => format!("{backend}{SEPARATOR}{tool}"),
        }
    }
}

/// Model APIs take it as the name of a tool.
pub fn is_safe(name: &str) -> bool {
    (1..=MAX_EXPOSED).contains(&name.len()) && name.chars().all(is_allowed)
}

const fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

/// The readable part of the pair: at most [`READABLE`] letters, and never `__`, which tells it from the plain form.
fn readable(backend: &str, tool: &str) -> String {
    let whole = cleaned(&Naming::Prefix.plain(backend, tool));
    if backend.is_empty() {
        return cut(&cleaned(tool), READABLE).to_owned();
    }
    if whole.len() <= READABLE {
        return whole;
    }
    let (backend, tool) = (cleaned(backend), cleaned(tool));
    let of_tool = tool.len().min(READABLE_TOOL.max((READABLE - 1).saturating_sub(backend.len())));
    let backend = cut(&backend, READABLE - 1 - of_tool).trim_end_matches('_');
    format!("{backend}_{}", cut(&tool, of_tool).trim_start_matches('_'))
}

/// Letters that no name may have are replaced, and of several `_` in a row one is left.
fn cleaned(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for letter in text.chars() {
        let letter = if is_allowed(letter) { letter } else { '-' };
        if letter != '_' || !cleaned.ends_with('_') {
            cleaned.push(letter);
        }
    }
    cleaned
}

/// Of ASCII letters.
fn cut(text: &str, length: usize) -> &str {
    &text[..text.len().min(length)]
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

    use super::{MAX_EXPOSED, Naming, is_safe};
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
        assert_eq!(Naming::None.exposed("files", "read_it"), "read_it");
    }

    #[test]
    fn what_model_apis_do_not_take_is_replaced_and_stays_distinct() {
        for naming in [Naming::None, Naming::Prefix] {
            let names: Vec<_> = ["immich.ping", "immich-ping", "immich ping", "immich/ping", "über", ""]
                .iter()
                .map(|tool| naming.exposed("q", tool))
                .collect();
            assert!(names.iter().all(|name| is_safe(name)), "{names:?}");
            assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len(), "{names:?}");
            assert!(names[0].contains("immich-ping-"), "{names:?}");
        }
        // Two servers with the same name collide, whatever had to be replaced in it.
        assert_eq!(Naming::None.exposed("a", "x.y"), Naming::None.exposed("b", "x.y"));
        assert!(Naming::Prefix.exposed("my.server", "read").starts_with("my-server_read-"));
    }

    #[test]
    fn a_long_id_leaves_the_tool_readable() {
        let id = "x".repeat(64);
        let name = Naming::Prefix.exposed(&id, "list_pull_requests");
        assert!(name.contains("_list_pull_requests-") && name.starts_with("xxxxxxx"), "{name}");
        let name = Naming::Prefix.exposed(&id, &"search_everything_".repeat(9));
        assert!(name.contains("_search_everything_search_ever") && name.len() == MAX_EXPOSED, "{name}");
        assert!(!Naming::Prefix.exposed(&"_".repeat(64), &"_".repeat(64)).contains("__"));
    }

    proptest! {
        #[test]
        fn distinct_and_legal(pairs in proptest::collection::btree_set(("[a_.]{1,5}|[a_.]{50,64}", "[a_é .]{1,5}|[a_]{50,70}"), 2..200)) {
            for naming in [Naming::Prefix, Naming::None] {
                let mut seen = BTreeMap::new();
                for (backend, tool) in &pairs {
                    let name = naming.exposed(backend, tool);
                    prop_assert!(is_safe(&name), "{}", name);
                    let of = if naming == Naming::None { ("", tool.as_str()) } else { (backend.as_str(), tool.as_str()) };
                    let other = seen.insert(name, of).filter(|other| *other != of);
                    prop_assert!(other.is_none(), "{:?}", other);
                }
            }
        }
    }
}
