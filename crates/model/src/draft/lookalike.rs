//! Letters that editors, chats and web pages put in the place of a sign, and that look like it. They are letters like
//! any other for every parser.

/// The letter, its name, and what was most likely meant.
const LOOKALIKES: [(char, &str, &str); 19] = [
    ('\u{a0}', "no-break space", "a space"),
    ('\u{ab}', "left-pointing double angle quotation mark", "`\"`"),
    ('\u{bb}', "right-pointing double angle quotation mark", "`\"`"),
    ('\u{2007}', "figure space", "a space"),
    ('\u{200b}', "zero width space", "nothing"),
    ('\u{2013}', "en dash", "`-`"),
    ('\u{2014}', "em dash", "`-`"),
    ('\u{2018}', "left single quotation mark", "`'`"),
    ('\u{2019}', "right single quotation mark", "`'`"),
    ('\u{201a}', "single low-9 quotation mark", "`'`"),
    ('\u{201c}', "left double quotation mark", "`\"`"),
    ('\u{201d}', "right double quotation mark", "`\"`"),
    ('\u{201e}', "double low-9 quotation mark", "`\"`"),
    ('\u{201f}', "double high-reversed-9 quotation mark", "`\"`"),
    ('\u{202f}', "narrow no-break space", "a space"),
    ('\u{2212}', "minus sign", "`-`"),
    ('\u{3000}', "ideographic space", "a space"),
    ('\u{feff}', "zero width no-break space", "nothing"),
    ('\u{ff1a}', "fullwidth colon", "`:`"),
];

/// The name of a letter that looks like a sign, and the sign: `U+201C (left double quotation mark)` and `` `"` ``.
pub fn lookalike(letter: char) -> Option<(String, &'static str)> {
    let at = LOOKALIKES.binary_search_by_key(&letter, |(letter, ..)| *letter).ok()?;
    let (_, name, meant) = LOOKALIKES[at];
    Some((format!("U+{:04X} ({name})", u32::from(letter)), meant))
}

/// Advice on a text for a program or a server that has one where a sign was most likely meant: at its ends, or
/// where the letter has no visible form.
pub(super) fn advice(text: &str) -> Option<String> {
    let ends = [text.chars().next(), text.chars().next_back()];
    let unseen = text.chars().find(|letter| lookalike(*letter).is_some_and(|(_, meant)| !meant.starts_with('`')));
    let (name, meant) = unseen.into_iter().chain(ends.into_iter().flatten()).find_map(lookalike)?;
    Some(format!("{name} is taken here as it is: write {meant} if that is meant"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_found() {
        assert!(LOOKALIKES.is_sorted());
        assert!(LOOKALIKES.iter().all(|(letter, ..)| lookalike(*letter).is_some()));
        assert_eq!(lookalike('"'), None);
    }

    #[test]
    fn what_was_meant_is_told_where_it_is_no_part_of_a_text() {
        for (text, expected) in [
            ("\u{201c}npx\u{201d}", "U+201C (left double quotation mark) is taken here as it is: write `\"`"),
            ("\u{2013}y", "U+2013 (en dash)"),
            ("npx\u{a0}-y", "U+00A0 (no-break space) is taken here as it is: write a space"),
            ("https://h/\u{200b}mcp", "U+200B (zero width space) is taken here as it is: write nothing"),
        ] {
            assert!(advice(text).is_some_and(|advice| advice.starts_with(expected)), "{text}: {:?}", advice(text));
        }
        for text in ["", "npx", "it\u{2019}s", "a \u{2013} b", "caf\u{e9}"] {
            assert_eq!(advice(text), None, "{text}");
        }
    }
}
