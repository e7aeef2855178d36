//! The demo's file belongs to the user once it is there.

use std::fs;

use super::{configuration, write_configuration};

const OLD: &str = "http://127.0.0.1:1111/mcp";
const NEW: &str = "http://127.0.0.1:2222/mcp";

#[test]
fn a_file_of_an_earlier_start_is_kept_but_for_the_address_that_moved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("only1mcp.yaml");
    let check = |present: Option<&str>, before: &str, expected: &str| {
        drop(fs::remove_file(&path));
        if let Some(text) = present {
            fs::write(&path, text).expect("it can be written");
        }
        write_configuration(&path, before, NEW).expect("it can be written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), expected);
    };
    check(None, "", &configuration(NEW));
    check(Some("servers: [] # mine\n"), "", "servers: [] # mine\n");
    check(Some("servers: [] # mine\n"), OLD, "servers: [] # mine\n");
    check(Some(&format!("# mine\nurl: {OLD}\n")), OLD, &format!("# mine\nurl: {NEW}\n"));
}

#[test]
fn the_file_is_a_configuration() {
    let source = config_file::Source {
        owner: model::Owner::file(),
        name: "demo".into(),
        format: config_file::Format::Yaml,
        text: configuration(NEW),
    };
    let snapshot = config_file::parse(&[source]).expect("it is valid");
    assert_eq!(snapshot.backends.len(), 3);
}
