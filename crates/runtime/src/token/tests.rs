//! Token files that are made, found and refused.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

#[test]
fn created_once_private_and_never_shown() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("state/token");
    let token = AdminToken::load_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(token.reveal().len(), 64);
    let again = AdminToken::load_or_create(&path).unwrap();
    assert!(again.matches(token.reveal().as_bytes()));
    assert!(!again.matches(&token.reveal().as_bytes()[..63]) && !again.matches(b""));
    assert!(!format!("{token:?}").contains(token.reveal()));
}

#[test]
fn what_is_no_secret_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("token");
    let check = |content: &str, mode: u32| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        AdminToken::load(&path).map(|token| token.reveal().to_owned()).map_err(|error| error.to_string())
    };
    assert_eq!(check("  0123456789abcdef\n", 0o440).unwrap(), "0123456789abcdef");
    assert!(check("0123456789abcdef", 0o644).unwrap_err().contains("chmod 600"));
    for content in ["", "short", "0123456789abcdef\nsecond line", "0123456789abcdéf!"] {
        assert!(check(content, 0o600).unwrap_err().contains("visible ASCII"), "{content}");
    }
}
