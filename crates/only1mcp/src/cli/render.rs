//! Text for people: tables, durations, times, violations.

use std::{fmt, time::Duration};

use model::Weight;
use runtime::escape;
use serde_json::{Value, json};
use wire::pb::words::v1 as pb;

/// Text for people. Parts of it come from servers, clients and services, so it can only be built line by line: the
/// content of one line cannot begin another line, nor control the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn of(line: impl fmt::Display) -> Self {
        let mut lines = Self::default();
        lines.line(line);
        lines
    }

    /// One line, whatever is in it.
    pub(crate) fn line(&mut self, line: impl fmt::Display) {
        self.0.push_str(&escape::line(&line.to_string()));
        self.0.push('\n');
    }

    /// A text that keeps its author's line breaks, since no text of ours is beside it.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.0.push_str(&escape::paragraph(text));
        self.0.push('\n');
    }

    /// A JSON document, which stays the same document.
    pub(crate) fn json(document: &str) -> Self {
        Self(escape::json(document).into_owned() + "\n")
    }

    pub(crate) fn append(&mut self, more: &Self) {
        self.0.push_str(&more.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A longer cell is shown whole, and those behind it on its line stand where they come.
const WIDEST: usize = 200;

/// Columns as wide as their widest cell, the last one as it comes. Empty without rows.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> Lines {
    let mut table = Lines::default();
    if rows.is_empty() {
        return table;
    }
    // First, so that the columns fit.
    let shown = |row: &[String; N]| row.each_ref().map(|cell| escape::line(cell).into_owned());
    let rows: Vec<[String; N]> = rows.iter().map(shown).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or_default().min(WIDEST)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in std::iter::once(heads.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        table.line(cells.collect::<String>().trim_end());
    }
    table
}

/// `850 ms`, `1.5 s`, `12 s`, `3 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..1000.0 => format!("{millis:.0} ms"),
        ..10_000.0 => format!("{:.1} s", millis / 1000.0),
        ..120_000.0 => format!("{:.0} s", millis / 1000.0),
        _ => format!("{:.0} min", millis / 60_000.0),
    }
}

/// RFC 3339 in UTC, of milliseconds since 1970.
pub(crate) fn time(unix_ms: u64) -> String {
    let timestamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| unix_ms.to_string(), |timestamp| format!("{timestamp:.3}"))
}

/// The first 12 digits are enough to tell digests apart.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// One line each, the form that editors and terminals make clickable.
pub(crate) fn violations(violations: &[pb::Violation]) -> Lines {
    let mut lines = Lines::default();
    violations.iter().for_each(|violation| lines.line(wire::violation(violation.clone())));
    lines
}

pub(crate) fn violations_json(violations: &[pb::Violation]) -> Value {
    violations.iter().map(|violation| violation_json(&wire::violation(violation.clone()))).collect()
}

pub(crate) fn violation_json(violation: &model::Violation) -> Value {
    let at = violation.at.as_ref();
    json!({
        "file": at.map(|at| &*at.file),
        "line": at.map(|at| at.line),
        "column": at.map(|at| at.column),
        "path": violation.path,
        "message": violation.message,
        "suggestion": violation.suggestion,
    })
}

/// A share of the calls, from thousandths.
pub(crate) fn weight(permille: u32) -> String {
    u16::try_from(permille).ok().and_then(Weight::of).unwrap_or(Weight::FULL).to_string()
}

/// JSON has no empty strings where there is nothing.
pub(crate) fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Milliseconds of a protobuf duration.
pub(crate) fn millis<T>(duration: Option<T>) -> Option<u64>
where
    Duration: TryFrom<T>,
{
    let duration = Duration::try_from(duration?).ok()?;
    u64::try_from(duration.as_millis()).ok()
}
