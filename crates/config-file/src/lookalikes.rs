//! Letters that look like signs, such as typographic quotes. Where a text is wrong they are named, because an editor
//! shows no difference.

use model::{Position, Violation, lookalike};

use crate::Source;

/// Adds to each violation which such letter stands in its line, or, where a parser stopped, in the line before.
pub(crate) fn name(violations: &mut [Violation], sources: &[Source]) {
    for source in sources.iter().filter(|source| !source.text.is_ascii()) {
        let lines: Vec<&str> = source.text.trim_start_matches('\u{feff}').lines().collect();
        for violation in violations.iter_mut() {
            let Some(at) = violation.at.as_ref().filter(|at| at.file == source.name) else { continue };
            // What the parser takes for the rest of a value may go on in the next line.
            let first = if violation.path.is_empty() { at.line.saturating_sub(1).max(1) } else { at.line };
            let found = (first..=at.line).find_map(|line| in_line(&lines, at, line));
            if let Some((at, letter, meant)) = found {
                let Position { line, column, .. } = at;
                violation.message.push_str(&format!("; at {line}:{column} stands {letter}: write {meant}"));
            }
        }
    }
}

fn in_line(lines: &[&str], near: &Position, line: u32) -> Option<(Position, String, &'static str)> {
    let text = lines.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let without_comment = text.split(" #").next().unwrap_or_default();
    let (column, (letter, meant)) =
        (1..).zip(without_comment.chars()).find_map(|(column, letter)| Some((column, lookalike(letter)?)))?;
    Some((Position { line, column, ..near.clone() }, letter, meant))
}
