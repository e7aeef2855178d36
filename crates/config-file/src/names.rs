//! Names of keys and values: how they are shown, and which one was probably meant.

/// What other programs call it, and people therefore write.
const SYNONYMS: [(&str, &str); 15] = [
    ("arguments", "args"),
    ("backends", "servers"),
    ("cmd", "command"),
    ("endpoint", "url"),
    ("endpoints", "urls"),
    ("environment", "env"),
    ("local", "stdio"),
    ("mcpservers", "servers"),
    ("name", "id"),
    ("program", "command"),
    ("remote", "http"),
    ("streamablehttp", "http"),
    ("timeoutms", "timeout_seconds"),
    ("uri", "url"),
    ("workingdirectory", "cwd"),
];

/// The one of `known` that `given` is probably meant to be.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Long names are no typing mistakes, and cost time to compare.
    if given.len() > 64 {
        return None;
    }
    let plain = plain(given);
    let allowed = 1.max(plain.len() / 3);
    known
        .into_iter()
        .map(|name| (distance(&plain, name), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.len())
        .min()
        .map(|(_, name)| name.to_owned())
}

fn distance(given: &str, name: &str) -> usize {
    let known = plain(name);
    if given.len() >= 4 && known.starts_with(given) {
        return 1;
    }
    let theirs = SYNONYMS.iter().filter(|(_, ours)| *ours == name).map(|(theirs, _)| *theirs);
    std::iter::once(known.as_str())
        .chain(theirs)
        .map(|known| strsim::damerau_levenshtein(given, known))
        .min()
        .unwrap_or(usize::MAX)
}

/// Without case and separators: `allowEmpty` and `allow-empty` are `allow_empty`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// A text from outside in a message: on one line, and not the whole of a long one.
pub(crate) fn show(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    // `escape_debug` is for quotes in Rust source; between backticks they need none.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The path of a key inside a mapping.
pub(crate) fn child(path: &str, key: &str) -> String {
    let key = if key.is_empty() { "\"\"".into() } else { show(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
