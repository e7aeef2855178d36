//! Whose id is taken, and for how long.

use std::time::Duration;

use mcp::ProtocolVersion;
use runtime::state_dir::Maker;

use super::*;

const IDLE: Duration = Duration::from_secs(100);

fn keys(lines: &[&str]) -> Keys {
    Keys::parse(&lines.iter().map(|byte| byte.repeat(32) + "\n").collect::<String>()).unwrap()
}

#[test]
fn an_id_says_what_was_sealed_and_nobody_else_can_make_one() {
    let ours = keys(&["01"]);
    let (id, text) = ours.seal(ProtocolVersion::V2025_06_18, 77, "anonymous", r#"{"name":"x"}"#);
    let expected = Sealed {
        id,
        version: ProtocolVersion::V2025_06_18,
        issued: 77,
        principal: "anonymous".into(),
        client_info: r#"{"name":"x"}"#.into(),
    };
    assert_eq!(ours.open(&text), Some(expected.clone()));
    assert_eq!(keys(&["02", "01"]).open(&text), Some(expected), "after a rotation");
    assert_eq!(keys(&["02"]).open(&text), None);
    for at in 0..text.len() {
        let mut forged = text.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(ours.open(std::str::from_utf8(&forged).unwrap()), None, "byte {at}");
    }
    for text in ["", "x", &"A".repeat(5000), "ä"] {
        assert_eq!(ours.open(text), None);
    }
}

#[test]
fn keys_that_are_none_are_named_by_line() {
    let check = |text: &str, expected: &str| assert_eq!(Keys::parse(text).unwrap_err().to_string(), expected);
    check("", "the session key file holds no key: expected 64 hexadecimal digits a line");
    check(
        &format!("{}\nxyz\n", "0".repeat(64)),
        "line 2 of the session key file is no key: expected 64 hexadecimal digits",
    );
}

#[test]
fn a_key_file_is_made_once_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.key");
    let load = |maker| Keys::load_or_create(&path, maker);
    let (_, text) = load(Maker::Us).unwrap().seal(ProtocolVersion::LATEST, 1, "a", "{}");
    assert!(load(Maker::Us).unwrap().open(&text).is_some());
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);

    // One that was left open is closed if it is ours, and refused if it is the operator's.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = load(Maker::Operator).unwrap_err();
    assert!(runtime::fault::chain(&refused).contains("run: chmod 600"), "{refused}");
    assert!(load(Maker::Us).unwrap().open(&text).is_some());
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_key_file_that_a_crash_cut_is_made_anew_and_any_other_is_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.key");
    for cut in ["", "0123456789abcdef"] {
        std::fs::write(&path, cut).unwrap();
        let refused = Keys::load_or_create(&path, Maker::Operator);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(refused.is_err());
        let refused = Keys::load_or_create(&path, Maker::Operator).unwrap_err().to_string();
        assert!(refused.contains("openssl rand -hex 32"), "{refused}");
        let (_, text) = Keys::load_or_create(&path, Maker::Us).unwrap().seal(ProtocolVersion::LATEST, 1, "a", "{}");
        assert!(Keys::load_or_create(&path, Maker::Us).unwrap().open(&text).is_some());
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("session.key.unreadable-2")).unwrap(), "0123456789abcdef");
    for (other, reason) in [("\n", "holds no key"), ("xyz\n", "line 1"), ("\u{fffd}", "line 1")] {
        std::fs::write(&path, other).unwrap();
        let refused = Keys::load_or_create(&path, Maker::Us).unwrap_err().to_string();
        assert!(refused.contains(reason) && refused.contains("remove it: a new key is made"), "{refused}");
    }
}

#[test]
fn an_ended_session_stays_dead_over_a_restart_until_it_would_have_expired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ended");
    let ours = keys(&["01"]);
    let (_, text) = ours.seal(ProtocolVersion::LATEST, 10, "a", "{}");
    let sealed = ours.open(&text).unwrap();
    let sessions = Sessions::open(&path, 10, IDLE).unwrap();
    sessions.begin(sealed.id, 10);
    assert!(sessions.touch(&sealed, 11, IDLE).is_some());
    sessions.end(sealed.id, 12).unwrap();
    assert!(sessions.touch(&sealed, 13, IDLE).is_none());
    assert!(Sessions::open(&path, 14, IDLE).unwrap().touch(&sealed, 14, IDLE).is_none(), "restarted");
    drop(Sessions::open(&path, 113, IDLE).unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "forgotten when the session would have expired");
}

#[test]
fn a_session_expires_by_idle_time_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ours = keys(&["01"]);
    let (_, text) = ours.seal(ProtocolVersion::LATEST, 10, "a", "{}");
    let sealed = ours.open(&text).unwrap();
    let sessions = Sessions::open(&dir.path().join("ended"), 10, IDLE).unwrap();
    sessions.begin(sealed.id, 10);
    for now in [110, 210, 310] {
        assert!(sessions.touch(&sealed, now, IDLE).is_some());
    }
    assert!(sessions.touch(&sealed, 411, IDLE).is_none());
}

#[test]
fn one_stream_is_told_once() {
    let known = Known::default();
    assert!(!known.to_be_told(5), "a client that never listed has nothing to list again");
    known.saw_list(4);
    assert!(known.to_be_told(5));
    assert!(!known.to_be_told(5));
    known.takes(1);
    assert!(known.claims(1) && !known.claims(2));
    known.takes(2);
    assert!(known.claims(2) && !known.claims(1), "the newest is told");
    assert!(known.to_be_told(5) && !known.to_be_told(5), "nobody knows whether the first was heard");
    known.saw_list(5);
    known.gives_up(1, 10);
    assert!(known.claims(2));
    known.gives_up(2, 10);
    assert!(known.claims(3), "what is open takes over");
    assert!(!known.to_be_told(5) && known.to_be_told(6));
}

#[test]
fn a_list_from_before_anything_was_live_is_a_list() {
    let known = Known::default();
    known.saw_list(0);
    assert!(!known.to_be_told(0));
    assert!(known.to_be_told(1));
}

#[test]
fn a_session_from_before_a_restart_is_told_that_its_list_may_be_old() {
    let dir = tempfile::tempdir().unwrap();
    let ours = keys(&["01"]);
    let (_, text) = ours.seal(ProtocolVersion::LATEST, 10, "a", "{}");
    let sealed = ours.open(&text).unwrap();
    let sessions = Sessions::open(&dir.path().join("ended"), 10, IDLE).unwrap();
    let known = sessions.touch(&sealed, 10, IDLE).unwrap();
    assert!(known.to_be_told(1));
    assert!(!known.to_be_told(1));
}

#[test]
fn a_session_with_an_open_stream_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let ours = keys(&["01"]);
    let (_, text) = ours.seal(ProtocolVersion::LATEST, 10, "a", "{}");
    let sealed = ours.open(&text).unwrap();
    let sessions = Sessions::open(&dir.path().join("ended"), 10, IDLE).unwrap();
    sessions.begin(sealed.id, 10);
    let known = sessions.touch(&sealed, 10, IDLE).unwrap();
    known.takes(1);
    sessions.expire(411, IDLE);
    assert!(sessions.touch(&sealed, 411, IDLE).is_some());
    known.gives_up(1, 500);
    assert!(sessions.touch(&sealed, 600, IDLE).is_some());
    assert!(sessions.touch(&sealed, 701, IDLE).is_none());
}
