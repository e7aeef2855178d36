//! Makes foreign texts safe for people to read. Texts of servers, children and clients may hold terminal escapes, line
//! breaks and invisible characters; shown raw, these would colour, overwrite or forge the text around them. They become
//! visible here, at the edge: in the text that is printed, never in what is kept or sent on.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    io::{self, Write as _},
};

/// A text as one line: every character in it can be seen. Others are written as in Rust, `\n` or `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_deceptive)
}

/// A text of several lines: line breaks and tabs stay.
pub fn paragraph(text: &str) -> Cow<'_, str> {
    escaped(text, |character| !matches!(character, '\n' | '\t') && is_deceptive(character))
}

/// A JSON document with escapes in its strings for what cannot be seen: the same document to a program that parses it.
/// Line breaks and tabs can only stand between values, and stay.
pub fn json(document: &str) -> Cow<'_, str> {
    let stays = |character: char| matches!(character, '\n' | '\t') || !is_deceptive(character);
    if document.chars().all(stays) {
        return Cow::Borrowed(document);
    }
    let mut text = String::with_capacity(document.len() + 16);
    for character in document.chars() {
        if stays(character) {
            text.push(character);
            continue;
        }
        if character == '\r' {
            // A line break may also stand between values, where an escape is not allowed.
            text.push('\n');
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(text, "\\u{unit:04x}").expect("writing to a String cannot fail");
        }
    }
    Cow::Owned(text)
}

/// Writes to `inner` as [`line`] does.
#[derive(Debug)]
pub struct Line<W>(pub W);

impl<W: Write> Write for Line<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&line(text))
    }
}

/// Writes to stderr, with characters that are unsafe for a terminal escaped; if stderr is closed, the text is lost.
pub fn say(text: &str) {
    drop(io::stderr().write_all(paragraph(text).as_bytes()));
}

fn escaped(text: &str, escapes: impl Fn(char) -> bool) -> Cow<'_, str> {
    // Most texts need no escape.
    if !text.chars().any(&escapes) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            character if !escapes(character) => shown.push(character),
            '\n' | '\r' | '\t' => shown.extend(character.escape_default()),
            character => shown.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// Whether the character controls a terminal, breaks a line, or is invisible and changes how other characters look.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Soft hyphen; joiners, blanks without width, marks of direction.
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{feff}'
            // Separators of lines and paragraphs; embeddings and overrides of direction; isolates and shapes.
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Letters that are blank.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
            // Annotations, and tags that spell an invisible text.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests;
