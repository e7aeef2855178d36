//! Texts with units: `500ms`, `1h30m`, `4MiB`; for people, `1.5 s` and `2 tools`. Configuration, flags and variables are
//! written alike.

use std::{fmt::Display, time::Duration};

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// What [`duration`] reads, for a schema.
pub const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";
/// What [`bytes`] reads, for a schema.
pub const SIZE_PATTERN: &str = "^[0-9]+ *(B|kB|MB|GB|KiB|MiB|GiB)$";

/// One or several numbers, each with its unit: `ms`, `s`, `m`, `h`, `d`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = digits(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let scale = unit(&TIMES, &after[..end])?;
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = &after[end..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Of a flag or a variable: as [`duration`] reads it, or a bare number of seconds, whole or not.
///
/// # Errors
/// What was expected, for the command line to show.
pub fn duration_or_seconds(text: &str) -> Result<Duration, String> {
    let seconds = || Duration::try_from_secs_f64(text.parse().ok()?).ok();
    let expected = || format!("expected a duration with its unit, such as 500ms, 30s or 1h30m, not {text:?}");
    duration(text).or_else(seconds).ok_or_else(expected)
}

/// One whole number with a unit, a space between them allowed.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, after) = digits(text)?;
    number.checked_mul(unit(&SIZES, after.trim_start_matches(' '))?)
}

fn digits(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn unit(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, scale)| *scale)
}

/// The shortest exact spelling of a duration, as a reader would write it.
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (name, scale) =
        TIMES.iter().rev().find(|(_, scale)| ms >= *scale && ms.is_multiple_of(*scale)).unwrap_or(&TIMES[0]);
    format!("{}{name}", ms / scale)
}

/// `1 tool`, `2 tools`.
pub fn count<N: Display + From<u8> + PartialEq>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A duration for people: `850 ms`, `1.5 s`, `12 s`, `3 min`. What is left of a limit a moment after it began is shown
/// as that limit.
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.999 {
        return format!("{:.0} ms", (seconds * 1000.0).ceil());
    }
    let (number, unit) = match seconds {
        ..119.5 => (seconds, "s"),
        ..7170.0 => (seconds / 60.0, "min"),
        _ => (seconds / 3600.0, "h"),
    };
    let number = if number < 9.95 { (number * 10.0).round() / 10.0 } else { number.round() };
    format!("{number} {unit}")
}

/// As [`show_duration`] does for sizes.
pub fn show_bytes(bytes: u64) -> String {
    let (name, scale) =
        SIZES.iter().rev().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)).unwrap_or(&SIZES[0]);
    format!("{}{name}", bytes / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let words = [
            (0, "0 ms"),
            (250, "1 ms"),
            (4_300, "5 ms"),
            (199_500, "200 ms"),
            (998_400, "999 ms"),
            (999_400, "1 s"),
            (1_500_000, "1.5 s"),
            (4_999_700, "5 s"),
            (9_999_000, "10 s"),
            (29_600_000, "30 s"),
            (119_600_000, "2 min"),
            (150_000_000, "2.5 min"),
            (3_600_000_000, "60 min"),
            (7_200_000_000, "2 h"),
            (90_000_000_000, "25 h"),
        ];
        for (micros, expected) in words {
            assert_eq!(in_words(Duration::from_micros(micros)), expected, "{micros} µs");
        }
    }

    #[test]
    fn a_noun_agrees_with_its_number() {
        assert_eq!([0_u32, 1, 2].map(|number| count(number, "tool")), ["0 tools", "1 tool", "2 tools"]);
    }

    #[test]
    fn a_flag_says_a_time_as_the_configuration_does_or_in_seconds() {
        let millis = |text| duration_or_seconds(text).map(|duration| duration.as_millis()).ok();
        let good = [
            ("0", 0),
            ("5", 5000),
            ("0.25", 250),
            ("5s", 5000),
            ("500ms", 500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
        ];
        for (text, expected) in good {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", "-1", "s", "5x", "1.5s", "1h30", "inf", "nan", "1e30", "18446744073709551615h"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
