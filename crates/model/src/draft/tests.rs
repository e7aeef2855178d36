//! What a URL may be, and that a draft tells all its faults at once.

use std::sync::Arc;

use super::http::url_fault;
use crate::*;

#[test]
fn urls() {
    let check = |url: &str, good: bool| {
        let fault = url_fault(&Template::parse(url).unwrap());
        assert_eq!(fault.is_none(), good, "{url}: {fault:?}");
    };
    for url in [
        "http://localhost",
        "https://example.org/mcp?x=1",
        "HTTPS://EXAMPLE.org.:8443/",
        "http://127.0.0.1:8080/a%20b",
        "http://[::1]:9/mcp",
        "http://my_service:3000",
        "http://${env:HOST}:${env:PORT}/${env:PATH}",
        "http://10.0.0.${env:N}/",
        "${env:URL}",
        "${env:BASE}/mcp",
    ] {
        check(url, true);
    }
    for url in [
        "",
        "example.org/mcp",
        "/mcp",
        "ftp://example.org",
        "http://",
        "http:///mcp",
        "http://:80/",
        "http://a b/",
        "http://a/ü",
        "http://a..b/",
        "http://999.0.0.1/",
        "http://[::g]/",
        "http://[::1",
        "http://[::1]x",
        "http://a:0/",
        "http://a:65536/",
        "http://a:+1/",
        "http://a:/",
        "http://user:secret@a/",
        "http://a/#top",
        "ws://${env:HOST}/",
        "${env:BASE}/a b",
    ] {
        check(url, false);
    }
}

#[test]
fn all_faults_at_once_each_with_its_place() {
    let at = |line| Position { file: "f".into(), line, column: 1 };
    let located = |line, path: &str, value: &str| Located { value: value.to_owned(), at: at(line), path: path.into() };
    let server = |line, id: Option<&str>, transport| DraftBackend {
        at: at(line),
        path: Arc::from(format!("servers[{line}]")),
        in_force: false,
        id: id.map(|id| located(line, "id", id)),
        transport,
        tools: None,
        policy: BackendPolicy::default(),
        written: Vec::new(),
    };
    let command = |line, text: &str| DraftTransport::Stdio {
        at: at(line),
        command: Some(located(line, "command", text)),
        args: vec![],
        env: vec![],
        cwd: None,
    };
    let draft = Draft {
        policy: Policy::default(),
        backends: vec![
            server(1, Some("a"), Some(command(1, "x"))),
            server(2, Some("a"), Some(command(2, " "))),
            server(3, None, None),
        ],
        known: vec![],
        at: at(1),
    };
    let lines: Vec<u32> = draft.into_snapshot().unwrap_err().into_iter().map(|v| v.at.unwrap().line).collect();
    assert_eq!(lines, [2, 2, 3, 3]);

    let empty = |allow_empty| {
        let policy = Policy { allow_empty, ..Policy::default() };
        Draft { policy, backends: vec![], known: vec![], at: at(1) }
    };
    assert!(empty(false).into_snapshot().is_err());
    assert!(empty(true).into_snapshot().unwrap().backends.is_empty());
}
