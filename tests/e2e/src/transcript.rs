//! Pages of `docs/` that show what was typed and what it said.
//!
//! Figures differ from run to run, so two pages are the same if they are so without figures. With `UPDATE_GOLDEN` set a
//! page is written anew.

use std::{env, fs};

use testkit::{Fault, Scratch, binaries, gateway::Cli};

/// Begins the line below the output of a command whose exit code is not 0.
const ENDS_WITH: &str = "(ends with ";

/// A command as it was typed, and what came of it.
#[derive(Debug)]
pub struct Typed {
    pub command: String,
    pub code: i32,
    pub output: String,
}

impl Typed {
    pub fn new(arguments: &[&str], said: &Cli) -> Self {
        let command = format!("only1mcp {}", arguments.join(" "));
        Self { command, code: said.code, output: format!("{}{}", said.stdout, said.stderr) }
    }

    /// As the page shows it, with what a reader sees in place of paths of this run.
    pub fn shown(&self, places: &[(String, &'static str)]) -> String {
        let Self { command, code, output } = self;
        let stable =
            |text: &str| places.iter().fold(text.to_owned(), |text, (place, shown)| text.replace(place, shown));
        let (command, output) = (stable(command), stable(output.trim_end()));
        let output: Vec<&str> = output.lines().map(str::trim_end).collect();
        let output = if output.is_empty() { String::new() } else { format!("{}\n", output.join("\n")) };
        let ended = if *code == 0 { String::new() } else { format!("{ENDS_WITH}{code})\n") };
        format!("\n```text\n$ {command}\n{output}{ended}```\n")
    }
}

/// Paths of this run, with what a reader sees in their place.
pub fn places(scratch: &Scratch) -> Result<Vec<(String, &'static str)>, Fault> {
    let programs = binaries::folder()?;
    Ok(vec![(scratch.path().display().to_string(), "/srv/only1mcp"), (programs.display().to_string(), "/usr/bin")])
}

/// The first line that is not as in the page of `docs/`, if any is not.
pub fn differs(page: &str, new: &str) -> Result<Option<String>, Fault> {
    let path = binaries::checkout().join("docs").join(page);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, new)?;
        return Ok(None);
    }
    let old = fs::read_to_string(&path).unwrap_or_default();
    let [old, new] = [&*old, new].map(|text| text.lines().map(masked).collect::<Vec<_>>());
    let longest = old.len().max(new.len());
    let line = |text: &[String], at: usize| text.get(at).cloned().unwrap_or_default();
    let first = (0..longest).find(|at| line(&old, *at) != line(&new, *at));
    Ok(first.map(|at| format!("line {}: `{}` is now `{}`", at + 1, line(&old, at), line(&new, at))))
}

/// A line without its figures: numbers with their units, digests and references, and the width of columns.
fn masked(line: &str) -> String {
    // An exit code says what a figure does not: whether all is well.
    if line.starts_with(ENDS_WITH) {
        return line.to_owned();
    }
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_end_matches([',', ')', ';', ':', '.']);
        let is_digest = bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit());
        match word {
            _ if is_digest => format!("DIGEST{}", &word[bare.len()..]),
            // States that pass: a server that was not asked yet, a file that was written a moment ago.
            "unknown" => "healthy".to_owned(),
            "settling" => "following".to_owned(),
            "now" => "# TIME ago".to_owned(),
            // `<1 s` is a figure as well.
            _ => without_numbers(word).replace("<#", "#"),
        }
    });
    let words = words.collect::<Vec<_>>().join(" ");
    ["ms", "s", "min", "h"].iter().fold(words, |text, unit| replace_unit(&text, unit))
}

/// `1.5s,` is `#s,`.
fn without_numbers(word: &str) -> String {
    let mut shown = String::new();
    for part in word.split_inclusive(|c: char| !(c.is_ascii_digit() || c == '.')) {
        let number = part.trim_end_matches(|c: char| !(c.is_ascii_digit() || c == '.'));
        let is_number = number.starts_with(|c: char| c.is_ascii_digit());
        shown.push_str(if is_number { "#" } else { number });
        shown.push_str(&part[number.len()..]);
    }
    shown
}

fn replace_unit(text: &str, unit: &str) -> String {
    let words = text.split(' ').collect::<Vec<_>>();
    let mut shown: Vec<String> = Vec::new();
    for word in words {
        let bare = word.trim_end_matches([',', ')', ';', ':', '.']);
        let follows_number = shown.last().is_some_and(|last| last.ends_with('#'));
        if bare == unit && follows_number {
            shown.push(format!("TIME{}", &word[bare.len()..]));
        } else {
            shown.push(word.to_owned());
        }
    }
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn figures_do_not_count_and_words_do() {
        for (one, other) in [
            (
                "crm   local  failing (3 restarts, next try in 1.5 s)",
                "crm local failing (12 restarts, next try in 850 ms)",
            ),
            ("notes local healthy <1 s", "notes local healthy 12 s"),
            ("listens at 127.0.0.1:8080", "listens at 127.0.0.1:41234"),
            ("digest 0123456789ab; what", "digest ffffffffffff; what"),
            ("(reference 30bc18f5);", "(reference e0d1fbeb);"),
            ("2026-11-30T18:00:00.123Z", "2026-12-01T09:10:11.001Z"),
            ("20:02:51, now  applied", "20:02:52, 1 s ago  applied"),
        ] {
            assert_eq!(masked(one), masked(other));
        }
        assert_ne!(masked("crm is failing"), masked("crm is starting"));
        assert_ne!(masked("(ends with 1)"), masked("(ends with 69)"));
    }
}
