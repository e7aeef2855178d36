//! Modes that are made, repaired and refused; files that are no files; and what is set aside.

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn made(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_made_is_private_whatever_its_directory_is() {
    let base = tempfile::tempdir().unwrap();
    fs::set_permissions(base.path(), Permissions::from_mode(0o755)).unwrap();
    let [written, created, opened] = ["written", "created", "opened"].map(|name| base.path().join(name));
    made(&written, "old", 0o644);
    write_private(&written, b"new").unwrap();
    assert!(create_private_file(&created, b"new").unwrap());
    assert!(!create_private_file(&created, b"newer").unwrap());
    drop(open_private(&opened).unwrap());
    for path in [&written, &created, &opened] {
        assert_eq!(mode(path), 0o600, "{path:?}");
    }
    assert_eq!(read_private(&created, Maker::Us, 3).unwrap().unwrap(), b"new");
}

#[test]
fn a_file_of_ours_that_others_may_read_is_closed_to_them() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("state");
    for wide in [0o644, 0o660, 0o606, 0o777] {
        made(&path, "state", wide);
        assert_eq!(read_private(&path, Maker::Us, 100).unwrap().unwrap(), b"state");
        assert_eq!(mode(&path), 0o600, "{wide:o}, read");
        made(&path, "state", wide);
        let file = open_private(&path).unwrap();
        assert_eq!((mode(&path), file.metadata().unwrap().len()), (0o600, 5), "{wide:o}, opened");
    }
}

#[test]
fn a_file_of_the_operator_is_refused_when_everyone_may_read_it_and_never_changed() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("secret");
    for (given, taken) in [(0o600, true), (0o400, true), (0o440, true), (0o644, false), (0o602, false), (0o601, false)]
    {
        made(&path, "secret", given);
        match read_private(&path, Maker::Operator, 100) {
            Ok(content) => assert!(taken && content.unwrap() == b"secret", "{given:o}"),
            Err(error) => assert!(!taken && error.to_string().contains("run: chmod 600 /"), "{given:o}: {error}"),
        }
        assert_eq!(mode(&path), given);
    }
}

#[test]
fn what_is_missing_too_long_or_no_file_is_told_apart() {
    let base = tempfile::tempdir().unwrap();
    assert!(read_private(&base.path().join("none"), Maker::Us, 100).unwrap().is_none());
    let refused = read_private(base.path(), Maker::Us, 100).unwrap_err();
    assert!(matches!(refused, PrivateFileError::NotRegular { .. }), "{refused}");
    let pipe = base.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for refused in [read_private(&pipe, Maker::Operator, 100).unwrap_err(), open_private(&pipe).unwrap_err()] {
        assert!(matches!(refused, PrivateFileError::NotRegular { .. }), "{refused}");
    }
    let long = base.path().join("long");
    write_private(&long, b"12345").unwrap();
    let refused = read_private(&long, Maker::Us, 4).unwrap_err();
    assert!(refused.to_string().ends_with("holds more than 4 bytes"), "{refused}");
}

#[test]
fn what_is_set_aside_is_kept_beside_all_that_was_set_aside_before() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("drains.json");
    for (content, expected) in [("1", "drains.json.unreadable"), ("2", "drains.json.unreadable-2")] {
        write_private(&path, content.as_bytes()).unwrap();
        let aside = set_aside(&path).unwrap();
        assert_eq!(
            (aside.file_name().unwrap().to_str().unwrap(), fs::read_to_string(&aside).unwrap()),
            (expected, content.to_owned())
        );
        assert!(!path.exists());
    }
    set_aside(&path).unwrap_err();
}
