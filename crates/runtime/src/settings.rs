//! How values of flags and variables are written, the same in every program.

use std::time::Duration;

/// A time with its unit, as `500ms`, `30s`, `5m` or `2h`; a bare number is one of seconds.
///
/// # Errors
/// What was expected, for the command line to show.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a number with its unit, as 500ms, 30s, 5m or 2h, not {text:?}");
    let split = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    if unit.is_empty() {
        let seconds = number.parse().map_err(|_| expected())?;
        return Duration::try_from_secs_f64(seconds).map_err(|_| expected());
    }
    let number: u64 = number.parse().map_err(|_| expected())?;
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::{Duration, duration};

    #[test]
    fn a_bare_number_is_one_of_seconds() {
        let millis = |text| duration(text).map(|duration| duration.as_millis()).ok();
        let good =
            [("0", 0), ("5", 5000), ("0.25", 250), ("5s", 5000), ("500ms", 500), ("5m", 300_000), ("2h", 7_200_000)];
        for (text, expected) in good {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", "-1", "s", "5x", "1.5s", "1h30m", "inf", "nan", "1e30", "18446744073709551615h"] {
            assert_eq!(duration(text).ok(), None::<Duration>, "{text}");
        }
    }
}
