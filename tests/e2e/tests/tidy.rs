//! What the project asks of its sources beyond what the compiler and its lints can check.

use std::path::Path;

use e2e::{
    short,
    sources::{self, listed},
};
use testkit::Fault;

/// Words that name a doer rather than the thing itself.
const DOERS: [&str; 5] = ["Manager", "Handler", "Helper", "Util", "Common"];
/// The name of the service, which users know.
const ALLOWED: [&str; 1] = ["ConfigManager"];
const FILES_BANNED: [&str; 8] = ["mod", "util", "utils", "helper", "helpers", "common", "misc", "types"];

#[test]
fn every_file_says_what_it_is_for() -> Result<(), Fault> {
    check(".rs", |path, text| {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        (!first.starts_with("//!")).then(|| format!("{path} does not begin with `//!`"))
    })
}

#[test]
fn no_file_and_no_function_is_too_long() -> Result<(), Fault> {
    short(sources::run)
}

#[test]
fn names_say_what_things_are() -> Result<(), Fault> {
    check(".rs", |path, text| {
        let stem = Path::new(path).file_stem()?.to_str()?;
        if FILES_BANNED.contains(&stem) {
            return Some(format!("{path}: a file of that name says nothing"));
        }
        text.lines().find_map(|line| {
            let mut words = line.trim().trim_start_matches("pub").split([' ', '<', '(', '{', ';', ':']);
            let kind =
                words.find(|word| !word.is_empty() && !matches!(*word, "crate)" | "super)" | "crate" | "super"))?;
            let name = words.next()?;
            let named = matches!(kind, "struct" | "enum" | "trait") && !ALLOWED.contains(&name);
            let doer = DOERS.iter().find(|doer| named && name.ends_with(*doer))?;
            Some(format!("{path}: `{name}` is named a {doer}"))
        })
    })
}

#[test]
fn nothing_is_left_over() -> Result<(), Fault> {
    // In pieces, so that this file does not accuse itself.
    let marks = ["FIX", "XX", "TO", "HA"].iter().zip(["ME", "X:", "DO:", "CK:"]);
    let mut banned: Vec<String> = marks.map(|(start, end)| format!("{start}{end}")).collect();
    banned.extend(
        ["#[ign", "todo", "unimplemented", "dbg"].iter().zip(["ore", "!(", "!(", "!("]).map(|(a, b)| format!("{a}{b}")),
    );
    check(".rs", |path, text| {
        let found = banned.iter().find(|mark| text.contains(mark.as_str()))?;
        Some(format!("{path} contains `{found}`"))
    })
}

#[test]
fn no_file_knows_one_machine() -> Result<(), Fault> {
    // Home directories, and this very checkout, unless its path is so short that it could be anything.
    let mut places = vec!["/home/".to_owned(), "/root/".to_owned(), "/Users/".to_owned()];
    let checkout = testkit::binaries::checkout();
    places.extend((checkout.components().count() > 2).then(|| checkout.display().to_string()));
    check("", |path, text| {
        let own = path.ends_with("tests/tidy.rs");
        let found = places.iter().find(|place| !own && text.contains(place.as_str()))?;
        Some(format!("{path} contains {found}"))
    })
}

#[test]
fn every_protocol_message_is_explained() -> Result<(), Fault> {
    check(".proto", |path, text| {
        let lines: Vec<&str> = text.lines().collect();
        let explained = |line: usize| line > 0 && lines[line - 1].trim_start().starts_with("//");
        let service = lines.iter().position(|line| line.starts_with("service "));
        let header = lines.iter().take_while(|line| !line.starts_with("import")).any(|line| line.starts_with("//"));
        let enums = lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("enum "));
        let zero = |at: usize| {
            lines
                .iter()
                .skip(at + 1)
                .find(|line| line.contains('='))
                .is_some_and(|line| line.contains("UNSPECIFIED = 0"))
        };
        if !header && !service.is_some_and(explained) {
            return Some(format!("{path} does not say what it is for"));
        }
        enums
            .filter(|(at, _)| !zero(*at))
            .map(|(_, line)| format!("{path}: {} has no UNSPECIFIED = 0", line.trim()))
            .next()
    })
}

/// Applies `wrong` to every file of the repository whose name ends with `suffix`, and shows all that it finds.
fn check(suffix: &str, wrong: impl Fn(&str, &str) -> Option<String>) -> Result<(), Fault> {
    let files = listed(suffix)?;
    let found: Vec<String> = files.iter().filter_map(|(path, text)| wrong(path, text)).collect();
    assert!(!files.is_empty(), "no file *{suffix} was looked at");
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), files.len(), found.join("\n"));
    Ok(())
}
