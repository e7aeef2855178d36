//! Text for people: tables, counts, durations, times, violations.

mod lines;

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use model::{Weight, units::in_words};
use runtime::Clock;
use serde_json::{Value, json};
use wire::pb::{config::v1::NodeRefusal, words::v1 as pb};

pub(crate) use lines::{Lines, columns, table};
pub(crate) use model::units::count;

/// The first of them, and how many more there are: `a, b, c and 2 more`.
pub(crate) fn first_of<N: AsRef<str>>(names: &[N], most: usize) -> String {
    let named = names.iter().take(most).map(N::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// `: it did not answer`, behind what that explains; nothing without a reason.
pub(crate) fn because(reason: &str) -> String {
    some(reason).map_or_else(String::new, |reason| format!(": {reason}"))
}

/// How long something took: `0.85 ms`, `850 ms`, `1.5 s`, `12 s`, `3 min`.
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

/// For how long something has been so, in whole units: `<1 s`, `9 s`, `3 min`, `2 h 5 min`, `4 days`.
pub(crate) fn age(age: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match age.as_secs() {
        0 => "<1 s".to_owned(),
        seconds if seconds < 2 * MINUTE => format!("{seconds} s"),
        seconds if seconds < 2 * HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => match seconds % HOUR / MINUTE {
            0 => format!("{} h", seconds / HOUR),
            minutes => format!("{} h {minutes} min", seconds / HOUR),
        },
        seconds => format!("{} days", seconds / DAY),
    }
}

/// How much of a limit is left: `28 s`.
pub(crate) fn left<T>(left: Option<T>) -> String
where
    Duration: TryFrom<T>,
{
    in_words(span(left).unwrap_or_default())
}

/// `; will be tried again in 8 s`.
pub(crate) fn next_try<T>(left: Option<T>) -> String
where
    Duration: TryFrom<T>,
{
    span(left).map_or_else(String::new, |left| format!("; will be tried again in {}", in_words(left)))
}

/// RFC 3339 in UTC, of milliseconds since 1970: for programs.
pub(crate) fn time(unix_ms: u64) -> String {
    timestamp(unix_ms).map_or_else(|| unix_ms.to_string(), |timestamp| format!("{timestamp:.3}"))
}

fn timestamp(unix_ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()
}

/// What the time is where people read: their zone, and when it is now.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    zone: TimeZone,
    now_unix_ms: u64,
}

impl Reading {
    pub(crate) fn now() -> Self {
        Self { zone: TimeZone::system(), now_unix_ms: Clock::start().unix_millis() }
    }

    #[cfg(test)]
    pub(crate) fn at(zone: TimeZone, now_unix_ms: u64) -> Self {
        Self { zone, now_unix_ms }
    }

    /// What the time is.
    pub(crate) fn here(&self) -> String {
        self.clock(self.now_unix_ms)
    }

    /// `14:03:22`, and with the date if that is not today.
    pub(crate) fn clock(&self, unix_ms: u64) -> String {
        let Some((then, now)) = timestamp(unix_ms).zip(timestamp(self.now_unix_ms)) else { return unix_ms.to_string() };
        let (then, now) = (then.to_zoned(self.zone.clone()), now.to_zoned(self.zone.clone()));
        let form = if then.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        then.strftime(form).to_string()
    }

    /// `3 min ago`.
    fn ago(&self, unix_ms: u64) -> String {
        let past = Duration::from_millis(self.now_unix_ms.saturating_sub(unix_ms));
        if past.as_secs() == 0 { "now".to_owned() } else { format!("{} ago", age(past)) }
    }

    /// `14:03:22, 3 min ago`.
    pub(crate) fn when(&self, unix_ms: u64) -> String {
        format!("{}, {}", self.clock(unix_ms), self.ago(unix_ms))
    }
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

/// Who refused, if it was a router, and why.
pub(crate) fn refusal(refusal: &NodeRefusal) -> String {
    some(&refusal.node).map_or_else(|| refusal.reason.clone(), |node| format!("{node}: {}", refusal.reason))
}

/// A protobuf duration, which is not negative.
pub(crate) fn span<T>(duration: Option<T>) -> Option<Duration>
where
    Duration: TryFrom<T>,
{
    Duration::try_from(duration?).ok()
}

/// Its milliseconds.
pub(crate) fn millis<T>(duration: Option<T>) -> Option<u64>
where
    Duration: TryFrom<T>,
{
    u64::try_from(span(duration)?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_whole_units() {
        let age = |millis| age(Duration::from_millis(millis));
        assert_eq!([0, 999, 1000, 9030, 119_999].map(age), ["<1 s", "<1 s", "1 s", "9 s", "119 s"]);
        let minutes = [2, 119, 120, 125, 47 * 60 + 59, 48 * 60].map(|minutes| age(minutes * 60_000));
        assert_eq!(minutes, ["2 min", "119 min", "2 h", "2 h 5 min", "47 h 59 min", "2 days"]);
    }

    #[test]
    fn times_are_local_and_have_an_age() {
        let now = 1_764_082_800_000; // 2025-11-25T15:00:00Z
        let reading = Reading::at(TimeZone::fixed(jiff::tz::offset(2)), now);
        for (ago_s, expected) in [
            (0, "17:00:00, now"),
            (59, "16:59:01, 59 s ago"),
            (180, "16:57:00, 3 min ago"),
            (3 * 3600, "14:00:00, 3 h ago"),
            (7500, "14:55:00, 2 h 5 min ago"),
            (18 * 3600, "2025-11-24 23:00:00, 18 h ago"),
            (100 * 3600, "2025-11-21 13:00:00, 4 days ago"),
        ] {
            assert_eq!(reading.when(now - ago_s * 1000), expected);
        }
        assert_eq!(reading.when(now + 5000), "17:00:05, now", "the clocks of two machines differ");
        assert_eq!(time(now), "2025-11-25T15:00:00.000Z");
        assert_eq!(reading.clock(u64::MAX), u64::MAX.to_string());
    }
}
