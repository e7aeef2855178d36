//! Texts with units: `500ms`, `1h30m`, `4MiB`.

use std::time::Duration;

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
pub(crate) const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";
/// What [`bytes`] reads, for a schema.
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+ *(B|kB|MB|GB|KiB|MiB|GiB)$";

/// One or several numbers, each with its unit: `ms`, `s`, `m`, `h`, `d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
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

/// One whole number with a unit, a space between them allowed.
pub(crate) fn bytes(text: &str) -> Option<u64> {
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
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (name, scale) =
        TIMES.iter().rev().find(|(_, scale)| ms >= *scale && ms.is_multiple_of(*scale)).unwrap_or(&TIMES[0]);
    format!("{}{name}", ms / scale)
}

pub(crate) fn show_bytes(bytes: u64) -> String {
    let (name, scale) =
        SIZES.iter().rev().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)).unwrap_or(&SIZES[0]);
    format!("{}{name}", bytes / scale)
}
