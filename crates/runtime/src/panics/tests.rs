//! The hook belongs to the whole process, so each test starts a process.

use std::{env, process::Command};

use super::*;

const PANICS: &str = "ONLY1MCP_TEST_PANICS";

#[test]
fn a_panic_is_one_line_without_escapes_and_without_the_text_that_was_cut() {
    if let Ok(how) = env::var(PANICS) {
        escape();
        match how.as_str() {
            "says" => panic!("{}", "\u{1b}[2Jhello\r\nWARN forged \u{202e}".to_owned() + &"x".repeat(5000)),
            "cuts" => drop(std::hint::black_box("hunter2-ü-hunter2")[..9].to_owned()),
            _ => drop(std::hint::black_box("hunter2")[..900].to_owned()),
        }
    }
    for (how, expected) in [("says", "\\u{1b}[2Jhello\\r\\nWARN forged \\u{202e}xxx"), ("cuts", "…"), ("leaves", "…")]
    {
        let name = "panics::tests::a_panic_is_one_line_without_escapes_and_without_the_text_that_was_cut";
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PANICS, how)
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        let line = said.lines().find(|line| line.contains("panicked at")).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(expected) && line.contains("panics/tests.rs:"), "{line}");
        assert!(line.ends_with('…') && line.len() < 1000, "{line}");
        assert!(!said.contains("hunter2") && !said.contains(['\u{1b}', '\r', '\u{202e}']), "{said}");
    }
}
