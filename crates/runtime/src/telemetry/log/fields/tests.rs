//! Whatever a value is, its line is one line and controls no terminal, in text and in JSON.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::subscriber::with_default;
use tracing_subscriber::layer::SubscriberExt;

use super::super::lines_to;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("outer \u{1b}]0;title\u{7}")]
struct Outer(#[source] std::io::Error);

const EVIL: &str = "a\u{1b}[2Jb\r\n2026-01-01T00:00:00Z  INFO forged\u{9b}31m\u{202e}\u{200b}";

/// The output of lines that have `EVIL` in every position in which a value can be.
fn written(format: &str, ansi: bool) -> String {
    let written = Written::default();
    let to = written.clone();
    let subscriber = tracing_subscriber::registry().with(lines_to(move || to.clone(), format, ansi));
    with_default(subscriber, || {
        let error = Outer(std::io::Error::other(EVIL));
        let span = tracing::info_span!("span", inside = EVIL, later = tracing::field::Empty);
        let _entered = span.enter();
        span.record("later", EVIL);
        tracing::info!(text = EVIL, shown = %EVIL, debug = ?EVIL, "message {EVIL}");
        tracing::error!(error = &error as &dyn std::error::Error, list = ?[EVIL], message = EVIL);
    });
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_value_breaks_no_line_and_speaks_to_no_terminal() {
    for format in ["pretty", "logfmt", "json"] {
        let text = written(format, false);
        assert_eq!(text.lines().count(), 2, "{text}");
        let bad = text.chars().find(|c| *c != '\n' && crate::escape::line(&c.to_string()) != c.to_string());
        assert_eq!(bad, None, "{text}");
        assert!(text.contains("forged"), "it is shown, not lost: {text}");
    }
}

#[test]
fn the_text_names_fields_and_an_error_with_its_causes() {
    let text = written("pretty", false);
    let first = text.lines().next().unwrap();
    assert!(first.contains(r#" text="a\u001b[2Jb\r\n"#) && first.contains(r#" shown="a\u001b[2Jb\r\n"#), "{first}");
    let second = text.lines().nth(1).unwrap();
    assert!(second.contains(r#"error="outer \u001b]0;title\u0007: a\u001b[2Jb"#), "{second}");
}

#[test]
fn colours_of_our_own_stay() {
    let text = written("pretty", true);
    assert!(text.contains("\u{1b}[3mtext\u{1b}[0m\u{1b}[2m=\u{1b}[0m\"a\\u001b"), "{text}");
    assert!(!text.contains("\u{1b}[2Jb") && text.lines().count() == 2, "{text}");
}

/// A reader that takes nothing but what logfmt is: keys, and values that are one word or a quoted text.
fn strict(line: &str) -> Vec<(&str, String)> {
    let (mut rest, mut pairs) = (line, Vec::new());
    loop {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no value: {rest}"));
        let is_key = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
        assert!(!key.is_empty() && key.chars().all(is_key), "no key: {rest}");
        let (value, after) = if value.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let text = values.next().unwrap().unwrap_or_else(|error| panic!("{error}: {value}"));
            (text, &value[values.byte_offset()..])
        } else {
            let (word, _) = value.split_once(' ').unwrap_or((value, ""));
            assert!(!word.is_empty() && !word.contains(['"', '=', '\\']), "no word: {word}");
            (word.to_owned(), &value[word.len()..])
        };
        pairs.push((key, value));
        match after.strip_prefix(' ') {
            Some(more) => rest = more,
            None => {
                assert_eq!(after, "", "{line}");
                return pairs;
            }
        }
    }
}

#[test]
fn logfmt_says_what_was_said_to_a_strict_reader() {
    let text = written("logfmt", false);
    let lines: Vec<_> = text.lines().map(strict).collect();
    let value = |line: usize, key: &str| lines[line].iter().find(|(name, _)| *name == key).unwrap().1.clone();
    let keys: Vec<_> = lines[0].iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, ["time", "level", "target", "msg", "text", "shown", "debug", "inside", "later"]);
    assert_eq!((value(0, "level"), value(0, "msg")), ("info".into(), format!("message {EVIL}")));
    assert_eq!((value(0, "text"), value(0, "shown"), value(0, "inside")), (EVIL.into(), EVIL.into(), EVIL.into()));
    assert_eq!((value(1, "level"), value(1, "msg")), ("error".into(), EVIL.into()));
    assert_eq!(value(1, "error"), format!("outer \u{1b}]0;title\u{7}: {EVIL}"));
}

#[test]
fn a_field_of_a_line_for_people_is_one_value_as_well() {
    let text = written("pretty", false);
    let (_, fields) = text.lines().next().unwrap().rsplit_once("\\u{202e}\\u{200b} ").unwrap();
    assert_eq!(strict(fields).iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["text", "shown", "debug"]);
    for (value, expected) in
        [("", "\"\""), ("a-b", "a-b"), ("a b", "\"a b\""), ("\"a b\"", "\"a b\""), ("\"a\" b", r#""\"a\" b""#)]
    {
        assert_eq!(super::word(value), expected);
    }
}

#[test]
fn json_says_what_was_said() {
    let text = written("json", false);
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((line["text"].as_str(), line["span"]["inside"].as_str()), (Some(EVIL), Some(EVIL)));
}
