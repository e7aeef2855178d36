//! A JSON value as it was written, and where: the unit everything else here passes around.

use std::borrow::Cow;
use std::ops::Range;

/// Byte offsets into a message; `start == end` is a place to insert at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The empty span at `offset`.
    pub const fn at(offset: usize) -> Self {
        Self { start: offset, end: offset }
    }

    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// One JSON value exactly as written, without surrounding white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Raw<'a> {
    /// `text` begins at byte `start` of its message and is one complete JSON value.
    pub(crate) const fn new(text: &'a str, start: usize) -> Self {
        Self { text, start }
    }

    pub const fn text(self) -> &'a str {
        self.text
    }

    pub const fn bytes(self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub const fn span(self) -> Span {
        Span { start: self.start, end: self.start + self.text.len() }
    }

    pub fn is_null(self) -> bool {
        self.text == "null"
    }
}

/// A JSON string: its raw form with quotes, and its value. Owned only if the raw form contains an escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    raw: Raw<'a>,
    value: Cow<'a, str>,
}

impl<'a> Text<'a> {
    /// None if `raw` is not a string, or holds an escape that is no character (half of a surrogate pair).
    pub fn parse(raw: Raw<'a>) -> Option<Self> {
        let inner = raw.text.strip_prefix('"')?.strip_suffix('"')?;
        let value = if !inner.as_bytes().contains(&b'\\') {
            Cow::Borrowed(inner)
        } else {
            Cow::Owned(serde_json::from_str(raw.text).ok()?)
        };
        Some(Self { raw, value })
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// The value, borrowed from the message when it was written without escapes.
    pub fn into_value(self) -> Cow<'a, str> {
        self.value
    }

    /// With its quotes.
    pub const fn raw(&self) -> Raw<'a> {
        self.raw
    }
}

/// A request id or progress token: a string or an integer, kept as written (`1` and `"1"` are different ids). Some
/// languages write every number as a fraction or a large one with an exponent: `1.0` and `1e+06` are integers, too.
/// The `requestId` of a cancellation is compared with the id it names by this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    raw: Raw<'a>,
}

impl<'a> Id<'a> {
    /// None for anything but a string or an integer.
    pub fn parse(raw: Raw<'a>) -> Option<Self> {
        (is_integer(raw.text) || raw.text.starts_with('"') || whole(raw.text).is_some()).then_some(Self { raw })
    }

    /// As written, quotes included.
    pub const fn text(self) -> &'a str {
        self.raw.text
    }

    pub const fn span(self) -> Span {
        self.raw.span()
    }

    /// See [`number_of`].
    pub fn as_u64(self) -> Option<u64> {
        number_of(self.raw.text)
    }
}

/// The number in a raw id, if it is one that fits: ids the gateway itself gave out are such numbers. Some servers hand
/// them back as strings, some as fractions (`1.0`) or with an exponent (`1e+06`).
pub fn number_of(id: &str) -> Option<u64> {
    // Nearly all are the digits alone.
    id.parse().ok().or_else(|| {
        let text = id.trim_matches('"');
        text.parse().ok().or_else(|| whole(text)?.try_into().ok())
    })
}

/// The integer that is written as a fraction or with an exponent (`7.0`, `1e+06`).
fn whole(text: &str) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if !is_integer(integer) || !is_integer(fraction) || fraction.starts_with('-') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits: i64 = format!("{integer}{fraction}").parse().ok()?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let unit = 10_i64.checked_pow(shift.unsigned_abs())?;
    if shift < 0 { (digits % unit == 0).then_some(digits / unit) } else { digits.checked_mul(unit) }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
