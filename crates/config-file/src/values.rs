//! Single values: a node of the tree as a flag, a number, a text, a duration, or what was expected instead.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use model::units;

use crate::names::{nearest, show};
use crate::tree::{Node, ScalarKind, Value};

/// Why a value is not of its type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Wrong {
    fn new(expected: impl Display, node: &Node) -> Self {
        Self { message: format!("expected {expected}, found {}", describe(node)), suggestion: None }
    }

    fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// What a plain scalar is by the core schema of YAML 1.2.
pub(crate) fn plain_kind(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" => ScalarKind::Flag(true),
        "false" | "False" | "FALSE" => ScalarKind::Flag(false),
        _ if is_number(text) => ScalarKind::Number,
        _ => ScalarKind::Text,
    }
}

fn is_number(text: &str) -> bool {
    let radix = |prefix: &str, good: fn(char) -> bool| {
        text.strip_prefix(prefix).is_some_and(|digits| !digits.is_empty() && digits.chars().all(good))
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let named = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    named
        || radix("0x", |c| c.is_ascii_hexdigit())
        || radix("0o", |c| matches!(c, '0'..='7'))
        // `f64` also reads `inf` and `nan`, which begin with a letter.
        || (unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok())
}

pub(crate) fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
        Value::Scalar { kind: ScalarKind::Null, .. } => "nothing".into(),
        Value::Scalar { kind: ScalarKind::Flag(flag), .. } => format!("`{flag}`"),
        Value::Scalar { kind: ScalarKind::Number, text } => format!("the number `{}`", show(text)),
        // The message never quotes the text: it may be a secret on the wrong line.
        Value::Scalar { kind: ScalarKind::Text, .. } => "a text".into(),
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "an empty text".into() } else { format!("`{}`", show(text)) }
}

pub(crate) fn is_null(node: &Node) -> bool {
    matches!(node.value, Value::Scalar { kind: ScalarKind::Null, .. })
}

pub(crate) fn flag(node: &Node) -> Result<bool, Wrong> {
    let Value::Scalar { text, kind } = &node.value else { return Err(Wrong::new("`true` or `false`", node)) };
    if let ScalarKind::Flag(flag) = kind {
        return Ok(*flag);
    }
    let meant = match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" => Some("true".into()),
        "no" | "off" | "n" | "0" | "false" => Some("false".into()),
        _ => None,
    };
    Err(Wrong::new("`true` or `false`", node).suggest(meant))
}

pub(crate) fn text(node: &Node) -> Result<String, Wrong> {
    match &node.value {
        Value::Scalar { text, kind: ScalarKind::Text } => Ok(text.clone()),
        Value::Scalar { text, kind: ScalarKind::Number | ScalarKind::Flag(_) } => {
            Err(Wrong::new("a text", node).suggest(Some(format!("\"{}\"", show(text)))))
        }
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Err(Wrong::new("a text", node)),
    }
}

/// In letters.
pub(crate) const NAME_MAX: usize = 128;

pub(crate) fn names(node: &Node, most: usize) -> Result<Vec<String>, Wrong> {
    let Value::List(nodes) = &node.value else { return Err(Wrong::new("a list of names", node)) };
    let wrong = |message| Wrong { message, suggestion: None };
    if nodes.len() > most {
        return Err(wrong(format!("{} names; expected at most {most}", nodes.len())));
    }
    let names = nodes.iter().map(|node| {
        let name = text(node)?;
        let fits = (1..=NAME_MAX).contains(&name.chars().count());
        if fits { Ok(name) } else { Err(wrong(format!("a name has 1 to {NAME_MAX} letters"))) }
    });
    names.collect()
}

/// As [`path`] takes it, but for its length.
pub(crate) const PATH: &str = "^/([!-.0-~][!-~]*)?$";
pub(crate) const PATH_MAX: usize = 1024;

/// Of a URL, with a query if there is one: a second slash at its beginning would name another host.
pub(crate) fn path(node: &Node) -> Result<String, Wrong> {
    let text = text(node)?;
    let rest = text.strip_prefix('/').filter(|rest| !rest.starts_with('/') && text.len() <= PATH_MAX);
    if rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Ok(text);
    }
    let expected = format!("a path such as `/health`, of at most {PATH_MAX} plain letters without spaces");
    Err(Wrong { message: format!("expected {expected}"), suggestion: None })
}

/// Where a program or a header gets a text whatever is written, so that a number stays as it is spelled.
pub(crate) fn loose_text(node: &Node) -> Result<String, Wrong> {
    match &node.value {
        Value::Scalar { text, kind: ScalarKind::Text | ScalarKind::Number | ScalarKind::Flag(_) } => Ok(text.clone()),
        Value::Scalar { .. } => Err(Wrong::new("a text (`\"\"` for an empty one)", node)),
        Value::List(_) | Value::Map(_) => Err(Wrong::new("a text", node)),
    }
}

