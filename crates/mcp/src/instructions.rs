//! What several backends say about how to use them, as one text for clients: each thing once, and with the names that
//! clients see.

use std::collections::BTreeMap;

/// Bytes of the instructions that a client gets of all backends together.
pub const MAX_BYTES: usize = 16 << 10;

/// As much of a text as clients may get.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_BYTES)]
}

/// The instructions of several backends (each with its position and its name), under a heading for each. `shown_as` is
/// the name under which clients see what a backend calls so. `None` if no backend says anything.
pub fn merged<'a, 'n>(
    said: impl IntoIterator<Item = (usize, &'a str, &'a str)>,
    shown_as: impl Fn(usize, &str) -> Option<&'n str>,
) -> Option<String> {
    let mut merged = String::new();
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, backend, text) in said {
        if merged.len() >= MAX_BYTES {
            break;
        }
        let text = text.trim();
        let gap = if merged.is_empty() { "" } else { "\n\n" };
        merged.push_str(&format!("{gap}# {backend}\n\n"));
        if let Some(first) = first.get(text) {
            merged.push_str(&format!("The same as for {first}."));
        } else {
            first.insert(text, backend);
            push_renamed(&mut merged, text, |name| shown_as(at, name));
        }
    }
    merged.truncate(cut(&merged).len());
    (!merged.is_empty()).then_some(merged)
}

/// Appends a text in which names that stand for something are those that clients see. A plain word is a name only where
/// it stands in quotes or is called: a server that has a tool `read` may use the word all the same.
fn push_renamed<'n>(out: &mut String, text: &str, shown_as: impl Fn(&str) -> Option<&'n str>) {
    let mut rest = text;
    while let Some(begin) = rest.find(is_of_name) {
        let (before, from) = rest.split_at(begin);
        let end = from.find(|letter| !is_of_name(letter)).unwrap_or(from.len());
        // A name does not end like a sentence.
        let name = from[..end].trim_end_matches(['.', '-', '/']);
        let after = &from[name.len()..];
        let marked =
            before.ends_with(['`', '"', '\'']) && after.starts_with(['`', '"', '\'']) || after.starts_with('(');
        let shown = if marked || is_no_word(name) { shown_as(name) } else { None };
        out.push_str(before);
        out.push_str(shown.unwrap_or(name));
        out.push_str(&from[name.len()..end]);
        rest = &from[end..];
    }
    out.push_str(rest);
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/')
}

/// `read_file` and `readFile` are no words of a language; `read` and `Read` may be.
fn is_no_word(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next();
    letters.any(|letter| !letter.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `prefix` names tools of the first backend.
    fn shown_as(at: usize, own: &str) -> Option<&'static str> {
        let tools = [("read", "files__read"), ("read_file", "files__read_file"), ("list.all", "files_list-all-0a")];
        tools.into_iter().find(|(name, _)| at == 0 && *name == own).map(|(_, shown)| shown)
    }

    #[test]
    fn each_text_stands_once_under_the_names_that_clients_see() {
        let said = [
            (0, "files", " First call read_file, then `read` or read(path), never list.all. Do read it! "),
            (1, "search", "é read_file"),
            (2, "more", "é read_file"),
        ];
        assert_eq!(
            merged(said, shown_as).unwrap(),
            "# files\n\nFirst call files__read_file, then `files__read` or files__read(path), never files_list-all-0a. \
             Do read it!\n\n# search\n\né read_file\n\n# more\n\nThe same as for search."
        );
        assert_eq!(merged([], shown_as), None);
    }

    #[test]
    fn together_they_are_bounded() {
        // Of a letter that does not end within the bound nothing.
        let long = "é".repeat(MAX_BYTES);
        assert_eq!(merged([(0, "x", &*long), (1, "y", "more")], shown_as).unwrap().len(), MAX_BYTES - 1);
    }
}
