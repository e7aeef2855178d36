//! Numbers as people type them, or what was expected.

use std::time::Duration;

use model::units::duration_or_seconds;

pub(super) fn revision(text: &str) -> Result<u64, String> {
    let expected = || "expected the number of a revision, from 1 on; `only1mcp history` lists them".to_owned();
    text.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(expected)
}

/// A revision, or 0 for any.
pub(super) fn base(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { revision(text) }
}

pub(super) fn at_least_one(text: &str) -> Result<u32, String> {
    text.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(|| "expected a number, at least 1".to_owned())
}

/// How long calls may run on.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration_or_seconds(text)?;
    let is_some = !time.is_zero();
    is_some
        .then_some(time)
        .ok_or_else(|| "no time is left to the calls: say `--strategy immediate` for that".to_owned())
}

/// Between two steps: as drain-coordinator takes it.
pub(super) fn step_time(text: &str) -> Result<Duration, String> {
    let time = duration_or_seconds(text)?;
    let is_right = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&time);
    is_right.then_some(time).ok_or_else(|| "expected a time from 100ms to 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_none_is_refused() {
        assert_eq!((some_time("1ms"), some_time("5")), (Ok(Duration::from_millis(1)), Ok(Duration::from_secs(5))));
        for text in ["0", "0s", "0ms"] {
            assert!(some_time(text).is_err_and(|said| said.contains("--strategy immediate")), "{text}");
        }
        assert!(some_time("-5s").is_err() && some_time("soon").is_err(), "nor is one in the past a time");
        assert_eq!(
            (step_time("100ms"), step_time("1h")),
            (Ok(Duration::from_millis(100)), Ok(Duration::from_secs(3600)))
        );
        for text in ["0s", "99ms", "61m"] {
            assert_eq!(step_time(text), Err("expected a time from 100ms to 1h".to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_of_a_revision_is_told_what_is_expected() {
        assert_eq!((revision("41"), base("0"), base("3"), at_least_one("1")), (Ok(41), Ok(0), Ok(3), Ok(1)));
        for text in ["abc", "0", "-1", "1.5", ""] {
            assert!(revision(text).is_err_and(|said| said.starts_with("expected the number of a revision")), "{text}");
            assert_eq!(at_least_one(text), Err("expected a number, at least 1".to_owned()), "{text}");
        }
    }
}
