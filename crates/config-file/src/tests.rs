//! The golden files, and what holds for all files.

mod golden;
mod properties;

use std::fs;

use model::{Owner, Violation};

use crate::{MAX_BYTES, Source, parse, read};

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, content: Option<&[u8]>, expected: &str| {
        let path = dir.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let violation = Violation::from(read(&path).unwrap_err());
        assert_eq!(violation.to_string(), format!("{}: {expected}", path.display()));
    };
    check("none.yaml", None, "there is no such file");
    check("", None, "is a directory; expected a file");
    check("latin.yaml", Some(b"a: b\nname: caf\xe9\n"), "not UTF-8 at byte 14 (line 2)");
    let large = usize::try_from(MAX_BYTES).unwrap() + 1;
    check("large.yaml", Some(&vec![b' '; large]), "larger than 16777216 bytes");
    check("large.yaml/x", None, "cannot be opened: Not a directory (os error 20)");
    let loop_ = dir.path().join("loop");
    std::os::unix::fs::symlink(&loop_, &loop_).unwrap();
    assert!(read(&loop_).unwrap_err().to_string().contains("cannot be opened"));
}

#[test]
fn a_layer_that_is_too_large_is_refused_unread() {
    let text = " ".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
    let violations = parse(&[Source { owner: Owner::api("ops"), name: "api:ops".into(), text }]).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert!(violations[0].to_string().starts_with("api:ops:1:1: the text has 16777217 bytes"));
}

#[test]
fn a_text_that_is_no_configuration_at_all_has_a_bounded_answer() {
    let judge = |text: String| {
        parse(&[Source { owner: Owner::file(), name: "f".into(), text }])
            .unwrap_err()
            .into_iter()
            .map(|v| v.to_string())
            .collect::<Vec<_>>()
    };
    let lines: String = (0..5000).map(|i| format!("line {i}: x\n")).collect();
    let listed = judge(lines);
    assert_eq!(listed.len(), 1001);
    assert_eq!(listed[1000], "f:999:1: 4001 more violations are not listed");
    let servers = format!("servers:\n{}", "- {}\n".repeat(10_001));
    assert_eq!(judge(servers), ["f:2:3: servers: 10001 servers; expected at most 10000"]);
}

#[test]
fn layers_are_merged_in_the_order_of_their_owners() {
    let layer = |owner: Owner, id: &str| {
        let name = owner.0.as_str().into();
        let text = format!("servers: [{{ id: {id}, transport: {{ type: stdio, command: x }} }}]");
        Source { owner, name, text }
    };
    let sources = [layer(Owner::api("b"), "third"), layer(Owner::api("a"), "second"), layer(Owner::file(), "first")];
    let snapshot = parse(&sources).unwrap();
    let ids: Vec<&str> = snapshot.backends.iter().map(|backend| backend.id.as_str()).collect();
    assert_eq!(ids, ["first", "second", "third"]);
}

/// The reference names every key there is, and its example is a configuration.
#[test]
fn the_reference_is_complete_and_its_example_works() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let server = crate::server::KEYS.iter().map(|key| format!("servers[].{key}"));
    let transport = crate::server::STDIO.iter().chain(&crate::server::HTTP).chain(&["type"]);
    let keys = crate::policy::POLICY.iter().map(|key| key.path.to_owned());
    let drain = crate::policy::SERVER_DRAIN.iter().map(|key| format!("servers[].drain.{}", key.path));
    for key in keys.chain(server).chain(drain).chain(transport.map(|key| format!("transport.{key}"))) {
        assert!(text.contains(&format!("`{key}`")), "{key} is not in the reference");
    }
    let example = text.split("```yaml\n").last().unwrap().split("```").next().unwrap().to_owned();
    parse(&[Source { owner: Owner::file(), name: "example".into(), text: example }]).unwrap();
}