/// One of some words.
pub(crate) fn choice<'a>(node: &Node, known: &[&'a str], not_yet: &[&str]) -> Result<&'a str, Wrong> {
    let expected = one_of(known);
    let Value::Scalar { text, kind: ScalarKind::Text } = &node.value else { return Err(Wrong::new(expected, node)) };
    if let Some(word) = known.iter().find(|word| *word == text) {
        return Ok(word);
    }
    if not_yet.contains(&text.as_str()) {
        let message = format!("`{text}` is known, but not available in this release; expected {expected}");
        return Err(Wrong { message, suggestion: None });
    }
    let message = format!("expected {expected}, found {}", quoted(text));
    Err(Wrong { message, suggestion: nearest(text, known.iter().copied()) })
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A whole number; `what` says of what.
fn whole<N>(node: &Node, what: &str, range: &RangeInclusive<N>) -> Result<N, Wrong>
where
    N: FromStr + PartialOrd + Display,
{
    let expected = format!("{what} from {} to {}", range.start(), range.end());
    let Value::Scalar { text, kind: ScalarKind::Number } = &node.value else { return Err(Wrong::new(expected, node)) };
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Wrong::new(expected, node)),
    }
}

pub(crate) fn count(node: &Node, range: &RangeInclusive<u32>) -> Result<u32, Wrong> {
    whole(node, "a whole number", range)
}

/// The unit of a key that names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Seconds,
    Days,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Days => "days",
        }
    }

    /// How many of it a duration is.
    pub(crate) fn count(self, duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / self.milliseconds()
    }

    fn milliseconds(self) -> u64 {
        match self {
            Self::Milliseconds => 1,
            Self::Seconds => 1000,
            Self::Days => 86_400_000,
        }
    }
}

/// A number of the unit that the key names.
pub(crate) fn counted_duration(node: &Node, unit: Unit, range: &RangeInclusive<u64>) -> Result<Duration, Wrong> {
    let scale = unit.milliseconds();
    let number = whole(node, &format!("a whole number of {}", unit.name()), range).map_err(|wrong| {
        let meant = match &node.value {
            Value::Scalar { text, kind: ScalarKind::Text } => units::duration(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        };
        let meant = meant.and_then(|meant| u64::try_from(meant.as_millis()).ok()).filter(|ms| ms.is_multiple_of(scale));
        wrong.suggest(meant.map(|ms| ms / scale).filter(|n| range.contains(n)).map(|n| n.to_string()))
    })?;
    Ok(Duration::from_millis(number * scale))
}

/// A text such as `500ms`.
pub(crate) fn duration(node: &Node, range: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let (least, most) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
    let expected = format!("a duration with its unit, such as `500ms` or `5m`, from {least} to {most}");
    match &node.value {
        Value::Scalar { text, kind: ScalarKind::Text } => match units::duration(text) {
            Some(duration) if range.contains(&duration) => Ok(duration),
            Some(_) | None => {
                Err(Wrong { message: format!("expected {expected}, found {}", quoted(text)), suggestion: None })
            }
        },
        Value::Scalar { text, kind: ScalarKind::Number } => {
            let seconds = text.parse().ok().map(Duration::from_secs).filter(|seconds| range.contains(seconds));
            Err(Wrong::new(expected, node).suggest(seconds.map(units::show_duration)))
        }
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Err(Wrong::new(expected, node)),
    }
}

/// A number of bytes, or a text such as `4MiB`.
pub(crate) fn bytes(node: &Node, range: &RangeInclusive<u64>) -> Result<u64, Wrong> {
    let (least, most) = (units::show_bytes(*range.start()), units::show_bytes(*range.end()));
    let expected = format!("a number of bytes, or a size such as `4MiB`, from {least} to {most}");
    let Value::Scalar { text, kind } = &node.value else { return Err(Wrong::new(expected, node)) };
    let size = match kind {
        ScalarKind::Number => text.parse().ok(),
        ScalarKind::Text => units::bytes(text),
        ScalarKind::Null | ScalarKind::Flag(_) => None,
    };
    match (size, kind) {
        (Some(size), _) if range.contains(&size) => Ok(size),
        (_, ScalarKind::Text) => {
            Err(Wrong { message: format!("expected {expected}, found {}", quoted(text)), suggestion: None })
        }
        _ => Err(Wrong::new(expected, node)),
    }
}

/// A share from 0 to 1 in thousandths.
pub(crate) fn permille(node: &Node) -> Result<u32, Wrong> {
    let wrong = || Wrong::new("a share from 0 to 1 with at most three decimals", node);
    let Value::Scalar { text, kind: ScalarKind::Number } = &node.value else { return Err(wrong()) };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let decimals = decimals.trim_end_matches('0');
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return Err(wrong());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let thousandths: u32 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    let share = whole.checked_mul(1000).and_then(|whole| whole.checked_add(thousandths));
    share.filter(|share| *share <= 1000).ok_or_else(wrong)
}
