//! Which requests are let in, by table.

use super::{AccessRules, check_content_type, check_get_accept, check_post_accept};

#[test]
fn hosts_and_origins() {
    let local = AccessRules {
        loopback: true,
        hosts: vec!["gate.example".into(), "one.example:99".into()],
        origins: vec!["https://app.example".into()],
    };
    let check = |host: &str, origin: Option<&str>| local.check(Some(host), origin).map_err(|fault| fault.status());
    for host in [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]:8080",
        "[::1]",
        "Gate.example:7",
        "one.example:99",
    ] {
        assert_eq!(check(host, None), Ok(()), "{host}");
    }
    for host in [
        "evil.example",
        "one.example:98",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:8080@evil",
        "[::1",
        "0.0.0.0",
        "é",
    ] {
        assert_eq!(check(host, None), Err(403), "{host}");
    }
    for origin in
        ["http://localhost", "https://localhost:3000", "http://127.0.0.1:1", "http://[::1]:5", "https://APP.example"]
    {
        assert_eq!(check("localhost", Some(origin)), Ok(()), "{origin}");
    }
    for origin in [
        "null",
        "",
        "http://evil.example",
        "https://app.example:444",
        "http://app.example",
        "http://localhost:80@evil.example",
        "http://localhost/evil",
        "http://localhost.evil.example",
        "file://localhost",
    ] {
        assert_eq!(check("localhost", Some(origin)), Err(403), "{origin}");
    }
    assert_eq!(local.check(None, None).map_err(|fault| fault.status()), Err(400));

    let open = AccessRules::default();
    assert_eq!(open.check(Some("router:8080"), None), Ok(()));
    assert!(open.check(Some("router:8080"), Some("http://router:8080")).is_err());
    let any = AccessRules { origins: vec!["*".into()], ..AccessRules::default() };
    assert_eq!(any.check(Some("router:8080"), Some("http://router:8080")), Ok(()));
}

#[test]
fn accept() {
    let post = |accept| check_post_accept(accept).map_err(|fault| fault.to_string());
    for accept in [
        None,
        Some("application/json, text/event-stream"),
        Some("text/event-stream;q=0.5,Application/JSON;charset=utf-8"),
        Some("*/*"),
        Some("application/*, text/*;q=0.1"),
    ] {
        assert_eq!(post(accept), Ok(()), "{accept:?}");
    }
    assert_eq!(post(Some("application/json")), Err("Accept must allow text/event-stream".into()));
    assert_eq!(post(Some("text/event-stream")), Err("Accept must allow application/json".into()));
    assert_eq!(
        post(Some("application/json, text/event-stream;q=0.0")),
        Err("Accept must allow text/event-stream".into())
    );
    assert_eq!(check_get_accept(Some("text/event-stream")), Ok(()));
    assert_eq!(check_get_accept(Some("application/json")).unwrap_err().status(), 406);
}

#[test]
fn content_type() {
    for good in ["application/json", "Application/Json ; charset=utf-8"] {
        assert_eq!(check_content_type(Some(good)), Ok(()));
    }
    for bad in [None, Some(""), Some("text/plain"), Some("application/jsonx")] {
        assert_eq!(check_content_type(bad).unwrap_err().status(), 415);
    }
}
