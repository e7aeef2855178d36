//! JSON with comments, as clients of MCP have it. YAML knows no `//`, and would take it for the beginning of a key.

use std::borrow::Cow;

/// The text with a space in the place of each character of a comment, so that all others keep their places. A text that
/// is no JSON stays as it is: in YAML, `//` is a text like others.
pub(crate) fn blank(text: &str) -> Cow<'_, str> {
    let mut blank = String::new();
    // How much of the text is in `blank`.
    let mut copied = 0;
    let mut rest = text;
    let mut began = false;
    while let Some(next) = rest.chars().next() {
        let at = text.len() - rest.len();
        let length = match next {
            '"' if began => quoted(rest),
            '/' => match comment(rest) {
                Some(length) => {
                    blank.push_str(&text[copied..at]);
                    let spaces = rest[..length].chars().map(|c| if matches!(c, '\n' | '\r') { c } else { ' ' });
                    blank.extend(spaces);
                    copied = at + length;
                    length
                }
                // No JSON: a `/` stands in texts alone.
                None => return text.into(),
            },
            '{' => {
                began = true;
                1
            }
            c if c.is_whitespace() => c.len_utf8(),
            // YAML has other quotes and comments, and JSON begins with a bracket.
            '\'' | '#' => return text.into(),
            _ if !began => return text.into(),
            ':' if rest[1..].starts_with('/') => return text.into(),
            c => c.len_utf8(),
        };
        rest = &rest[length..];
    }
    if copied == 0 {
        return text.into();
    }
    blank.push_str(&text[copied..]);
    blank.into()
}

/// The length of the text in quotes at the beginning.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the comment at the beginning, without the end of its line.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find(['\n', '\r']).unwrap_or(rest.len()));
    }
    let inside = rest.strip_prefix("/*")?;
    Some(inside.find("*/").map_or(rest.len(), |end| end + 4))
}

#[cfg(test)]
mod tests {
    use super::blank;

    #[test]
    fn comments_of_json_are_blank_and_nothing_else_is() {
        for (text, expected) in [
            ("{ \"a\": 1 } // ä", "{ \"a\": 1 }     "),
            ("// x\n{ /* b\nc */ \"u\": \"http://h/*\" }", "    \n{     \n     \"u\": \"http://h/*\" }"),
            ("{ \"a\\\"//\": 1, // it's #1\r\n}", "{ \"a\\\"//\": 1,           \r\n}"),
            ("{ /* never", "{         "),
        ] {
            assert_eq!(blank(text), expected, "{text}");
            assert_eq!(text.chars().count(), expected.chars().count());
        }
        for yaml in [
            "{ url: http://h }",
            "{ a: //x }\n# y",
            "url: http://h // x\n",
            "// x\na: b\n",
            "{ a: '//' }",
            "[ // x\n]",
            "",
        ] {
            assert_eq!(blank(yaml), yaml);
        }
    }
}
