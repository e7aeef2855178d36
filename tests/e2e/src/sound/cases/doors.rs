//! Admission rules have two halves: an admitted request works, and a refused client is told how to be admitted.

use std::{fs, sync::OnceLock};

use serde_json::{Value, json};
use testkit::{ConfigFile, Document, Fault, Gateway, Scratch, binaries, fault};

use super::{
    Cases, expect,
    hall::Hall,
    raw_client::{Answer, initialize, send},
    says,
};

const ORIGIN: &str = "http://localhost:6274";

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    browsers(cases);
    proxies(cases);
    slashes(cases);
    old_clients(cases);
    Ok(())
}

fn open(hall: &Hall, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Fault> {
    send(hall.gateway.mcp, &format!("POST {path}"), headers, initialize("2025-11-25"))
}

/// What a browser asks before, and what it must find in each answer.
fn browsers(cases: &mut Cases) {
    let case = "cors";
    let preflight = |hall: &Hall, method: &str, origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "content-type,mcp-session-id,mcp-protocol-version,last-event-id"),
        ];
        send(hall.gateway.mcp, "OPTIONS /mcp", &headers, "")
    };
    for method in ["POST", "DELETE", "GET"] {
        cases.alone(case, format!("asks whether it may {method}"), move |hall| {
            let answer = preflight(hall, method, ORIGIN)?;
            expect(matches!(answer.status, 200 | 204), "200 or 204", &answer)?;
            expect(answer.header("access-control-allow-origin") == ORIGIN, "its origin", &answer)?;
            expect(answer.header("access-control-allow-methods").contains(method), method, &answer)?;
            let allowed = answer.header("access-control-allow-headers").to_lowercase();
            let wanted = ["content-type", "mcp-session-id", "mcp-protocol-version"];
            expect(wanted.iter().all(|name| allowed.contains(name)), format!("{wanted:?}"), &answer)
        });
    }
    cases.alone(case, "reads the session of an answer", |hall| {
        let answer = open(hall, "/mcp", &[("Origin", ORIGIN)])?;
        expect(answer.status == 200, "200", &answer)?;
        expect(answer.header("access-control-allow-origin") == ORIGIN, "its origin", &answer)?;
        let exposed = answer.header("access-control-expose-headers").to_lowercase();
        expect(exposed.contains("mcp-session-id"), "Mcp-Session-Id to be exposed", &answer)
    });
    cases.alone(case, "from an origin that is not allowed", move |hall| {
        for answer in [
            preflight(hall, "POST", "https://elsewhere.example")?,
            open(hall, "/mcp", &[("Origin", "https://elsewhere.example")])?,
        ] {
            expect(answer.status == 403, "403", &answer)?;
            expect(answer.header("access-control-allow-origin").is_empty(), "no permission", &answer)?;
            says(&answer.text(), &["--allow-origin"], &[])?;
        }
        Ok(())
    });
}

/// Names that a proxy passes on.
fn proxies(cases: &mut Cases) {
    let case = "host-behind-proxy";
    for host in ["mcp.example.com", "mcp.example.com:8443"] {
        cases.alone(case, format!("{host}, not allowed"), move |hall| {
            let answer = open(hall, "/mcp", &[("Host", host)])?;
            expect(answer.status == 403, "403", &answer)?;
            says(&answer.text(), &["mcp.example.com", "--allow-host"], &[])
        });
    }
    for (name, headers) in [
        ("a name that is allowed", [("Host", "mcp.example.com"), ("X-Forwarded-Proto", "https")]),
        ("a name that is allowed, with a port", [("Host", "mcp.example.com:443"), ("X-Forwarded-Proto", "https")]),
        ("an origin that is allowed", [("Host", "mcp.example.com"), ("Origin", "https://app.example.com")]),
    ] {
        cases.alone(case, name, move |_| {
            let (_scratch, gateway) = allowing()?;
            let answer = send(gateway.mcp, "POST /mcp", &headers, initialize("2025-11-25"))?;
            expect(answer.status == 200, "200", &answer)
        });
    }
}

/// A gateway behind a proxy of that name, as its operator would start it.
fn allowing() -> Result<(Scratch, Gateway), Fault> {
    let scratch = Scratch::new("proxied")?;
    let document = Document::default().key("allow_empty", json!(true));
    let file = ConfigFile::create(scratch.file("only1mcp.yaml"), &document.yaml())?;
    let environment =
        [("ONLY1MCP_ALLOW_HOST", "mcp.example.com"), ("ONLY1MCP_ALLOW_ORIGIN", "https://app.example.com")];
    let gateway = Gateway::up_with(&scratch, file.path(), &environment)?;
    Ok((scratch, gateway))
}

/// The path with a slash is the path.
fn slashes(cases: &mut Cases) {
    let case = "trailing-slash";
    cases.alone(case, "a session", |hall| {
        let answer = open(hall, "/mcp/", &[])?;
        expect(answer.status == 200 && !answer.header("mcp-session-id").is_empty(), "a session", &answer)
    });
    cases.alone(case, "its end", |hall| {
        let session = open(hall, "/mcp/", &[])?.header("mcp-session-id").to_owned();
        let answer = send(hall.gateway.mcp, "DELETE /mcp/", &[("Mcp-Session-Id", &session)], "")?;
        expect(matches!(answer.status, 200 | 204), "200 or 204", &answer)?;
        let again = send(hall.gateway.mcp, "DELETE /mcp", &[("Mcp-Session-Id", &session)], "")?;
        expect(again.status == 404, "404 the second time", &again)
    });
    cases.alone(case, "a list of tools", |hall| {
        let session = open(hall, "/mcp", &[])?.header("mcp-session-id").to_owned();
        let list = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
        let answer = send(hall.gateway.mcp, "POST /mcp/", &[("Mcp-Session-Id", &session)], list)?;
        expect(answer.json()?["result"]["tools"].is_array(), "tools", &answer)
    });
    cases.alone(case, "a browser's question", |hall| {
        let headers = [("Origin", ORIGIN), ("Access-Control-Request-Method", "POST")];
        let answer = send(hall.gateway.mcp, "OPTIONS /mcp/", &headers, "")?;
        expect(matches!(answer.status, 200 | 204), "200 or 204", &answer)
    });
    cases.alone(case, "other paths are still none", |hall| {
        for path in ["/mcp//", "/mcp/x", "/mcpx", "/"] {
            let answer = open(hall, path, &[])?;
            expect(answer.status == 404, format!("404 of {path}"), &answer)?;
        }
        Ok(())
    });
}

/// A client that asks for a revision that is not served is told one that is, and decides; which are served is written
/// down.
fn old_clients(cases: &mut Cases) {
    for version in ["2025-03-26", "2024-11-05", "2024-10-07", "2099-01-01"] {
        cases.alone("old-clients", format!("asks for {version}"), move |hall| {
            let answer = send(hall.gateway.mcp, "POST /mcp", &[], initialize(version))?;
            let message: Value = answer.json()?;
            let served = message["result"]["protocolVersion"].as_str().unwrap_or_default().to_owned();
            expect(served != version && served.starts_with("2025-"), "another revision", &answer)?;
            let written = readme()?.contains(&served);
            expect(written, "README to say which revisions are served", served)
        });
    }
}

fn readme() -> Result<&'static str, Fault> {
    static TEXT: OnceLock<String> = OnceLock::new();
    if let Some(known) = TEXT.get() {
        return Ok(known);
    }
    let path = binaries::checkout().join("README.md");
    let text = fs::read_to_string(&path).map_err(|error| fault(format!("{}: {error}", path.display())))?;
    Ok(TEXT.get_or_init(|| text))
}
