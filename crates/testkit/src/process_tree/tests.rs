//! Odd process names, and our own children.

use std::process::{Command, Stdio};

use super::{descendants, parse};

#[test]
fn a_name_may_hold_brackets_and_blanks() {
    let process = parse(7, "7 (a) b (c) S 1 7 7 0").unwrap();
    assert_eq!((process.name.as_str(), process.state, process.parent), ("a) b (c", 'S', 1));
}

#[test]
fn grandchildren_are_found() {
    let mut shell = Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped()).spawn().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let name = |name: &'static str| move || descendants(own).iter().any(|process| process.name == name);
    crate::wait::until_true("the grandchild", std::time::Duration::from_secs(5), name("cat")).unwrap();
    drop(shell.stdin.take());
    assert!(shell.wait().unwrap().success());
    assert!(!name("cat")());
}
