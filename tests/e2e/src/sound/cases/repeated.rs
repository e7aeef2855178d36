//! A sign that can mean two things triggers nothing that destroys or repeats: a tool that fails as an HTTP status has
//! run, and its session goes on.

use testkit::Fault;

use super::{
    Cases, expect,
    hall::Hall,
    http_server::{HTML, HttpServer, JSON, response, usual},
};

const CASE: &str = "tool-error-as-http-400";

pub(super) fn add(cases: &mut Cases) -> Result<(), Fault> {
    let rpc = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"path is required"}}"#;
    let ways = [
        ("400 with an object that is no message", "400 Bad Request", JSON, r#"{"error":"path is required"}"#),
        ("404 with a page", "404 Not Found", HTML, "<h1>no such file</h1>"),
        ("400 with an error of nobody's request", "400 Bad Request", JSON, rpc),
        ("404 without a body", "404 Not Found", "", ""),
        ("410 with a text", "410 Gone", "Content-Type: text/plain\r\n", "the document is gone"),
    ];
    for (name, status, headers, body) in ways {
        let server = HttpServer::start(move |request, _| {
            let fails = request.is_call() && request.body["params"]["name"] == "t";
            if fails { response(status, headers, body) } else { usual(request) }
        })?;
        let judged = server.clone();
        cases.http(CASE, name, &server, move |hall, id| judge(hall, id, &judged, &status[..3]));
    }
    Ok(())
}

/// The tool ran once, the client is told the status, and the next tool is called on the same session.
fn judge(hall: &Hall, id: &str, server: &HttpServer, status: &str) -> Result<(), Fault> {
    let failed = hall.call(id, "t")?;
    failed.fails(&[], &["does not know the session", "session is lost"])?;
    let text = failed.text();
    expect(text.contains(status) || text.contains("path is required"), format!("{status} or the reason"), &text)?;
    hall.call(id, "u")?.is_well()?;
    let calls = server.count(|request| request.is_call() && request.body["params"]["name"] == "t");
    expect(calls == 1, "one execution", calls)?;
    let sessions = server.count(|request| request.method() == "initialize");
    expect(sessions == 1, "one session", sessions)
}
