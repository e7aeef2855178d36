//! Numbers as people type them, or what was expected.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_a_revision_is_told_what_is_expected() {
        assert_eq!((revision("41"), base("0"), base("3"), at_least_one("1")), (Ok(41), Ok(0), Ok(3), Ok(1)));
        for text in ["abc", "0", "-1", "1.5", ""] {
            assert!(revision(text).is_err_and(|said| said.starts_with("expected the number of a revision")), "{text}");
            assert_eq!(at_least_one(text), Err("expected a number, at least 1".to_owned()), "{text}");
        }
    }
}
