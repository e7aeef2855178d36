//! JSON as people keep it in files of their editors: with comments, and with commas before a bracket closes.
//!
//! It is read here once more, by other code than the gateway's, so that one of the two notices what the other misses.

use serde_json::Value;
use testkit::Fault;

pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    Ok(serde_json::from_str(&without_last_commas(&without_comments(text)))?)
}

/// What is in quotes stays as it is.
fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string(rest),
            '/' if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.split_once("*/").map_or("", |(_, behind)| behind);
                continue;
            }
            other => other.len_utf8(),
        };
        kept.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    kept
}

fn without_last_commas(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' { string(rest) } else { first.len_utf8() };
        let closes = rest[length..].trim_start().starts_with(['}', ']']);
        if !(first == ',' && closes) {
            kept.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept
}

/// The length of the text in quotes with which `rest` begins.
fn string(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn comments_and_commas_go_and_texts_stay() {
        let text = "// a\n{ \"a//b\": \"/* \\\" */\", /* c, } */ \"l\": [1, 2, ], // end\n}\n";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed, serde_json::json!({ "a//b": "/* \" */", "l": [1, 2] }));
    }
}
