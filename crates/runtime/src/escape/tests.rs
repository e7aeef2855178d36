//! The escapes for invisible characters, and that nothing else changes.

use super::*;

/// One of each kind: a colour, a title, a forged line, a C1 control, an override of direction, a blank without width, a
/// byte order mark, a separator of lines, a tag.
const DECEPTIVE: &str = "\u{1b}[31m\u{7}\r\n\u{9b}2J\u{202e}\u{200b}\u{feff}\u{2028}\u{e0041}\u{7f}\0";

#[test]
fn a_line_stays_one_and_every_character_can_be_seen() {
    let shown = line(DECEPTIVE);
    assert_eq!(shown, r"\u{1b}[31m\u{7}\r\n\u{9b}2J\u{202e}\u{200b}\u{feff}\u{2028}\u{e0041}\u{7f}\u{0}");
    assert_eq!(paragraph("a\n\tb\u{9b}\r"), "a\n\tb\\u{9b}\\r");
    let mut written = String::new();
    write!(Line(&mut written), "{DECEPTIVE}").unwrap();
    assert_eq!(written, shown);
}

#[test]
fn what_can_be_seen_stays_as_it_is() {
    for text in ["", "plain", r"C:\new \u{1b}", "Grüße, 東京, שלום, नमस्ते, 🙂, e\u{301}", "a  b"]
    {
        assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        assert!(matches!(json(text), Cow::Borrowed(same) if same == text), "{text}");
    }
}

#[test]
fn a_json_document_says_the_same() {
    let value = serde_json::json!({ DECEPTIVE: [DECEPTIVE, "Grüße"], "b": { "c": 1 } });
    for document in [value.to_string(), format!("{value:#}"), format!("{value:#}").replace('\n', "\r\n")] {
        let shown = json(&document);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(shown.chars().all(|character| character == '\n' || !is_deceptive(character)), "{shown}");
    }
}
