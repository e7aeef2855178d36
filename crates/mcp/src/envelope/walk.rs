//! A strict walk over JSON text (RFC 8259), which keeps places and builds nothing.
//!
//! It accepts what serde_json accepts: a laxer reader would read some messages differently from the server behind it.

use std::ops::Range;

/// Levels of objects and arrays, the message itself being one. This walk takes no stack, but most later readers of a
/// message recurse, and some of them crash on deep nesting.
pub(super) const MAX_DEPTH: usize = 512;

/// The text is no JSON. What is wrong with it, and where, a parser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Nesting,
    /// Where it went deeper than it may.
    too_deep: Option<usize>,
}

impl<'a> Walk<'a> {
    /// Begins at byte `at` of `text`.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { bytes: text.as_bytes(), at, open: Nesting::default(), too_deep: None }
    }

    /// The place of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn too_deep(&self) -> Option<usize> {
        self.too_deep
    }

    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), NotJson> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(NotJson) }
    }

    /// Into the object or array that opens here.
    #[inline(always)]
    pub(super) fn enter(&mut self) {
        self.open.push(self.peek() == Some(b'{'));
        if self.open.levels > MAX_DEPTH {
            self.too_deep.get_or_insert(self.at);
        }
        self.at += 1;
    }

    #[inline(always)]
    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    /// Past a key and its colon, up to the value; what is between the key's quotes, and whether it has escapes.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<(Range<usize>, bool), NotJson> {
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(key)
    }

    /// Past one value.
    pub(super) fn value(&mut self) -> Result<(), NotJson> {
        let around = self.open.levels;
        'values: loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.enter();
                    self.space();
                    // In ASCII each closes two behind its opening.
                    if self.peek() == Some(open + 2) {
                        self.at += 1;
                        self.leave();
                    } else {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(_) | None => return Err(NotJson),
            }
            while self.open.levels > around {
                self.space();
                match (self.next(), self.open.in_object()) {
                    (Some(b','), in_object) => {
                        self.space();
                        if in_object {
                            self.key()?;
                        }
                        continue 'values;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.leave(),
                    _ => return Err(NotJson),
                }
            }
            return Ok(());
        }
    }

    /// Past a string; what is between its quotes, and whether it has escapes.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<(Range<usize>, bool), NotJson> {
        self.expect(b'"')?;
        let (start, mut escaped) = (self.at, false);
        loop {
            self.at = special(self.bytes, self.at);
            match self.next() {
                Some(b'"') => return Ok((start..self.at - 1, escaped)),
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                // A control character.
                Some(_) | None => return Err(NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.bytes.get(self.at..self.at + 4).ok_or(NotJson)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) { Ok(()) } else { Err(NotJson) }
            }
            Some(_) | None => Err(NotJson),
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotJson) }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), NotJson> {
        let found = self.bytes[self.at..].starts_with(literal);
        self.at += literal.len();
        if found { Ok(()) } else { Err(NotJson) }
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.next() == Some(byte) { Ok(()) } else { Err(NotJson) }
    }
}

/// What is open, the innermost last: whether it is an object or an array.
#[derive(Default)]
struct Nesting {
    levels: usize,
    /// A bit for each of the innermost levels since the last multiple of 64.
    inner: u64,
    outer: Vec<u64>,
}

impl Nesting {
    #[inline(always)]
    fn push(&mut self, object: bool) {
        if self.levels > 0 && self.levels.is_multiple_of(64) {
            self.outer.push(std::mem::take(&mut self.inner));
        }
        self.inner = self.inner << 1 | u64::from(object);
        self.levels += 1;
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.levels -= 1;
        self.inner >>= 1;
        if self.levels > 0 && self.levels.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    #[inline(always)]
    fn in_object(&self) -> bool {
        self.inner & 1 == 1
    }
}

/// The place of the first byte from `at` on that is not just a letter of a string: a quote, a backslash or a control
/// character.
fn special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The highest bit of each byte that is what is looked for. Those behind the first one may be wrong.
    let equal = |word: u64, byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(TryInto::try_into) {
        let word = u64::from_le_bytes(eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (control | equal(word, b'"') | equal(word, b'\\')) & (ONES << 7);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walks(text: &str) -> bool {
        let mut walk = Walk::new(text, 0);
        walk.space();
        walk.value().and_then(|()| walk.end()).is_ok()
    }

    fn parses(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "\"([a-z äß€😀]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,20}\"",
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            let member = ("\"[a-z]{0,12}\"", " ?", inner.clone())
                .prop_map(|(key, space, value)| format!("{key}{space}:{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(", "))),
                prop::collection::vec(member, 0..5).prop_map(|all| format!("{{{}\n}}", all.join(" ,"))),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(text in json()) {
            prop_assert!(parses(&text), "{text}");
            prop_assert!(walks(&text), "{text}");
        }

        /// With one character replaced, added or taken away most of it is no JSON any more.
        #[test]
        fn it_refuses_what_serde_json_refuses(
            text in json(),
            at in any::<prop::sample::Index>(),
            other in prop_oneof![Just(None), "[\\[\\]{}:,\"\\\\0-9eE+.\\- \u{0}-\u{1f}tfnu]".prop_map(Some), any::<char>().prop_map(|one| Some(one.into()))],
            keep in any::<bool>(),
        ) {
            let mut letters: Vec<String> = text.chars().map(String::from).collect();
            let at = at.index(letters.len());
            let kept = if keep { letters[at].clone() } else { String::new() };
            letters[at] = other.unwrap_or_default() + &kept;
            let text = letters.concat();
            prop_assert_eq!(walks(&text), parses(&text), "{}", text);
        }

        #[test]
        fn it_agrees_with_serde_json_about_anything(text in "[\\[\\]{}:,\"\\\\0-9eE+.\\- tfnrulasb\u{1}\u{7f}ä]{0,24}") {
            prop_assert_eq!(walks(&text), parses(&text), "{}", text);
        }

        #[test]
        fn what_ends_a_string_is_found_wherever_it_is(
            before in "[a-zA-Z ä€\u{7f}\u{80}]{0,40}",
            end in prop::sample::select(vec!['"', '\\', '\u{0}', '\n', '\u{1f}']),
            after in any::<String>(),
        ) {
            let text = format!("{before}{end}{after}");
            prop_assert_eq!(special(text.as_bytes(), 0), before.len());
        }
    }

    #[test]
    fn deep_nesting_is_remembered_to_the_last_level() {
        for levels in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let (mut text, mut close) = (String::new(), String::new());
            for level in 0..levels {
                let object = level % 3 == 0;
                text += if object { "{\"\":" } else { "[" };
                close.insert(0, if object { '}' } else { ']' });
            }
            assert!(walks(&format!("{text}0{close}")), "{levels}");
            for wrong in 0..close.len() {
                let mut other = close.clone().into_bytes();
                other[wrong] ^= b'}' ^ b']';
                let text = format!("{text}0{}", String::from_utf8(other).unwrap());
                assert!(!walks(&text), "{levels}, {wrong}");
            }
        }
    }
}
