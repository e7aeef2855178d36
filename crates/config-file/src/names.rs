//! Names of keys and values: how they are shown, and which one was probably meant.

use std::borrow::Cow;

/// Names that other programs use for our keys, and that people therefore write.
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
pub(crate) fn show(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 48;
    if text.len() <= LONGEST && text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\') {
        return text.into();
    }
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            // Between backticks quotes need no escape.
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown.into()
}

/// Whether a key has the form that names of environment variables have. Another one may be a secret, as in
/// `API_KEY=secret:`, which YAML takes for a key without a value.
pub(crate) fn is_variable(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && is_made_of(key, b"_.-")
}

/// The same for names of headers.
pub(crate) fn is_header(key: &str) -> bool {
    is_made_of(key, b"_-")
}

fn is_made_of(key: &str, signs: &[u8]) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || signs.contains(&b))
}

/// The path of a key inside a mapping.
pub(crate) fn child(path: &str, key: &str) -> String {
    let mut child = path.to_owned();
    descend(&mut child, key);
    child
}

/// Lengthens the path of a mapping to that of one of its keys.
pub(crate) fn descend(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let key = if key.is_empty() { "\"\"".into() } else { show(key) };
    path.push_str(&key);
}
