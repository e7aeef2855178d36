//! How much Rust there is; no file and no function is longer than fits in one head.

use std::{collections::BTreeMap, fs, process::Command};

use testkit::{Fault, binaries, fault};

use crate::{Figures, Size};

/// Before the second cut.
const LINES_BEFORE: usize = 95_794;
const FILE_MAX: usize = 500;
const FUNCTION_MAX: usize = 70;

/// The short form judges no total.
pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (mut crates, mut files, mut functions) = (BTreeMap::<String, usize>::new(), Vec::new(), Vec::new());
    for (path, text) in listed(".rs")? {
        let lines = text.lines().count();
        // `crates/NAME/…`, `tests/e2e/…`.
        *crates.entry(path.split('/').nth(1).unwrap_or_default().to_owned()).or_default() += lines;
        if lines > FILE_MAX {
            files.push(format!("{path} has {lines} lines"));
        }
        functions.extend(too_long(&text).map(|(line, length)| format!("{path}:{line} has {length} lines")));
    }
    let total: usize = crates.values().sum();
    let by_crate: Vec<_> = crates.iter().map(|(name, lines)| format!("{name}:{lines}")).collect();
    figures.note("lines_by_crate", by_crate.join(","));
    let wanted = format!("fewer than {LINES_BEFORE}");
    figures.demand("lines", total, &wanted, size == Size::Short || total < LINES_BEFORE);
    figures.none("files_too_long", files);
    figures.none("functions_too_long", functions);
    Ok(figures)
}

/// The text of every file of the repository whose name ends with `suffix`, by its path: files not committed yet, too,
/// except those that git ignores.
pub fn listed(suffix: &str) -> Result<Vec<(String, String)>, Fault> {
    let checkout = binaries::checkout();
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(&checkout);
    let listed = git.output()?;
    if !listed.status.success() {
        return Err(fault(String::from_utf8_lossy(&listed.stderr)));
    }
    let listed = String::from_utf8(listed.stdout)?;
    let paths = listed.lines().filter(|path| path.ends_with(suffix));
    // One that was deleted, or that is no text, is no source.
    let read = |path: &str| Some((path.to_owned(), fs::read_to_string(checkout.join(path)).ok()?));
    Ok(paths.filter_map(read).collect())
}

/// Functions that are too long: the line on which each begins, and the lines of its body, of which blank ones and
/// comments do not count. As the text is formatted, a body ends with the first brace that is as far to the left as the
/// signature began.
fn too_long(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let length = |at: usize| {
        let indent = lines[at].len() - lines[at].trim_start().len();
        let signature = lines[at..].iter().position(|line| line.ends_with(['{', ';', '}']))?;
        if !lines[at + signature].ends_with('{') {
            return None;
        }
        let end = format!("{:indent$}}}", "");
        let body = lines[at + signature + 1..].iter().take_while(|line| **line != end).map(|line| line.trim());
        Some(body.filter(|line| !line.is_empty() && !line.starts_with("//")).count())
    };
    let functions = lines.iter().enumerate().filter(|(_, line)| begins_function(line)).map(|(at, _)| at);
    let long: Vec<_> = functions.filter_map(|at| Some((at + 1, length(at)?))).collect();
    long.into_iter().filter(|(_, length)| *length > FUNCTION_MAX)
}

fn begins_function(line: &str) -> bool {
    let words = line.split_whitespace().take_while(|word| *word != "fn");
    let before = words.clone().count();
    let known =
        |word: &str| word.starts_with("pub") || word.ends_with(')') || ["const", "async", "unsafe"].contains(&word);
    line.split_whitespace().nth(before) == Some("fn") && words.into_iter().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_code_in_a_body_count() {
        let body = |lines: usize| "        call();\n\n        // Why.\n".repeat(lines);
        let text = |lines| {
            format!(
                "trait T {{\n    fn a();\n    pub(in crate::b) fn c(\n        &self,\n    ) {{\n{}    }}\n}}\n",
                body(lines)
            )
        };
        assert_eq!(too_long(&text(FUNCTION_MAX)).count(), 0);
        assert_eq!(too_long(&text(FUNCTION_MAX + 1)).collect::<Vec<_>>(), [(3, FUNCTION_MAX + 1)]);
    }
}
